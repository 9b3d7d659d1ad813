import { afterAll, beforeAll, expect, test } from 'vitest'
import { attachmentOf, linkIn, removeAll, runContainer, runServing } from '../helpers/docker.js'
import { addresses, Host } from '../helpers/host.js'
import { image } from '../helpers/image.js'
import { until } from '../helpers/machine.js'
import { eachLeavesAsFound } from '../helpers/tidy-host.js'
import { ask, isClosed, pings, type Vantage } from '../helpers/vantage.js'

// More of moby's scenarios: those of gateway modes, and of what survives restarts; docs/moby-scenarios.md has the whole list.

let host: Host
const { host4, host6 } = addresses

beforeAll(async () => {
  host = await Host.startWithTsnet()
  await host.startDocker('--live-restore')
})
afterAll(() => host?.stop())

eachLeavesAsFound(
  () => host,
  () => {
    removeAll(host)
    host.outside.tryRun('ip', 'route', 'flush', 'via', host4)
  },
)

type Mode = 'nat' | 'nat-unprotected' | 'routed'
const octets: Record<Mode | 'other' | 'shut', number> = {
  nat: 20,
  'nat-unprotected': 21,
  routed: 22,
  other: 23,
  shut: 24,
}

/** A network, and a container of the same name on it that has 80/tcp published and 9000/tcp not. */
async function serve(name: keyof typeof octets, mode: Mode | 'internal', ...flags: string[]): Promise<void> {
  const kind =
    mode === 'internal' ? ['--internal'] : ['-o', `gateway_mode_ipv4=${mode}`, '-o', `gateway_mode_ipv6=${mode}`]
  const subnets = ['--ipv6', '--subnet', `10.${octets[name]}.0.0/24`, '--subnet', `fd00:${octets[name]}::/64`]
  host.docker('network', 'create', '-d', 'tsnet', ...subnets, ...kind, ...flags, name)
  const published = mode === 'internal' ? [] : ['-p', mode === 'routed' ? '80' : `80${octets[name]}:80`]
  await runServing(host, name, name, ['80/tcp', '9000/tcp'], ...published)
}
const address = (name: string): string => attachmentOf(host, name, name).IPAddress
const address6 = (name: string): string => attachmentOf(host, name, name).GlobalIPv6Address

/** What of a container can be reached at its own address: `ping`, `published`, `unpublished`. All is asked at once. */
function reached(from: Vantage, name: string, at = address(name)): string {
  const connects = (port: number) =>
    `socat -u /dev/null TCP:${at.includes(':') ? `[${at}]` : at}:${port},connect-timeout=2`
  const probes = {
    ping: `busybox ping -c 1 -W 2 ${at} >/dev/null`,
    published: connects(80),
    unpublished: connects(9000),
  }
  const script = Object.entries(probes).map(([word, probe]) => `(${probe} 2>/dev/null && echo ${word}) &`)
  const { stdout } = from.tryRun('sh', '-c', `${script.join(' ')} wait`)
  return stdout.split('\n').filter(Boolean).sort().join(' ')
}

const direct: Record<Mode, string> = {
  nat: '',
  'nat-unprotected': 'ping published unpublished',
  routed: 'ping published',
}

test('3 INCRouted, 5 InterNetworkDirectRouting, 24: what another network reaches is decided by the mode of the one that is asked', async () => {
  for (const mode of ['nat', 'nat-unprotected', 'routed'] as const) await serve(mode, mode)
  await serve('other', 'nat')
  await serve('shut', 'internal')
  for (const mode of ['nat', 'nat-unprotected', 'routed'] as const) {
    for (const at of [address(mode), address6(mode)])
      expect([mode, at, reached(host.container('other'), mode, at)]).toEqual([mode, at, direct[mode]])
    expect([mode, reached(host.container(mode), 'other')]).toEqual([mode, ''])
  }
  expect(reached(host.container('shut'), 'routed')).toBe('')
  expect(reached(host.container('routed'), 'shut')).toBe('')
  // by the host's address, where a port of it is used
  for (const from of ['other', 'routed', 'nat-unprotected'])
    expect([from, ask(host.container(from), 'tcp', host4, 8020)?.name]).toEqual([from, 'nat'])
  expect(isClosed(host.container('shut'), 'tcp', host4, 8020)).toBe(true)
})

test('21 DirectRoutingOpenPorts, 25: a machine outside that routes to the containers, whatever the policy of FORWARD', async () => {
  const before = host.run('iptables', '-S', 'FORWARD').split('\n')[0]!.split(' ')[2]!
  for (const mode of ['nat', 'nat-unprotected', 'routed'] as const) {
    await serve(mode, mode)
    host.outside.run('ip', 'route', 'add', `10.${octets[mode]}.0.0/24`, 'via', host4)
  }
  await serve('other', 'nat', '-o', 'trusted_interfaces=uplink0')
  host.outside.run('ip', 'route', 'add', '10.23.0.0/24', 'via', host4)
  try {
    for (const policy of ['ACCEPT', 'DROP']) {
      host.run('iptables', '-P', 'FORWARD', policy)
      for (const mode of ['nat', 'nat-unprotected', 'routed'] as const)
        expect([policy, mode, reached(host.outside, mode)]).toEqual([policy, mode, direct[mode]])
      // what dockerd has --allow-direct-routing for
      expect(ask(host.outside, 'tcp', address('other'), 80)?.name).toBe('other')
      expect(isClosed(host.outside, 'tcp', address('other'), 9000)).toBe(true)
    }
  } finally {
    host.run('iptables', '-P', 'FORWARD', before)
  }
})

