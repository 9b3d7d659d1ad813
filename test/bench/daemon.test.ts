import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Measured, medianOf, ratioOf, report, reportCurve, reportPeers, timed } from '../helpers/bench.js'
import { BenchApi, inParallel } from '../helpers/bench-api.js'
import { usageOf } from '../helpers/cluster-usage.js'
import { Host, socketPath } from '../helpers/host.js'
import { repo, until } from '../helpers/machine.js'

// What the daemon costs a host that does nothing, and how soon it and its command line are there.

const program = join(repo, 'dist/tsnet.js')
const many = Number(process.env.TSNET_BENCH_MANY ?? 1000)
const idleSeconds = 60

let host: Host
let api: BenchApi
/** Does nothing from the beginning on; what others do beside it costs it nothing, as its own processor time is what counts. */
let idle: { host: Host; memoryMiB: number; percent: Promise<number> }

beforeAll(async () => {
  const other = await Host.start('idle')
  ;(await start(other)).close()
  await sleep(3000)
  idle = { host: other, memoryMiB: usageOf(other).memoryMiB, percent: percentOf(other) }
  host = await Host.start()
})
afterAll(async () => {
  api?.close()
  await host?.stop()
  await idle?.host.stop()
})

const say = (what: string, value: number | Measured, unit: string, target = {}): void =>
  report('daemon', what, value, unit, target)

/** Start it, and wait until it answers; the pause between two questions is the error of the measurement. */
async function start(on: Host, ...node: string[]): Promise<BenchApi> {
  await on.serve('tsnet', 'env', `TSNET_LOOP_DELAYS=${delaysFile(on)}`, process.execPath, ...node, program, 'daemon')
  const asking = new BenchApi(on)
  while ((await asking.call('GET', '/version').catch(() => undefined)) === undefined) {
    on.assertRuns('tsnet')
    await sleep(2)
  }
  return asking
}
const delaysFile = (on: Host): string => join(on.dir, 'delays')

/** Nanoseconds of processor time, all threads; finer than the ticks of /proc/PID/stat. */
function cpuNs(on: Host): number {
  const pid = on.run('pgrep', '-of', 'tsnet.js daemon').trim()
  const tasks = on.path(`/proc/${pid}/task`)
  return readdirSync(tasks)
    .map(task => Number(readFileSync(join(tasks, task, 'schedstat'), 'utf8').split(' ')[0]))
    .reduce((sum, ns) => sum + ns, 0)
}

async function stop(): Promise<void> {
  api.close()
  await host.stopTsnet()
}

/** Of one processor, over a minute. */
async function percentOf(on: Host): Promise<number> {
  const [before, begin] = [cpuNs(on), performance.now()]
  await sleep(idleSeconds * 1000)
  return (cpuNs(on) - before) / (performance.now() - begin) / 1e4
}

test('start to ready', async () => {
  const times: number[] = []
  const node: number[] = []
  for (let i = 0; i < 8; i++) {
    node.push(await timed(() => host.run(process.execPath, '-e', '0')))
    times.push(
      await timed(async () => {
        api = await start(host)
      }),
    )
    await stop()
  }
  reportPeers('daemon', 'start', 'ms', { 'tsnet daemon until it answers': times, 'node -e 0': node })
  say('start until it answers, median', medianOf(times), 'ms', { atMost: 400 })
})

test('tsnet network ls against node -e 0, by turns', async () => {
  api = await start(host)
  await api.call('POST', '/networks', { name: 'lab', subnets: ['10.84.0.0/16'] })
  const socket = host.path(socketPath)
  const spawned = async (...argv: string[]) => (await promisify(execFile)(process.execPath, argv)).stdout
  const list = async () => expect(await spawned(program, '--socket', socket, 'network', 'ls')).toContain('lab')
  const ours: number[] = []
  const node: number[] = []
  for (let i = 0; i < 25; i++) {
    ours.push(await timed(list))
    node.push(await timed(() => spawned('-e', '0')))
  }
  const sizes: [number, number[]][] = [[1, ours]]
  for (const size of [50, 200]) {
    for (let i = sizes.at(-1)![0]; i < size; i++)
      await api.call('POST', '/networks', { name: `n${i}`, subnets: [`10.${100 + (i >> 8)}.${i & 255}.0/24`] })
    const times: number[] = []
    for (let i = 0; i < 8; i++) times.push(await timed(list))
    sizes.push([size, times])
  }
  for (let i = 1; i < sizes.at(-1)![0]; i++) await api.call('DELETE', `/networks/n${i}`)
  reportCurve('daemon', 'tsnet network ls', 'of 200 networks against one', sizes)
  reportPeers('daemon', 'command line', 'ms', { 'tsnet network ls': ours, 'node -e 0': node })
  say('tsnet network ls against node -e 0', ratioOf(ours, node), 'x', { atMost: 2 })
  await stop()
})

test(`memory with ${many} endpoints, and how late the event loop is meanwhile`, async () => {
  api = await start(host, '--import', join(repo, 'test/helpers/loop-delay.mjs'))
  const names = Array.from({ length: many }, (_, i) => `s${i}`)
  const memory = (size: number): [number, number[]] => [size, [usageOf(host).memoryMiB]]
  const sizes = [memory(0)]
  await inParallel(names, 16, name => api.call('POST', '/sandboxes', { name }))
  await delays()
  const quarter = Math.ceil(many / 4)
  for (let i = 0; i < many; i += quarter) {
    const some = names.slice(i, i + quarter)
    await inParallel(some, 16, name => api.connect('lab', name))
    sizes.push(memory(i + some.length))
  }
  const { p50, p99, most } = await delays()
  say(`event loop late while ${many} are attached, 16 at a time: median`, p50, 'ms')
  say(`event loop late while ${many} are attached, 16 at a time: p99`, p99, 'ms', { atMost: 10 })
  say(`event loop late while ${many} are attached, 16 at a time: most`, most, 'ms')
  say(`memory with ${many} endpoints`, usageOf(host).memoryMiB, 'MiB', { atMost: 160 })
  reportCurve('daemon', 'memory', `with ${many} endpoints against none`, sizes)
  await stop()
})

test('memory and processor time with nothing to do', async () => {
  say('memory, idle', idle.memoryMiB, 'MiB', { atMost: 110 })
  say(`processor time over ${idleSeconds} s, idle`, await idle.percent, '%', { atMost: 0.1 })
})

interface Delays {
  p50: number
  p99: number
  most: number
}

/** How late the event loop was since the last call. */
async function delays(): Promise<Delays> {
  const lines = () => (host.tryRun('cat', delaysFile(host)).stdout || '').trim().split('\n').filter(Boolean)
  const before = lines().length
  host.run('pkill', '-USR2', '-of', 'tsnet.js daemon')
  const now = await until('the delays', () => lines().length > before && lines())
  return JSON.parse(now.at(-1)!) as Delays
}
