import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { repo, until } from '../helpers/machine.js'
import { makeNetns, needRoot, netnsPath, removeNetns, sweep } from '../helpers/netns.js'

// What two daemons must never share: a network namespace, whose links each would take for leftovers, and a state directory.

const prefix = 'tst-alone'
const script = join(repo, 'dist/tsnet.js')
let dir: string
let here: string
let elsewhere: string
let first: ChildProcess

const argv = (ns: string, name: string, state: string): string[] => [
  `--net=${netnsPath(ns)}`,
  ...[process.execPath, script, 'daemon', '--socket', join(dir, `${name}.sock`), '--plugin-dir', join(dir, name)],
  ...['--state-dir', join(dir, state), '--log-level', 'error'],
]
const second = (ns: string, state: string) => spawnSync('nsenter', argv(ns, 'second', state), { encoding: 'utf8' })

beforeAll(async () => {
  needRoot()
  sweep(prefix)
  dir = mkdtempSync(join(tmpdir(), `${prefix}-`))
  here = makeNetns(prefix)
  elsewhere = makeNetns(prefix)
  first = spawn('nsenter', argv(here, 'first', 'state'), { stdio: 'inherit' })
  await until('the first daemon to answer', () => existsSync(join(dir, 'first.sock')))
})

afterAll(() => {
  first?.kill()
  for (const ns of [here, elsewhere]) if (ns) removeNetns(ns)
  if (dir) rmSync(dir, { recursive: true, force: true })
})

test('a second daemon in the same namespace is refused', () => {
  const { status, stderr } = second(here, 'other')
  expect([status, stderr]).toEqual([5, 'tsnet: a tsnet daemon runs in this network namespace already\n'])
})

test('a second daemon on the same state directory is refused, also from another namespace', () => {
  const { status, stderr } = second(elsewhere, 'state')
  expect([status, stderr]).toEqual([5, `tsnet: another tsnet daemon uses the state directory ${join(dir, 'state')}\n`])
})
