import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import type { Answer } from './api-client.js'
import type { ClusterHost } from './cluster-world.js'
import { random } from './random.js'

/** Networks that every user attaches to. */
export const commonNetworks = { blue: '10.50.0.0/24', red: '10.60.0.0/24' }

interface EndpointRow {
  sandbox: string
  network: string
  addresses: string[]
  host?: string
}

/**
 * Somebody who attaches and detaches sandboxes of one host at random, makes and removes a network of their own, and
 * remembers what they were answered.
 */
export class ClusterUser {
  /** `SANDBOX NETWORK`: addresses, for every attachment that was answered */
  readonly attached = new Map<string, string[]>()
  /** the network of their own is there; undefined: nobody was told */
  owns: boolean | undefined = false
  /** answers that nobody should get, whatever happens to etcd or the daemon */
  readonly wrong: string[] = []
  readonly count = { done: 0, unavailable: 0, unanswered: 0, slowestMs: 0 }
  readonly #random: (below: number) => number
  /** what was asked when the daemon died: done or not */
  readonly #unknown = new Set<string>()

  constructor(
    readonly host: ClusterHost,
    /** of all users of the world */
    readonly n: number,
    readonly seed: number,
    readonly sandboxes = 5,
  ) {
    this.#random = random(seed + n)
  }

  get network(): string {
    return `own${this.n}`
  }

  async prepare(): Promise<void> {
    for (const name of this.#names()) await this.host.api('POST', '/sandboxes', { name }).then(expectMade)
  }

  async work(isOver: () => boolean): Promise<void> {
    while (!isOver()) {
      await this.#step()
      await sleep(this.#random(40))
    }
  }

  /** Learn from the daemon, which has been started again, what came of the questions that nobody answered. */
  async settle(): Promise<void> {
    const rows = await endpointsOf(this.host)
    for (const key of this.#unknown) {
      const row = rows.find(row => keyOf(row) === key)
      if (row === undefined) this.attached.delete(key)
      else this.attached.set(key, row.addresses)
    }
    this.#unknown.clear()
  }

  /** The daemon has what was answered, and nothing else of this user's. */
  async expectKept(): Promise<void> {
    const names = this.#names()
    const rows = (await endpointsOf(this.host)).filter(({ sandbox }) => names.includes(sandbox))
    expect(lines(rows.map(row => [keyOf(row), row.addresses]))).toEqual(lines(this.attached))
  }

  /** So do the namespaces of the sandboxes. */
  expectInside(): void {
    for (const name of this.#names()) {
      const inside = this.host.json<{ addr_info: { local: string; scope: string }[] }[]>(
        ...['ip', '-j', '-n', name, '-4', 'addr'],
      )
      const got = inside.flatMap(({ addr_info }) => addr_info.filter(({ scope }) => scope === 'global'))
      const want = [...this.attached]
        .filter(([key]) => key.startsWith(`${name} `))
        .flatMap(([, addresses]) => addresses)
      expect(got.map(({ local }) => local).sort()).toEqual(want.map(address => address.split('/')[0]).sort())
    }
  }

  #names = (): string[] => Array.from({ length: this.sandboxes }, (_, i) => `u${this.n}-${i + 1}`)

  async #step(): Promise<void> {
    if (this.#random(15) === 0) return await this.#makeOrRemove()
    const sandbox = this.#names()[this.#random(this.sandboxes)]!
    const networks = Object.keys(commonNetworks)
    const network = networks[this.#random(networks.length)]!
    const key = `${sandbox} ${network}`
    const verb = this.attached.has(key) ? 'disconnect' : 'connect'
    const answer = await this.#ask('POST', `/networks/${network}/${verb}`, { sandbox })
    if (answer === undefined) this.#unknown.add(key)
    else if (verb === 'connect' && answer.status === 503) this.count.unavailable++
    else if (answer.status >= 300) this.#note(`${verb} ${key}`, answer)
    else if (verb === 'disconnect') this.attached.delete(key)
    else this.attached.set(key, (answer.body as { addresses: string[] }).addresses)
  }

  async #makeOrRemove(): Promise<void> {
    const subnet = `10.7${this.n}.0.0/24`
    const isRemoval = this.owns !== false
    const answer = isRemoval
      ? await this.#ask('DELETE', `/networks/${this.network}`)
      : await this.#ask('POST', '/networks', { name: this.network, driver: 'overlay', subnets: [subnet] })
    const status = answer?.status ?? 503
    if (status < 300) this.owns = !isRemoval
    // it was not there, or is gone since the removal whose answer was lost
    else if (isRemoval && status === 404 && this.owns === undefined) this.owns = false
    else if (status !== 503) this.#note(isRemoval ? 'remove' : 'create', answer!)
    else {
      this.owns = undefined
      if (answer !== undefined) this.count.unavailable++
    }
  }

  async #ask(method: string, path: string, body?: unknown): Promise<Answer | undefined> {
    const before = performance.now()
    try {
      const answer = await this.host.api(method, path, body)
      this.count.done++
      this.count.slowestMs = Math.max(this.count.slowestMs, performance.now() - before)
      return answer
    } catch {
      this.count.unanswered++
      await sleep(50)
      return undefined
    }
  }

  #note(what: string, { status, body }: Answer): void {
    this.wrong.push(`${what} at ${new Date().toISOString()} on ${this.host.name}: ${status} ${JSON.stringify(body)}`)
  }
}

const expectMade = ({ status }: Answer): void => expect(status).toBe(201)

const keyOf = ({ sandbox, network }: EndpointRow): string => `${sandbox} ${network}`

const lines = (all: Iterable<[string, string[]]>): string[] =>
  [...all].map(([key, addresses]) => `${key} ${addresses}`).sort()

async function endpointsOf(host: ClusterHost): Promise<EndpointRow[]> {
  const rows = (await host.api('GET', '/endpoints')).body as EndpointRow[]
  return rows.filter(row => (row.host ?? host.name) === host.name)
}
