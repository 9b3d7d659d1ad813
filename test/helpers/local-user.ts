import { setTimeout as sleep } from 'node:timers/promises'
import type { EndpointView } from '../../src/cnm/specs.js'
import { type Answer, callApi } from './api-client.js'
import { random } from './random.js'

/** What a user has, as `network NAME`, `sandbox NAME`, `endpoint SANDBOX NETWORK` or `port SANDBOX NETWORK PORT`. */
type Thing = string

/** What a change that was answered, or was not, is about. */
interface Change {
  adds: Thing[]
  removes: Thing[]
}

/**
 * Somebody who makes and removes networks, sandboxes, endpoints and published ports of one host at random, and remembers
 * what they were answered. Nobody else touches what is theirs.
 */
export class LocalUser {
  readonly #has = new Set<Thing>()
  /** asked for when the daemon died: done or not */
  readonly #unknown = new Set<Thing>()
  /** answers that nobody should get, and things that are lost or too many */
  readonly wrong: string[] = []
  readonly count = { answered: 0, unanswered: 0 }
  readonly #random: (below: number) => number

  constructor(
    readonly socketPath: string,
    readonly n: number,
    seed: number,
  ) {
    this.#random = random(seed + 1000 * n)
  }

  async work(isOver: () => boolean): Promise<void> {
    while (!isOver()) await this.#step()
  }

  /** Once the daemon runs again: what was answered is there, nothing else is but what nobody knew of. */
  async settle(): Promise<void> {
    const there = await this.#things()
    for (const thing of new Set([...there, ...this.#has, ...this.#unknown])) {
      if (!this.#unknown.has(thing) && there.has(thing) !== this.#has.has(thing))
        this.wrong.push(`${thing} is ${there.has(thing) ? 'there and should not be' : 'lost'}`)
    }
    this.#unknown.clear()
    this.#has.clear()
    for (const thing of there) this.#has.add(thing)
  }

  /** Give everything back. */
  async leave(): Promise<void> {
    const all = [...this.#list('sandbox'), ...this.#list('network')]
    for (const [kind, name] of all) {
      const answer = await this.#call('DELETE', kind === 'sandbox' ? `/sandboxes/${name}` : `/networks/${name}`)
      if (answer?.status !== 204)
        this.wrong.push(`DELETE ${kind} ${name}: ${answer?.status} ${JSON.stringify(answer?.body)}`)
    }
  }

  #list(kind: string): string[][] {
    return [...this.#has].map(thing => thing.split(' ')).filter(([is]) => is === kind)
  }
  #pick = <T>(of: readonly T[]): T | undefined => of[this.#random(of.length)]

  async #step(): Promise<void> {
    const kind = this.#pick(['network', 'sandbox', 'endpoint', 'endpoint', 'endpoint', 'port', 'port'])
    if (kind === 'network') await this.#network(`u${this.n}n${this.#random(2)}`)
    else if (kind === 'sandbox') await this.#sandbox(`u${this.n}s${this.#random(3)}`)
    else if (kind === 'endpoint')
      await this.#endpoint(this.#pick(this.#list('sandbox'))?.[1], this.#pick(this.#list('network'))?.[1])
    else await this.#port(this.#pick(this.#list('endpoint')))
  }

  async #network(name: string): Promise<void> {
    const thing = `network ${name}`
    const subnets = [`10.${80 + this.n}.${name.slice(-1)}.0/24`]
    if (!this.#has.has(thing))
      return this.#change({ adds: [thing], removes: [] }, 'POST', '/networks', { name, subnets })
    // one that has endpoints is refused, which other tests try
    if (this.#list('endpoint').some(([, , network]) => network === name)) return
    await this.#change({ adds: [], removes: [thing] }, 'DELETE', `/networks/${name}`)
  }

  async #sandbox(name: string): Promise<void> {
    const thing = `sandbox ${name}`
    if (!this.#has.has(thing)) return this.#change({ adds: [thing], removes: [] }, 'POST', '/sandboxes', { name })
    const removes = [...this.#has].filter(other => other.split(' ')[1] === name)
    await this.#change({ adds: [], removes }, 'DELETE', `/sandboxes/${name}`)
  }

  async #endpoint(sandbox: string | undefined, network: string | undefined): Promise<void> {
    if (sandbox === undefined || network === undefined) return
    const thing = `endpoint ${sandbox} ${network}`
    const path = `/networks/${network}`
    if (!this.#has.has(thing))
      return this.#change({ adds: [thing], removes: [] }, 'POST', `${path}/connect`, { sandbox })
    const removes = [...this.#has].filter(other => other === thing || other.startsWith(`port ${sandbox} ${network} `))
    await this.#change({ adds: [], removes }, 'POST', `${path}/disconnect`, { sandbox })
  }

  async #port([, sandbox, network]: string[] = []): Promise<void> {
    if (sandbox === undefined || network === undefined) return
    const hostPort = 20000 + 100 * this.n + this.#random(20)
    const number = { first: hostPort, last: hostPort }
    const port = { protocol: 'tcp', hostPort: number, containerPort: { first: 80, last: 80 } }
    const thing = `port ${sandbox} ${network} ${hostPort}`
    const isThere = this.#has.has(thing)
    const path = `/endpoints/${sandbox}/${isThere ? 'unpublish' : 'publish'}`
    if (!isThere && [...this.#has].some(other => other.startsWith('port ') && other.endsWith(` ${hostPort}`))) return
    await this.#change({ adds: isThere ? [] : [thing], removes: isThere ? [thing] : [] }, 'POST', path, {
      port,
      network,
    })
  }

  async #change({ adds, removes }: Change, method: string, path: string, body?: unknown): Promise<void> {
    const answer = await this.#call(method, path, body)
    if (answer === undefined) for (const thing of [...adds, ...removes]) this.#unknown.add(thing)
    else if (answer.status >= 300) this.wrong.push(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`)
    else {
      for (const thing of removes) this.#has.delete(thing)
      for (const thing of adds) this.#has.add(thing)
    }
  }

  /** undefined: no answer. Once that has happened, nothing more is asked until somebody calls `settle`. */
  async #call(method: string, path: string, body?: unknown): Promise<Answer | undefined> {
    if (this.#unknown.size > 0) return void (await sleep(5))
    try {
      const answer = await callApi(this.socketPath, method, `/v1${path}`, body)
      this.count.answered++
      return answer
    } catch {
      this.count.unanswered++
      return undefined
    }
  }

  async #things(): Promise<Set<Thing>> {
    const list = async <T>(path: string): Promise<T[]> => (await callApi(this.socketPath, 'GET', `/v1${path}`)).body
    const mine = ({ name }: { name: string }): boolean => name.startsWith(`u${this.n}`)
    const networks = (await list<{ name: string }>('/networks')).filter(mine)
    const sandboxes = (await list<{ name: string }>('/sandboxes')).filter(mine)
    const endpoints = (await list<EndpointView>('/endpoints')).filter(({ network }) => mine({ name: network }))
    return new Set([
      ...networks.map(({ name }) => `network ${name}`),
      ...sandboxes.map(({ name }) => `sandbox ${name}`),
      ...endpoints.map(({ sandbox, network }) => `endpoint ${sandbox} ${network}`),
      ...endpoints.flatMap(({ sandbox, network, bindings }) =>
        bindings.map(({ hostPort }) => `port ${sandbox} ${network} ${hostPort}`),
      ),
    ])
  }
}
