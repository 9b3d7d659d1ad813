import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Network } from '../../src/cnm/types.js'
import { type Measured, report, reportCurve } from '../helpers/bench.js'
import { delaysDuring, etcdUsage, usageOf } from '../helpers/cluster-usage.js'
import { type ClusterHost, ClusterWorld } from '../helpers/cluster-world.js'
import { until } from '../helpers/machine.js'
import {
  hostRecord,
  networkRecords,
  peerRecord,
  publish,
  type RecordToPublish,
  simulated,
} from '../helpers/published.js'

// What a cluster of 1,000 hosts and 100,000 endpoints costs one host of it and etcd. The other hosts are records in etcd. First the
// endpoints are spread over 1,000 networks, and the one real daemon has an endpoint on one of them; then as many are on that one.

const idleSeconds = 15
const hostCount = 1000
const networkCount = 1000
const steps = [1000, 10_000, 30_000, 100_000]
const most = steps.at(-1)!

let world: ClusterWorld
let host: ClusterHost
let network: Network

const say = (what: string, value: number | Measured, unit: string, target = {}): void =>
  report('scale', what, value, unit, target)

beforeAll(async () => {
  world = await ClusterWorld.start({ hosts: 1, options: ['--log-level', 'warn'] })
  host = world.host(1)
})
afterAll(() => world?.stop())

const hosts = Array.from({ length: hostCount }, (_, i) => `sim${i}`)

/** The `i`-th endpoint of all, on a network. */
const endpoint = (on: Network, i: number): RecordToPublish => peerRecord(on, hosts[i % hostCount]!, i + 1024)

function* endpoints(from: number, to: number): Iterable<RecordToPublish> {
  for (let i = from; i < to; i++) yield endpoint(network, i)
}

/** Address and MAC address of an endpoint in the kernel: what is published last is there last. */
async function untilKnown(i: number): Promise<void> {
  const [, { addresses, mac }] = endpoint(network, i) as [string, { addresses: string[]; mac: string }]
  const argv = ['ip', 'neigh', 'get', addresses[0]!.split('/')[0]!, 'dev', `br-${network.id.slice(0, 12)}`]
  const isKnown = async (): Promise<boolean> => (await host.start(...argv)).stdout.includes(mac)
  await until(`endpoint ${i} in the kernel`, isKnown, 300_000)
}

const count = (command: string): number => Number(host.run('sh', '-c', `${command} | wc -l`))
const neighbours = (): number => count('ip neigh show nud permanent')

test('a daemon that has nothing to do', async () => {
  const before = usageOf(host)
  await sleep(idleSeconds * 1000)
  const after = usageOf(host)
  const percent = ((after.cpuSeconds - before.cpuSeconds) / idleSeconds) * 100
  say(`idle daemon: processor time over ${idleSeconds} s`, percent, '%', { atMost: 1 })
  say('idle daemon: memory', after.memoryMiB, 'MiB')
})

test('1,000 hosts', async () => {
  host.tsnet('network', 'create', 'huge', '--driver', 'overlay', '--subnet', '10.0.0.0/8', '--ip-range', '10.0.0.0/22')
  ;[network] = host.tsnetJson<[Network]>('network', 'inspect', 'huge')
  host.attach('huge', 'here')
  const before = { ...usageOf(host), ...(await etcdUsage(world)) }
  await publish(
    world,
    hosts.map((name, i) => hostRecord(name, `198.18.${i >> 8}.${i & 255}`)),
  )
  await until('hosts', () => host.tsnetJson('host', 'ls').length > hostCount)
  const after = { ...usageOf(host), ...(await etcdUsage(world)) }
  say('etcd keys of a host, without that of its lease', (after.keys - before.keys) / hostCount, '')
})

