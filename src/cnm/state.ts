import { conflict, invalid, notFound } from '../errors.js'
import { absent, type Condition, del, type Operation, put, type Store, StoreConflict } from '../store/store.js'
import type { Change } from './changes.js'
import type { Endpoint, Network, Sandbox } from './types.js'

const key = {
  network: (id: string) => `network/${id}`,
  networkName: (name: string) => `network-name/${name}`,
  sandbox: (id: string) => `sandbox/${id}`,
  sandboxName: (name: string) => `sandbox-name/${name}`,
  sandboxIntent: (id: string) => `sandbox-intent/${id}`,
  endpoint: (endpoint: Endpoint) => `endpoint/${endpoint.networkId}/${endpoint.id}`,
}

/**
 * What should be: every object as the store holds it, with a copy in memory to read from. One process writes local
 * objects, so the copy is changed only after the store has taken the change and never differs from it.
 * Stored objects are replaced, never altered in place: a view handed out earlier stays as it was.
 */
export class State {
  readonly #networks = new Map<string, Network>()
  readonly #sandboxes = new Map<string, Sandbox>()
  readonly #endpoints = new Map<string, Endpoint>()
  /** intents of this process, which are no leftovers */
  readonly #intended = new Set<string>()

  readonly #listeners: ((change: Change) => void)[] = []

  constructor(readonly store: Store) {}

  /** Be told of every change, right after both the store and the copy have it. The listener must not throw. */
  onCommit(listener: (change: Change) => void): void {
    this.#listeners.push(listener)
  }

  #changed(change: Change): void {
    for (const listener of this.#listeners) listener(change)
  }

  async load(): Promise<void> {
    // networks of 0.1 know no scope: all of them are local
    for (const { value } of (await this.store.list<Network>('network/')).entries)
      this.#networks.set(value.id, { ...value, scope: 'local' })
    for (const { value } of (await this.store.list<Sandbox>('sandbox/')).entries) this.#sandboxes.set(value.id, value)
    for (const { value } of (await this.store.list<Endpoint>('endpoint/')).entries) this.#endpoints.set(value.id, value)
  }

