import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Measured, medianOf, report, reportCurve, timed } from '../helpers/bench.js'
import { BenchApi, inParallel } from '../helpers/bench-api.js'
import { Host } from '../helpers/host.js'
import { until } from '../helpers/machine.js'

// How long a daemon takes from its first moment until it answers, on a host with many endpoints: all of them right, and all gone.

const many = Number(process.env.TSNET_BENCH_MANY ?? 1000)

let host: Host
let api: BenchApi

beforeAll(async () => {
  host = await Host.start()
  await host.startTsnet('--log-level', 'info')
  api = new BenchApi(host)
  await api.call('POST', '/networks', { name: 'lab', subnets: ['10.84.0.0/16'] })
})
afterAll(async () => {
  api?.close()
  await host?.stop()
})

const say = (what: string, value: number | Measured, unit: string, target = {}): void =>
  report('scale', what, value, unit, target)

async function fill(from: number, to: number): Promise<void> {
  const numbers = Array.from({ length: to - from }, (_, i) => from + i)
  await inParallel(numbers, 16, i => api.call('POST', '/sandboxes', { name: `s${i}` }))
  await inParallel(numbers, 16, i => api.connect('lab', `s${i}`, 20_000 + i))
}

/** Milliseconds from the program's start to its first answer. */
async function start(): Promise<number> {
  api.close()
  api = new BenchApi(host)
  return await timed(async () => {
    await host.serve('tsnet', process.execPath, 'dist/tsnet.js', 'daemon', '--log-level', 'info')
    for (;;) {
      host.assertRuns('tsnet')
      if ((await api.call('GET', '/version').catch(() => undefined)) !== undefined) return
      await sleep(5)
    }
  })
}

test(`a start with ${many} endpoints that are all right`, async () => {
  const sizes: [number, number[]][] = [0, Math.ceil(many / 4), many].map(size => [size, []])
  let filled = 0
  for (const [size, times] of sizes) {
    await fill(filled, size)
    filled = size
    for (let i = 0; i < 4; i++) {
      await host.killTsnet()
      times.push(await start())
    }
  }
  expect(host.tsnet('reconcile', '--dry-run')).toBe('')
  say(`start with ${many} endpoints, all right`, medianOf(sizes.at(-1)![1]), 'ms', { atMost: 1000 })
  reportCurve('scale', 'start', `with ${many} endpoints against none`, sizes)
})

/** The kernel clears namespaces away one lot after the other: when the link to one deleted last is gone, all before it are. */
async function untilCleared(): Promise<void> {
  const [netns, link] = ['last-one', 'last-one0']
  host.run('ip', 'netns', 'add', netns)
  host.run('ip', 'link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', netns)
  host.run('ip', 'netns', 'delete', netns)
  await until('the kernel to have cleared away the namespaces', () => !host.links().has(link), 120_000)
}

test(`a start with ${many} endpoints of which nothing is left, as after a reboot`, async () => {
  await host.killTsnet()
  // a reboot takes namespaces with all that is in them, links and rules
  host.run(
    'sh',
    '-c',
    'ip -all netns delete; nft flush ruleset; for l in $(ls /sys/class/net); do case $l in br-*|tsn*) ip link del $l;; esac; done; rm -rf /run/tsnet /run/docker/plugins',
  )
  // which the kernel does in the background, under the lock that all changes of links take; a machine that has booted has nothing of it
  await untilCleared()
  const ms = await start()
  expect(host.tsnet('reconcile', '--dry-run')).toBe('')
  expect([...host.links().keys()].filter(name => /^tsn[0-9a-f]{12}$/.test(name))).toHaveLength(many)
  say(`start with ${many} endpoints, all gone`, ms, 'ms', { atMost: 3000 })
})
