import { type ChildProcess, spawn } from 'node:child_process'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { Kernel } from '../../src/netlink/kernel.js'
import { openNetns } from '../../src/netlink/netns.js'
import { PacketSocket } from '../../src/netlink/packet-socket.js'
import { arp, type Body, frame, icmp6, ip4, linkLocal, types, udp6 } from '../helpers/frames.js'
import { Host } from '../helpers/host.js'
import { until } from '../helpers/machine.js'

// What a sandbox that lies about who it is can get through to its neighbour: frames by hand, heard at the other end.

const gateway = { ip4: '10.30.0.1', ip6: 'fd00:30::1' }
const neighbour = { mac: '02:42:00:00:00:03', ip4: '10.30.0.3', ip6: 'fd00:30::3' }
const own = { mac: '02:42:00:00:00:02', ip4: '10.30.0.2', ip6: 'fd00:30::2' }
/** by -o extra_addresses= of some */
const extra = {
  mac: '00:00:5e:00:01:07',
  ip4: '10.30.0.100',
  net4: '10.99.0.0/16',
  in4: '10.99.7.7',
  net6: 'fd00:99::/64',
}
const in6 = 'fd00:99::7'
const stranger = '02:42:00:00:00:99'
const [router, report, reportDone, solicit, advertise, redirect] = [134, 143, 132, 135, 136, 137]

/** always: guarded or not; extra: with extra addresses; never: only without the guard */
type Passes = 'always' | 'extra' | 'never'
type Row = [passes: Passes, name: string, from: string, type: number, body: Body, vlans?: [number, number][]]
const to = neighbour
const rows: Row[] = [
  ['always', 'own addresses', own.mac, types.ip4, ip4(own.ip4, to.ip4)],
  ['never', "another's MAC address", stranger, types.ip4, ip4(own.ip4, to.ip4)],
  ['never', "the neighbour's MAC and IP address", to.mac, types.ip4, ip4(to.ip4, own.ip4)],
  ['never', "the neighbour's IP address", own.mac, types.ip4, ip4(to.ip4, to.ip4)],
  ['never', "the gateway's IP address", own.mac, types.ip4, ip4(gateway.ip4, to.ip4)],
  ['never', 'an address of elsewhere', own.mac, types.ip4, ip4('192.0.2.9', to.ip4)],
  ['always', 'DHCP without an address', own.mac, types.ip4, ip4('0.0.0.0', '255.255.255.255', { port: 67 })],
  ['never', 'UDP without an address', own.mac, types.ip4, ip4('0.0.0.0', to.ip4)],
  ['always', 'IGMP without an address', own.mac, types.ip4, ip4('0.0.0.0', '224.0.0.22', { protocol: 2 })],
  ['always', 'ARP of its own', own.mac, types.arp, arp(own.mac, own.ip4, to.ip4)],
  ['always', 'an ARP probe', own.mac, types.arp, arp(own.mac, '0.0.0.0', own.ip4)],
  ['never', "ARP of the gateway's address", own.mac, types.arp, arp(own.mac, gateway.ip4, to.ip4, 2)],
  ['never', "ARP of another's MAC address", own.mac, types.arp, arp(stranger, own.ip4, to.ip4)],
  ['never', "ARP from another's MAC address", stranger, types.arp, arp(own.mac, own.ip4, to.ip4)],
  ['never', 'ARP in VLAN 0', own.mac, types.arp, arp(own.mac, gateway.ip4, to.ip4, 2), [[0x8100, 0]]],
  ['never', 'ARP in VLAN 0 of a provider', own.mac, types.arp, arp(own.mac, gateway.ip4, to.ip4, 2), [[0x88a8, 0]]],
  ['always', 'a VLAN of its own', own.mac, types.ip4, ip4('192.0.2.9', '192.0.2.8'), [[0x8100, 5]]],
  ['never', "a VLAN, from another's MAC address", stranger, types.ip4, ip4(own.ip4, to.ip4), [[0x8100, 5]]],
  ['always', 'another protocol', own.mac, 0x88b5, payload => payload],
  ['never', "another protocol, from another's MAC address", stranger, 0x88b5, payload => payload],
  ['always', 'own addresses, IPv6', own.mac, types.ip6, udp6(own.ip6, to.ip6)],
  ['always', 'own link-local address', own.mac, types.ip6, udp6(linkLocal(own.mac), to.ip6)],
  ['never', "the neighbour's IPv6 address", own.mac, types.ip6, udp6(to.ip6, own.ip6)],
  ['never', "the gateway's IPv6 address", own.mac, types.ip6, udp6(gateway.ip6, to.ip6)],
  ['never', "the neighbour's link-local address", own.mac, types.ip6, udp6(linkLocal(to.mac), own.ip6)],
  ['never', 'UDP without an IPv6 address', own.mac, types.ip6, udp6('::', to.ip6)],
  ['always', 'an echo request', own.mac, types.ip6, icmp6(own.ip6, to.ip6, 128)],
  ['always', 'advertises its own', own.mac, types.ip6, icmp6(own.ip6, to.ip6, advertise, own.ip6)],
  [
    'always',
    'advertises its own link-local',
    own.mac,
    types.ip6,
    icmp6(own.ip6, to.ip6, advertise, linkLocal(own.mac)),
  ],
  ['never', 'advertises the gateway', own.mac, types.ip6, icmp6(own.ip6, to.ip6, advertise, gateway.ip6)],
  ['never', 'advertises the neighbour', own.mac, types.ip6, icmp6(own.ip6, to.ip6, advertise, to.ip6)],
  ['always', 'looks whether its own is free', own.mac, types.ip6, icmp6('::', to.ip6, solicit, own.ip6)],
  ['never', "looks whether the gateway's is free", own.mac, types.ip6, icmp6('::', to.ip6, solicit, gateway.ip6)],
  ['always', 'asks for the gateway', own.mac, types.ip6, icmp6(own.ip6, to.ip6, solicit, gateway.ip6)],
  ['never', 'passes for a router', own.mac, types.ip6, icmp6(linkLocal(own.mac), to.ip6, router)],
  ['never', 'redirects', own.mac, types.ip6, icmp6(linkLocal(own.mac), to.ip6, redirect, own.ip6)],
  [
    'always',
    'a report without an address',
    own.mac,
    types.ip6,
    icmp6('::', 'ff02::16', report, '::', { hopByHop: true }),
  ],
  [
    'always',
    'the end of one',
    own.mac,
    types.ip6,
    icmp6(linkLocal(own.mac), 'ff02::2', reportDone, '::', { hopByHop: true }),
  ],
  ['extra', 'an extra address', own.mac, types.ip4, ip4(extra.ip4, to.ip4)],
  ['extra', 'ARP of an extra address', own.mac, types.arp, arp(own.mac, extra.ip4, to.ip4)],
  ['extra', 'from an extra subnet', own.mac, types.ip4, ip4(extra.in4, to.ip4)],
  ['extra', 'from an extra IPv6 subnet', own.mac, types.ip6, udp6(in6, to.ip6)],
  ['extra', 'advertises an extra address', own.mac, types.ip6, icmp6(own.ip6, to.ip6, advertise, in6)],
  ['extra', 'an extra MAC address', extra.mac, types.ip4, ip4(own.ip4, to.ip4)],
  ['extra', 'ARP of an extra MAC address', extra.mac, types.arp, arp(extra.mac, extra.ip4, to.ip4)],
  ['never', 'beside an extra subnet', own.mac, types.ip4, ip4('10.100.0.1', to.ip4)],
]
const named = rows.map((row, i): [string, Row] => [`<${i}>`, row])
const last: Row = ['always', 'the last', own.mac, types.ip4, ip4(own.ip4, to.ip4)]

