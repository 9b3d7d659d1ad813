import type { Family, PortSpec } from '../../src/cnm/types.js'
import { addresses } from './host.js'

// What the table of docs/behaviour.md is about: a network of each mode, and who asks whom by which way.

export interface Mode {
  /** column of the table; also the name of the network */
  name: string
  internal?: true
  options: Record<string, string>
  /** ports are opened at the endpoints' own addresses; absent: at the host's */
  direct?: true
  /** nothing can be published */
  closed?: true
  /** what names no address of the host is published at loopback */
  atLoopback?: true
  /** what names no address of the host is published at private ones */
  inLan?: true
  /** what names no clients is for those of the LAN */
  forLan?: true
  /** some links are trusted, or all */
  trusting?: true
  /** options of the daemon while ports are published; what was published stays so without them */
  daemon?: string[]
}

/** A second address of the host on its uplink. */
export const otherHostAddress: Record<Family, string> = { 4: '198.51.100.3', 6: '2001:db8:100::3' }

/** A private address of the host on its uplink. */
export const privateAddress: Record<Family, string> = { 4: '10.99.0.2', 6: 'fd00:99::2' }

/** Some other clients, and the LAN. */
const elsewhere = ['192.0.2.0/24', '2001:db8:2::/64']
const lan = ['198.51.100.0/24', '2001:db8:100::/64']

const both = (mode: string) => ({ gateway_mode_ipv4: mode, gateway_mode_ipv6: mode })
/** A new mode of networks is a row here, and a column in docs/behaviour.md. */
export const modes: readonly Mode[] = [
  { name: 'nat', options: {} },
  { name: 'nat-unprotected', options: both('nat-unprotected'), trusting: true },
  { name: 'routed', options: both('routed'), direct: true },
  { name: 'internal', internal: true, options: {}, closed: true },
  { name: 'isolated', internal: true, options: both('isolated'), closed: true },
  { name: 'icc=false', options: { icc: 'false' } },
  { name: 'masquerade=false', options: { masquerade: 'false' } },
  { name: 'host_ipv4, host_ipv6', options: { host_ipv4: otherHostAddress[4], host_ipv6: otherHostAddress[6] } },
  { name: 'trusted_interfaces', options: { trusted_interfaces: 'uplink0' }, trusting: true },
  { name: 'publish_default=loopback', options: { publish_default: 'loopback' }, atLoopback: true },
  { name: 'publish_default=lan', options: { publish_default: 'lan' }, inLan: true },
  { name: '--publish-default lan', options: {}, inLan: true, daemon: ['--publish-default', 'lan'] },
  { name: 'from=the LAN', options: { from: lan.join(',') }, forLan: true },
]

/** Container ports of every mode's server; the host's are these and the mode's number times 100 before them. */
export const ports = { published: 81, unpublished: 82, loopback: 83, limited: 84, udp: 85, allowed: 86 } as const
export const hostPort = (mode: Mode, port: number): number => 10_000 + 100 * modes.indexOf(mode) + port

const one = (port: number) => ({ first: port, last: port })

/** What the server of a mode publishes. */
export function publishedBy(mode: Mode): PortSpec[] {
  if (mode.closed) return []
  const { published, loopback, limited, allowed, udp } = ports
  const spec = (port: number, more: Partial<PortSpec> = {}): PortSpec => ({
    protocol: 'tcp',
    ...(mode.direct ? {} : { hostPort: one(hostPort(mode, port)) }),
    containerPort: one(port),
    ...more,
  })
  const atLoopback = mode.direct ? [] : ['127.0.0.1', '::1'].map(hostIp => spec(loopback, { hostIp }))
  return [
    spec(published),
    spec(limited, { from: elsewhere }),
    spec(allowed, { from: lan }),
    spec(udp, { protocol: 'udp' }),
    ...atLoopback,
  ]
}

const number = (mode: Mode): number => 60 + modes.indexOf(mode)
/** `other` is a network beside them all, in mode nat. */
export const otherNumber = 50
const net = (n: number) => ({
  subnets: [`10.${n}.0.0/24`, `fd00:${n}::/64`],
  gateway: { 4: `10.${n}.0.1`, 6: `fd00:${n}::1` },
  server: { 4: `10.${n}.0.2`, 6: `fd00:${n}::2` },
  neighbour: { 4: `10.${n}.0.3`, 6: `fd00:${n}::3` },
})
export const networkOf = (mode: Mode) => net(number(mode))
export const other = net(otherNumber)

export const hostAddress: Record<Family, string> = { 4: addresses.host4, 6: addresses.host6 }
export const outside: Record<Family, string> = { 4: addresses.outside4, 6: addresses.outside6 }
export const loopback: Record<Family, string> = { 4: '127.0.0.1', 6: '::1' }

