import { join } from 'node:path'
import { ratioOf, report, reportPeers, type Target } from './bench.js'
import { type Machine, repo, until } from './machine.js'

// What programs in network namespaces get of a way between them: one TCP stream, and one byte there and back.

const turns = Number(process.env.TSNET_BENCH_TURNS ?? 12)
const streamBytes = '400M'
const exchangeSeconds = '0.3'
export const [streamPort, bytePort] = [5201, 5202]
/**
 * Both who exchange bytes share a processor: how soon another one wakes up is the scheduler's affair, differs by half from one
 * moment to the next, and hides what the way itself takes.
 */
const oneByte = ['taskset', '-c', '0', process.execPath, join(repo, 'test/helpers/one-byte.mjs')]

/** A network namespace on a machine: `enter` is put before a command. */
export interface End {
  machine: Machine
  enter: readonly string[]
}
export interface Way {
  from: End
  address: string
  /** of streams and of bytes */
  ports: readonly [number, number]
}

export async function serveWire(name: string, { machine, enter }: End): Promise<void> {
  await machine.serve(`${name} iperf3`, ...enter, 'iperf3', '--server', '--port', String(streamPort))
  await machine.serve(`${name} bytes`, ...enter, ...oneByte, 'serve', String(bytePort))
  const listens = ['sh', '-c', `ss -Htln 'sport = :${streamPort}' | grep -q :`]
  await until('the servers', () => machine.logOf(`${name} bytes`).includes('ready'))
  await until('the servers', () => machine.tryRun(...enter, ...listens).status === 0)
}

/** In Gbit/s. */
export async function stream({ from: { machine, enter }, address, ports }: Way): Promise<number> {
  const way = ['--client', address, '--port', String(ports[0])]
  const { stdout } = await machine.start(...enter, 'iperf3', ...way, '--bytes', streamBytes, '--json')
  const { end, error } = JSON.parse(stdout) as { error?: string; end: { sum_received?: { bits_per_second: number } } }
  if (end.sum_received === undefined) throw new Error(`iperf3 to ${address}: ${error}`)
  return end.sum_received.bits_per_second / 1e9
}

/** Thousands a second. */
export async function exchanges({ from: { machine, enter }, address, ports }: Way): Promise<number> {
  const got = await machine.start(...enter, ...oneByte, 'ask', address, String(ports[1]), exchangeSeconds)
  if (got.status !== 0) throw new Error(`one byte to ${address}: ${got.stderr}`)
  return Number(got.stdout) / 1000
}

/** Ours and that of somebody else, by turns. */
export async function compareWays(
  suite: string,
  where: string,
  [ours, theirs]: readonly (readonly [who: string, Way])[],
  target: Target,
): Promise<void> {
  if (ours === undefined || theirs === undefined) throw new Error('two ways are compared')
  for (const [what, unit, measure] of [
    ['TCP stream', 'Gbit/s', stream],
    ['one byte there and back', 'thousands a second', exchanges],
  ] as const) {
    const values: Record<string, number[]> = { [ours[0]]: [], [theirs[0]]: [] }
    for (let i = 0; i < turns; i++)
      for (const [who, way] of i % 2 === 0 ? [ours, theirs] : [theirs, ours]) values[who]!.push(await measure(way))
    reportPeers(suite, `${what}, ${where}`, unit, values)
    const title = `${what}, ${where}: ${ours[0]} against ${theirs[0]}`
    report(suite, title, ratioOf(values[ours[0]]!, values[theirs[0]]!), 'x', target)
  }
}
