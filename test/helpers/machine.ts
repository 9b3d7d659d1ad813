import { type ChildProcess, type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, existsSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { needRoot } from './netns.js'

export const repo = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '')

export interface Result {
  status: number
  stdout: string
  stderr: string
}

type Falsy = false | undefined | null | '' | 0
type Truthy<T> = Exclude<T, Falsy>

/** Ask until `check` gives something; says what it waited for when it does not within `timeoutMs`. */
export async function until<T>(
  what: string,
  check: () => Truthy<T> | Falsy | Promise<Truthy<T> | Falsy>,
  timeoutMs = 30_000,
): Promise<Truthy<T>> {
  const end = Date.now() + timeoutMs
  for (;;) {
    const got = await check()
    if (got) return got
    if (Date.now() > end) throw new Error(`waited ${timeoutMs} ms for ${what}`)
    await sleep(20)
  }
}

/** A program that runs on a machine until it is stopped; what it prints is in the file `log`. */
export interface Service {
  /** as the machine itself numbers it */
  pid: string
  log: string
  child: ChildProcess
}

/**
 * A machine of its own by `scripts/throwaway`: its own links, firewall, processes, /run, /etc and /var/lib.
 * It ends, with everything on it, when this process closes its input: at `stop`, or because the tests were killed.
 */
export class Machine {
  readonly #services = new Map<string, Service>()

  protected constructor(
    readonly name: string,
    readonly holder: ChildProcess,
    /** of its first process, in our numbering: for `ip link set ... netns PID` */
    readonly pid: number,
    /** a folder for logs and files of the tests, the same path here and there */
    readonly dir: string,
  ) {}

  /** The namespaces of a new machine; `Machine.start` and `Host.start` make an object of them. */
  protected static async boot(name: string): Promise<[string, ChildProcess, number, string]> {
    needRoot()
    sweepFolders()
    const dir = mkdtempSync(join(tmpdir(), `tsd-${process.pid}-`))
    const argv = ['--hostname', name, 'sh', '-c', 'echo ready; exec cat >/dev/null']
    const holder = spawn(join(repo, 'scripts/throwaway'), argv, { stdio: ['pipe', 'pipe', 'pipe'] })
    let said = ''
    holder.stderr?.on('data', chunk => {
      said += chunk
    })
    await Promise.race([
      once(holder.stdout!, 'data'),
      once(holder, 'exit').then(() => Promise.reject(new Error(`scripts/throwaway: ${said}`))),
    ])
    const pid = Number(readFileSync(`/proc/${holder.pid}/task/${holder.pid}/children`, 'utf8'))
    return [name, holder, pid, dir]
  }

  static async start(name: string): Promise<Machine> {
    return new Machine(...(await Machine.boot(name)))
  }

  /** The path by which this process sees a file of the machine. */
  path(file: string): string {
    return `/proc/${this.pid}/root${file}`
  }

  /** The cgroup under which its containers belong, so that `scripts/throwaway` can remove it. */
  get cgroup(): string {
    return `/${process.env.THROWAWAY_CGROUP ?? 'tsd'}-${this.holder.pid}`
  }