test('100,000 endpoints on 1,000 networks, of which this host is on another one', async () => {
  const networks = Array.from({ length: networkCount }, (_, i) => networkRecords(network, i))
  const before = { ...usageOf(host), ...(await etcdUsage(world)) }
  await publish(
    world,
    networks.flatMap(({ records }) => records),
  )
  await until('networks', () => host.tsnetJson('network', 'ls').length >= networkCount)
  const known = { ...usageOf(host), ...(await etcdUsage(world)) }
  say('etcd keys of a network, without its pool', (known.keys - before.keys) / networkCount, '')
  const delays = await delaysDuring(host, () =>
    publish(
      world,
      Array.from({ length: most }, (_, i) => endpoint(networks[i % networkCount]!.network, i)),
    ),
  )
  const after = { ...usageOf(host), ...(await etcdUsage(world)) }
  const cpuSeconds = after.cpuSeconds - known.cpuSeconds
  say('100,000 endpoints elsewhere: processor time of the daemon', (cpuSeconds * 1e6) / most, 'µs each', { atMost: 10 })
  say('100,000 endpoints elsewhere: memory of the daemon', after.memoryMiB - known.memoryMiB, 'MiB more', {
    atMost: 50,
  })
  // the daemon does nothing, so this is what the machine does to a clock while etcd works
  say('100,000 endpoints elsewhere: the API answers, p99', delays.p99Ms, 'ms')
  say('disk of etcd for each endpoint', ((after.diskMiB - known.diskMiB) * 1024) / most, 'KiB')
  await world.etcd.ctl('del', '--prefix', `tst/net/${simulated}`)
})

test('100,000 endpoints on the network of this host', async () => {
  let known = 0
  const costs: [number, number][] = []
  const empty = usageOf(host)
  for (const count of steps) {
    const before = usageOf(host)
    const begin = performance.now()
    const delays = await delaysDuring(host, async () => {
      await publish(world, endpoints(known, count))
      await untilKnown(count - 1)
    })
    const seconds = (performance.now() - begin) / 1000
    const cpuSeconds = usageOf(host).cpuSeconds - before.cpuSeconds
    const what = `endpoints ${known} to ${count}`
    say(`${what}: published, watched and in the kernel`, (count - known) / seconds, 'a second')
    say(`${what}: processor time of the daemon`, (cpuSeconds * 1e6) / (count - known), 'µs each')
    say(`${what}: memory of the daemon then`, usageOf(host).memoryMiB, 'MiB')
    say(`${what}: the API answers meanwhile, median`, delays.medianMs, 'ms')
    say(`${what}: the API answers meanwhile, p99`, delays.p99Ms, 'ms')
    costs.push([known, cpuSeconds / (count - known)])
    known = count
  }
  const points = costs.map(([size, seconds]): [number, number[]] => [size, [seconds]])
  reportCurve(
    'scale',
    'a remote endpoint: processor time of the daemon',
    `beyond ${steps.at(-2)} against the first ${steps[0]}`,
    points,
  )
  const perEndpoint = ((usageOf(host).memoryMiB - empty.memoryMiB) * 1024) / known
  say('memory of the daemon for each remote endpoint', perEndpoint, 'KiB')
  say('neighbour entries for each remote endpoint', neighbours() / known, '')
  say('forwarding entries for each remote endpoint', count(`bridge fdb show | grep ' 02:53:\\|^02:53:'`) / known, '')
})

test('one endpoint more, among 100,000', async () => {
  const begin = performance.now()
  await publish(world, endpoints(most, most + 1))
  await untilKnown(most)
  say('one more: published by a new process, watched and in the kernel', performance.now() - begin, 'ms')
  host.tsnet('sandbox', 'create', 'another')
  const before = performance.now()
  expect((await host.api('POST', '/networks/huge/connect', { sandbox: 'another' })).status).toBe(201)
  say('connect of an endpoint here', performance.now() - before, 'ms')
})

test('a start of the daemon among 100,000', async () => {
  await host.killTsnet()
  const begin = performance.now()
  await host.startTsnet()
  say('start of the daemon until it answers', performance.now() - begin, 'ms')
  const delays = await delaysDuring(host, async () => {
    // one more is known only when all the others are
    await publish(world, [endpoint(network, most + 1)])
    await untilKnown(most + 1)
  })
  say('start of the daemon until it knows the cluster', performance.now() - begin, 'ms')
  say('the API answers meanwhile, longest', delays.mostMs, 'ms')
  const dryRun = performance.now()
  expect(host.tsnet('reconcile', '--dry-run')).toBe('')
  say('a comparison of everything with the kernel (reconcile --dry-run)', performance.now() - dryRun, 'ms')
  expect(neighbours()).toBeGreaterThanOrEqual(most + 2)
})
