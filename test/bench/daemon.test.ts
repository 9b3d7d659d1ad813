import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { median, report, reportPeers, reportRatio, timed } from '../helpers/bench.js'
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

beforeAll(async () => {
  host = await Host.start()
  api = new BenchApi(host)
})
afterAll(async () => {
  api?.close()
  await host?.stop()
})

const say = (what: string, value: number, unit: string, target = {}): void =>
  report('daemon', what, value, unit, target)

/** Start it, and wait until it answers; the pause between two questions is the error of the measurement. */
async function start(...node: string[]): Promise<void> {
  await host.serve('tsnet', 'env', `TSNET_LOOP_DELAYS=${delaysFile()}`, process.execPath, ...node, program, 'daemon')
  const answers = () => api.call('GET', '/version').catch(() => undefined)
  for (;;) {
    host.assertRuns('tsnet')
    if ((await answers()) !== undefined) return
    await sleep(2)
  }
}
const delaysFile = (): string => join(host.dir, 'delays')

/** Nanoseconds of processor time, all threads; finer than the ticks of /proc/PID/stat. */
function cpuNs(): number {
  const pid = host.run('pgrep', '-of', 'tsnet.js daemon').trim()
  const tasks = host.path(`/proc/${pid}/task`)
  return readdirSync(tasks)
    .map(task => Number(readFileSync(join(tasks, task, 'schedstat'), 'utf8').split(' ')[0]))
    .reduce((sum, ns) => sum + ns, 0)
}

test('start to ready', async () => {
  const times: number[] = []
  const node: number[] = []
  for (let i = 0; i < 8; i++) {
    node.push(await timed(() => host.run(process.execPath, '-e', '0')))
    times.push(await timed(() => start()))
    await host.stopTsnet()
  }
  reportPeers('daemon', 'start', 'ms', { 'tsnet daemon until it answers': times, 'node -e 0': node })
  say('start until it answers, median', median(times), 'ms', { atMost: 400 })
})

test('tsnet network ls against node -e 0, by turns', async () => {
  await start()
  await api.call('POST', '/networks', { name: 'lab', subnets: ['10.84.0.0/16'] })
  const socket = host.path(socketPath)
  const spawned = (...argv: string[]) => {
    const got = spawnSync(process.execPath, argv, { encoding: 'utf8' })
    if (got.status !== 0) throw new Error(`${argv.join(' ')}: ${got.stderr}`)
    return got.stdout
  }
  const ours: number[] = []
  const node: number[] = []
  for (let i = 0; i < 25; i++) {
    ours.push(await timed(() => expect(spawned(program, '--socket', socket, 'network', 'ls')).toContain('lab')))
    node.push(await timed(() => spawned('-e', '0')))
  }
  reportPeers('daemon', 'command line', 'ms', { 'tsnet network ls': ours, 'node -e 0': node })
  reportRatio('daemon', 'tsnet network ls against node -e 0', ours, node, { atMost: 2 })
  await host.stopTsnet()
})

test('memory and processor time with nothing to do', async () => {
  await start()
  await sleep(3000)
  const before = cpuNs()
  say('memory, idle', usageOf(host).memoryMiB, 'MiB', { atMost: 110 })
  await sleep(idleSeconds * 1000)
  say(`processor time over ${idleSeconds} s, idle`, (cpuNs() - before) / idleSeconds / 1e7, '%', { atMost: 0.1 })
  await host.stopTsnet()
})

test(`memory with ${many} endpoints, and how late the event loop is meanwhile`, async () => {
  await start('--import', join(repo, 'test/helpers/loop-delay.mjs'))
  const names = Array.from({ length: many }, (_, i) => `s${i}`)
  await inParallel(names, 16, name => api.call('POST', '/sandboxes', { name }))
  await delays()
  await inParallel(names, 16, name => api.connect('lab', name))
  const { p50, p99, most } = await delays()
  say(`event loop late while ${many} are attached, 16 at a time: median`, p50, 'ms')
  say(`event loop late while ${many} are attached, 16 at a time: p99`, p99, 'ms', { atMost: 10 })
  say(`event loop late while ${many} are attached, 16 at a time: most`, most, 'ms')
  say(`memory with ${many} endpoints`, usageOf(host).memoryMiB, 'MiB', { atMost: 160 })
  await host.stopTsnet()
})

interface Delays {
  p50: number
  p99: number
  most: number
}

/** How late the event loop was since the last call. */
async function delays(): Promise<Delays> {
  const lines = () => (host.tryRun('cat', delaysFile()).stdout || '').trim().split('\n').filter(Boolean)
  const before = lines().length
  host.run('pkill', '-USR2', '-of', 'tsnet.js daemon')
  const now = await until('the delays', () => lines().length > before && lines())
  return JSON.parse(now.at(-1)!) as Delays
}
