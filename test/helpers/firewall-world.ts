import { NetAgent } from './net-agent.js'
import { makeNetns, removeNetns, run, sweep } from './netns.js'

/**
 * A host with three networks and a machine outside, all made with `ip`:
 *
 *   outside 192.0.2.9, 2001:db8::9 ── 192.0.2.1, 2001:db8::1 host ─┬─ br-a 10.20.0.1, fd00:20::1 ── a1 .2, a2 .3
 *                                                                  ├─ br-b 10.21.0.1, fd00:21::1 ── b1 .2, b2 .3
 *                                                                  └─ br-i 10.22.0.1, fd00:22::1 ── i1 .2, i2 .3   (internal)
 *
 * The machine outside and b2 play tricks: they have no loopback of their own, send 127/8 to the host, and b2 has the address 127.0.0.2.
 */
export const members = { a1: ['a', 2], a2: ['a', 3], b1: ['b', 2], b2: ['b', 3], i1: ['i', 2], i2: ['i', 3] } as const
export type Member = keyof typeof members
export const networks = { a: 20, b: 21, i: 22 } as const
export type NetworkName = keyof typeof networks

export const address4 = (m: Member): string => `10.${networks[members[m][0]]}.0.${members[m][1]}`
export const address6 = (m: Member): string => `fd00:${networks[members[m][0]]}::${members[m][1]}`
export const gateway4 = (n: NetworkName): string => `10.${networks[n]}.0.1`
export const gateway6 = (n: NetworkName): string => `fd00:${networks[n]}::1`
export const bridgeOf = (n: NetworkName): string => `br-${n}`

export interface World {
  host: string
  netnsOf: Record<Member | 'outside' | 'host', string>
  agents: Record<Member | 'outside' | 'host', NetAgent>
  close(): void
}

const prefix = 'tst-fw'

export function makeWorld(): World {
  sweep(prefix)
  const made: string[] = []
  const netns = () => {
    const name = makeNetns(prefix)
    made.push(name)
    // An address that is still being probed for duplicates answers nobody, and the probing takes a second.
    run(name, 'sysctl', '-qw', 'net.ipv6.conf.default.accept_dad=0', 'net.ipv6.conf.all.accept_dad=0')
    return name
  }
  const host = netns()
  const ip = (ns: string, line: string) => run(ns, 'ip', ...line.split(' '))
  const sysctl = (ns: string, ...settings: string[]) => run(ns, 'sysctl', '-qw', ...settings)

  sysctl(host, 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1')
  const outside = netns()
  ip(host, `link add eth0 type veth peer name eth0 netns ${outside}`)
  for (const [ns, last] of [
    [host, 1],
    [outside, 9],
  ] as const) {
    ip(ns, `addr add 192.0.2.${last}/24 dev eth0`)
    ip(ns, `addr add 2001:db8::${last}/64 dev eth0 nodad`)
    ip(ns, 'link set eth0 up')
  }
  const withoutLoopback = (ns: string, gateway: string) => {
    sysctl(ns, 'net.ipv4.conf.all.route_localnet=1')
    ip(ns, 'addr del 127.0.0.1/8 dev lo')
    ip(ns, `route add 127.0.0.0/8 via ${gateway}`)
  }
  withoutLoopback(outside, '192.0.2.1')
  // It knows the way to the containers, too.
  ip(outside, 'route add 10.0.0.0/8 via 192.0.2.1')
  ip(outside, 'route add fd00::/16 via 2001:db8::1')
  // A host whose administrator has opened 127/8 to the wire, as kube-proxy does.
  sysctl(host, 'net.ipv4.conf.eth0.route_localnet=1')

  for (const n of Object.keys(networks) as NetworkName[]) {
    const bridge = bridgeOf(n)
    ip(host, `link add ${bridge} type bridge`)
    ip(host, `addr add ${gateway4(n)}/24 dev ${bridge}`)
    ip(host, `addr add ${gateway6(n)}/64 dev ${bridge} nodad`)
    ip(host, `link set ${bridge} up`)
    sysctl(host, `net.ipv4.conf.${bridge}.route_localnet=1`)
  }
  const netnsOf: Record<string, string> = { host, outside }
  for (const m of Object.keys(members) as Member[]) {
    const ns = netns()
    netnsOf[m] = ns
    const network = members[m][0]
    ip(host, `link add v-${m} type veth peer name eth0 netns ${ns}`)
    ip(host, `link set v-${m} master ${bridgeOf(network)} up`)
    run(host, 'bridge', 'link', 'set', 'dev', `v-${m}`, 'hairpin', 'on')
    ip(ns, `addr add ${address4(m)}/24 dev eth0`)
    ip(ns, `addr add ${address6(m)}/64 dev eth0 nodad`)
    ip(ns, 'link set eth0 up')
    ip(ns, `route add default via ${gateway4(network)}`)
    ip(ns, `route add default via ${gateway6(network)}`)
  }
  withoutLoopback(netnsOf.b2 ?? '', gateway4('b'))
  ip(netnsOf.b2 ?? '', 'addr add 127.0.0.2/32 dev eth0')
  // The kernel gives link-local addresses when it notices the carrier, up to a second later.
  for (const ns of [host, outside])
    run(ns, 'timeout', '5', 'sh', '-c', 'until ip -6 addr show dev eth0 | grep -q fe80; do sleep 0.02; done')
  const agents = Object.fromEntries(Object.entries(netnsOf).map(([name, ns]) => [name, new NetAgent(ns)]))
  return {
    host,
    netnsOf: netnsOf as World['netnsOf'],
    agents: agents as World['agents'],
    close() {
      for (const agent of Object.values(agents)) agent.close()
      for (const name of made) removeNetns(name)
    },
  }
}
