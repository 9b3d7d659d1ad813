import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { addresses, Host } from '../helpers/host.js'
import { eachLeavesAsFound, removeByCommands } from '../helpers/tidy-host.js'
import { ask, endServe, isClosed, pings, startServe } from '../helpers/vantage.js'

// The command line on a host of its own, from outside: what a user types, judged by `ip`, by `nft` and by other machines.

let host: Host

beforeAll(async () => {
  host = await Host.startWithTsnet()
  await startServe(host.outside, 'outside', ['80/tcp', '53/udp'])
})
afterAll(() => host?.stop())

eachLeavesAsFound(
  () => host,
  () => removeByCommands(host),
)

interface Addressed {
  ifname: string
  mtu: number
  address: string
  operstate: string
  addr_info: { family: string; local: string; prefixlen: number; scope: string }[]
}
const globalAddresses = (link: Addressed | undefined): string[] =>
  (link?.addr_info ?? [])
    .filter(({ scope }) => scope === 'global')
    .map(({ local, prefixlen }) => `${local}/${prefixlen}`)
const linkIn = (sandbox: string, ifname: string): Addressed | undefined =>
  host.json<Addressed[]>('ip', '-j', '-n', sandbox, 'addr').find(link => link.ifname === ifname)

/** A sandbox on a network; returns its first address without the prefix length. */
function attach(network: string, sandbox: string, ...flags: string[]): string {
  host.tsnet('sandbox', 'create', sandbox)
  host.tsnet('connect', network, sandbox, ...flags)
  const [endpoint] = host.tsnetJson<{ endpoints: { addresses: string[] }[] }[]>('sandbox', 'inspect', sandbox)[0]!
    .endpoints
  return endpoint!.addresses[0]!.split('/')[0]!
}

describe('tsnet run', () => {
  test('--network gives the command eth0 with the first address of the subnet and MTU 1500', () => {
    host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24')
    const links = JSON.parse(host.tsnet('run', '--rm', '--network', 'lab', '--', 'ip', '-j', 'addr')) as Addressed[]
    const eth0 = links.find(link => link.ifname === 'eth0')
    expect(eth0).toMatchObject({ mtu: 1500, operstate: 'UP' })
    expect(globalAddresses(eth0)).toEqual(['10.30.0.2/24'])
    expect(links.find(link => link.ifname === 'lo')).toMatchObject({ flags: expect.arrayContaining(['UP']) })
  })

  test("ends with the command's exit code, and --rm removes the sandbox then too", () => {
    host.tsnet('network', 'create', 'lab')
    expect(host.tryTsnet('run', '--rm', '--network', 'lab', '--', 'sh', '-c', 'exit 7').status).toBe(7)
    expect(host.tsnet('-q', 'sandbox', 'ls')).toBe('')
  })

  test('without --rm the sandbox stays, under the name it was given', () => {
    host.tsnet('run', '--name', 'kept', '--', 'true')
    expect(host.tsnet('-q', 'sandbox', 'ls')).toBe('kept')
    expect(host.run('ip', 'netns')).toMatch(/^kept\b/m)
  })

  test("binds the sandbox's own hosts and resolv.conf over those of /etc", () => {
    host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24')
    const inside = host.tsnet('run', '--rm', '--name', 'box', '--network', 'lab', '--', 'cat', '/etc/hosts')
    expect(inside).toMatch(/^10\.30\.0\.2\s+box\b/m)
    expect(host.run('cat', '/etc/hosts')).not.toMatch(/10\.30\.0\.2/)
  })
})

