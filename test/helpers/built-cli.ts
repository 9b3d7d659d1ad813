import { type ChildProcess, spawn } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import ts from 'typescript'
import { repo } from './machine.js'

/** `dist` of the sources as they are now, each file by itself: no stale build, and no wait for a type check. */
export interface BuiltCli {
  /** of the built tsnet.js */
  script: string
  remove(): void
}

export function buildCli(): BuiltCli {
  // Outside the repository, which need not be readable for the users that a test runs it as.
  const root = mkdtempSync(join(tmpdir(), 'tsnet-built-'))
  chmodSync(root, 0o755)
  linkModules(join(root, 'node_modules'))
  const source = join(repo, 'src')
  const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2023, verbatimModuleSyntax: true }
  for (const path of readdirSync(source, { recursive: true, encoding: 'utf8' })) {
    if (!path.endsWith('.ts')) continue
    const target = join(root, 'dist', path.replace(/\.ts$/, '.js'))
    mkdirSync(dirname(target), { recursive: true })
    writeFileSync(target, ts.transpile(readFileSync(join(source, path), 'utf8'), compilerOptions))
  }
  copyFileSync(join(repo, 'package.json'), join(root, 'package.json'))
  return { script: join(root, 'dist', 'tsnet.js'), remove: () => rmSync(root, { recursive: true, force: true }) }
}

/** The repository's modules; commander as a copy, being the only one that a command needs which does nothing as root. */
function linkModules(target: string): void {
  const source = join(repo, 'node_modules')
  mkdirSync(target)
  for (const name of readdirSync(source))
    if (name === 'commander') cpSync(join(source, name), join(target, name), { recursive: true })
    else symlinkSync(join(source, name), join(target, name))
}

export interface Ran {
  status: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

export interface RunOptions {
  env?: NodeJS.ProcessEnv
  input?: string
  uid?: number
  gid?: number
  cwd?: string
}

/** Run `tsnet ARGS` to its end. Not spawnSync: the API that it calls lives in this process. */
export function runCli(cli: BuiltCli, args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const { input = '', ...rest } = options
  const child = startCli(cli, args, rest)
  child.stdin?.end(input)
  return ended(child)
}

/** Start `tsnet ARGS` with pipes as its stdio. */
export function startCli(cli: BuiltCli, args: readonly string[], { env, ...rest }: RunOptions = {}): ChildProcess {
  return spawn(process.execPath, [cli.script, ...args], { ...rest, env: { ...process.env, ...env } })
}

export function ended(child: ChildProcess): Promise<Ran> {
  let [stdout, stderr] = ['', '']
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (status, signal) => resolve({ status, signal, stdout, stderr }))
  })
}

/** The URLs of the modules that `tsnet ARGS` loads, told by a loader hook (https://nodejs.org/api/module.html#hooks). */
export async function loadedModules(cli: BuiltCli, args: readonly string[], env: NodeJS.ProcessEnv): Promise<string[]> {
  const list = join(dirname(cli.script), `loaded-${process.pid}`)
  writeFileSync(list, '')
  const hook = `import { appendFileSync } from 'node:fs'
    export function load(url, context, next) { appendFileSync('${list}', url + '\\n'); return next(url, context) }`
  const preload = `import { register } from 'node:module'; register(${JSON.stringify(asUrl(hook))})`
  const ran = await runCli(cli, args, { env: { ...env, NODE_OPTIONS: `--import ${asUrl(preload)}` } })
  if (ran.status !== 0) throw new Error(`tsnet ${args.join(' ')}: ${ran.stderr}`)
  return readFileSync(list, 'utf8').trim().split('\n')
}

const asUrl = (code: string): string => `data:text/javascript,${encodeURIComponent(code)}`
