import { afterAll, beforeAll, expect, test } from 'vitest'
import { attachmentOf, refusal, removeAll, removeContainers, runContainer } from '../helpers/docker.js'
import { addresses, Host } from '../helpers/host.js'
import { image } from '../helpers/image.js'
import { until } from '../helpers/machine.js'
import { eachLeavesAsFound } from '../helpers/tidy-host.js'
import { ask, isClosed, pings, startServe } from '../helpers/vantage.js'

// Scenarios of moby's integration/networking and integration/network/bridge with `-d tsnet`; docs/moby-scenarios.md has the whole list.

let host: Host

beforeAll(async () => {
  host = await Host.startWithDocker()
  await startServe(host.outside, 'outside', ['80/tcp'])
})
afterAll(() => host?.stop())

eachLeavesAsFound(
  () => host,
  () => removeAll(host),
)

const network = (name: string, octet: number, ...flags: string[]): string =>
  host.docker(
    'network',
    'create',
    '-d',
    'tsnet',
    '--ipv6',
    '--subnet',
    `10.${octet}.0.0/24`,
    '--subnet',
    `fd00:${octet}::/64`,
    ...flags,
    name,
  )

test('1 ICC, 2 INC: one bridge reaches itself by address, name and both families, another bridge not, internal or not', async () => {
  network('blue', 20)
  network('red', 21)
  network('shut', 22, '--internal')
  await runContainer(host, 'one', 'blue')
  await runContainer(host, 'two', 'blue')
  await runContainer(host, 'far', 'red')
  await runContainer(host, 'in', 'shut')
  const [one, two, far] = ['one', 'two', 'far'].map(name => host.container(name))
  for (const address of [
    attachmentOf(host, 'two', 'blue').IPAddress,
    attachmentOf(host, 'two', 'blue').GlobalIPv6Address,
    'two',
  ])
    expect([address, pings(one!, address)]).toEqual([address, true])
  for (const [name, net] of [
    ['far', 'red'],
    ['in', 'shut'],
  ] as const) {
    const { IPAddress, GlobalIPv6Address } = attachmentOf(host, name, net)
    for (const address of [IPAddress, GlobalIPv6Address]) {
      expect([address, pings(one!, address, 1)]).toEqual([address, false])
      expect(isClosed(two!, 'tcp', address, 80)).toBe(true)
    }
  }
  expect(pings(host.container('in'), attachmentOf(host, 'one', 'blue').IPAddress, 1)).toBe(false)
  expect(pings(far!, attachmentOf(host, 'one', 'blue').GlobalIPv6Address, 1)).toBe(false)
})

test('4 AccessToPublishedPort, 5 InterNetworkDirectRouting, 24: another network reaches a published port by the addresses of the host, not by that of the container', async () => {
  network('blue', 20)
  network('red', 21)
  await runContainer(host, 'one', 'blue', '-p', '8080:80')
  await runContainer(host, 'far', 'red')
  const far = host.container('far')
  for (const address of [addresses.host4, addresses.host6, '10.20.0.1', '10.21.0.1'])
    expect([address, ask(far, 'tcp', address, 8080)?.name]).toEqual([address, 'one'])
  expect(isClosed(far, 'tcp', attachmentOf(host, 'one', 'blue').IPAddress, 80)).toBe(true)
})

test('6 InternalNwConnectivity: host and internal container reach each other, the outside does not', async () => {
  network('shut', 22, '--internal')
  await runContainer(host, 'in', 'shut')
  const { IPAddress } = attachmentOf(host, 'in', 'shut')
  expect(ask(host, 'tcp', IPAddress, 80)?.name).toBe('in')
  expect(pings(host.container('in'), '10.22.0.1')).toBe(true)
  host.outside.run('ip', 'route', 'add', '10.22.0.0/24', 'via', addresses.host4)
  expect(isClosed(host.outside, 'tcp', IPAddress, 80)).toBe(true)
  host.outside.run('ip', 'route', 'del', '10.22.0.0/24')
})

test('13 DropInForwardChain: a DROP that another program appends to FORWARD breaks nothing of ours', async () => {
  network('blue', 20)
  await runContainer(host, 'one', 'blue', '-p', '8080:80')
  host.run('iptables', '-A', 'FORWARD', '-j', 'DROP')
  expect(ask(host.outside, 'tcp', addresses.host4, 8080)?.name).toBe('one')
  expect(ask(host.container('one'), 'tcp', addresses.beyond4, 80)?.name).toBe('outside')
  host.run('iptables', '-D', 'FORWARD', '-j', 'DROP')
})

