import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { deleteForeignAccept } from '../../src/firewall/foreign.js'
import { gatewayMacOf } from '../../src/names.js'
import { until } from '../helpers/machine.js'
import { needRoot, run, sweep, tryRun } from '../helpers/netns.js'
import { captured, type OverlayHost, OverlayWorld, reaches, soon } from '../helpers/overlay-world.js'

// What packets do on overlay networks of three hosts, whose drivers are driven directly: the cluster is a list in the helper.

const prefix = 'tst-ovl'
let world: OverlayWorld
let h0: OverlayHost
let h1: OverlayHost
let h2: OverlayHost
let bare: string[]

beforeAll(async () => {
  needRoot()
  sweep(prefix)
  world = await OverlayWorld.make(prefix, 3)
  ;[h0, h1, h2] = world.hosts as [OverlayHost, OverlayHost, OverlayHost]
  bare = world.hosts.map(host => host.snapshot())
})
afterAll(() => world?.close())

/** Whatever a test attached is detached again; nothing of it is left on any host. */
afterEach(async () => {
  await world.detachAll()
  expect(world.hosts.map(host => host.snapshot())).toEqual(bare)
})

const both = ['10.50.0.0/24', 'fd00:50::/64']

test('containers on different hosts reach each other, IPv4 and IPv6', async () => {
  const blue = world.network('blue', both)
  const a = await world.attach(h0, blue, ['10.50.0.2', 'fd00:50::2'])
  const b = await world.attach(h1, blue, ['10.50.0.3', 'fd00:50::3'])
  const c = await world.attach(h1, blue, ['10.50.0.4', 'fd00:50::4'])
  for (const [from, last] of [
    [a, 3],
    [a, 4],
    [b, 2],
    [b, 4],
    [c, 2],
  ] as const)
    expect([from, last, reaches(from, `10.50.0.${last}`), reaches(from, `fd00:50::${last}`)]).toEqual([
      from,
      last,
      true,
      true,
    ])
})

test('the gateway has one address and one MAC on every host, and leads out where the container is', async () => {
  const blue = world.network('blue', both)
  const containers = [
    await world.attach(h0, blue, ['10.50.0.2', 'fd00:50::2']),
    await world.attach(h1, blue, ['10.50.0.3', 'fd00:50::3']),
  ]
  for (const [i, netns] of containers.entries()) {
    for (const gateway of ['10.50.0.1', 'fd00:50::1']) {
      expect(reaches(netns, gateway)).toBe(true)
      expect(run(netns, 'ip', 'neigh', 'show', gateway)).toContain(gatewayMacOf(blue.id))
    }
    // the machine outside sees the address of the container's own host
    const seen = await captured(world.underlay, 'ul0', `192.0.2.1${i}`, () => {
      expect([reaches(netns, '192.0.2.1'), reaches(netns, '2001:db8::1')]).toEqual([true, true])
    })
    const sources = seen.map(packet => /([0-9a-f.:]+) > (192\.0\.2\.1|2001:db8::1): .*echo request/.exec(packet)?.[1])
    expect(sources.filter(Boolean)).toEqual([`192.0.2.1${i}`, `2001:db8::1${i}`])
  }
})

test('the underlay carries no ARP, no neighbour solicitation, nothing for everybody and nothing for nobody', async () => {
  const blue = world.network('blue', both)
  const a = await world.attach(h0, blue, ['10.50.0.2', 'fd00:50::2'])
  const b = await world.attach(h1, blue, ['10.50.0.3', 'fd00:50::3'])
  run(a, 'ip', 'neigh', 'add', '10.50.0.99', 'lladdr', '02:00:00:00:00:99', 'dev', 'eth0')
  const seen = await captured(h0.name, 'eth0', '192.0.2.1', () => {
    for (const netns of [a, b]) run(netns, 'ip', 'neigh', 'flush', 'dev', 'eth0', 'nud', 'reachable')
    expect([reaches(a, '10.50.0.3'), reaches(a, 'fd00:50::3'), reaches(b, '10.50.0.2')]).toEqual([true, true, true])
    // an address that nobody has, a MAC address that nobody has, and everybody
    for (const to of ['10.50.0.77', 'fd00:50::77', '10.50.0.99', 'ff02::1%eth0']) reaches(a, to, ...soon)
    tryRun(a, 'ping', '-b', '-c', '1', '-W', '1', '10.50.0.255')
  })
  const inner = seen.filter(packet => packet.includes('VXLAN'))
  expect(inner.length).toBe(6)
  expect(
    inner.filter(
      packet => !/10\.50\.0\.[23] > 10\.50\.0\.[23]: ICMP|fd00:50::[23] > fd00:50::[23]: .*echo/.test(packet),
    ),
  ).toEqual([])
})

