import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Family, PortSpec } from '../../src/cnm/types.js'
import { type Netns, openNetns, openNetnsOfPid } from '../../src/netlink/netns.js'
import { callApi } from '../helpers/api-client.js'
import { behaviourDoc, cellOf, type Measured, readBehaviourDoc } from '../helpers/behaviour-doc.js'
import {
  hostAddress,
  type Mode,
  modes,
  networkOf,
  other,
  otherHostAddress,
  outside,
  type Place,
  ports,
  privateAddress,
  publishedBy,
  services,
  type Way,
  ways,
} from '../helpers/behaviour-modes.js'
import { answer, ask, type Closable } from '../helpers/born-sockets.js'
import { Host, socketPath } from '../helpers/host.js'
import { repo } from '../helpers/machine.js'

// docs/behaviour.md is what is measured here: all cells at once, by sockets of this process in each place's namespace.

const families = [4, 6] as const
const document = join(repo, 'docs/behaviour.md')
const isWritten = process.env.TSNET_BEHAVIOUR === 'write'
/** Silence is waited for; an answer gets the time that a busy machine needs. */
const silenceMs = 1500
const answerMs = isWritten ? 4000 : 15_000

let host: Host
const opened: Closable[] = []
const sandboxes = new Map<string, Netns>()

async function api(method: string, path: string, body?: unknown): Promise<void> {
  const got = await callApi(host.path(socketPath), method, `/v1${path}`, body)
  if (got.status >= 300) throw new Error(`${method} ${path}: ${JSON.stringify(got.body)}`)
}

async function attach(network: string, sandbox: string, at: Record<Family, string>, published: PortSpec[] = []) {
  await api('POST', '/sandboxes', { name: sandbox })
  await api('POST', `/networks/${network}/connect`, { sandbox, ip: at[4], ip6: at[6], ports: published })
  const netns = openNetns(host.path(`/run/netns/${sandbox}`))
  opened.push(netns)
  sandboxes.set(sandbox, netns)
  return netns
}

async function restart(...options: string[]): Promise<void> {
  await host.stopTsnet()
  await host.startTsnet(...options)
}

/** Names of networks and sandboxes have no signs. */
const idOf = ({ name }: Mode): string => name.replace(/\W+/g, '-').replace(/^-/, 'daemon-')

async function makeMode(mode: Mode, daemon?: string[]): Promise<void> {
  if (daemon !== undefined) await restart('--firewall', 'nftables', ...daemon)
  const { subnets, server, neighbour } = networkOf(mode)
  const { internal = false, options } = mode
  await api('POST', '/networks', { name: idOf(mode), subnets, internal, options })
  const netns = await attach(idOf(mode), `server-${idOf(mode)}`, server, publishedBy(mode))
  await attach(idOf(mode), `neighbour-${idOf(mode)}`, neighbour)
  const { udp, ...tcp } = ports
  for (const port of Object.values(tcp)) opened.push(await answer(netns, 'tcp', port, idOf(mode)))
  opened.push(await answer(netns, 'udp', udp, idOf(mode)))
}

async function makeOther(): Promise<void> {
  await api('POST', '/networks', { name: 'other', subnets: other.subnets })
  const spec = { protocol: 'tcp', hostPort: services.otherPublished, containerPort: services.other } as const
  const one = (port: number) => ({ first: port, last: port })
  const published = { ...spec, hostPort: one(spec.hostPort), containerPort: one(spec.containerPort) }
  const netns = await attach('other', 'other', other.server, [published])
  opened.push(await answer(netns, 'tcp', services.other, 'other'))
}

