import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { attachmentOf, linkIn, refusal, removeAll, removeContainers, runContainer } from '../helpers/docker.js'
import { addresses, Host } from '../helpers/host.js'
import { until } from '../helpers/machine.js'
import { eachLeavesAsFound } from '../helpers/tidy-host.js'
import { ask, pings } from '../helpers/vantage.js'

// The scenarios of moby's integration/network/macvlan/macvlan_test.go, on networks of our driver under dockerd 20.10, with a
// parent that leads to a real LAN. Those that cannot be here, and why:
// - Subinterface and the OverlapParent tests make 802.1Q links, which this kernel has not: the parent itself stands in for
//   them, and that a VLAN is refused in words is tried instead.
// - `--ipv4=false` of the IPAM matrix (v6 only, no ipam, enableIPv4 ignored) is an option of dockerd 28; so are the
//   numbers of free addresses in `network inspect`, and interface names by endpoint (TestEndpointWithCustomIfname).
// - dockerd before 28 asks no driver whether it wants a gateway, and makes one up: "no default route without a gateway" is
//   tried by the command line in test/netns/macvlan.test.ts, and by the protocol itself in test/contract/plugin-api.test.ts.
// - TestMACVlanDNS is about dockerd's own resolver; what our driver has to do with it is internal or not, tried here.

let host: Host

const { host4, outside4, outside6 } = addresses
const lan = [
  '-o',
  'parent=uplink0',
  '--subnet',
  '198.51.100.0/24',
  '--ip-range',
  '198.51.100.64/26',
  '--gateway',
  outside4,
]
const lan6 = ['--ipv6', '--subnet', '2001:db8:100::/64', '--ip-range', '2001:db8:100::1000/116', '--gateway', outside6]

beforeAll(async () => {
  host = await Host.startWithDocker()
})
afterAll(() => host?.stop())

eachLeavesAsFound(
  () => host,
  () => removeAll(host),
)

const create = (name: string, ...flags: string[]): string =>
  host.docker('network', 'create', '-d', 'tsnet', '-o', 'driver=macvlan', ...flags, name)
const refused = (...flags: string[]): string =>
  refusal(host, 'network', 'create', '-d', 'tsnet', '-o', 'driver=macvlan', ...flags, 'refused')
const available = (name: string): boolean => host.tryDocker('network', 'inspect', name).status === 0
const routesIn = (container: string, family: '-4' | '-6'): string =>
  host.docker('exec', container, 'ip', family, 'route')

test('containers are machines of the LAN: they reach it, each other by name, and not the host', async () => {
  create('lan', ...lan, ...lan6)
  await runContainer(host, 'one', 'lan')
  await runContainer(host, 'two', 'lan')
  expect(linkIn(host, 'one', 'eth0')).toMatchObject({
    mtu: 1500,
    addresses: expect.arrayContaining(['198.51.100.64/24']),
  })
  expect(attachmentOf(host, 'one', 'lan').MacAddress).toBe(linkIn(host, 'one', 'eth0')!.mac)
  expect(ask(host.container('one'), 'tcp', 'two', 80)).toEqual({ name: 'two', peer: '198.51.100.64' })
  expect(ask(host.outside, 'tcp', '198.51.100.64', 80)).toEqual({ name: 'one', peer: outside4 })
  expect(pings(host.container('one'), outside6)).toBe(true)
  expect(pings(host.container('one'), addresses.beyond4)).toBe(true)
  expect(pings(host.container('one'), host4, 1)).toBe(false)
})

test('Persistence: the network outlives a restart of dockerd and of the daemon, and works', async () => {
  create('dm-persist', ...lan)
  await host.stopDocker()
  await host.stopTsnet()
  await host.startTsnet()
  await host.startDocker()
  expect(available('dm-persist')).toBe(true)
  await runContainer(host, 'one', 'dm-persist')
  expect(pings(host.container('one'), outside4)).toBe(true)
})