test('16 DisableNAT: which port of the host a mapping has, for each mode and family', async () => {
  const got: Record<string, string[]> = {}
  for (const four of ['nat', 'routed'])
    for (const six of ['nat', 'routed']) {
      const modes = ['-o', `gateway_mode_ipv4=${four}`, '-o', `gateway_mode_ipv6=${six}`]
      const subnets = ['--ipv6', '--subnet', '10.20.0.0/24', '--subnet', 'fd00:20::/64']
      host.docker('network', 'create', '-d', 'tsnet', ...subnets, ...modes, 'web')
      host.docker('run', '-d', '--name', 'web', '--network', 'web', '-p', '8080:80', image, 'sleep', '1000')
      const [{ bindings } = { bindings: [] }] =
        host.tsnetJson<{ bindings: { hostIp: string; hostPort: number }[] }[]>('ps')
      got[`${four} ${six}`] = bindings.map(({ hostIp, hostPort }) => `${hostIp} ${hostPort}`).sort()
      removeAll(host)
    }
  expect(got).toEqual({
    'nat nat': ['0.0.0.0 8080', ':: 8080'],
    'nat routed': ['0.0.0.0 8080', 'fd00:20::2 80'],
    'routed nat': ['10.20.0.2 80', ':: 8080'],
    'routed routed': ['10.20.0.2 80', 'fd00:20::2 80'],
  })
})

test('23 RoutedNonGateway: a routed network that is not the way out answers at its published port', async () => {
  await serve('nat', 'nat')
  await serve('routed', 'routed')
  host.docker('network', 'connect', 'routed', 'nat')
  expect(host.container('nat').tryRun('ip', 'route').stdout).toContain('default via 10.20.0.1')
  const second = attachmentOf(host, 'nat', 'routed').IPAddress
  expect(ask(host.container('routed'), 'tcp', second, 80)?.name).toBe('nat')
  expect(ask(host, 'tcp', second, 80)?.name).toBe('nat')
})

test('1 ICC: neighbours reach each other by their link-local addresses', async () => {
  await serve('nat', 'nat')
  await runContainer(host, 'peer', 'nat')
  const [, linkLocal] =
    /inet6 (fe80\S+)\//.exec(host.container('nat').tryRun('ip', 'addr', 'show', 'eth0').stdout) ?? []
  // such addresses are in use once the kernel has looked for duplicates, which takes it a second or two
  await until('the neighbour to answer', () => pings(host.container('peer'), `${linkLocal}%eth0`, 1), 20_000)
})

test('7: a container without IPv6 has no such address, ::1 included, and its port answers at both families of the host', async () => {
  host.docker('network', 'create', '-d', 'tsnet', '--subnet', '10.20.0.0/24', 'four')
  await runContainer(host, 'web', 'four', '--sysctl', 'net.ipv6.conf.all.disable_ipv6=1', '-p', '8080:80')
  expect(host.container('web').tryRun('ip', 'addr').stdout).not.toContain('inet6')
  expect(ask(host.outside, 'tcp', host4, 8080)?.name).toBe('web')
  expect(ask(host.outside, 'tcp', host6, 8080)?.name).toBe('web')
})

test('30: a MAC address that was given lasts over restarts, and one that was not is never that of another', async () => {
  await serve('nat', 'nat')
  await runContainer(host, 'given', 'nat', '--mac-address', '02:00:00:00:00:77')
  await runContainer(host, 'free', 'nat')
  host.docker('stop', '-t', '0', 'free')
  await runContainer(host, 'third', 'nat')
  host.docker('start', 'free')
  host.docker('restart', '-t', '0', 'given')
  expect(linkIn(host, 'given', 'eth0')?.mac).toBe('02:00:00:00:00:77')
  const macs = ['nat', 'given', 'free', 'third'].map(name => linkIn(host, name, 'eth0')?.mac)
  expect(new Set(macs).size).toBe(4)
})

test('36 PortMappingRestore: with live-restore ports answer while dockerd is away, afterwards, and not once their container has stopped', async () => {
  await serve('nat', 'nat')
  const answers = (): boolean => ask(host.outside, 'tcp', host4, 8020)?.name === 'nat'
  await host.stopDocker()
  expect(answers()).toBe(true)
  await host.startDocker('--live-restore')
  expect(answers()).toBe(true)
  await runContainer(host, 'second', 'nat', '-p', '8080:80')
  expect(ask(host.outside, 'tcp', host4, 8080)?.name).toBe('second')
  host.docker('stop', '-t', '0', 'nat')
  await until('the port to be free', () => isClosed(host.outside, 'tcp', host4, 8020))
})
