import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { addresses, Host } from '../helpers/host.js'
import { attachTo, hostAddresses, lan, lan6, range, refusalOf } from '../helpers/macvlan.js'
import { eachLeavesAsFound, removeByCommands } from '../helpers/tidy-host.js'
import { pings } from '../helpers/vantage.js'

// The host and the machine outside are on one LAN, 198.51.100.0/24 and 2001:db8:100::/64, joined by a veth: the host's end,
// uplink0, is the parent. Who reaches whom is asked with pings, and everything else with `ip`.

let host: Host

const { host4, host6, outside4, outside6 } = addresses
beforeAll(async () => {
  host = await Host.startWithTsnet()
})
afterAll(() => host?.stop())

eachLeavesAsFound(
  () => host,
  () => removeByCommands(host),
)

const create = (name: string, ...flags: string[]): string => host.tsnet('network', 'create', name, ...flags)

const refusal = (...args: string[]): string => refusalOf(host, ...args)
const attach = (network: string, sandbox: string, ...flags: string[]): string[] =>
  attachTo(host, network, sandbox, ...flags)
const reaches = (sandbox: string, address: string, seconds?: number): boolean =>
  pings(host.sandbox(sandbox), address, seconds)
const linkIn = (sandbox: string, ifname: string) =>
  host.json('ip', '-j', '-d', '-n', sandbox, 'link').find(link => link.ifname === ifname)
const defaultRoutes = (sandbox: string): unknown[] =>
  ['-4', '-6'].flatMap(family => host.json('ip', '-j', family, '-n', sandbox, 'route', 'show', 'default'))
describe('mode bridge', () => {
  test('puts sandboxes on the LAN, straight: they reach each other and the machines there, but not the host', () => {
    create('lan', ...lan, ...lan6, ...range)
    const [a4, a6] = attach('lan', 'a')
    const [b4, b6] = attach('lan', 'b')
    expect([a4, b4]).toEqual(['198.51.100.64', '198.51.100.65'])
    expect(linkIn('a', 'eth0')).toMatchObject({
      mtu: 1500,
      linkinfo: { info_kind: 'macvlan', info_data: { mode: 'bridge' } },
    })
    for (const address of [b4!, b6!, outside4, outside6]) expect(reaches('a', address)).toBe(true)
    for (const address of [a4!, a6!]) expect(pings(host.outside, address)).toBe(true)
    for (const address of [host4, host6]) expect(reaches('a', address, 1)).toBe(false)
    expect(pings(host, a4!, 1)).toBe(false)
  })

  test('shows the LAN the MAC address of the sandbox, not that of the host', () => {
    create('lan', ...lan, ...range)
    attach('lan', 'a', '--mac', '02:00:00:00:00:aa')
    expect(reaches('a', outside4)).toBe(true)
    expect(host.outside.run('ip', 'neigh', 'show', '198.51.100.64')).toMatch(/02:00:00:00:00:aa/)
  })
})

test('mode private keeps its sandboxes from each other, and lets both reach the LAN', () => {
  create('lan', ...lan, ...range, '-o', 'mode=private')
  attach('lan', 'a')
  const [b] = attach('lan', 'b')
  expect(reaches('a', b!, 1)).toBe(false)
  expect(reaches('a', outside4)).toBe(true)
  expect(reaches('b', outside4)).toBe(true)
})

test('mode vepa leaves it to the switch: without one that sends frames back, sandboxes reach the LAN only', () => {
  create('lan', ...lan, ...range, '-o', 'macvlan_mode=vepa')
  attach('lan', 'a')
  const [b] = attach('lan', 'b')
  expect(reaches('a', b!, 1)).toBe(false)
  expect(reaches('a', outside4)).toBe(true)
  expect(linkIn('a', 'eth0')).toMatchObject({ linkinfo: { info_data: { mode: 'vepa' } } })
})

test('mode passthru gives the parent to one sandbox; the second is refused in a sentence', () => {
  create('lan', ...lan, ...range, '-o', 'mode=passthru')
  attach('lan', 'a')
  expect(reaches('a', outside4)).toBe(true)
  host.tsnet('sandbox', 'create', 'b')
  expect(refusal('connect', 'lan', 'b')).toBe(
    'tsnet: connect sandbox b to network lan: mode passthru of network lan leaves room for one endpoint, and parent uplink0 has one',
  )
  host.tsnet('disconnect', 'lan', 'a')
  attach('lan', 'b')
  expect(reaches('b', outside4)).toBe(true)
})