describe('a bridge network', () => {
  test('lets two sandboxes ping each other, whichever tool runs in them', () => {
    host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24')
    expect(attach('lab', 'a')).toBe('10.30.0.2')
    expect(attach('lab', 'b')).toBe('10.30.0.3')
    expect(pings(host.sandbox('a'), '10.30.0.3')).toBe(true)
    expect(host.tryTsnet('exec', 'b', '--', 'busybox', 'ping', '-c', '1', '10.30.0.2').status).toBe(0)
    expect(pings(host.sandbox('a'), '10.30.0.1')).toBe(true)
  })

  test('is listed as JSON that parses, in ls and in inspect, with what is attached', () => {
    const id = host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24', '--label', 'team=web')
    attach('lab', 'a')
    expect(host.tsnetJson('network', 'ls')).toMatchObject([
      { name: 'host', driver: 'host' },
      { id, name: 'lab', driver: 'bridge', labels: { team: 'web' } },
      { name: 'none', driver: 'none' },
    ])
    expect(host.tsnetJson('network', 'inspect', 'lab')).toMatchObject([
      {
        subnets: [{ subnet: '10.30.0.0/24', gateway: '10.30.0.1' }],
        endpoints: [{ name: 'a', addresses: ['10.30.0.2/24'] }],
      },
    ])
    expect(host.tsnetJson('ps')).toMatchObject([{ network: 'lab', sandbox: 'a', addresses: ['10.30.0.2/24'] }])
    expect(host.tsnetJson('sandbox', 'ls')).toMatchObject([{ name: 'a', netns: '/run/netns/a', missing: false }])
  })

  test('shows the outside the address of the host, in both families', () => {
    host.tsnet('network', 'create', 'dual', '--subnet', '10.30.0.0/24', '--ipv6', '--subnet', 'fd00:30::/64')
    attach('dual', 'a')
    const a = addresses
    expect(ask(host.sandbox('a'), 'tcp', a.beyond4, 80)).toEqual({ name: 'outside', peer: a.host4 })
    expect(ask(host.sandbox('a'), 'udp', a.outside4, 53)).toEqual({ name: 'outside', peer: a.host4 })
    expect(ask(host.sandbox('a'), 'tcp', a.beyond6, 80)).toEqual({ name: 'outside', peer: a.host6 })
  })

  test('that is internal reaches nothing outside and is reached by nobody, but by its own', () => {
    host.tsnet('network', 'create', 'shut', '--internal', '--subnet', '10.31.0.0/24')
    host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24')
    attach('shut', 'a')
    attach('shut', 'b')
    attach('lab', 'c')
    expect(pings(host.sandbox('a'), '10.31.0.3')).toBe(true)
    expect(pings(host.sandbox('a'), addresses.outside4, 1)).toBe(false)
    expect(pings(host.sandbox('c'), '10.31.0.2', 1)).toBe(false)
    host.outside.run('ip', 'route', 'add', '10.31.0.0/24', 'via', addresses.host4)
    expect(pings(host.outside, '10.31.0.2', 1)).toBe(false)
    host.outside.run('ip', 'route', 'del', '10.31.0.0/24')
  })

  test('is closed to other networks, and to the outside even where that knows the way', () => {
    host.tsnet('network', 'create', 'one', '--subnet', '10.30.0.0/24')
    host.tsnet('network', 'create', 'two', '--subnet', '10.31.0.0/24')
    attach('one', 'a')
    attach('two', 'b')
    expect(pings(host.sandbox('a'), '10.31.0.2', 1)).toBe(false)
    expect(pings(host.sandbox('b'), '10.30.0.2', 1)).toBe(false)
    host.outside.run('ip', 'route', 'add', '10.30.0.0/24', 'via', addresses.host4)
    expect(pings(host.outside, '10.30.0.2', 1)).toBe(false)
    host.outside.run('ip', 'route', 'del', '10.30.0.0/24')
  })

  test('with icc=false lets its sandboxes out but not to each other', () => {
    host.tsnet('network', 'create', 'apart', '--subnet', '10.30.0.0/24', '-o', 'icc=false')
    attach('apart', 'a')
    attach('apart', 'b')
    expect(pings(host.sandbox('a'), '10.30.0.3', 1)).toBe(false)
    expect(pings(host.sandbox('a'), addresses.outside4)).toBe(true)
  })

  test('has the bridge name and MTU that were asked for, at both ends of every cable', () => {
    host.tsnet('network', 'create', 'jumbo', '-o', 'bridge=jumbo0', '-o', 'mtu=9000')
    attach('jumbo', 'a')
    expect(linkIn('a', 'eth0')?.mtu).toBe(9000)
    const ports = [...host.links().values()].filter(link => link.master === 'jumbo0')
    expect(ports.map(link => link.mtu)).toEqual([9000])
    expect(host.links().get('jumbo0')).toMatchObject({ mtu: 9000, linkinfo: { info_kind: 'bridge' } })
  })
})

