import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface, type Interface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { makeNetns, needRoot, netnsPath, removeNetns, run, sweep } from '../helpers/netns.js'

// A network of 1,000 names: what a question costs, and how many the resolver takes on one core. Figures are printed; only
// losses, wrong answers and the work that they take fail, since time belongs to the machine.

const prefix = 'tst-dnsl'
const helper = (name: string): string => fileURLToPath(new URL(`../helpers/${name}`, import.meta.url))
let ns: string
let server: ChildProcess
let lines: Interface

beforeAll(async () => {
  needRoot()
  sweep(prefix)
  ns = makeNetns(prefix)
  // on one core, whoever else is there
  server = spawn('taskset', ['-c', '0', process.execPath, helper('name-server.mjs'), netnsPath(ns), '1000'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  lines = createInterface({ input: server.stdout! })
  await once(lines, 'line')
})
afterAll(() => {
  server?.stdin?.end()
  if (ns) removeNetns(ns)
})

async function usedMs(): Promise<number> {
  server.stdin?.write('\n')
  const [line] = (await once(lines, 'line')) as [string]
  return Number(line)
}

const load = <T>(...args: (string | number)[]): T =>
  JSON.parse(run(ns, process.execPath, helper('dns-load.mjs'), ...args.map(String))) as T

test('a question about one of 1,000 names is answered right, and in far less than 1 ms', () => {
  const got = load<{ median: number; p99: number; wrong: number }>('latency', 5_000, 1_000)
  console.log(`dns: median ${got.median.toFixed(3)} ms, 99 % ${got.p99.toFixed(3)} ms`)
  expect(got.wrong).toBe(0)
})

test('10,000 questions are less than a second of work for one core, and all are answered, and right', async () => {
  const before = await usedMs()
  const got = load<{ sent: number; received: number; wrong: number; perSecond: number }>('rate', 10_000, 5, 1_000)
  const used = (await usedMs()) - before
  console.log(`dns: ${got.perSecond} questions a second, ${Math.round(used / 50)} % of one core at 10,000`)
  expect(got).toMatchObject({ sent: 50_000, received: 50_000, wrong: 0 })
  expect(used).toBeLessThan(5_000)
})