describe('parents', () => {
  test('OverlapParent: two networks share one, whichever goes first, and it stays', async () => {
    create('first', ...lan)
    create('second', '-o', 'parent=uplink0', '--subnet', '10.88.0.0/24')
    await runContainer(host, 'one', 'first')
    await runContainer(host, 'two', 'second')
    removeContainers(host, 'one', 'two')
    host.docker('network', 'rm', 'first')
    expect(host.links().has('uplink0')).toBe(true)
    await runContainer(host, 'two', 'second')
    removeContainers(host, 'two')
    host.docker('network', 'rm', 'second')
    expect(host.links().get('uplink0')).toMatchObject({ operstate: 'UP' })
  })

  test('OverlapParentPassthruFirst and Second: passthru is refused beside another network, and the other way round', () => {
    create('first', ...lan, '-o', 'macvlan_mode=passthru')
    expect(refused('-o', 'parent=uplink0', '--subnet', '10.88.0.0/24')).toMatch(
      /parent uplink0 is used by network (first|docker-\w+) in mode passthru/,
    )
    host.docker('network', 'rm', 'first')
    create('first', ...lan)
    expect(refused('-o', 'parent=uplink0', '-o', 'macvlan_mode=passthru', '--subnet', '10.88.0.0/24')).toMatch(
      /mode passthru needs parent uplink0 for itself, and network (second|first|docker-\w+) uses it/,
    )
  })

  test.each([
    ['lo', /parent lo is the loopback link/],
    ['eth77', /parent eth77 does not exist on this host/],
    ['uplink0.40', /VLAN link uplink0\.40 cannot be made: this kernel has no 802\.1Q/],
  ])('%s is refused in words', (parent, sentence) => {
    expect(refused('-o', `parent=${parent}`, '--subnet', '10.88.0.0/24')).toMatch(sentence)
  })

  test('ParentDown: a container can be attached while the parent is down, and has the LAN once it is up', async () => {
    host.run('ip', 'link', 'add', 'port0', 'type', 'veth', 'peer', 'name', 'port1')
    host.run('ip', 'link', 'set', 'port1', 'up')
    host.run('ip', 'addr', 'add', '10.88.0.9/24', 'dev', 'port1')
    create('down', '-o', 'parent=port0', '--subnet', '10.88.0.0/24', '--ipv6', '--subnet', 'fd00:88::/64')
    await runContainer(host, 'one', 'down')
    expect(host.tsnet('reconcile', '--dry-run')).toMatch(/parent port0 of network (down|docker-\w+) is down/)
    expect(pings(host.container('one'), '10.88.0.9', 1)).toBe(false)
    host.run('ip', 'link', 'set', 'port0', 'up')
    await until('the LAN to be reached', () => pings(host.container('one'), '10.88.0.9', 1))
    expect(host.tsnet('reconcile', '--dry-run')).toBe('')
    removeContainers(host, 'one')
    host.docker('network', 'rm', 'down')
    host.run('ip', 'link', 'delete', 'port0')
  })

  test("a container is not given the host's own address, whoever chooses: the refusal says whose it is", () => {
    create('lan', '-o', 'parent=uplink0', '--subnet', '198.51.100.0/24', '--gateway', outside4)
    expect(refusal(host, 'run', '--rm', '--network', 'lan', 'busybox', 'true')).toMatch(
      `address ${host4} is already used by the host itself, on uplink0`,
    )
  })
})

test('NilParent: without a parent the network is isolated, and two containers on it reach each other', async () => {
  create('nil')
  await runContainer(host, 'one', 'nil')
  await runContainer(host, 'two', 'nil')
  expect(ask(host.container('two'), 'tcp', 'one', 80)?.name).toBe('one')
  expect(host.container('one').tryRun('ping', '-c1', '-W1', outside4).stderr).toMatch(/unreachable/)
})

test('InternalMode: --internal has no way out, with a parent or without one', async () => {
  for (const [name, flags] of [
    ['shut', lan],
    ['alone', []],
  ] as const) {
    create(name, '--internal', ...flags)
    await runContainer(host, `${name}1`, name)
    await runContainer(host, `${name}2`, name)
    expect(routesIn(`${name}1`, '-4')).not.toMatch(/default/)
    expect(host.container(`${name}1`).tryRun('ping', '-c1', '-W1', addresses.beyond4).stderr).toMatch(/unreachable/)
    expect(pings(host.container(`${name}2`), `${name}1`)).toBe(true)
  }
})

test.each([
  ['with a parent', ['-o', 'parent=uplink0']],
  ['without', []],
])(
  'MultiSubnet %s: each container is in the subnets of its --ip and --ip6, and reaches those beside it',
  async (_what, parent) => {
    const subnets = [
      ...['--ipv6', '--subnet', '172.28.100.0/24', '--subnet', '172.28.102.0/24', '--gateway', '172.28.102.254'],
      ...['--subnet', '2001:db8:abc2::/64', '--subnet', '2001:db8:abc4::/64', '--gateway', '2001:db8:abc4::254'],
    ]
    create('dual', ...parent, ...subnets)
    for (const [name, ip, ip6] of [
      ['one', '172.28.100.20', '2001:db8:abc2::20'],
      ['two', '172.28.100.21', '2001:db8:abc2::21'],
      ['three', '172.28.102.20', '2001:db8:abc4::20'],
      ['four', '172.28.102.21', '2001:db8:abc4::21'],
    ] as const)
      await runContainer(host, name, 'dual', '--ip', ip, '--ip6', ip6)
    expect(pings(host.container('two'), '172.28.100.20')).toBe(true)
    expect(pings(host.container('two'), '2001:db8:abc2::20')).toBe(true)
    expect(pings(host.container('four'), '172.28.102.20')).toBe(true)
    expect(pings(host.container('four'), '2001:db8:abc4::20')).toBe(true)
    if (parent.length === 0) expect(routesIn('three', '-4')).not.toMatch(/default/)
    else {
      expect(routesIn('three', '-4')).toMatch(/default via 172\.28\.102\.254 dev eth0/)
      expect(routesIn('three', '-6')).toMatch(/default via 2001:db8:abc4::254 dev eth0/)
    }
  },
)