test('17 Hairpin: a container reaches its own published port and that of its peer by the address of the host', async () => {
  network('blue', 20)
  await runContainer(host, 'one', 'blue', '-p', '8080:80', '-p', '5353:53/udp')
  await runContainer(host, 'two', 'blue')
  for (const from of ['one', 'two'])
    for (const address of [addresses.host4, addresses.host6]) {
      expect(ask(host.container(from), 'tcp', address, 8080)?.name).toBe('one')
      expect(ask(host.container(from), 'udp', address, 5353)?.name).toBe('one')
    }
})

test('18 Proxy4To6: a mapping of an IPv6 address of the host reaches a container that has IPv4 only', async () => {
  host.docker('network', 'create', '-d', 'tsnet', '--subnet', '10.20.0.0/24', 'four')
  await runContainer(host, 'one', 'four', '-p', `[${addresses.host6}]:8080:80`)
  expect(ask(host.outside, 'tcp', addresses.host6, 8080)?.name).toBe('one')
})

test('20 Restart under 2MSL: a container with a connection just closed is stopped and started, and has its port again', async () => {
  network('blue', 20)
  await runContainer(host, 'one', 'blue', '-p', '8080:80')
  for (const _ of [1, 2]) {
    expect(ask(host, 'tcp', '127.0.0.1', 8080)?.name).toBe('one')
    expect(ask(host, 'tcp', '::1', 8080)?.name).toBe('one')
    host.docker('restart', '-t', '0', 'one')
    await until('one to answer', () => ask(host.outside, 'tcp', addresses.host4, 8080)?.name === 'one')
  }
})

test('28 MixAnyWithSpecificHostAddrs: a port chosen for any address is not one that 127.0.0.1 has, and both families have the same', async () => {
  network('blue', 20)
  await runContainer(host, 'one', 'blue', '-p', '80', '-p', '127.0.0.1::53/tcp')
  const [endpoint] = host.tsnetJson<{ bindings: { hostIp: string; hostPort: number }[] }[]>('ps')
  const byIp = new Map(endpoint!.bindings.map(({ hostIp, hostPort }) => [hostIp, hostPort]))
  expect(byIp.get('0.0.0.0')).toBe(byIp.get('::'))
  expect(byIp.get('127.0.0.1')).not.toBe(byIp.get('0.0.0.0'))
})

test('29: one port at two addresses 127.0.1.x is two containers, each answered by the right one', async () => {
  network('blue', 20)
  await runContainer(host, 'one', 'blue', '-p', '127.0.1.1:8080:80')
  await runContainer(host, 'two', 'blue', '-p', '127.0.1.2:8080:80')
  expect(['127.0.1.1', '127.0.1.2'].map(address => ask(host, 'tcp', address, 8080)?.name)).toEqual(['one', 'two'])
})

test('33 port in use: the refusal says so, nothing is left, and the container starts once the port is free', async () => {
  network('blue', 20)
  await runContainer(host, 'one', 'blue', '-p', '8080:80')
  const before = host.tsnetJson('ps').length
  expect(refusal(host, 'run', '--name', 'two', '--network', 'blue', '-p', '8080:80', '-d', image, 'true')).toMatch(
    /8080/,
  )
  expect(host.tsnetJson('ps').length).toBe(before)
  removeContainers(host, 'one', 'two')
  await runContainer(host, 'two', 'blue', '-p', '8080:80')
  expect(ask(host.outside, 'tcp', addresses.host4, 8080)?.name).toBe('two')
})

test('37 FirewallBackendSwitch: iptables and back, containers go on and nothing of the former backend is left', async () => {
  network('blue', 20)
  await runContainer(host, 'one', 'blue', '-p', '8080:80')
  await host.stopTsnet()
  await host.startTsnet('--firewall', 'iptables')
  expect(host.tsnetRules()).toEqual([])
  expect(ask(host.outside, 'tcp', addresses.host4, 8080)?.name).toBe('one')
  await host.stopTsnet()
  await host.startTsnet()
  expect(host.run('iptables-save')).not.toContain('TSNET-')
  await until('one to answer', () => ask(host.outside, 'tcp', addresses.host4, 8080)?.name === 'one')
})
