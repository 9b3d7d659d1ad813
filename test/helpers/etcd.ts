import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, cpSync, existsSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { makeCertificates, type TlsFiles } from './etcd-tls.js'
import { until } from './machine.js'

/** Data is in memory: what is tried is what etcd does, not the disk of the machine, and this etcd always syncs. */
const parent = '/dev/shm'
const prefix = 'tst-etcd'

export interface MemberPlace {
  /** An address of its own: ports 2379 and 2380. Missing: 127.0.0.1, ports that are free now. */
  address?: string
  /** What puts a command in its place by exec, without a fork: `['ip', 'netns', 'exec', NS]`, `['nsenter', '-t', PID, '--net', '--']` */
  enter?: string[]
}

export interface EtcdOptions {
  /** One member each; 1 or 3 of them. Missing: one on loopback. */
  members?: MemberPlace[]
  /** Clients must speak TLS; `clientCertificate`: and show a certificate of our CA. */
  tls?: boolean | 'clientCertificate'
  /** Other flags of etcd, for example `--auth-token-ttl=2`. */
  flags?: string[]
}

export const threeOnLoopback: MemberPlace[] = [{}, {}, {}]

interface Status {
  Endpoint: string
  Status: { header: { member_id: number; revision: number }; leader: number }
}

/** A real etcd of one or three members that ends with this process, or at `stop`. */
export class Etcd {
  private constructor(
    /** data, logs and certificates */
    readonly dir: string,
    readonly members: readonly EtcdMember[],
    readonly tls: TlsFiles | undefined,
  ) {}

