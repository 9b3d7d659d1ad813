import type { SpawnSyncReturns } from 'node:child_process'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { dockerdOf } from './dockerd.js'
import { image, packImage } from './image.js'
import { cable, Machine, type Result, repo, until } from './machine.js'
import type { Vantage } from './vantage.js'

/** Docker of the Debian package under test; another docker may come first in PATH. */
const docker = '/usr/bin/docker'
const tsnet = join(repo, 'dist/tsnet.js')
/** What `tsnet` stands for in a shell. */
export const tsnetCommand = `${process.execPath} ${tsnet}`
export const socketPath = '/run/tsnet/tsnet.sock'
export const pluginPath = '/run/docker/plugins/tsnet.sock'

/** Addresses of documentation (RFC 5737, RFC 3849): the host's uplink `uplink0`, the machine outside, and one behind that. */
export const addresses = {
  host4: '198.51.100.2',
  host6: '2001:db8:100::2',
  outside4: '198.51.100.1',
  outside6: '2001:db8:100::1',
  beyond4: '203.0.113.1',
  beyond6: '2001:db8:200::1',
} as const

export type NftObject = Record<string, Record<string, unknown>>

/** A host that runs tsnet, dockerd or both, everything at its usual path. What it is connected to, others say. */
export class BareHost extends Machine {
  /** Start the daemon with its defaults, and wait until it answers on both its sockets. */
  async startTsnet(...options: string[]): Promise<void> {
    await this.serve('tsnet', process.execPath, tsnet, 'daemon', ...options)
    // a daemon that was killed has left its sockets, so that they are there says nothing
    await until(
      'tsnet to answer',
      () => {
        this.assertRuns('tsnet')
        const plugin = this.tryRun('socat', '/dev/null', `UNIX-CONNECT:${pluginPath}`)
        return plugin.status === 0 && this.#get('version')
      },
      60_000,
    )
  }

  /** End it as a service manager would; a daemon that does not end well fails the test. */
  async stopTsnet(): Promise<void> {
    const status = await this.end('tsnet', 'TERM')
    if (status !== 0) throw new Error(`tsnet daemon ended with ${status}: ${this.logOf('tsnet').slice(-2000)}`)
  }

  async killTsnet(): Promise<void> {
    await this.end('tsnet', 'KILL')
  }

  async startDocker(...options: string[]): Promise<void> {
    const cgroups = ['--cgroup-parent', this.cgroup, '--exec-opt', 'native.cgroupdriver=cgroupfs']
    await this.serve('dockerd', ...dockerdOf(this), '--log-level', 'warn', ...cgroups, ...options)
    await until(
      'dockerd to answer',
      async () => {
        this.assertRuns('dockerd')
        // it may take the question long before it answers, and a test may have to do something until then
        return (await this.start(docker, 'version')).status === 0
      },
      60_000,
    )
    if (this.tryRun(docker, 'image', 'inspect', image).status !== 0) this.run(docker, 'import', packImage(this), image)
  }

  async stopDocker(): Promise<void> {
    await this.end('dockerd', 'TERM', 60_000)
  }

  docker(...args: string[]): string {
    return this.run(docker, ...args).trim()
  }
  tryDocker(...args: string[]): SpawnSyncReturns<string> {
    return this.tryRun(docker, ...args)
  }

  tsnet(...args: string[]): string {
    return this.run(process.execPath, tsnet, ...args).trim()
  }
  tryTsnet(...args: string[]): SpawnSyncReturns<string> {
    return this.tryRun(process.execPath, tsnet, ...args)
  }
  startCli(...args: string[]): Promise<Result> {
    return this.start(process.execPath, tsnet, ...args)
  }
  tsnetJson<T = Record<string, unknown>[]>(...args: string[]): T {
    return JSON.parse(this.tsnet('--format', 'json', ...args)) as T
  }

  /** A sandbox that has a name in /run/netns, to run commands in. */
  sandbox(name: string): Vantage & { argv: string[] } {
    const argv = ['ip', 'netns', 'exec', name]
    return { argv, tryRun: (...command) => this.tryRun(...argv, ...command) }
  }
  container(name: string): Vantage {
    return { tryRun: (...command) => this.tryDocker('exec', name, ...command) }
  }

  /** One request to the API, where the command line is not the point: a client of ours takes 0.1 s and more to start. */
  request<T = unknown>(method: 'GET' | 'POST' | 'DELETE', path: string, body?: unknown): T {
    const { status, text } = this.#send(method, path, body)
    if (!/^2..$/.test(status)) throw new Error(`${this.name}: ${method} ${path} was answered ${status} ${text}`)
    return (text === '' ? undefined : JSON.parse(text)) as T
  }