/** It knows the way to what is behind the host, 127.0.0.0/8 included, and the host lets that in. */
function makeNosy(): void {
  const machine = host.outside
  machine.run('ip', 'route', 'add', '10.0.0.0/8', 'via', hostAddress[4])
  machine.run('ip', '-6', 'route', 'add', 'fd00::/16', 'via', hostAddress[6])
  machine.run('sysctl', '-qw', 'net.ipv4.conf.all.route_localnet=1')
  machine.run('ip', 'addr', 'del', '127.0.0.1/8', 'dev', 'lo')
  machine.run('ip', 'route', 'add', '127.0.0.0/8', 'via', hostAddress[4])
  host.run('sysctl', '-qw', 'net.ipv4.conf.uplink0.route_localnet=1')
  host.run('ip', 'addr', 'add', `${otherHostAddress[4]}/24`, 'dev', 'uplink0')
  host.run('ip', 'addr', 'add', `${otherHostAddress[6]}/64`, 'dev', 'uplink0', 'nodad')
  host.run('ip', 'addr', 'add', `${privateAddress[4]}/32`, 'dev', 'uplink0')
  host.run('ip', 'addr', 'add', `${privateAddress[6]}/128`, 'dev', 'uplink0', 'nodad')
  host.run('sysctl', '-qw', 'net.bridge.bridge-nf-call-iptables=1', 'net.bridge.bridge-nf-call-ip6tables=1')
}

function placeOf(place: Place, mode: Mode): Netns {
  const name = place === 'server' || place === 'neighbour' ? `${place}-${idOf(mode)}` : place
  const netns = sandboxes.get(name)
  if (netns === undefined) throw new Error(`there is no place ${name}`)
  return netns
}

beforeAll(async () => {
  host = await Host.startWithTsnet('--firewall', 'nftables')
  makeNosy()
  for (const [name, pid] of [
    ['host', host.pid],
    ['outside', host.outside.pid],
  ] as const) {
    const netns = openNetnsOfPid(pid)
    opened.push(netns)
    sandboxes.set(name, netns)
    opened.push(await answer(netns, 'tcp', services[name], name))
  }
  await makeOther()
  for (const mode of modes) if (mode.daemon === undefined) await makeMode(mode)
  for (const mode of modes) if (mode.daemon !== undefined) await makeMode(mode, mode.daemon)
})

afterAll(async () => {
  for (const one of opened) one.close()
  await host?.stop()
})

/** How the server sees the client, as the table says it. */
function seen(reply: string, { from, protocol }: Way, mode: Mode, family: Family): string {
  // the kernel says so of UDP a few times a second only
  if (reply === 'refused') return protocol === 'udp' ? '-' : 'refused'
  if (reply === 'nothing') return '-'
  const [, source = ''] = reply.split(' ')
  const own: Record<Place, string> = {
    outside: outside[family],
    host: hostAddress[family],
    server: networkOf(mode).server[family],
    neighbour: networkOf(mode).neighbour[family],
    other: other.server[family],
  }
  if (source === own[from] || (from === 'host' && source === privateAddress[family])) return 'yes'
  if (source === networkOf(mode).gateway[family]) return 'as the gateway'
  if (source === hostAddress[family]) return 'as the host'
  if (source === otherHostAddress[family]) return `as host_ipv${family}`
  return `as ${source}`
}

async function measure(want?: Measured): Promise<Measured> {
  const cells = ways.flatMap(way => modes.flatMap(mode => families.map(family => ({ way, mode, family }))))
  const got = new Map<string, string>()
  await Promise.all(
    cells.map(async ({ way, mode, family }) => {
      const to = way.to(mode, family)
      if (to === undefined) return
      const cell = cellOf(way, mode, family)
      const timeoutMs = want?.get(cell) === '-' ? silenceMs : answerMs
      const reply = await ask(placeOf(way.from, mode), way.protocol ?? 'tcp', to.address, to.port, timeoutMs)
      got.set(cell, seen(reply, way, mode, family))
    }),
  )
  return got
}

const isClosed = (cell: string): boolean => cell === '-' || cell === 'refused'
const isOpen = (cell: string): boolean => !isClosed(cell)
const isFar = ({ from }: Way): boolean => from === 'outside' || from === 'other'
const asks =
  (words: RegExp) =>
  (way: Way): boolean =>
    words.test(way.words)