test('the host and what is on other hosts reach each other, from the address that is the host’s own', async () => {
  const blue = world.network('blue', both)
  const a = await world.attach(h0, blue, ['10.50.0.2', 'fd00:50::2'])
  const b = await world.attach(h1, blue, ['10.50.0.3', 'fd00:50::3'])
  const seen = await captured(b, 'eth0', '10.50.0.1', () => {
    expect([reaches(h0.name, '10.50.0.3'), reaches(h0.name, 'fd00:50::3')]).toEqual([true, true])
  })
  const requests = seen.filter(packet => packet.includes('echo request'))
  expect(requests[0]).toContain('10.50.0.240 > 10.50.0.3')
  expect(requests[1]).toContain('fd00:50::f0 > fd00:50::3')
  for (const netns of [a, b])
    for (const own of ['10.50.0.240', 'fd00:50::f0', '10.50.0.241', 'fd00:50::f1'])
      expect([own, reaches(netns, own)]).toEqual([own, true])
  // one host to the other
  expect(reaches(h0.name, '10.50.0.241')).toBe(true)
})

test('several subnets of one network reach each other across hosts', async () => {
  const blue = world.network('blue', ['10.50.0.0/24', '10.51.0.0/24', 'fd00:50::/64', 'fd00:51::/64'])
  const a = await world.attach(h0, blue, ['10.50.0.2', 'fd00:50::2'])
  await world.attach(h1, blue, ['10.51.0.3', 'fd00:51::3'])
  expect([reaches(a, '10.51.0.3'), reaches(a, 'fd00:51::3')]).toEqual([true, true])
})

test('two overlay networks do not reach each other, on one host or across', async () => {
  const blue = world.network('blue', both)
  const green = world.network('green', ['10.60.0.0/24', 'fd00:60::/64'])
  const a = await world.attach(h0, blue, ['10.50.0.2', 'fd00:50::2'])
  const far = await world.attach(h1, green, ['10.60.0.3', 'fd00:60::3'])
  await world.attach(h0, green, ['10.60.0.2', 'fd00:60::2'])
  for (const address of ['10.60.0.2', 'fd00:60::2', '10.60.0.3', 'fd00:60::3'])
    expect([address, reaches(a, address, ...soon)]).toEqual([address, false])
  for (const address of ['10.60.0.2', 'fd00:60::2']) expect([address, reaches(far, address)]).toEqual([address, true])
})

test('an internal network spans hosts and has no way out', async () => {
  const blue = world.network('blue', both, {}, { internal: true })
  const a = await world.attach(h0, blue, ['10.50.0.2', 'fd00:50::2'])
  await world.attach(h1, blue, ['10.50.0.3', 'fd00:50::3'])
  expect([reaches(a, '10.50.0.3'), reaches(a, 'fd00:50::3')]).toEqual([true, true])
  run(a, 'ip', 'route', 'add', 'default', 'via', '10.50.0.1')
  run(a, 'ip', 'route', 'add', 'default', 'via', 'fd00:50::1')
  expect([reaches(a, '192.0.2.1', ...soon), reaches(a, '2001:db8::1', ...soon)]).toEqual([false, false])
})

test('icc=false keeps endpoints apart on every host, and leaves them the way out and their own host', async () => {
  const blue = world.network('blue', both, { icc: 'false' })
  const a = await world.attach(h0, blue, ['10.50.0.2', 'fd00:50::2'])
  const b = await world.attach(h0, blue, ['10.50.0.3', 'fd00:50::3'])
  const c = await world.attach(h1, blue, ['10.50.0.4', 'fd00:50::4'])
  for (const [from, to] of [
    [a, '10.50.0.3'],
    [a, '10.50.0.4'],
    [c, 'fd00:50::2'],
    [b, 'fd00:50::4'],
  ] as const)
    expect([to, reaches(from, to, ...soon)]).toEqual([to, false])
  expect([reaches(a, '192.0.2.1'), reaches(c, '2001:db8::1'), reaches(h1.name, '10.50.0.4')]).toEqual([
    true,
    true,
    true,
  ])
})

