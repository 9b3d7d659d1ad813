import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { attachmentOf, refusal, removeAll, runContainer } from '../helpers/docker.js'
import { addresses, Host } from '../helpers/host.js'
import { until } from '../helpers/machine.js'
import { hostAddresses, hostRoutes } from '../helpers/macvlan.js'
import { eachLeavesAsFound } from '../helpers/tidy-host.js'
import { ask, pings } from '../helpers/vantage.js'

// What our macvlan networks give Docker's containers beyond Docker's own: host access, one network for both doors, no
// leftovers after a crash.

let host: Host

const { outside4 } = addresses
const subnet = ['--subnet', '198.51.100.0/24', '--ip-range', '198.51.100.64/26']
const lan = ['-o', 'parent=uplink0', ...subnet, '--gateway', outside4]

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

describe('host access', () => {
  test('with our IPAM: host and container reach each other, and routes come and go with the container', async () => {
    const id = create('lan', '--ipam-driver', 'tsnet', ...lan, '-o', 'host_access=true')
    await runContainer(host, 'one', 'lan')
    const one = attachmentOf(host, 'one', 'lan').IPAddress
    const [own] = hostAddresses(host, id)
    expect(own).not.toBe(one)
    expect(ask(host, 'tcp', one, 80)).toEqual({ name: 'one', peer: own })
    expect(pings(host.container('one'), own!)).toBe(true)
    expect(hostRoutes(host)).toEqual([one])
    host.docker('stop', '-t', '0', 'one')
    expect(hostRoutes(host)).toEqual([])
    host.docker('start', 'one')
    expect(pings(host, attachmentOf(host, 'one', 'lan').IPAddress)).toBe(true)
  })

  test("with Docker's IPAM the address has to be named, since Docker gives out the others", async () => {
    expect(refused(...lan, '-o', 'host_access=true')).toMatch(
      /name one with --aux-address host=ADDRESS, or use --ipam-driver tsnet/,
    )
    create('lan', ...lan, '-o', 'host_access=true', '--aux-address', 'host=198.51.100.200')
    await runContainer(host, 'one', 'lan')
    expect(pings(host, attachmentOf(host, 'one', 'lan').IPAddress)).toBe(true)
    expect(pings(host.container('one'), '198.51.100.200')).toBe(true)
  })
})

test('-p is ignored, with a warning in the log of the daemon', async () => {
  create('lan', ...lan)
  await runContainer(host, 'one', 'lan', '-p', '8080:80')
  expect(host.logOf('tsnet')).toMatch(/driver macvlan publishes no ports: they are reached at the container's address/)
  // an earlier test's container had the address, and dockerd 20.10 announces nothing
  host.outside.run('ip', 'neigh', 'flush', 'all')
  expect(ask(host.outside, 'tcp', '198.51.100.64', 80)?.name).toBe('one')
})

test('a daemon that is killed and started again finds its containers as they are, and forgets those that ended meanwhile', async () => {
  create('lan', '--ipam-driver', 'tsnet', ...lan, '-o', 'host_access=true')
  await runContainer(host, 'one', 'lan')
  await runContainer(host, 'two', 'lan')
  const two = attachmentOf(host, 'two', 'lan').IPAddress
  await host.killTsnet()
  host.run('kill', '-KILL', host.docker('inspect', '-f', '{{.State.Pid}}', 'one'))
  await host.startTsnet()
  // dockerd has been trying to tell of the end all the while
  await until('the endpoint of the container that ended to go', () => host.tsnetJson('ps').length === 1, 40_000)
  expect(hostRoutes(host)).toEqual([two])
  expect(pings(host, two)).toBe(true)
  expect(host.tsnet('reconcile', '--dry-run')).toBe('')
})

test('-o network=NAME: containers and sandboxes of one macvlan network reach each other', async () => {
  host.tsnet(
    'network',
    'create',
    'lab',
    '--driver',
    'macvlan',
    '-o',
    'parent=uplink0',
    '--subnet',
    '198.51.100.0/24',
    '--ip-range',
    '198.51.100.64/26',
    '-o',
    'host_access=true',
  )
  host.docker(
    'network',
    'create',
    '-d',
    'tsnet',
    '-o',
    'network=lab',
    '--ipam-driver',
    'tsnet',
    '--ipam-opt',
    'network=lab',
    '--subnet',
    '198.51.100.0/24',
    'lab',
  )
  host.tsnet('sandbox', 'create', 'box')
  const box = host.tsnet('connect', 'lab', 'box').split('/')[0]!
  await runContainer(host, 'one', 'lab')
  expect(pings(host.container('one'), box)).toBe(true)
  expect(pings(host, attachmentOf(host, 'one', 'lab').IPAddress)).toBe(true)
  removeAll(host)
  host.tsnet('sandbox', 'rm', 'box')
  host.tsnet('network', 'rm', 'lab')
})

test('a container that dies while dockerd is dead gives its address to the next, though nobody says that it ended', async () => {
  create('lan', ...lan)
  await runContainer(host, 'one', 'lan', '--ip', '198.51.100.70')
  const pid = host.docker('inspect', '-f', '{{.State.Pid}}', 'one')
  await host.end('dockerd', 'KILL')
  host.tryRun('kill', '-KILL', pid)
  host.run('sh', '-c', 'umount /run/docker/netns/* 2>/dev/null; rm -f /run/docker/netns/* /var/run/docker.pid')
  await host.startDocker()
  host.tryDocker('rm', '-f', 'one')
  await runContainer(host, 'two', 'lan', '--ip', '198.51.100.70')
  expect(host.tsnetJson('ps')).toHaveLength(1)
  host.outside.run('ip', 'neigh', 'flush', 'all')
  expect(ask(host.outside, 'tcp', '198.51.100.70', 80)?.name).toBe('two')
})