  #enter(command: string[]): string[] {
    return ['-t', String(this.pid), '--pid', '--mount', '--root', '--wd', '--net', '--uts', '--ipc', '--', ...command]
  }

  /** Run a command on the machine; the caller reads status, stdout and stderr. */
  tryRun(...command: string[]): SpawnSyncReturns<string> {
    return spawnSync('nsenter', this.#enter(command), { encoding: 'utf8', maxBuffer: 1 << 28 })
  }

  /** Run a command on the machine and return its stdout; a non-zero exit throws with what it said. */
  run(...command: string[]): string {
    const got = this.tryRun(...command)
    if (got.status !== 0)
      throw new Error(`${this.name}$ ${command.join(' ')}\nexit ${got.status}: ${got.stderr}${got.stdout}`)
    return got.stdout
  }

  /** As `tryRun`, while this process goes on. */
  async start(...command: string[]): Promise<Result> {
    const child = spawn('nsenter', this.#enter(command), { stdio: ['ignore', 'pipe', 'pipe'] })
    const result: Result = { status: 0, stdout: '', stderr: '' }
    child.stdout.on('data', chunk => {
      result.stdout += chunk
    })
    child.stderr.on('data', chunk => {
      result.stderr += chunk
    })
    const [status] = (await once(child, 'close')) as [number | null]
    result.status = status ?? 128
    return result
  }

  /** It answers everything that it has nobody for, at once: the kernel would tell one sender once a second, and drop the rest. */
  refuseAtOnce(): void {
    this.run('sysctl', '-qw', 'net.ipv4.icmp_ratelimit=0', 'net.ipv6.icmp.ratelimit=0')
  }

  /** What a judge that speaks JSON says (`ip -j ...`, `nft -j ...`); nothing printed is an empty list. */
  json<T = Record<string, unknown>[]>(...command: string[]): T {
    return JSON.parse(this.run(...command).trim() || '[]') as T
  }

  /** Start a program that stays; one of a name at a time. */
  async serve(name: string, ...command: string[]): Promise<Service> {
    const log = join(this.dir, `${name}.log`)
    const pidFile = join(this.dir, `${name}.pid`)
    rmSync(pidFile, { force: true })
    appendFileSync(log, `--- ${command.join(' ')}\n`)
    const out = openSync(log, 'a')
    const shell = ['sh', '-c', 'echo $$ >"$0" && exec "$@"', pidFile, ...command]
    const child = spawn('nsenter', this.#enter(shell), { stdio: ['ignore', out, out] })
    const pid = await until(
      `${name} on ${this.name} to start`,
      () => existsSync(pidFile) && readFileSync(pidFile, 'utf8').trim(),
    )
    const service = { pid, log, child }
    this.#services.set(name, service)
    return service
  }

  /** What the named program has printed so far. */
  logOf(name: string): string {
    return readFileSync(join(this.dir, `${name}.log`), 'utf8')
  }

  /** Send a signal to the named program and wait for its end. Returns its exit status (null: ended by the signal). */
  async end(name: string, signal: 'TERM' | 'KILL' | 'INT' = 'TERM', timeoutMs = 20_000): Promise<number | null> {
    const { child, pid } = this.#service(name)
    this.#services.delete(name)
    if (child.exitCode === null && child.signalCode === null) {
      this.tryRun('kill', `-${signal}`, pid)
      await until(
        `${name} on ${this.name} to end`,
        () => child.exitCode !== null || child.signalCode !== null,
        timeoutMs,
      )
    }
    return child.exitCode
  }

  /** Stop the named program where it is, until `resume`. */
  pause(name: string): void {
    this.run('kill', '-STOP', this.#service(name).pid)
  }

  /** nsenter has stopped itself as its program was, and has it go on as soon as it goes on itself. */
  resume(name: string): void {
    this.#service(name).child.kill('SIGCONT')
  }

  #service(name: string): Service {
    const service = this.#services.get(name)
    if (!service) throw new Error(`${name} was not started on ${this.name}`)
    return service
  }

  /** Throws, with the end of its log, if a program that should run has ended. */
  assertRuns(name: string): void {
    const child = this.#services.get(name)?.child
    if (!child || child.exitCode !== null || child.signalCode !== null)
      throw new Error(`${name} on ${this.name} does not run: ${this.logOf(name).slice(-2000)}`)
  }

  /** The end of the machine and of everything on it. */
  async stop(): Promise<void> {
    if (this.holder.exitCode === null) {
      const gone = once(this.holder, 'exit')
      this.holder.stdin?.end()
      await gone
    }
    rmSync(this.dir, { recursive: true, force: true })
  }
}

/** Connect two machines by a cable (a veth pair). */
export function cable(a: Machine, linkA: string, b: Machine, linkB: string): void {
  const peer = ['peer', 'name', linkB, 'netns', String(b.pid)]
  const made = spawnSync('ip', ['link', 'add', linkA, 'netns', String(a.pid), 'type', 'veth', ...peer], {
    encoding: 'utf8',
  })
  if (made.status !== 0) throw new Error(`cable ${a.name}/${linkA} to ${b.name}/${linkB}: ${made.stderr}`)
  a.run('ip', 'link', 'set', linkA, 'up')
  b.run('ip', 'link', 'set', linkB, 'up')
}

/**
 * Folders of test runs that are no more; their machines ended with them. Only old ones: a run on a throwaway machine has the
 * same /tmp and processes that we do not see.
 */
function sweepFolders(): void {
  for (const name of readdirSync(tmpdir())) {
    const pid = /^tsd-(\d+)-/.exec(name)?.[1]
    const path = join(tmpdir(), name)
    if (pid === undefined || existsSync(`/proc/${pid}`)) continue
    const changedMs = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now()
    if (changedMs < Date.now() - 3_600_000) rmSync(path, { recursive: true, force: true })
  }
}