/** What must hold whatever the page says: writing it anew cannot bless a hole. */
const promises: [what: string, concerns: (way: Way, mode: Mode) => boolean, holds: (cell: string) => boolean][] = [
  [
    'an unpublished port is reached from far away on an unprotected network only',
    (way, { name }) => isFar(way) && asks(/^an unpublished port/)(way) && name !== 'nat-unprotected',
    isClosed,
  ],
  [
    'what is published at loopback is for the host alone, there, but for whom the network trusts',
    (way, { trusting }) =>
      asks(/^a port published at loopback/)(way) &&
      !(way.from === 'host' && asks(/there$/)(way)) &&
      !(trusting && asks(/container's address/)(way)),
    isClosed,
  ],
  [
    'a port for some clients is closed to others',
    (way, { name }) =>
      (asks(/for other clients/)(way) && !(name === 'nat-unprotected' && asks(/container's address/)(way))) ||
      (way.from !== 'outside' && asks(/for the LAN's clients/)(way)),
    isClosed,
  ],
  ['nothing gets into an internal network', (way, { closed }) => isFar(way) && closed === true, isClosed],
  [
    'nothing gets out of an internal network but to the host itself',
    (way, { closed }) => way.from === 'server' && closed === true && !asks(/^a service of the host/)(way),
    isClosed,
  ],
  [
    'nobody reaches an isolated network, the host included',
    (way, { name }) => way.from === 'host' && name === 'isolated',
    isClosed,
  ],
  [
    'what is published at loopback by default is closed to the LAN',
    (way, { atLoopback }) => way.from === 'outside' && atLoopback === true,
    isClosed,
  ],
  [
    'what is published in the LAN by default is closed at public addresses',
    (way, { inLan }) => inLan === true && asks(/^a published port at the host/)(way),
    isClosed,
  ],
  ['and open at private ones', (way, { inLan }) => inLan === true && asks(/ private address/)(way), isOpen],
  [
    'what a network publishes for the LAN is closed to other networks',
    (way, { forLan }) => forLan === true && way.from === 'other' && asks(/ published port| clients/)(way),
    isClosed,
  ],
  [
    'a neighbour is not reached with icc off',
    (way, { name }) => way.from === 'neighbour' && name === 'icc=false' && asks(/unpublished/)(way),
    isClosed,
  ],
  [
    'a published port is open to a machine outside, which is seen as itself',
    (way, { closed, direct, atLoopback, inLan }) =>
      way.from === 'outside' &&
      !(closed || atLoopback || inLan) &&
      (direct ? asks(/^a published port at the container/)(way) : asks(/^a published port at the host/)(way)),
    cell => cell === 'yes',
  ],
  [
    "a published port is open at the host's address to the host, to its own container, its neighbours and other networks",
    (way, { name, closed, direct, atLoopback, inLan, forLan }) =>
      way.from !== 'outside' &&
      asks(/ published port at the host/)(way) &&
      !(closed || direct || atLoopback || inLan || (forLan && way.from !== 'host')) &&
      // frames that br_netfilter turns round on their bridge meet its isolated ports
      !(name === 'icc=false' && (way.from === 'server' || way.from === 'neighbour')),
    isOpen,
  ],
]

const readDocument = (): string => (existsSync(document) ? readFileSync(document, 'utf8') : '')

describe.each<[string, string[], string]>([
  ['nftables', ['--firewall', 'nftables'], ''],
  ['iptables-nft', ['--firewall', 'iptables'], 'iptables-nft'],
  ['iptables-legacy', ['--firewall', 'iptables'], 'iptables-legacy'],
])('with %s', (name, options, program) => {
  let got: Measured

  beforeAll(async () => {
    if (program !== '') host.run('ln', '-sf', `/usr/sbin/${program}`, '/etc/alternatives/iptables')
    await restart(...options)
    got = await measure(isWritten ? undefined : readBehaviourDoc(readDocument()))
    if (isWritten && name === 'nftables') writeFileSync(document, behaviourDoc(got))
  })

  test('every cell of docs/behaviour.md is as the page says', () => {
    expect(got.size).toBeGreaterThan(300)
    expect(behaviourDoc(got).split('\n')).toEqual(readDocument().split('\n'))
  })

  test.each(promises)('%s', (_, concerns, holds) => {
    const cells = ways.flatMap(way =>
      modes.flatMap(mode =>
        families.flatMap(family => {
          const cell = got.get(cellOf(way, mode, family))
          return cell !== undefined && concerns(way, mode)
            ? [{ words: `${way.from}: ${way.words}, ${mode.name}`, cell }]
            : []
        }),
      ),
    )
    expect(cells.length).toBeGreaterThan(0)
    expect(cells.filter(({ cell }) => !holds(cell))).toEqual([])
  })
})