/** What arrives in a namespace at UDP port 5000, once `work` is done; nothing after a while. */
async function received(netns: string, group: string[], work: () => unknown, patienceMs: number): Promise<string> {
  const child = spawn('ip', ['netns', 'exec', netns, 'socat', '-u', ['UDP4-RECV:5000,reuseaddr', ...group].join(), '-'])
  let text = ''
  child.stdout.on('data', chunk => {
    text += chunk
  })
  await until('the listener', () => run(netns, 'ss', '-Hlun', 'sport = :5000') !== '')
  await work()
  await until('a datagram', () => text !== '', patienceMs).catch(() => undefined)
  child.kill()
  await once(child, 'close')
  return text.trim()
}

const say = (from: string, word: string, to: string): string =>
  run(from, 'sh', '-c', `echo ${word} | socat -u - UDP4-DATAGRAM:${to}`)

test.each([
  [true, 'carries'],
  [false, 'does not carry'],
])('flood=%s %s broadcast and multicast to every host', async flood => {
  const blue = world.network('blue', ['10.50.0.0/24'], { flood: String(flood) })
  const a = await world.attach(h0, blue, ['10.50.0.2'])
  const b = await world.attach(h1, blue, ['10.50.0.3'])
  const c = await world.attach(h2, blue, ['10.50.0.4'])
  const patienceMs = flood ? 10_000 : 1_000
  for (const netns of [b, c]) {
    const broadcast = () => say(a, 'all', '10.50.0.255:5000,broadcast')
    expect(await received(netns, [], broadcast, patienceMs)).toBe(flood ? 'all' : '')
    const multicast = () => say(a, 'group', '239.1.1.1:5000,ip-multicast-if=10.50.0.2')
    const member = 'ip-add-membership=239.1.1.1:eth0'
    expect(await received(netns, [member], multicast, patienceMs)).toBe(flood ? 'group' : '')
  }
  expect(await h1.repair(blue)).toEqual([])
})

test('flood=true follows the hosts that come and go', async () => {
  const blue = world.network('blue', ['10.50.0.0/24'], { flood: 'true' })
  const a = await world.attach(h0, blue, ['10.50.0.2'])
  const everybody = () =>
    h0
      .json('bridge', '-j', 'fdb', 'show', 'dev', `vx-${blue.id.slice(0, 12)}`)
      .filter(one => one.mac === '00:00:00:00:00:00')
  expect(everybody()).toEqual([])
  const b = await world.attach(h1, blue, ['10.50.0.3'])
  await world.attach(h2, blue, ['10.50.0.4'])
  expect(
    everybody()
      .map(({ dst }) => dst)
      .sort(),
  ).toEqual(['192.0.2.11', '192.0.2.12'])
  await world.detach(h1, b)
  expect(everybody().map(({ dst }) => dst)).toEqual(['192.0.2.12'])
  expect(reaches(a, '10.50.0.4')).toBe(true)
})

test('packets of the network’s MTU pass whole, and no larger ones', async () => {
  const blue = world.network('blue', ['10.50.0.0/24'])
  expect(blue.options.mtu).toBe(1450)
  const a = await world.attach(h0, blue, ['10.50.0.2'])
  await world.attach(h1, blue, ['10.50.0.3'])
  const seen = await captured(h0.name, 'eth0', '192.0.2.1', () => {
    expect(reaches(a, '10.50.0.3', '-M', 'do', '-s', '1422')).toBe(true)
    expect(reaches(a, '10.50.0.3', '-M', 'do', '-s', '1423')).toBe(false)
  })
  const outer = seen.filter(packet => packet.includes('VXLAN'))
  expect(outer.map(packet => [packet.includes('length 1514:'), /flags \[\+\]|frag/.test(packet)])).toEqual([
    [true, false],
    [true, false],
  ])
})