  networks(): Network[] {
    return [...this.#networks.values()].sort(byName)
  }

  sandboxes(): Sandbox[] {
    return [...this.#sandboxes.values()].sort(byName)
  }

  /** Oldest first. */
  endpoints(): Endpoint[] {
    return this.#oldestFirst(() => true)
  }

  /** By id, name, or the start of an id that fits only one. */
  network(ref: string): Network {
    return find(ref, this.#networks, 'network')
  }

  sandbox(ref: string): Sandbox {
    return find(ref, this.#sandboxes, 'sandbox')
  }

  /** The network that Docker knows by this id: its own, or the one that it was attached to with `-o network=NAME`. */
  networkOfDocker(dockerNetworkId: string): Network | undefined {
    return (
      this.#networks.get(dockerNetworkId) ??
      this.networks().find(network => network.dockerNetworkIds.includes(dockerNetworkId))
    )
  }

  /** Give a network another name. */
  async renameNetwork(network: Network, name: string): Promise<Network> {
    const renamed = { ...network, name }
    await this.#unlessTaken(
      `network name ${name} is taken`,
      [absent(key.networkName(name))],
      [
        del(key.networkName(network.name)),
        put(key.networkName(name), { id: network.id }),
        put(key.network(network.id), renamed),
      ],
    )
    this.#networks.set(network.id, renamed)
    this.#changed({ of: 'network', before: network, after: renamed })
    return renamed
  }

  endpoint(id: string): Endpoint | undefined {
    return this.#endpoints.get(id)
  }

  endpointsOfNetwork(networkId: string): Endpoint[] {
    return this.#oldestFirst(endpoint => endpoint.networkId === networkId)
  }

  endpointsOfSandbox(sandboxId: string): Endpoint[] {
    return this.#oldestFirst(endpoint => endpoint.sandboxId === sandboxId)
  }

  checkNetworkNameFree(name: string): void {
    if (this.networks().some(network => network.name === name)) throw conflict(`network name ${name} is taken`)
  }

  checkSandboxNameFree(name: string): void {
    if (this.sandboxes().some(sandbox => sandbox.name === name)) throw conflict(`sandbox name ${name} is taken`)
  }

  async createNetwork(network: Network): Promise<void> {
    await this.#create(`network name ${network.name} is taken`, [
      [key.networkName(network.name), { id: network.id }],
      [key.network(network.id), network],
    ])
    this.#networks.set(network.id, network)
    this.#changed({ of: 'network', after: network })
  }

  async updateNetwork(network: Network): Promise<void> {
    await this.store.txn([], [put(key.network(network.id), network)])
    const before = this.#networks.get(network.id) ?? network
    this.#networks.set(network.id, network)
    this.#changed({ of: 'network', before, after: network })
  }

  async deleteNetwork(network: Network): Promise<void> {
    await this.store.txn([], [del(key.networkName(network.name)), del(key.network(network.id))])
    this.#networks.delete(network.id)
    this.#changed({ of: 'network', before: network })
  }

  /**
   * Say that a namespace is about to be made: a namespace bears no mark of ours, so without this nobody could tell after a
   * crash whose it is. Ends with createSandbox or forgetIntent.
   */
  async intendSandbox(sandbox: Sandbox): Promise<void> {
    this.#intended.add(sandbox.id)
    await this.store.txn([], [put(key.sandboxIntent(sandbox.id), sandbox)])
  }

  async forgetIntent(sandbox: Sandbox): Promise<void> {
    await this.store.txn([], [del(key.sandboxIntent(sandbox.id))])
  }

  /** What was about to be made when an earlier daemon died. */
  async sandboxIntents(): Promise<Sandbox[]> {
    const { entries } = await this.store.list<Sandbox>('sandbox-intent/')
    return entries.map(entry => entry.value).filter(({ id }) => !this.#intended.has(id))
  }

  async createSandbox(sandbox: Sandbox): Promise<void> {
    const entries: [string, unknown][] = [
      [key.sandboxName(sandbox.name), { id: sandbox.id }],
      [key.sandbox(sandbox.id), sandbox],
    ]
    await this.#create(`sandbox name ${sandbox.name} is taken`, entries, [key.sandboxIntent(sandbox.id)])
    this.#sandboxes.set(sandbox.id, sandbox)
    this.#changed({ of: 'sandbox', after: sandbox })
  }

  async deleteSandbox(sandbox: Sandbox): Promise<void> {
    await this.store.txn([], [del(key.sandboxName(sandbox.name)), del(key.sandbox(sandbox.id))])
    this.#sandboxes.delete(sandbox.id)
    this.#changed({ of: 'sandbox', before: sandbox })
  }

  async putEndpoint(endpoint: Endpoint): Promise<void> {
    const before = this.#endpoints.get(endpoint.id)
    await this.store.txn([], [put(key.endpoint(endpoint), endpoint)])
    this.#endpoints.set(endpoint.id, endpoint)
    this.#endpointChanged(before, endpoint)
  }

  async deleteEndpoint(endpoint: Endpoint): Promise<void> {
    const before = this.#endpoints.get(endpoint.id)
    await this.store.txn([], [del(key.endpoint(endpoint))])
    this.#endpoints.delete(endpoint.id)
    this.#endpointChanged(before, undefined)
  }

  #endpointChanged(before: Endpoint | undefined, after: Endpoint | undefined): void {
    const { networkId = '', sandboxId = '', sandboxKey = '' } = { ...before, ...after }
    this.#changed({
      of: 'endpoint',
      ...(before === undefined ? {} : { before }),
      ...(after === undefined ? {} : { after }),
      network: this.#networks.get(networkId)?.name ?? '',
      sandbox: this.#sandboxes.get(sandboxId)?.name ?? sandboxKey,
    })
  }

  /** Chosen before they are sorted: a connect asks for one sandbox's and has no use for the order of all the others. */
  #oldestFirst(chosen: (endpoint: Endpoint) => boolean): Endpoint[] {
    return [...this.#endpoints.values()].filter(chosen).sort(byAge)
  }

  #create(taken: string, entries: [string, unknown][], done: string[] = []): Promise<void> {
    return this.#unlessTaken(
      taken,
      entries.map(([k]) => absent(k)),
      [...entries.map(([k, value]) => put(k, value)), ...done.map(del)],
    )
  }

  /** A transaction whose only race is for a name. */
  async #unlessTaken(taken: string, conditions: Condition[], operations: Operation[]): Promise<void> {
    try {
      await this.store.txn(conditions, operations)
    } catch (error) {
      if (error instanceof StoreConflict) throw conflict(taken, { cause: error })
      throw error
    }
  }
}

/** Endpoints of one moment stand in the order of their ids: the same before and after a restart. */
const byAge = (a: Endpoint, b: Endpoint): number => {
  const [first, second] = [a.createdAt + a.id, b.createdAt + b.id]
  return first < second ? -1 : first > second ? 1 : 0
}

const byName = (a: { name: string }, b: { name: string }): number => (a.name < b.name ? -1 : 1)

function find<T extends { id: string; name: string }>(ref: string, objects: Map<string, T>, what: string): T {
  const byId = objects.get(ref)
  if (byId !== undefined) return byId
  const all = [...objects.values()]
  const byName = all.find(object => object.name === ref)
  if (byName !== undefined) return byName
  const byStart = /^[0-9a-f]{3,}$/.test(ref) ? all.filter(object => object.id.startsWith(ref)) : []
  if (byStart.length > 1) throw invalid(`${what} ${ref} could be ${byStart.map(object => object.name).join(' or ')}`)
  if (byStart[0] === undefined) throw notFound(`there is no ${what} ${ref}`)
  return byStart[0]
}