  /** What the API lists; empty where no daemon runs. */
  #get(kind: string): string {
    return this.#send('GET', `/${kind}`).text
  }

  #send(method: string, path: string, body?: unknown): { status: string; text: string } {
    const content = body === undefined ? '' : JSON.stringify(body)
    const head = [
      `${method} /v1${path} HTTP/1.0`,
      'Content-Type: application/json',
      `Content-Length: ${content.length}`,
    ]
    // a client that closes its side is taken for one that has gone
    const exchange = `printf %s "$0" | socat -t60 - UNIX-CONNECT:${socketPath},shut-none`
    const { stdout } = this.tryRun('sh', '-c', exchange, [...head, '', content].join('\r\n'))
    const [start = '', text = ''] = stdout.split('\r\n\r\n')
    return { status: start.split(' ')[1] ?? '', text }
  }

  /** Links by name, as `ip -j -d link` has them. */
  links(): Map<string, Record<string, unknown>> {
    return new Map(this.json('ip', '-j', '-d', 'link').map(link => [String(link.ifname), link]))
  }

  /** Everything in our nftables table; empty where there is no such table. */
  tsnetRules(): NftObject[] {
    return this.#table('inet')
  }
  /** Everything in our table for bridges. */
  spoofGuard(): NftObject[] {
    return this.#table('bridge')
  }

  #table(family: string): NftObject[] {
    const got = this.tryRun('nft', '-j', 'list', 'table', family, 'tsnet')
    if (got.status !== 0) return []
    return (JSON.parse(got.stdout) as { nftables: NftObject[] }).nftables.filter(object => !('metainfo' in object))
  }

  /**
   * All that a network can leave on a host, as text for comparison: links with their addresses (not counters or times),
   * routes, our table without handles and counters, namespaces, and what tsnet itself says that it has. Networks of many hosts
   * are left out: they are no more on one host than on another.
   */
  snapshot(): string {
    const links = this.json('ip', '-j', '-d', 'addr').map(link => ({ ...link, addr_info: plainAddresses(link) }))
    const routes = ['-4', '-6'].map(family => this.json('ip', '-j', family, 'route'))
    const rules = [...this.tsnetRules(), ...this.spoofGuard()]
    const netns = this.run('ip', 'netns').replace(/ \(id: \d+\)/g, '')
    const list = (kind: string) => JSON.parse(this.#get(kind) || '[]') as { scope?: string }[]
    const objects = ['networks', 'sandboxes', 'endpoints'].map(kind =>
      list(kind).filter(({ scope }) => scope !== 'global'),
    )
    return JSON.stringify({ links, routes, rules, netns, objects }, lasting, 1)
  }
}

/**
 * A host with a machine `outside` at the other end of its uplink. The outside knows no way to the networks behind the host: an
 * answer that arrives there was masqueraded or published.
 */
export class Host extends BareHost {
  outside!: Machine

  static async startWithTsnet(...options: string[]): Promise<Host> {
    const host = await Host.start()
    await host.startTsnet(...options)
    return host
  }

  /** With tsnet and then dockerd running on it. */
  static async startWithDocker(): Promise<Host> {
    const host = await Host.startWithTsnet()
    await host.startDocker()
    return host
  }

  static override async start(name = 'host'): Promise<Host> {
    assertBuilt()
    const host = new Host(...(await Machine.boot(name)))
    host.outside = await Machine.start('outside')
    host.outside.refuseAtOnce()
    host.plugIn()
    // nobody waits for names that nobody has
    host.run('sh', '-c', `echo nameserver ${addresses.outside4} >/etc/resolv.conf`)
    for (const beyond of [`${addresses.beyond4}/32`, `${addresses.beyond6}/128`])
      host.outside.run('ip', 'addr', 'add', beyond, 'dev', 'lo')
    return host
  }

  /** Connect the uplink to the machine outside: again, where a test has removed it. */
  plugIn(): void {
    cable(this, 'uplink0', this.outside, 'eth0')
    const a = addresses
    for (const [machine, link, ip4, ip6] of [
      [this, 'uplink0', a.host4, a.host6],
      [this.outside, 'eth0', a.outside4, a.outside6],
    ] as const) {
      machine.run('ip', 'addr', 'add', `${ip4}/24`, 'dev', link)
      machine.run('ip', 'addr', 'add', `${ip6}/64`, 'dev', link, 'nodad')
    }
    this.run('ip', 'route', 'add', 'default', 'via', a.outside4)
    this.run('ip', '-6', 'route', 'add', 'default', 'via', a.outside6)
  }

  override async stop(): Promise<void> {
    await this.outside.stop()
    await super.stop()
  }
}

const plainAddresses = (link: Record<string, unknown>): unknown[] =>
  (link.addr_info as Record<string, unknown>[])
    .filter(({ scope }) => scope !== 'link') // those come by themselves, when the kernel has looked for duplicates
    .map(({ family, local, prefixlen }) => [family, local, prefixlen])

/** Leaves out what moves by itself: counters, timers and offload sizes of bridges, and the numbers that nft gives to what is added again. */
const lasting = (key: string, value: unknown): unknown =>
  /^(handle|packets|bytes|stats64|.*_timer|[gt][sr]o_.*)$/.test(key) ? undefined : value

/** The tests run what users run, dist/tsnet.js: an old one would judge yesterday's sources. */
export function assertBuilt(): void {
  const built = existsSync(tsnet) ? statSync(tsnet).mtimeMs : 0
  const sources = readdirSync(join(repo, 'src'), { recursive: true, withFileTypes: true }).filter(entry =>
    entry.isFile(),
  )
  const newest = Math.max(...sources.map(entry => statSync(join(entry.parentPath, entry.name)).mtimeMs))
  if (built < newest) throw new Error('dist/ is older than src/: run `npm run build`')
}