let host: Host
afterAll(() => host?.stop())

const extras = [extra.mac, extra.ip4, extra.net4, extra.net6].join(',')
type Options = Record<string, string>

async function startHost(firewall: string): Promise<void> {
  await host?.stop()
  host = await Host.startWithTsnet('--firewall', firewall)
  for (const name of ['liar', 'neighbour']) host.request('POST', '/sandboxes', { name })
}

/** A network with both on it. */
function makeNetwork(ofNetwork: Options = {}, ofLiar: Options = {}): void {
  const subnets = ['10.30.0.0/24', 'fd00:30::/64']
  host.request('POST', '/networks', { name: 'lab', subnets, options: ofNetwork })
  for (const [sandbox, { ip4, ip6, mac }, options] of [
    ['neighbour', neighbour, {}],
    ['liar', own, ofLiar],
  ] as const)
    host.request('POST', '/networks/lab/connect', { sandbox, ip: ip4, ip6, mac, options })
}

function removeNetwork(): void {
  for (const sandbox of ['liar', 'neighbour']) host.request('POST', '/networks/lab/disconnect', { sandbox })
  host.request('DELETE', '/networks/lab')
}

/** The names of the frames that the neighbour hears of all that the liar sends. */
async function heard(): Promise<string[]> {
  const listener = startListening()
  const netns = openNetns(host.path('/run/netns/liar'))
  const kernel = Kernel.open(netns)
  const socket = PacketSocket.open(netns)
  try {
    const { index } = kernel.link('eth0')!
    await until('the neighbour to listen', () => listener.says().includes('listening on'))
    const send = ([, , from, type, body, vlans = []]: Row, name: string) =>
      socket.send(index, [
        frame({ to: 'ff:ff:ff:ff:ff:ff', from, type, vlans }, body(Buffer.from(name).toString('hex'))),
      ])
    for (const [name, row] of named) send(row, name)
    // what comes in order is all there is when the last has come
    await until('the last frame', () => {
      send(last, '<last>')
      return listener.hears().includes('<last>')
    })
    const bytes = listener.hears()
    return named.filter(([name]) => bytes.includes(name)).map(([, [, what]]) => what)
  } finally {
    socket.close()
    kernel.close()
    netns.close()
    listener.stop()
  }
}

