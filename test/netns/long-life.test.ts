import { statSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { callApi } from '../helpers/api-client.js'
import { Host, socketPath } from '../helpers/host.js'
import { until } from '../helpers/machine.js'

// A daemon that has attached and detached for a long time is as it was: descriptors, memory, store, rules, links, namespaces.

/** `scripts/soak` sets 20,000. */
const cycles = Number(process.env.TSNET_CYCLES ?? 160)
const sandboxes = 16

let host: Host
let socket: string

beforeAll(async () => {
  host = await Host.startWithTsnet('--log-level', 'warn')
  socket = host.path(socketPath)
  await call('POST', '/networks', { name: 'lab', subnets: ['10.30.0.0/22', 'fd00:30::/64'], ipv6: true })
  for (let n = 0; n < sandboxes; n++) await call('POST', '/sandboxes', { name: `s${n}` })
})
afterAll(() => host?.stop())

async function call(method: string, path: string, body: unknown): Promise<void> {
  const { status, body: answer } = await callApi(socket, method, `/v1${path}`, body)
  if (status >= 300) throw new Error(`${method} ${path}: ${status} ${JSON.stringify(answer)}`)
}

/** So many attachments and detachments, as many at a time as there are sandboxes. */
async function attachAndDetach(times: number): Promise<void> {
  let left = times
  const work = async (n: number): Promise<void> => {
    const port = { first: 20000 + n, last: 20000 + n }
    const ports = [{ protocol: 'tcp', hostPort: port, containerPort: { first: 80, last: 80 } }]
    while (left-- > 0) {
      await call('POST', '/networks/lab/connect', { sandbox: `s${n}`, ports })
      await call('POST', '/networks/lab/disconnect', { sandbox: `s${n}` })
    }
  }
  await Promise.all(Array.from({ length: sandboxes }, (_, n) => work(n)))
}

const daemon = (): string => host.run('pgrep', '-xf', '.*tsnet.js daemon.*').trim()
const openFiles = (): number => host.run('ls', `/proc/${daemon()}/fd`).trim().split('\n').length
const memoryKib = (): number => Number(/VmRSS:\s+(\d+)/.exec(host.run('cat', `/proc/${daemon()}/status`))?.[1])
/** Of the daemon's own threads, its kernel work included; proc_pid_stat(5): 14 and 15 are ticks of 10 ms. */
const processorMs = (): number => {
  const fields = host.run('cat', `/proc/${daemon()}/stat`).split(' ')
  return (Number(fields[13]) + Number(fields[14])) * 10
}
const storeBytes = (): number => statSync(host.path('/var/lib/tsnet/tsnet.lmdb')).size

test(
  `after ${cycles} cycles of attaching and detaching, nothing has become more`,
  async () => {
    await attachAndDetach(Math.min(cycles / 2, 1000)) // what is opened once, and caches
    await until('the bridge to be without ports', () => /br-.* state DOWN/.test(host.run('ip', '-o', 'link')), 30_000)
    const settled = { files: openFiles(), snapshot: host.snapshot(), bytes: storeBytes() }
    const memory = [memoryKib()]
    const started = performance.now()
    const spentMs = processorMs()
    for (let part = 0; part < 10; part++) {
      await attachAndDetach(cycles / 10)
      memory.push(memoryKib())
    }
    const cycleMs = (performance.now() - started) / cycles
    const cpuMs = (processorMs() - spentMs) / cycles
    await until('descriptors to be closed', () => openFiles() <= settled.files, 30_000)
    // links go a moment after the answer
    await until('links to go', () => host.snapshot() === settled.snapshot, 30_000).catch(() => {})
    expect(host.snapshot()).toBe(settled.snapshot)
    // it keeps its last 10,000 changes for those who watch, and reuses the room of older ones
    expect(storeBytes()).toBeLessThan(Math.min(settled.bytes + 8192 * cycles, 64 * 1024 * 1024))
    console.info(
      `${cycles} cycles of ${cycleMs.toFixed(2)} ms, ${cpuMs.toFixed(2)} ms of them work of the daemon: ${settled.files} descriptors before, ${openFiles()} after; memory ${memory.map(kib => Math.round(kib / 1024)).join(' ')} MiB; store ${settled.bytes} and ${storeBytes()} bytes`,
    )
    // A heap goes up and down between collections, and within some thousand cycles grows to its usual size. What a cycle leaves
    // behind raises the height that it gets to: by less than 1 KiB a cycle.
    const peak = (from: number, to: number): number => Math.max(...memory.slice(from, to + 1))
    const usualKib = cycles < 5000 ? 64 * 1024 : 0
    expect(peak(6, 10) - peak(1, 5)).toBeLessThan(usualKib + cycles / 2)
  },
  120_000 + 200 * cycles,
)
