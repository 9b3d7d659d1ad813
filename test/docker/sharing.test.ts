import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { refusal, removeAll, runContainer } from '../helpers/docker.js'
import { Host } from '../helpers/host.js'
import { until } from '../helpers/machine.js'
import { eachLeavesAsFound, expectRefused, removeEverything } from '../helpers/tidy-host.js'
import { ask } from '../helpers/vantage.js'

// Containers with options of an attachment, and sandboxes that live in a container's namespace.

let host: Host

beforeAll(async () => {
  host = await Host.startWithDocker()
})
afterAll(() => host?.stop())

eachLeavesAsFound(
  () => host,
  () => {
    removeEverything(host)
    removeAll(host)
  },
)
beforeEach(() => {
  host.docker('network', 'create', '-d', 'tsnet', '--subnet', '10.20.0.0/24', 'web')
})

/** The client of 20.10 takes driver options for `network connect`. */
const connect = (container: string, ...options: string[]): string[] => [
  ...['network', 'connect', ...options.flatMap(option => ['--driver-opt', option])],
  ...['web', container],
]

test('--driver-opt sets interfaces and neighbours in the container, by our names and by that of Docker', async () => {
  await runContainer(host, 'one', 'none')
  host.docker('network', 'disconnect', 'none', 'one')
  const sysctls = 'com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1'
  host.docker(...connect('one', sysctls, 'neighbours=10.20.0.99=02:00:00:00:00:99'))
  const inside = (...command: string[]): string => host.container('one').tryRun(...command).stdout
  const ifname = /^\d+: (eth\d+)/m.exec(inside('ip', 'addr'))?.[1]
  await until(
    'the settings of the interface',
    () => inside('cat', `/proc/sys/net/ipv4/conf/${ifname}/log_martians`) === '1\n',
  )
  const pid = host.docker('inspect', '-f', '{{.State.Pid}}', 'one')
  await until('the neighbour', () =>
    host.run('nsenter', '-t', pid, '-n', 'ip', 'neigh', 'show', 'nud', 'permanent').includes('10.20.0.99 dev'),
  )
})

test('a driver option that is wrong keeps the container from being attached, and says why', async () => {
  await runContainer(host, 'one', 'none')
  host.docker('network', 'disconnect', 'none', 'one')
  const said = (option: string): string => refusal(host, ...connect('one', option))
  expect(said('neighbors=10.20.0.99=02:00:00:00:00:99')).toContain('did you mean neighbours?')
  expect(said('sysctls=net.ipv4.ip_forward=0')).toContain('belongs to the interface alone')
  expect(said('gw_priority=7')).toContain('gw-priority=N')
  host.docker(...connect('one', 'com.docker.network.endpoint.something=new'))
})

test('tsnet run --network container:NAME is in the namespace of the container, with its files', async () => {
  await runContainer(host, 'one', 'web')
  const share = (...command: string[]): string =>
    host.tsnet('run', '--rm', '--network', 'container:one', '--', ...command)
  const pid = host.docker('inspect', '-f', '{{.State.Pid}}', 'one')
  expect(share('readlink', '/proc/self/ns/net')).toBe(host.run('readlink', `/proc/${pid}/ns/net`).trim())
  expect(share('cat', '/etc/hosts')).toContain('10.20.0.2')
  expect(share('cat', '/etc/resolv.conf')).toContain('127.0.0.11')
  const inside = {
    tryRun: (...command: string[]) => host.tryTsnet('run', '--rm', '--network', 'container:one', '--', ...command),
  }
  expect(ask(inside, 'tcp', '127.0.0.1', 80)?.name).toBe('one')
  host.tsnet('run', '--name', 'guest', '--network', 'container:one', '--', 'true')
  host.tsnet('network', 'create', 'lab')
  expectRefused(host, 3, 'use docker network connect NETWORK one instead', 'connect', 'lab', 'guest')
  host.docker('stop', '-t', '0', 'one')
  expectRefused(host, 5, 'container one does not run', 'run', '--network', 'container:one', '--', 'true')
  expectRefused(host, 4, 'no sandbox and no container two', 'run', '--network', 'container:two', '--', 'true')
  host.tsnet('reconcile')
  expect(host.tsnet('-q', 'sandbox', 'ls')).toBe('')
})

test('events tell of containers too', async () => {
  const since = new Date().toISOString()
  await runContainer(host, 'one', 'web', '-p', '8080:80')
  host.docker('rm', '-f', 'one')
  const lines = host.tsnet('events', '--since', since, '--until', '0s').split('\n')
  const actions = lines.map(line => line.split(' ')).filter(([, type]) => type === 'endpoint')
  expect(actions.map(([, , action]) => action)).toEqual([
    'create',
    'connect',
    'publish',
    'revoke',
    'disconnect',
    'remove',
  ])
  expect(lines.join('\n')).toMatch(
    /endpoint connect \S+ \(network=\S+, sandbox=\/var\/run\/docker\/netns\/\w+, addresses=10\.20\.0\.2\/24, createdBy=docker\)/,
  )
})

test('Docker is not bound to the networks host and none, and makes none of their kind', () => {
  expect(
    refusal(host, 'network', 'create', '-d', 'tsnet', '-o', 'network=host', '--subnet', '10.21.0.0/24', 'h'),
  ).toContain('nothing is attached to network host')
  expect(refusal(host, 'network', 'create', '-d', 'tsnet', '-o', 'driver=none', 'n')).toContain(
    'the only one of its kind',
  )
})