describe('tsnet connect', () => {
  test('gives the address, MAC and name that were asked for', () => {
    host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24', '--ipv6', '--subnet', 'fd00:30::/64')
    attach('lab', 'a', '--ip', '10.30.0.77', '--ip6', 'fd00:30::77', '--mac', '02:00:00:00:00:77', '--ifname', 'lan0')
    const lan0 = linkIn('a', 'lan0')
    expect(lan0?.address).toBe('02:00:00:00:00:77')
    expect(globalAddresses(lan0)).toEqual(['10.30.0.77/24', 'fd00:30::77/64'])
  })

  test('to a second network adds eth1, and disconnect takes away only that', () => {
    host.tsnet('network', 'create', 'one', '--subnet', '10.30.0.0/24')
    host.tsnet('network', 'create', 'two', '--subnet', '10.31.0.0/24')
    attach('one', 'a')
    host.tsnet('connect', 'two', 'a')
    expect(globalAddresses(linkIn('a', 'eth1'))).toEqual(['10.31.0.2/24'])
    host.tsnet('disconnect', 'two', 'a')
    expect(linkIn('a', 'eth1')).toBeUndefined()
    expect(globalAddresses(linkIn('a', 'eth0'))).toEqual(['10.30.0.2/24'])
  })

  test('takes a namespace that somebody else made, and leaves it when the sandbox is removed', () => {
    host.run('ip', 'netns', 'add', 'theirs')
    host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24')
    host.tsnet('sandbox', 'create', 'mine', '--netns', '/run/netns/theirs')
    host.tsnet('connect', 'lab', 'mine')
    expect(globalAddresses(linkIn('theirs', 'eth0'))).toEqual(['10.30.0.2/24'])
    host.tsnet('sandbox', 'rm', 'mine')
    expect(linkIn('theirs', 'eth0')).toBeUndefined()
    host.run('ip', 'netns', 'del', 'theirs')
  })

  test('-p publishes to outside, host and other networks, and the client keeps its own address', async () => {
    host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24', '--ipv6', '--subnet', 'fd00:30::/64')
    host.tsnet('network', 'create', 'other', '--subnet', '10.31.0.0/24')
    attach('lab', 'web', '-p', '8080:80', '-p', '127.0.0.1:8081:80', '-p', '53:53/udp')
    attach('other', 'client')
    await startServe(host, 'web', ['80/tcp', '53/udp'], host.sandbox('web'))
    const a = addresses
    expect(ask(host.outside, 'tcp', a.host4, 8080)).toEqual({ name: 'web', peer: a.outside4 })
    expect(ask(host.outside, 'tcp', a.host6, 8080)).toEqual({ name: 'web', peer: a.outside6 })
    expect(ask(host.outside, 'udp', a.host4, 53)).toEqual({ name: 'web', peer: a.outside4 })
    expect(ask(host, 'tcp', a.host4, 8080)?.name).toBe('web')
    expect(ask(host, 'tcp', '127.0.0.1', 8080)?.name).toBe('web')
    expect(ask(host, 'tcp', '127.0.0.1', 8081)?.name).toBe('web')
    expect(isClosed(host.outside, 'tcp', a.host4, 8081)).toBe(true)
    expect(ask(host.sandbox('client'), 'tcp', a.host4, 8080)?.name).toBe('web')
    expect(ask(host.sandbox('web'), 'tcp', a.host4, 8080)?.name).toBe('web')
    await endServe(host, 'web')
  })
})

test('one hundred connects at once get one hundred different addresses and no error', {
  timeout: 180_000,
}, async () => {
  host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24')
  const names = Array.from({ length: 100 }, (_, i) => `s${i}`)
  const created = await Promise.all(names.map(name => host.startCli('sandbox', 'create', name)))
  expect(created.filter(({ status }) => status !== 0)).toEqual([])
  const connected = await Promise.all(names.map(name => host.startCli('connect', 'lab', name)))
  expect(connected.filter(({ status, stderr }) => status !== 0 || stderr !== '')).toEqual([])
  const inside = names.flatMap(name => globalAddresses(linkIn(name, 'eth0')))
  expect(new Set(inside).size).toBe(100)
  expect(new Set(connected.map(({ stdout }) => stdout.trim()))).toEqual(new Set(inside))
  expect(pings(host.sandbox('s0'), inside[99]!.split('/')[0]!)).toBe(true)
})