describe('options', () => {
  test('MTU is the parent’s unless a smaller one is asked for', () => {
    create('lan', ...lan, ...range, '-o', 'mtu=1400', '-o', 'ifprefix=lan')
    attach('lan', 'a')
    expect(linkIn('a', 'lan0')).toMatchObject({ mtu: 1400 })
    expect(refusal('network', 'create', 'big', ...lan, '-o', 'mtu=9000')).toMatch(
      'option mtu=9000 is more than parent uplink0 has (1500)',
    )
  })

  test('without --gateway there is no default route; with it, in each family that has one', () => {
    create('plain', ...lan, ...lan6, ...range)
    attach('plain', 'a')
    expect(defaultRoutes('a')).toEqual([])
    host.tsnet('sandbox', 'rm', 'a')
    host.tsnet('network', 'rm', 'plain')
    create('routed', ...lan, ...lan6, ...range, '--gateway', outside4, '--gateway', outside6)
    attach('routed', 'a')
    expect(defaultRoutes('a')).toMatchObject([{ gateway: outside4 }, { gateway: outside6 }])
    expect(reaches('a', addresses.beyond4)).toBe(true)
  })

  test('--internal gives no default route even with a gateway', () => {
    create('shut', ...lan, ...range, '--gateway', outside4, '--internal')
    attach('shut', 'a')
    expect(defaultRoutes('a')).toEqual([])
    expect(reaches('a', outside4)).toBe(true)
    expect(reaches('a', addresses.beyond4, 1)).toBe(false)
  })

  test('the host’s own address on the parent is never given out', () => {
    create('lan', ...lan)
    expect([attach('lan', 'a'), attach('lan', 'b')]).toEqual([['198.51.100.1'], ['198.51.100.3']])
    host.tsnet('sandbox', 'create', 'c')
    expect(refusal('connect', 'lan', 'c', '--ip', host4)).toMatch(
      `address ${host4} is already used by the host itself, on uplink0`,
    )
  })

  test.each([
    [
      'a parent that does not exist, naming the nearest',
      ['-o', 'parent=uplink1'],
      2,
      'parent uplink1 does not exist on this host (did you mean uplink0?)',
    ],
    ['the loopback link', ['-o', 'parent=lo'], 2, 'parent lo is the loopback link, which has no LAN'],
    [
      'an unknown mode',
      ['-o', 'parent=uplink0', '-o', 'mode=router'],
      2,
      'option mode=router must be bridge, private, vepa or passthru',
    ],
    [
      'host access in mode private',
      ['-o', 'parent=uplink0', '-o', 'mode=private', '-o', 'host_access=true'],
      2,
      "host_access=true needs mode bridge: in mode private the host's link could not talk to the others",
    ],
    [
      'a VLAN, where the kernel has no 802.1Q',
      ['-o', 'parent=uplink0.20'],
      6,
      'VLAN link uplink0.20 cannot be made: this kernel has no 802.1Q (module 8021q, CONFIG_VLAN_8021Q)',
    ],
    ['a VLAN of a link that does not exist', ['-o', 'parent=eth9.20'], 2, 'parent eth9.20 does not exist on this host'],
    ['a VLAN number that is none', ['-o', 'parent=uplink0.4095'], 2, 'parent uplink0.4095 does not exist on this host'],
  ])('%s is refused in a sentence', (_what, options, status, sentence) => {
    const got = host.tryTsnet('network', 'create', 'bad', '--driver', 'macvlan', ...options)
    expect(got.stderr).toMatch(sentence)
    expect(got.status).toBe(status)
  })

  test('a parent that is the port of a bridge is refused, and the bridge named', () => {
    host.run('ip', 'link', 'add', 'theirs0', 'type', 'bridge')
    host.run('ip', 'link', 'add', 'port0', 'type', 'veth', 'peer', 'name', 'port1')
    host.run('ip', 'link', 'set', 'port0', 'master', 'theirs0')
    expect(refusal('network', 'create', 'bad', '--driver', 'macvlan', '-o', 'parent=port0')).toMatch(
      'parent port0 is a port of theirs0; choose theirs0 as the parent',
    )
    create('good', '--driver', 'macvlan', '-o', 'parent=port1')
    host.run('ip', 'link', 'set', 'port1', 'master', 'theirs0')
    host.tsnet('sandbox', 'create', 'a')
    expect(refusal('connect', 'good', 'a')).toMatch('parent port1 is taken: it is a port of a bridge')
    host.tsnet('network', 'rm', 'good')
    host.run('ip', 'link', 'delete', 'port0')
    host.run('ip', 'link', 'delete', 'theirs0')
    host.tsnet('reconcile') // the firewall forgets theirs0
  })

  test('-p is refused: on a LAN everybody has an address', () => {
    create('lan', ...lan, ...range)
    host.tsnet('sandbox', 'create', 'a')
    expect(refusal('connect', 'lan', 'a', '-p', '8080:80')).toMatch(
      'network lan publishes no ports: endpoints of driver macvlan are reached at their own addresses',
    )
  })
})

