import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { attachmentOf, linkIn, refusal, removeAll, removeContainers, runContainer } from '../helpers/docker.js'
import { addresses, Host } from '../helpers/host.js'
import { until } from '../helpers/machine.js'
import { eachLeavesAsFound } from '../helpers/tidy-host.js'
import { ask, isClosed, pings, startServe } from '../helpers/vantage.js'

// Real containers on tsnet's bridge networks, with Docker's own address management and with ours.

let host: Host

beforeAll(async () => {
  host = await Host.startWithDocker()
  await startServe(host.outside, 'outside', ['80/tcp', '53/udp'])
})
afterAll(() => host?.stop())

eachLeavesAsFound(
  () => host,
  () => removeAll(host),
)

describe.each([
  ["Docker's IPAM", []],
  ["tsnet's IPAM", ['--ipam-driver', 'tsnet']],
])('with %s', (_whose, ipam) => {
  const createNetwork = (name: string, ...flags: string[]) =>
    host.docker('network', 'create', '-d', 'tsnet', ...ipam, ...flags, name)

  test('two containers reach each other by address and by name', async () => {
    createNetwork('web', '--subnet', '10.20.0.0/24')
    await runContainer(host, 'one', 'web')
    await runContainer(host, 'two', 'web')
    expect([linkIn(host, 'one', 'eth0'), linkIn(host, 'two', 'eth0')]).toMatchObject([
      { addresses: ['10.20.0.2/24'], mtu: 1500 },
      { addresses: ['10.20.0.3/24'], mtu: 1500 },
    ])
    expect(ask(host.container('one'), 'tcp', '10.20.0.3', 80)).toEqual({ name: 'two', peer: '10.20.0.2' })
    expect(ask(host.container('one'), 'tcp', 'two', 80)).toEqual({ name: 'two', peer: '10.20.0.2' })
    expect(ask(host.container('two'), 'udp', 'one', 53)).toEqual({ name: 'one', peer: '10.20.0.3' })
    expect(host.tsnetJson('ps')).toHaveLength(2)
  })

  test('a network without a subnet gets one that nothing on the host uses', async () => {
    createNetwork('web')
    await runContainer(host, 'one', 'web')
    const { IPAddress, Gateway } = attachmentOf(host, 'one', 'web')
    expect(IPAddress).toMatch(/^(10|172|192)\./)
    expect(pings(host.container('one'), Gateway)).toBe(true)
  })

  test('what leaves the host has the address of the host', async () => {
    createNetwork('web', '--ipv6', '--subnet', '10.20.0.0/24', '--subnet', 'fd00:20::/64')
    await runContainer(host, 'one', 'web')
    const from = host.container('one')
    expect(ask(from, 'tcp', addresses.beyond4, 80)).toEqual({ name: 'outside', peer: addresses.host4 })
    expect(ask(from, 'udp', addresses.outside4, 53)).toEqual({ name: 'outside', peer: addresses.host4 })
    expect(ask(from, 'tcp', addresses.beyond6, 80)).toEqual({ name: 'outside', peer: addresses.host6 })
  })

  test('--ip, --ip6 and --mac-address are what the container gets', async () => {
    createNetwork('web', '--ipv6', '--subnet', '10.20.0.0/24', '--subnet', 'fd00:20::/64')
    await runContainer(
      host,
      'one',
      'web',
      '--ip',
      '10.20.0.99',
      '--ip6',
      'fd00:20::99',
      '--mac-address',
      '02:00:00:00:00:99',
    )
    expect(linkIn(host, 'one', 'eth0')).toMatchObject({
      addresses: expect.arrayContaining(['10.20.0.99/24', 'fd00:20::99/64']),
      mac: '02:00:00:00:00:99',
    })
    expect(attachmentOf(host, 'one', 'web').MacAddress).toBe('02:00:00:00:00:99')
  })

  test('a container without --mac-address gets a random one of its own, which Docker shows', async () => {
    createNetwork('web', '--subnet', '10.20.0.0/24')
    await runContainer(host, 'one', 'web')
    await runContainer(host, 'two', 'web')
    const macs = ['one', 'two'].map(name => linkIn(host, name, 'eth0')!.mac)
    expect(new Set(macs).size).toBe(2)
    expect(['one', 'two'].map(name => attachmentOf(host, name, 'web').MacAddress)).toEqual(macs)
  })

  test('--ipv6 with fd00:20::/64 lets containers reach each other by IPv6 too', async () => {
    createNetwork('web', '--ipv6', '--subnet', '10.20.0.0/24', '--subnet', 'fd00:20::/64')
    await runContainer(host, 'one', 'web')
    await runContainer(host, 'two', 'web')
    const { GlobalIPv6Address } = attachmentOf(host, 'two', 'web')
    expect(GlobalIPv6Address).toMatch(/^fd00:20::/)
    expect(ask(host.container('one'), 'tcp', GlobalIPv6Address, 80)?.name).toBe('two')
  })

  test('--internal reaches nothing outside, and its own', async () => {
    createNetwork('shut', '--internal', '--subnet', '10.20.0.0/24')
    await runContainer(host, 'one', 'shut')
    await runContainer(host, 'two', 'shut')
    expect(ask(host.container('one'), 'tcp', 'two', 80)?.name).toBe('two')
    expect(isClosed(host.container('one'), 'tcp', addresses.outside4, 80)).toBe(true)
    expect(isClosed(host.container('one'), 'tcp', addresses.beyond4, 80)).toBe(true)
  })

  test('two networks cannot reach each other', async () => {
    createNetwork('blue', '--subnet', '10.20.0.0/24')
    createNetwork('red', '--subnet', '10.21.0.0/24')
    await runContainer(host, 'one', 'blue')
    await runContainer(host, 'two', 'red')
    expect(isClosed(host.container('one'), 'tcp', '10.21.0.2', 80)).toBe(true)
    expect(isClosed(host.container('two'), 'tcp', '10.20.0.2', 80)).toBe(true)
    expect(pings(host.container('one'), '10.21.0.2', 1)).toBe(false)
  })

  test('connect and disconnect work on a running container', async () => {
    createNetwork('blue', '--subnet', '10.20.0.0/24')
    createNetwork('red', '--subnet', '10.21.0.0/24')
    await runContainer(host, 'one', 'blue')
    await runContainer(host, 'two', 'red')
    host.docker('network', 'connect', '--ip', '10.21.0.50', 'red', 'one')
    expect(linkIn(host, 'one', 'eth1')).toMatchObject({ addresses: ['10.21.0.50/24'] })
    expect(ask(host.container('one'), 'tcp', 'two', 80)).toEqual({ name: 'two', peer: '10.21.0.50' })
    expect(ask(host.container('two'), 'tcp', '10.21.0.50', 80)?.name).toBe('one')
    host.docker('network', 'disconnect', 'red', 'one')
    expect(linkIn(host, 'one', 'eth1')).toBeUndefined()
    expect(isClosed(host.container('two'), 'tcp', '10.21.0.50', 80)).toBe(true)
    expect(ask(host.container('one'), 'tcp', addresses.beyond4, 80)?.name).toBe('outside')
  })

  test('a container that is stopped and started again is reachable again', async () => {
    createNetwork('web', '--subnet', '10.20.0.0/24')
    await runContainer(host, 'one', 'web')
    await runContainer(host, 'two', 'web', '--ip', '10.20.0.3')
    const one = host.container('one')
    const { IPAddress, MacAddress } = attachmentOf(host, 'two', 'web')
    expect(pings(one, IPAddress)).toBe(true)
    host.docker('stop', 'two')
    expect(host.tsnetJson('ps')).toHaveLength(1)
    host.docker('start', 'two')
    const again = attachmentOf(host, 'two', 'web')
    expect([again.IPAddress, again.MacAddress === MacAddress]).toEqual([IPAddress, false])
    // who remembers the MAC address that it had is told, unasked
    await until('the new MAC address to be known', () =>
      one.tryRun('ip', 'neigh', 'show', IPAddress).stdout.includes(again.MacAddress),
    )
    expect(pings(one, 'two')).toBe(true)
  })

  test('network rm refuses while a container is on it, and leaves nothing afterwards', async () => {
    const bare = host.snapshot()
    const id = createNetwork('web', '--subnet', '10.20.0.0/24')
    expect(host.links().get(`br-${id.slice(0, 12)}`)).toMatchObject({ linkinfo: { info_kind: 'bridge' } })
    await runContainer(host, 'one', 'web')
    expect(refusal(host, 'network', 'rm', 'web')).toMatch(/active endpoints/)
    expect(host.tryTsnet('network', 'rm', id)).toMatchObject({
      status: 5,
      stderr: expect.stringMatching(/^tsnet: [^\n]+\n$/),
    })
    removeContainers(host, 'one')
    host.docker('network', 'rm', 'web')
    expect(host.snapshot()).toBe(bare)
    expect(host.run('ls', '/sys/class/net')).not.toMatch(/br-/)
  })

  test('the options of the bridge work under their Docker names', async () => {
    createNetwork(
      'web',
      ...['-o', 'com.docker.network.bridge.name=web0', '-o', 'com.docker.network.driver.mtu=1400'],
      ...['-o', 'com.docker.network.bridge.enable_icc=false', '-o', 'com.docker.network.container_iface_prefix=net'],
    )
    await runContainer(host, 'one', 'web')
    await runContainer(host, 'two', 'web')
    expect(host.links().get('web0')).toMatchObject({ mtu: 1400 })
    expect(linkIn(host, 'one', 'net0')).toMatchObject({ mtu: 1400 })
    expect(isClosed(host.container('one'), 'tcp', attachmentOf(host, 'two', 'web').IPAddress, 80)).toBe(true)
    expect(ask(host.container('one'), 'tcp', addresses.beyond4, 80)?.name).toBe('outside')
  })

  test('an unknown option is refused, the nearest one is named, and nothing is left', () => {
    expect(refusal(host, 'network', 'create', '-d', 'tsnet', ...ipam, '-o', 'mtuu=1400', 'web')).toMatch(
      /mtuu.*\bmtu\b/,
    )
  })
})