test('Addressing: default routes are those of the gateways that were given, in each family', async () => {
  create(
    'dual',
    '-o',
    'parent=uplink0',
    '-o',
    'macvlan_mode=bridge',
    '--subnet',
    '172.28.130.0/24',
    '--gateway',
    '172.28.130.9',
    '--ipv6',
    '--subnet',
    '2001:db8:abca::/64',
    '--gateway',
    '2001:db8:abca::254',
  )
  await runContainer(host, 'one', 'dual')
  expect(routesIn('one', '-4')).toMatch(/default via 172\.28\.130\.9 dev eth0/)
  expect(routesIn('one', '-6')).toMatch(/default via 2001:db8:abca::254 dev eth0/)
})

describe.each([
  ["Docker's IPAM", []],
  ["tsnet's IPAM", ['--ipam-driver', 'tsnet']],
])('IPAM matrix with %s', (_whose, ipam) => {
  const v4 = [
    '--subnet',
    '10.66.77.0/24',
    '--ip-range',
    '10.66.77.64/30',
    '--gateway',
    '10.66.77.1',
    '--aux-address',
    'inrange=10.66.77.65',
    '--aux-address',
    'outofrange=10.66.77.128',
  ]
  const v6 = ['--ipv6', '--subnet', '2001:db8:abcd::/64', '--ip-range', '2001:db8:abcd::/120']

  test.each([
    ['dual stack', [...v4, ...v6], '0'],
    ['v4 only', v4, '1'],
  ])(
    '%s: the address is in the range and no other’s; IPv6 is on where there is a subnet of it',
    async (_what, flags, disabled) => {
      create('macvlannet', ...ipam, ...flags)
      await runContainer(host, 'one', 'macvlannet')
      const { addresses: got } = linkIn(host, 'one', 'eth0')!
      expect(['10.66.77.64/24', '10.66.77.66/24', '10.66.77.67/24']).toContain(got[0])
      expect(got.slice(1).map(address => address.startsWith('2001:db8:abcd::'))).toEqual(disabled === '0' ? [true] : [])
      expect(host.docker('exec', 'one', 'sysctl', '-n', 'net.ipv6.conf.eth0.disable_ipv6')).toBe(disabled)
      expect(host.docker('exec', 'one', 'ip', 'addr', 'show', 'dev', 'lo')).toMatch(/inet 127/)
    },
  )

  test('IPAMOverlap: networks with one subnet and several ranges give out each address once', async () => {
    const subnet = ['-o', 'parent=uplink0', '--subnet', '192.168.0.0/24']
    create('low', ...ipam, ...subnet, '--ip-range', '192.168.0.0/25', '--gateway', '192.168.0.1')
    create(
      'high',
      ...ipam,
      ...subnet,
      '--ip-range',
      '192.168.0.128/25',
      '--gateway',
      ipam.length > 0 ? '192.168.0.1' : '192.168.0.254',
    )
    await runContainer(host, 'one', 'low')
    await runContainer(host, 'two', 'high')
    const [one, two] = [attachmentOf(host, 'one', 'low').IPAddress, attachmentOf(host, 'two', 'high').IPAddress]
    expect([one, two]).toEqual(['192.168.0.2', '192.168.0.128'])
    expect(pings(host.container('one'), two)).toBe(true)
    expect(host.tryDocker('run', '--rm', '--network', 'high', '--ip', one, 'busybox', 'true').stderr).toMatch(
      /already/i,
    )
  })
})

test('PointToPoint: a /31 with our IPAM has room for a gateway and one container', async () => {
  create('p2p', '--ipam-driver', 'tsnet', '--subnet', '192.168.135.0/31')
  await runContainer(host, 'one', 'p2p')
  expect(attachmentOf(host, 'one', 'p2p').IPAddress).toMatch(/^192\.168\.135\.[01]$/)
})