describe('several networks on one parent', () => {
  test('have different subnets, or the same one and then each address once', () => {
    create('one', ...lan, ...range)
    create('two', ...lan, '--ip-range', '198.51.100.128/26')
    create('three', ...lan, ...range)
    create('other', '--driver', 'macvlan', '-o', 'parent=uplink0', '--subnet', '10.77.0.0/24')
    const got = ['one', 'two', 'three', 'other'].map((network, i) => attach(network, `s${i}`)[0])
    expect(got).toEqual(['198.51.100.64', '198.51.100.128', '198.51.100.65', '10.77.0.1'])
    expect(reaches('s0', got[1]!)).toBe(true)
  })

  test('may name the same router', () => {
    create('one', ...lan, ...range, '--gateway', outside4)
    create('two', ...lan, ...range, '--gateway', outside4)
    expect(refusal('network', 'create', 'web', '--subnet', '198.51.100.0/24')).toMatch(
      /subnet 198\.51\.100\.0\/24 overlaps network one/,
    )
  })

  test('are refused where one is passthru, whichever comes first, with the name of the other', () => {
    create('one', ...lan, ...range)
    expect(refusal('network', 'create', 'all', ...lan, '-o', 'mode=passthru')).toMatch(
      'mode passthru needs parent uplink0 for itself, and network one uses it',
    )
    host.tsnet('network', 'rm', 'one')
    create('all', ...lan, '-o', 'mode=passthru')
    expect(refusal('network', 'create', 'one', ...lan, ...range)).toMatch(
      'parent uplink0 is used by network all in mode passthru, which needs it for itself',
    )
  })

  test('leave the parent alone when they go', () => {
    create('one', ...lan, ...range)
    create('two', ...lan, ...range)
    host.tsnet('network', 'rm', 'two')
    host.tsnet('network', 'rm', 'one')
    expect(host.links().get('uplink0')).toMatchObject({ operstate: 'UP' })
    expect(pings(host, outside4)).toBe(true)
  })
})

describe('a network without a parent', () => {
  test('is isolated and internal: its sandboxes reach each other, and neither the host nor the LAN', () => {
    create('alone', '--driver', 'macvlan', '--subnet', '10.66.0.0/24', '--ipv6', '--subnet', 'fd00:66::/64')
    expect(host.tsnetJson('network', 'inspect', 'alone')).toMatchObject([{ internal: true }])
    attach('alone', 'a')
    const [b4, b6] = attach('alone', 'b')
    expect(reaches('a', b4!) && reaches('a', b6!)).toBe(true)
    // not even somebody who goes looking for the host on this link hears of it
    for (const address of [host4, outside4]) {
      host.run('ip', '-n', 'a', 'route', 'add', address, 'dev', 'eth0')
      expect(reaches('a', address, 1)).toBe(false)
      expect(host.run('ip', '-n', 'a', 'neigh', 'show', address)).not.toMatch(/lladdr/)
    }
    expect(reaches('a', 'ff02::1%eth0')).toBe(true)
    const macs = [...host.links()].filter(([name]) => /^mv[lp]/.test(name)).map(([, { address }]) => address)
    expect(macs).toHaveLength(2)
    const heard = host.json('ip', '-j', '-n', 'a', '-6', 'neigh').map(({ lladdr }) => lladdr)
    expect(heard.filter(mac => macs.includes(mac as string))).toEqual([])
  })

  test('takes two sandboxes on a /31, having no gateway', () => {
    create('p2p', '--driver', 'macvlan', '--subnet', '10.66.0.0/31')
    expect([attach('p2p', 'a'), attach('p2p', 'b')]).toEqual([['10.66.0.0'], ['10.66.0.1']])
    expect(reaches('a', '10.66.0.1')).toBe(true)
  })

  test('with host_access has the host on it', () => {
    create('alone', '--driver', 'macvlan', '--subnet', '10.66.0.0/24', '-o', 'host_access=true')
    const [a] = attach('alone', 'a')
    expect(pings(host, a!)).toBe(true)
    expect(reaches('a', hostAddresses(host, 'alone')[0]!)).toBe(true)
  })
})