test("Docker's own bridge network works beside ours, and the two are kept apart", async () => {
  host.docker('network', 'create', '-d', 'tsnet', '--subnet', '10.20.0.0/24', 'ours')
  host.docker('network', 'create', '--subnet', '10.22.0.0/24', 'theirs')
  await runContainer(host, 'one', 'ours', '-p', '8080:80')
  await runContainer(host, 'two', 'theirs', '-p', '8081:80')
  expect(ask(host.outside, 'tcp', addresses.host4, 8080)).toEqual({ name: 'one', peer: addresses.outside4 })
  expect(ask(host.outside, 'tcp', addresses.host4, 8081)).toEqual({ name: 'two', peer: addresses.outside4 })
  expect(ask(host.container('two'), 'tcp', addresses.beyond4, 80)?.name).toBe('outside')
  // dockerd 20.10 opens the container's own address for a port that is published, to everybody; no other port
  expect(ask(host, 'udp', '10.22.0.2', 53)?.name).toBe('two')
  expect(isClosed(host.container('one'), 'udp', '10.22.0.2', 53)).toBe(true)
  expect(isClosed(host.container('two'), 'tcp', '10.20.0.2', 80)).toBe(true)
  removeContainers(host, 'two')
  host.docker('network', 'rm', 'theirs')
})