function startListening() {
  const argv = [
    'ip',
    'netns',
    'exec',
    'neighbour',
    'tcpdump',
    '--immediate-mode',
    '-s',
    '256',
    '-i',
    'eth0',
    '-U',
    '-w',
    '-',
  ]
  const child: ChildProcess = spawn('nsenter', ['-t', `${host.pid}`, '--mount', '--root', '--net', '--', ...argv])
  const chunks: Buffer[] = []
  let said = ''
  child.stdout!.on('data', chunk => chunks.push(chunk))
  child.stderr!.on('data', chunk => {
    said += chunk
  })
  return {
    says: () => said,
    hears: () => Buffer.concat(chunks).toString('latin1'),
    stop: () => child.kill(),
  }
}

const passing = (...which: Passes[]): string[] =>
  rows.filter(([passes]) => which.includes(passes)).map(([, what]) => what)
/** The whole table, without what counts up. */
const guard = (): string =>
  JSON.stringify(host.spoofGuard(), (key, value) => (/^(handle|packets|bytes)$/.test(key) ? undefined : value))
const elements = (): unknown[] => host.spoofGuard().flatMap(({ set }) => set?.elem ?? [])

describe.each(['nftables', 'iptables'])('by --firewall %s', firewall => {
  beforeAll(() => startHost(firewall))

  test('an endpoint sends as itself alone', async () => {
    makeNetwork()
    expect(await heard()).toEqual(passing('always'))
    expect(host.tsnet('reconcile')).toBe('')
  })

  test('the guard is back at once when somebody flushes it, and after a restart when somebody has deleted it', async () => {
    const before = guard()
    host.run('nft', 'flush', 'table', 'bridge', 'tsnet')
    await until('the guard to be as it was', () => guard() === before)
    await host.stopTsnet()
    host.run('nft', 'delete', 'table', 'bridge', 'tsnet')
    await host.startTsnet('--firewall', firewall)
    expect(await heard()).toEqual(passing('always'))
    expect(host.tsnet('reconcile')).toBe('')
  })

  test('what goes takes its elements with it', () => {
    expect(elements()).not.toEqual([])
    removeNetwork()
    expect(elements()).toEqual([])
  })
})

describe('what an operator allows', () => {
  beforeAll(() => startHost('auto'))
  afterEach(() => {
    removeNetwork()
    expect(elements()).toEqual([])
  })

  test('an endpoint has extra addresses for the asking', async () => {
    makeNetwork({}, { extra_addresses: extras })
    expect(await heard()).toEqual(passing('always', 'extra'))
  })

  test.each<[string, Options, Options]>([
    ['a network', { anti_spoof: 'false' }, {}],
    ['an endpoint', {}, { anti_spoof: 'false' }],
  ])('%s without the guard lets anything through', async (_, ofNetwork, ofLiar) => {
    makeNetwork(ofNetwork, ofLiar)
    expect(await heard()).toEqual(passing('always', 'extra', 'never'))
  })

  test('a router that the network itself names may pass on what comes from behind it', async () => {
    makeNetwork({ routes: `${extra.net4},${own.ip4};${extra.net6},${own.ip6}` })
    const got = await heard()
    expect(got).toContain('from an extra subnet')
    expect(got).toContain('from an extra IPv6 subnet')
    expect(got).not.toContain('an extra address')
  })
})

test('where nftables does not work, iptables has no guard: a network says so, and is refused where the guard is asked for', async () => {
  await host?.stop()
  host = await Host.start()
  // the program needs the library too
  host.run(
    'sh',
    '-c',
    'for l in $(ldconfig -p | sed -n "s/.*libnftables.so.1 .*=> //p"); do mount --bind /dev/null "$l"; done',
  )
  await host.startTsnet('--firewall', 'auto')
  expect(host.logOf('tsnet')).toContain('networks have no spoof guard')
  host.tsnet('network', 'create', 'plain')
  expect(host.tsnetJson('network', 'inspect', 'plain')[0]?.notes).toEqual([
    'anti_spoof is off on this host: nftables does not work here; endpoints can send with the addresses of others',
  ])
  const { status, stderr } = host.tryTsnet('network', 'create', 'safe', '-o', 'anti_spoof=true')
  expect(stderr).toContain('network safe cannot have anti_spoof=true on this host: nftables does not work here')
  expect(status).toBe(2)
  expect(host.tsnet('reconcile')).toBe('')
})