/** `server` and `neighbour` are on the mode's network, `other` on another one. */
export type Place = 'outside' | 'host' | 'server' | 'neighbour' | 'other'
export interface Way {
  from: Place
  /** as the table says it */
  words: string
  protocol?: 'udp'
  /** where to; absent: there is no such way */
  to(mode: Mode, family: Family): { address: string; port: number } | undefined
}

const { published, unpublished, udp } = ports
type To = Way['to']
const atHost =
  (port: number): To =>
  (mode, family) => ({ address: hostAddress[family], port: hostPort(mode, port) })
const atPrivate: To = (mode, family) => ({ address: privateAddress[family], port: hostPort(mode, published) })
const atLoopback =
  (port: number): To =>
  (mode, family) => ({ address: loopback[family], port: hostPort(mode, port) })
const atGateway: To = (mode, family) => ({ address: networkOf(mode).gateway[family], port: hostPort(mode, published) })
const atServer =
  (port: number): To =>
  (mode, family) => ({ address: networkOf(mode).server[family], port })
/** The outside can send to 127.0.0.1 of the host; ::1 cannot be sent anywhere. */
const routedLoopback =
  (port: number): To =>
  (mode, family) =>
    family === 4 ? { address: loopback[4], port: hostPort(mode, port) } : undefined

/** Services of others, unpublished but for `other`'s first one. */
export const services = { outside: 90, host: 91, other: 92, otherPublished: 19_992 } as const

const row = (from: Place, words: string, to: To, protocol?: 'udp'): Way => ({
  ...{ from, words, to },
  ...(protocol === undefined ? {} : { protocol }),
})

export const ways: readonly Way[] = [
  row('outside', "a published port at the host's address", atHost(published)),
  row('outside', 'the same by UDP', atHost(udp), 'udp'),
  row('outside', 'a published port at a private address of the host', atPrivate),
  row('outside', "a port published for the LAN's clients only, at the host's address", atHost(ports.allowed)),
  row('outside', 'a port published for other clients only', atHost(ports.limited)),
  row('outside', "a port published at loopback, by the host's address", atHost(ports.loopback)),
  row('outside', 'a port published at loopback, by a route to 127.0.0.1', routedLoopback(ports.loopback)),
  row('outside', 'a published port, by a route to 127.0.0.1', routedLoopback(published)),
  row('outside', "a published port at the container's address", atServer(published)),
  row('outside', "a port published at loopback, at the container's address", atServer(ports.loopback)),
  row('outside', "a port published for other clients only, at the container's address", atServer(ports.limited)),
  row('outside', "an unpublished port at the container's address", atServer(unpublished)),

  row('host', "a published port at the host's address", atHost(published)),
  row('host', 'a published port at a private address of the host', atPrivate),
  row('host', 'a published port at 127.0.0.1 or [::1]', atLoopback(published)),
  row('host', 'the same by UDP', atLoopback(udp), 'udp'),
  row('host', "a published port at the network's gateway", atGateway),
  row('host', 'a port published at loopback, there', atLoopback(ports.loopback)),
  row('host', "a port published at loopback, by the host's address", atHost(ports.loopback)),
  row('host', "an unpublished port at the container's address", atServer(unpublished)),

  row('server', "its own published port at the host's address", atHost(published)),
  row('server', "its own published port at the network's gateway", atGateway),

  row('server', 'a machine outside', (_, family) => ({ address: outside[family], port: services.outside })),
  row('server', "a service of the host, at the network's gateway", (mode, family) => ({
    address: networkOf(mode).gateway[family],
    port: services.host,
  })),
  row('server', "a service of the host, at the host's address", (_, family) => ({
    address: hostAddress[family],
    port: services.host,
  })),
  row('server', "a published port of another network at the host's address", (_, family) => ({
    address: hostAddress[family],
    port: services.otherPublished,
  })),
  row('server', "an unpublished port of another network at the container's address", (_, family) => ({
    address: other.server[family],
    port: services.other,
  })),

  row('neighbour', "a published port at the host's address", atHost(published)),
  row('neighbour', 'the same by UDP', atHost(udp), 'udp'),
  row('neighbour', "a published port at the network's gateway", atGateway),
  row('neighbour', "a published port at the container's address", atServer(published)),
  row('neighbour', "an unpublished port at the container's address", atServer(unpublished)),

  row('other', "a published port at the host's address", atHost(published)),
  row('other', 'the same by UDP', atHost(udp), 'udp'),
  row('other', 'a published port at a private address of the host', atPrivate),
  row('other', "a published port at the gateway of the container's network", atGateway),
  row('other', 'a published port at the gateway of its own network', (mode, family) => ({
    address: other.gateway[family],
    port: hostPort(mode, published),
  })),
  row('other', "a port published at loopback, by the host's address", atHost(ports.loopback)),
  row('other', "a port published for the LAN's clients only, at the host's address", atHost(ports.allowed)),
  row('other', "a published port at the container's address", atServer(published)),
  row('other', "an unpublished port at the container's address", atServer(unpublished)),
]