test('TCP is told of a narrower way out of the host, in both directions', async () => {
  const blue = world.network('blue', both)
  const a = await world.attach(h0, blue, ['10.50.0.2', 'fd00:50::2'])
  h0.run('ip', 'route', 'add', '192.0.2.1/32', 'dev', 'eth0', 'mtu', '1300')
  h0.run('ip', 'route', 'add', '2001:db8::1/128', 'dev', 'eth0', 'mtu', '1300')
  const server = spawn('ip', [
    'netns',
    'exec',
    world.underlay,
    'socat',
    'TCP6-LISTEN:7000,ipv6only=0,fork',
    'SYSTEM:true',
  ])
  await until('the server', () => run(world.underlay, 'ss', '-Hltn', 'sport = :7000') !== '')
  const mssOf = (packets: string[], flags: string): string[] =>
    packets.filter(packet => packet.includes(`Flags [${flags}]`)).map(packet => /mss (\d+)/.exec(packet)?.[1] ?? '')
  const inside: string[] = []
  const outside = await captured(h0.name, 'eth0', '192.0.2.1', async () => {
    inside.push(
      ...(await captured(a, 'eth0', '10.50.0.1', () => {
        for (const to of ['TCP4:192.0.2.1', 'TCP6:[2001:db8::1]']) run(a, 'socat', '-u', `${to}:7000`, '-')
      })),
    )
  })
  server.kill()
  h0.run('ip', 'route', 'del', '192.0.2.1/32')
  h0.run('ip', 'route', 'del', '2001:db8::1/128')
  expect(mssOf(inside, 'S')).toEqual(['1410', '1390'])
  expect(mssOf(outside, 'S')).toEqual(['1260', '1240'])
  expect(mssOf(outside, 'S.')).toEqual(['1460', '1440'])
  expect(mssOf(inside, 'S.')).toEqual(['1260', '1240'])
})

test('another firewall that drops what is forwarded, with bridged packets handed to it, does not stop the overlay', async () => {
  const blue = world.network('blue', both)
  for (const host of [h0, h1]) {
    host.run('sysctl', '-qw', 'net.bridge.bridge-nf-call-iptables=1', 'net.bridge.bridge-nf-call-ip6tables=1')
    host.run('iptables', '-P', 'FORWARD', 'DROP')
    host.run('ip6tables', '-P', 'FORWARD', 'DROP')
  }
  const a = await world.attach(h0, blue, ['10.50.0.2', 'fd00:50::2'])
  const b = await world.attach(h1, blue, ['10.50.0.3', 'fd00:50::3'])
  const all = () => [
    reaches(a, '10.50.0.3'),
    reaches(b, 'fd00:50::2'),
    reaches(h0.name, '10.50.0.3'),
    reaches(a, '192.0.2.1'),
  ]
  expect(all()).toEqual([true, true, true, true])
  // it would, if it were not told
  h0.enter()
  await deleteForeignAccept({ name: 'nftables', runner: h0.runner })
  expect([reaches(a, '10.50.0.3', ...soon), reaches(b, 'fd00:50::2', ...soon)]).toEqual([false, false])
  for (const host of [h0, h1]) {
    host.run('sysctl', '-qw', 'net.bridge.bridge-nf-call-iptables=0', 'net.bridge.bridge-nf-call-ip6tables=0')
    for (const iptables of ['iptables', 'ip6tables']) {
      host.run(iptables, '-F', 'FORWARD')
      host.run(iptables, '-P', 'FORWARD', 'ACCEPT')
    }
  }
})

test('a port published on a host is reached from outside, from that host and from containers elsewhere on the network', async () => {
  const blue = world.network('blue', both)
  const a = await world.attach(h0, blue, ['10.50.0.2', 'fd00:50::2'])
  const b = await world.attach(h1, blue, ['10.50.0.3', 'fd00:50::3'])
  await world.publish(h0, a, '8080:80')
  const server = spawn('ip', [
    'netns',
    'exec',
    a,
    'socat',
    'TCP6-LISTEN:80,ipv6only=0,fork',
    'SYSTEM:echo $SOCAT_PEERADDR',
  ])
  await until('the server', () => run(a, 'ss', '-Hltn', 'sport = :80') !== '')
  const ask = (from: string, to: string): string =>
    run(from, 'socat', '-T2', '-u', `TCP:${to}:8080,connect-timeout=2`, '-')
  expect(ask(world.underlay, '192.0.2.10')).toContain(':c000:0201]') // 192.0.2.1, as the container sees it
  expect(ask(world.underlay, '[2001:db8::10]')).toContain('[2001:0db8:0000:0000:0000:0000:0000:0001]')
  for (const from of [h0.name, b, a]) expect(ask(from, '192.0.2.10')).toMatch(/ffff/)
  server.kill()
})
