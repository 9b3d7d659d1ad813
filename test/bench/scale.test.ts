import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Network } from '../../src/cnm/types.js'
import { report } from '../helpers/bench.js'
import { type ClusterHost, ClusterWorld } from '../helpers/cluster-world.js'
import { until } from '../helpers/machine.js'
import { hostRecord, peerRecord, publish, type RecordToPublish } from '../helpers/published.js'

// What a cluster of 1,000 hosts and 100,000 endpoints costs one host of it and etcd: all endpoints are on one network, so the one
// real daemon, which has an endpoint there, has to know them all. The other hosts are records in etcd.

const hostCount = 1000
const steps = [1000, 10_000, 30_000, 100_000]
const bytesInMiB = 1 << 20

let world: ClusterWorld
let host: ClusterHost
let network: Network

beforeAll(async () => {
  world = await ClusterWorld.start({ hosts: 1, options: ['--log-level', 'warn'] })
  host = world.host(1)
  host.tsnet('network', 'create', 'huge', '--driver', 'overlay', '--subnet', '10.0.0.0/8')
  ;[network] = host.tsnetJson<[Network]>('network', 'inspect', 'huge')
  host.attach('huge', 'here')
  await publish(
    world,
    hosts.map((name, i) => hostRecord(name, `198.18.${i >> 8}.${i & 255}`)),
  )
})
afterAll(() => world?.stop())

const hosts = Array.from({ length: hostCount }, (_, i) => `sim${i}`)

/** Endpoints `from` to `to - 1`, spread over all hosts. */
function* endpoints(from: number, to: number): Iterable<RecordToPublish> {
  for (let i = from; i < to; i++) yield peerRecord(network, hosts[i % hostCount]!, i + 1024)
}

const neighbours = (): number => Number(host.run('sh', '-c', 'ip neigh show nud permanent | wc -l'))

async function untilKnown(count: number): Promise<void> {
  const known = async (): Promise<boolean> => {
    await sleep(50)
    return neighbours() >= count
  }
  await until(`${count} neighbours`, known, 300_000)
}

/** Of the daemon: memory in MiB, and seconds of processor time since it began. */
function usage(): { memoryMiB: number; cpuSeconds: number } {
  const pid = host.run('pgrep', '-of', 'tsnet.js daemon').trim()
  const kiB = Number(/VmRSS:\s+(\d+)/.exec(host.run('cat', `/proc/${pid}/status`))?.[1])
  const ticks = host.run('cat', `/proc/${pid}/stat`).split(') ')[1]!.split(' ')
  return { memoryMiB: kiB / 1024, cpuSeconds: (Number(ticks[11]) + Number(ticks[12])) / 100 }
}

async function storeMiB(): Promise<number> {
  const [status] = JSON.parse(await world.etcd.ctl('endpoint', 'status', '-w', 'json')) as {
    Status: { dbSize: number }
  }[]
  return status!.Status.dbSize / bytesInMiB
}

test('watch events of 100,000 endpoints on 1,000 hosts', async () => {
  let known = 0
  const empty = { ...usage(), store: await storeMiB() }
  for (const count of steps) {
    const before = usage()
    const begin = performance.now()
    await publish(world, endpoints(known, count))
    await untilKnown(count)
    const seconds = (performance.now() - begin) / 1000
    report(
      'scale',
      `endpoints ${known} to ${count}: published, watched and in the kernel`,
      (count - known) / seconds,
      'a second',
    )
    report(
      'scale',
      `the same: processor time of the daemon`,
      ((usage().cpuSeconds - before.cpuSeconds) * 1e6) / (count - known),
      'µs each',
    )
    report('scale', `the same: memory of the daemon then`, usage().memoryMiB, 'MiB')
    known = count
  }
  report(
    'scale',
    'memory of the daemon for each remote endpoint',
    ((usage().memoryMiB - empty.memoryMiB) * 1024) / known,
    'KiB',
  )
  report('scale', 'disk of etcd for each endpoint', (((await storeMiB()) - empty.store) * 1024) / known, 'KiB')
})

test('one endpoint more, among 100,000', async () => {
  const known = neighbours()
  const begin = performance.now()
  await publish(world, endpoints(known, known + 1))
  await untilKnown(known + 1)
  report('scale', 'one more: published, watched and in the kernel, seen by ip neigh', performance.now() - begin, 'ms')
  const before = performance.now()
  const connected = await host.api('POST', '/networks/huge/connect', { sandbox: 'another' }).catch(() => undefined)
  expect(connected?.status).toBe(404)
  host.attach('huge', 'another')
  report('scale', 'sandbox create and connect on the real host', performance.now() - before, 'ms')
})

test('a start of the daemon among 100,000', async () => {
  const begin = performance.now()
  await host.killTsnet()
  await host.startTsnet()
  report('scale', 'start of the daemon until it answers', performance.now() - begin, 'ms')
  await until('etcd', () => host.tryTsnet('host', 'ls').status === 0, 120_000)
  report('scale', 'start of the daemon until it knows the cluster', performance.now() - begin, 'ms')
  const dryRun = performance.now()
  expect(host.tsnet('reconcile', '--dry-run')).toBe('')
  report('scale', 'a comparison of everything with the kernel (reconcile --dry-run)', performance.now() - dryRun, 'ms')
})