  /** Returns when every member answers. */
  static async start(options: EtcdOptions = {}): Promise<Etcd> {
    sweepEtcd()
    const dir = mkdtempSync(join(parent, `${prefix}-${process.pid}-`))
    const places = options.members ?? [{}]
    const addresses = places.map(place => place.address ?? '127.0.0.1')
    const tls = options.tls ? makeCertificates(dir, addresses) : undefined
    const ports = await freePorts(places.length * 2)
    const members = places.map((place, i) => {
      const [client, peer] = place.address ? [2379, 2380] : [ports[2 * i]!, ports[2 * i + 1]!]
      return new EtcdMember(`m${i}`, dir, addresses[i]!, client, peer, place.enter ?? [])
    })
    const etcd = new Etcd(dir, members, tls)
    const tlsFlags = tls ? [`--cert-file=${tls.cert}`, `--key-file=${tls.key}`, `--trusted-ca-file=${tls.ca}`] : []
    if (options.tls === 'clientCertificate') tlsFlags.push('--client-cert-auth')
    for (const member of members) member.flags = [...etcd.#clusterFlags(member), ...tlsFlags, ...(options.flags ?? [])]
    try {
      for (const member of members) member.start()
      await etcd.ready()
    } catch (error) {
      await etcd.stop()
      throw error
    }
    return etcd
  }

  /** `address:port` of every member. */
  get endpoints(): string[] {
    return this.members.map(member => member.endpoint)
  }

  /** As tsnet takes it: `etcd://127.0.0.1:40001,127.0.0.1:40003/PREFIX?ca=...` */
  url(keyPrefix: string, { login = '', endpoints = this.endpoints } = {}): string {
    const { ca, clientCert, clientKey } = this.tls ?? {}
    const query = this.tls ? `?ca=${ca}&cert=${clientCert}&key=${clientKey}` : ''
    return `etcd://${login && `${login}@`}${endpoints.join(',')}/${keyPrefix}${query}`
  }

  /** Every member that runs answers, and there is a leader. */
  async ready(): Promise<void> {
    const running = this.members.filter(member => member.runs)
    const endpoints = running.map(member => member.endpoint).join(',')
    const healthy = () => {
      for (const member of running) member.assertRuns()
      return this.tryCtl('endpoint', 'health', '--endpoints', endpoints)
    }
    await until('etcd to answer', healthy, 30_000).catch(error => {
      throw new Error(`${error.message}; ${running.map(m => `${m.name}: ${m.logEnd()}`).join('\n')}`)
    })
  }

  /** `etcdctl ARGS`, to all members that run unless `--endpoints` says otherwise; login by `--user name:password`. */
  async ctl(...args: string[]): Promise<string> {
    const runs = this.members.filter(member => member.runs && !member.paused)
    const { ca, clientCert, clientKey } = this.tls ?? {}
    const where = args.includes('--endpoints') ? [] : ['--endpoints', runs.map(member => member.endpoint).join(',')]
    const tls = this.tls ? ['--cacert', ca!, '--cert', clientCert!, '--key', clientKey!] : []
    const [command, ...rest] = [...(runs[0]?.enter ?? []), 'etcdctl', ...args, ...where, ...tls]
    const timeouts = ['--dial-timeout=2s', '--command-timeout=5s']
    const env = { ...process.env, ETCDCTL_API: '3' }
    return (await promisify(execFile)(command!, [...rest, ...timeouts], { env, maxBuffer: 1 << 28 })).stdout
  }

  async tryCtl(...args: string[]): Promise<boolean> {
    return this.ctl(...args).then(
      () => true,
      () => false,
    )
  }

  async revision(): Promise<number> {
    return (await this.#status())[0]!.Status.header.revision
  }

  /** Forget all before the present revision, on every member. */
  async compact(...args: string[]): Promise<void> {
    await this.ctl('compact', '--physical', String(await this.revision()), ...args)
  }

  /** The member that leads, waited for. */
  leader(): Promise<EtcdMember> {
    return until(
      'etcd to have a leader',
      async () => {
        const all = await this.#status().catch(() => [])
        const led = all.find(one => one.Status.header.member_id === one.Status.leader)
        return led && this.members.find(member => member.endpoint === led.Endpoint.replace(/^https?:\/\//, ''))
      },
      30_000,
    )
  }

  /** Passwords are asked for from now on. `root` has the password `root-secret`; `user` may do all below `keyPrefix`. */
  async enableAuth(user: string, password: string, keyPrefix: string): Promise<void> {
    await this.ctl('user', 'add', 'root:root-secret')
    await this.ctl('user', 'grant-role', 'root', 'root')
    await this.ctl('role', 'add', user)
    await this.ctl('role', 'grant-permission', '--prefix=true', user, 'readwrite', keyPrefix)
    await this.ctl('user', 'add', `${user}:${password}`)
    await this.ctl('user', 'grant-role', user, user)
    await this.ctl('auth', 'enable')
  }

  async saveSnapshot(file: string): Promise<void> {
    await this.ctl('snapshot', 'save', file, '--endpoints', this.members.find(member => member.runs)!.endpoint)
  }

  /** Stop all, put them back to the snapshot as `etcdctl snapshot restore` does, start again and wait for them. */
  async restoreSnapshot(file: string): Promise<void> {
    for (const member of this.members) await member.kill()
    for (const member of this.members) {
      rmSync(member.data, { recursive: true })
      const copy = `${file}.${member.name}`
      cpSync(file, copy)
      const flags = this.#clusterFlags(member).filter(flag => /^--(name|data-dir|initial-(?!cluster-state))/.test(flag))
      execFileSync('etcdctl', ['snapshot', 'restore', copy, ...flags], {
        env: { ...process.env, ETCDCTL_API: '3' },
        stdio: 'ignore',
      })
      rmSync(copy)
    }
    for (const member of this.members) member.start()
    await this.ready()
  }

  async stop(): Promise<void> {
    for (const member of this.members) await member.kill()
    rmSync(this.dir, { recursive: true, force: true })
  }

  async #status(): Promise<Status[]> {
    return JSON.parse(await this.ctl('endpoint', 'status', '-w', 'json'))
  }

  #clusterFlags(member: EtcdMember): string[] {
    return [
      `--name=${member.name}`,
      `--data-dir=${member.data}`,
      `--initial-cluster=${this.members.map(m => `${m.name}=${m.peerUrl}`).join(',')}`,
      `--initial-cluster-token=${this.dir}`,
      `--initial-advertise-peer-urls=${member.peerUrl}`,
      `--listen-peer-urls=${member.peerUrl}`,
      `--listen-client-urls=${this.tls ? 'https' : 'http'}://${member.endpoint}`,
      `--advertise-client-urls=${this.tls ? 'https' : 'http'}://${member.endpoint}`,
    ]
  }
}

export class EtcdMember {
  readonly endpoint: string
  readonly peerUrl: string
  readonly data: string
  readonly log: string
  flags: string[] = []
  paused = false
  #child: ChildProcess | undefined

  constructor(
    readonly name: string,
    dir: string,
    address: string,
    readonly clientPort: number,
    peerPort: number,
    readonly enter: string[],
  ) {
    const host = address.includes(':') ? `[${address}]` : address
    this.endpoint = `${host}:${clientPort}`
    this.peerUrl = `http://${host}:${peerPort}`
    this.data = join(dir, name)
    this.log = join(dir, `${name}.log`)
  }

  get pid(): number | undefined {
    return this.#child?.pid
  }

  get runs(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** Start, or start again with its data. It ends with this process, however that ends. Does not wait: see `Etcd.ready`. */
  start(): void {
    if (this.runs) throw new Error(`etcd ${this.name} runs already`)
    const timers = ['--heartbeat-interval=50', '--election-timeout=500', '--pre-vote']
    const argv = [...this.enter, 'etcd', ...this.flags, ...timers, '--logger=zap', '--log-outputs=stderr']
    const out = openSync(this.log, 'a')
    this.#child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...argv], { stdio: ['ignore', out, out] })
    appendFileSync(`${this.data}.pid`, `${this.#child.pid}\n`)
  }

  /** SIGKILL, and wait for its end. */
  async kill(): Promise<void> {
    const child = this.#child
    if (!child || !this.runs) return
    const gone = once(child, 'exit')
    child.kill('SIGKILL')
    await gone
    this.paused = false
  }

  /** SIGSTOP: its connections stay open, and nothing answers. Returns when every thread has stopped. */
  pause(): void {
    const tasks = `/proc/${this.pid}/task`
    this.#child?.kill('SIGSTOP')
    this.paused = true
    const isStopped = (task: string) => /^State:\s+T/m.test(readFileSync(`${tasks}/${task}/status`, 'utf8'))
    while (!readdirSync(tasks).every(isStopped));
  }

  resume(): void {
    this.#child?.kill('SIGCONT')
    this.paused = false
  }

  assertRuns(): void {
    if (!this.runs) throw new Error(`etcd ${this.name} has ended: ${this.logEnd()}`)
  }

  logEnd(): string {
    return existsSync(this.log) ? readFileSync(this.log, 'utf8').slice(-1500) : 'no log'
  }
}

/** Ports that nobody has now; all are held until the last is found, so that they differ. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'))
  await Promise.all(servers.map(server => once(server, 'listening')))
  const ports = servers.map(server => (server.address() as { port: number }).port)
  await Promise.all(servers.map(server => once(server.close(), 'close')))
  return ports
}

/** What killed runs left: members are ended by the kernel (`--pdeathsig`), unless it was told too late; folders stay. */
export function sweepEtcd(): void {
  for (const name of readdirSync(parent)) {
    const owner = new RegExp(`^${prefix}-(\\d+)-`).exec(name)?.[1]
    if (!owner || existsSync(`/proc/${owner}`)) continue
    const dir = join(parent, name)
    for (const file of readdirSync(dir).filter(file => file.endsWith('.pid')))
      for (const pid of readFileSync(join(dir, file), 'utf8').trim().split('\n')) killIfOf(dir, Number(pid))
    rmSync(dir, { recursive: true, force: true })
  }
}

/** A number may be another process's by now. */
function killIfOf(dir: string, pid: number): void {
  try {
    if (readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(dir)) process.kill(pid, 'SIGKILL')
  } catch {
    // it has ended
  }
}
