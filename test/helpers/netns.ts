import { execFileSync, type SpawnSyncReturns, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readdirSync } from 'node:fs'

/** Where `ip netns` keeps its names. */
export const netnsDir = '/run/netns'
export const netnsPath = (name: string): string => `${netnsDir}/${name}`

/** Fail a suite that cannot do its work: needing root is an error, not a skip. */
export function needRoot(): void {
  if (process.getuid?.() !== 0) throw new Error('this suite makes network namespaces: run it as root')
}

/** Counted up, because of some hundred random ones of this length two would now and then be the same. */
let nextName = randomBytes(2).readUInt16BE()

/** A name nobody else uses, at most 15 bytes longer than the prefix: `tst-nl-1234-9fa2`. */
export function uniqueName(prefix: string): string {
  nextName = (nextName + 1) & 0xffff
  return `${prefix}-${process.pid}-${nextName.toString(16).padStart(4, '0')}`
}

/** `ip netns add NAME` under a unique name; loopback is up, as a host's is. Returns the name. */
export function makeNetns(prefix: string): string {
  const name = uniqueName(prefix)
  execFileSync('ip', ['netns', 'add', name])
  run(name, 'ip', 'link', 'set', 'lo', 'up')
  return name
}

export function removeNetns(name: string): void {
  spawnSync('ip', ['netns', 'delete', name])
}

/** Remove what an earlier, killed run of this suite left: every namespace whose name starts with `prefix-`. */
export function sweep(prefix: string): void {
  let names: string[] = []
  try {
    names = readdirSync(netnsDir)
  } catch {
    return
  }
  for (const name of names) if (name.startsWith(`${prefix}-`)) removeNetns(name)
}

/** Run a command in a namespace and return its stdout; a non-zero exit throws with its stderr. */
export function run(ns: string, command: string, ...args: string[]): string {
  const result = tryRun(ns, command, ...args)
  if (result.status !== 0)
    throw new Error(`${command} ${args.join(' ')} in ${ns}: exit ${result.status}: ${result.stderr}${result.stdout}`)
  return result.stdout
}

/** As `run`, for a command that may fail: the caller reads status, stdout and stderr. */
export const tryRun = (ns: string, command: string, ...args: string[]): SpawnSyncReturns<string> =>
  spawnSync('ip', ['netns', 'exec', ns, command, ...args], { encoding: 'utf8', maxBuffer: 1 << 28 })

/** Feed a script to a command's stdin in a namespace, for example `ip -batch -`. */
export function runWithInput(ns: string, input: string, command: string, ...args: string[]): string {
  const argv = ['netns', 'exec', ns, command, ...args]
  return execFileSync('ip', argv, { input, encoding: 'utf8', maxBuffer: 1 << 28 })
}

/** What a judge that speaks JSON says (`ip -j ...`, `bridge -j ...`, `nft -j ...`); nothing printed is an empty list. */
export function runJson<T = Record<string, never>[]>(ns: string, command: string, ...args: string[]): T {
  return JSON.parse(run(ns, command, ...args).trim() || '[]') as T
}

/** `ip -j -d ARGS` in a namespace. */
export const ipJson = <T = Record<string, unknown>[]>(ns: string, ...args: string[]): T =>
  runJson<T>(ns, 'ip', '-j', '-d', ...args)

/** `bridge -j -d ARGS` in a namespace. */
export const bridgeJson = <T = Record<string, unknown>[]>(ns: string, ...args: string[]): T =>
  runJson<T>(ns, 'bridge', '-j', '-d', ...args)
