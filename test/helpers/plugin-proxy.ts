import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Host, pluginPath } from './host.js'
import { repo, until } from './machine.js'

const program = join(repo, 'test/helpers/plugin-proxy.mjs')
/** Where the daemon has its plugin socket: beside the way. */
const pluginDir = '/run/tsnet-behind'

export type Fate = 'honest' | 'twice' | 'refused' | 'denied' | 'odd' | 'lost' | 'stuck' | 'swallowed'

/**
 * Between a host's dockerd and the daemon's plugin socket (plugin-proxy.mjs): tells what dockerd asked, and has happen to its
 * calls what happens to them once in a thousand.
 */
export class PluginProxy {
  /** for the daemon, so that dockerd finds the proxy where it would find the daemon */
  static readonly options = ['--plugin-dir', pluginDir]
  readonly #fates: string
  readonly #calls: string

  constructor(readonly host: Host) {
    this.#fates = join(host.dir, 'fates')
    this.#calls = join(host.dir, 'calls')
    writeFileSync(this.#calls, '')
    this.have()
  }

  /** Be there when dockerd looks. */
  async start(): Promise<void> {
    this.host.run('mkdir', '-p', '/run/docker/plugins')
    const places = [pluginPath, `${pluginDir}/tsnet.sock`, this.#fates, this.#calls]
    await this.host.serve('proxy', process.execPath, program, ...places)
    const connects = () => this.host.tryRun('socat', '/dev/null', `UNIX-CONNECT:${pluginPath}`).status === 0
    await until('the proxy to listen', connects)
  }

  /** Be there no more, and let go of what waits. */
  async stop(): Promise<void> {
    await this.host.end('proxy', 'KILL')
    this.host.run('rm', '-f', pluginPath)
  }

  /** What becomes of calls from now on: the first pattern that a call's method and body match says it. Of others nothing happens. */
  have(...fates: [pattern: string, fate: Fate][]): void {
    writeFileSync(this.#fates, JSON.stringify(fates))
  }

  /** Every method that dockerd has asked for. */
  get calls(): string[] {
    return readFileSync(this.#calls, 'utf8').split('\n').filter(Boolean)
  }

  /** How often dockerd asked for each while `work` was done: `Leave 3, DeleteEndpoint 1`. */
  during(work: () => unknown): string {
    const from = this.calls.length
    work()
    const counts = new Map<string, number>()
    for (const call of this.calls.slice(from)) {
      const name = call.replace(/^.*\./, '')
      counts.set(name, (counts.get(name) ?? 0) + 1)
    }
    return [...counts].map(([name, count]) => `${name} ${count}`).join(', ')
  }
}
