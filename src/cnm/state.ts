import { conflict, kindOf } from '../errors.js'
import {
  absent,
  type Condition,
  del,
  type Operation,
  put,
  type Store,
  StoreConflict,
  type TxnPart,
} from '../store/store.js'
import { withUndo } from '../undo.js'
import type { Change } from './changes.js'
import type { Cluster } from './cluster.js'
import { intentKey, SandboxIntents } from './intents.js'
import { KeptPorts, type LivePorts } from './kept-ports.js'
import { byAge, byName, find } from './lookup.js'
import type { Endpoint, Network, Peer, PortSpec, Sandbox } from './types.js'

const key = {
  network: (id: string) => `network/${id}`,
  networkName: (name: string) => `network-name/${name}`,
  sandbox: (id: string) => `sandbox/${id}`,
  sandboxName: (name: string) => `sandbox-name/${name}`,
  endpoint: (endpoint: Endpoint) => `endpoint/${endpoint.networkId}/${endpoint.id}`,
}

/**
 * What should be: every object as the store holds it, with a copy in memory to read from. One process writes local
 * objects, so the copy is changed only after the store has taken the change and never differs from it. Global networks
 * are the cluster's; this host's endpoints on them are kept here like all others, and the cluster is told of them.
 * Stored objects are replaced, never altered in place: a view handed out earlier stays as it was.
 */
export class State {
  readonly #networks = new Map<string, Network>()
  readonly #sandboxes = new Map<string, Sandbox>()
  readonly #endpoints = new Map<string, Endpoint>()
  readonly #keptPorts = new KeptPorts()
  readonly intents: SandboxIntents

  readonly #listeners: ((change: Change) => void)[] = []

  constructor(
    readonly store: Store,
    readonly cluster?: Cluster,
  ) {
    this.intents = new SandboxIntents(store)
  }

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
    await this.#keptPorts.load(this.store)
  }

  /** Global ones too. */
  networks(): Network[] {
    return [...this.#networks.values(), ...(this.cluster?.networks() ?? [])].sort(byName)
  }

  sandboxes(): Sandbox[] {
    return [...this.#sandboxes.values()].sort(byName)
  }

  /** Oldest first. */
  endpoints(): Endpoint[] {
    return this.#oldestFirst(() => true)
  }

  /** Endpoints on other hosts, of the global networks that this host is a member of. */
  peers(): readonly Peer[] {
    return this.cluster?.peers() ?? []
  }

  /** By id, name, or the start of an id that fits only one. */
  network(ref: string): Network {
    return this.networkById(ref) ?? find(ref, this.networks(), 'network')
  }

  sandboxById(id: string): Sandbox | undefined {
    return this.#sandboxes.get(id)
  }

  sandbox(ref: string): Sandbox {
    return this.#sandboxes.get(ref) ?? find(ref, [...this.#sandboxes.values()], 'sandbox')
  }

  networkById(id: string): Network | undefined {
    return this.#networks.get(id) ?? this.cluster?.networks().find(network => network.id === id)
  }

  /** Undefined: it is a global one that is gone, without this host having been asked. */
  networkOf({ networkId }: Endpoint): Network | undefined {
    return this.networkById(networkId)
  }

  /** The network that Docker knows by this id: its own, or the one that it was attached to with `-o network=NAME`. */
  networkOfDocker(dockerNetworkId: string): Network | undefined {
    return (
      this.networkById(dockerNetworkId) ??
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

  /** Whose host's end is called so. The kernel tells of links often, so nothing is sorted for it. */
  endpointOfLink(hostLink: string): Endpoint | undefined {
    for (const endpoint of this.#endpoints.values()) if (endpoint.hostLink === hostLink) return endpoint
    return undefined
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

  /**
   * `unique`: what no two global networks may share, see Driver.unique.
   * @throws {StoreConflict} one of those is taken: its key ends with it
   */
  async createNetwork(network: Network, unique: readonly string[] = []): Promise<void> {
    if (network.scope === 'global') await this.#clusterOf(network).createNetwork(network, unique)
    else {
      await this.#create(`network name ${network.name} is taken`, [
        [key.networkName(network.name), { id: network.id }],
        [key.network(network.id), network],
      ])
      this.#networks.set(network.id, network)
    }
    this.#changed({ of: 'network', after: network })
  }

  /** Of a local one: what a host has of a global network is its membership (membership.ts). */
  async updateNetwork(network: Network): Promise<void> {
    await this.store.txn([], [put(key.network(network.id), network)])
    const before = this.#networks.get(network.id) ?? network
    this.#networks.set(network.id, network)
    this.#changed({ of: 'network', before, after: network })
  }

  async deleteNetwork(network: Network, unique: readonly string[] = []): Promise<void> {
    const global = network.scope === 'global'
    if (global) await this.#clusterOf(network).deleteNetwork(network, unique)
    const gone = this.livePorts().filter(({ networkId }) => networkId === network.id)
    const forgotten = gone.map(of => ({ ...of, ports: [] }))
    const own = global ? [] : [del(key.networkName(network.name)), del(key.network(network.id))]
    const operations = [...own, ...this.#keptPorts.operations(forgotten)]
    if (operations.length > 0) await this.store.txn([], operations)
    this.#keptPorts.commit(forgotten)
    this.#networks.delete(network.id)
    this.#changed({ of: 'network', before: network })
  }

  async createSandbox(sandbox: Sandbox): Promise<void> {
    const entries: [string, unknown][] = [
      [key.sandboxName(sandbox.name), { id: sandbox.id }],
      [key.sandbox(sandbox.id), sandbox],
    ]
    await this.#create(`sandbox name ${sandbox.name} is taken`, entries, [intentKey(sandbox)])
    this.intents.abandon(sandbox)
    this.#sandboxes.set(sandbox.id, sandbox)
    this.#changed({ of: 'sandbox', after: sandbox })
  }

  async deleteSandbox(sandbox: Sandbox): Promise<void> {
    await this.store.txn([], [del(key.sandboxName(sandbox.name)), del(key.sandbox(sandbox.id))])
    this.#sandboxes.delete(sandbox.id)
    this.#changed({ of: 'sandbox', before: sandbox })
  }

  putEndpoint(endpoint: Endpoint, parts: readonly TxnPart[] = []): Promise<void> {
    return this.putEndpoints([endpoint], [], parts)
  }

  /** All of them or none, and the parts of others with them. */
  async putEndpoints(
    endpoints: readonly Endpoint[],
    livePorts: readonly LivePorts[] = [],
    parts: readonly TxnPart[] = [],
  ): Promise<void> {
    const changes = endpoints.map(after => ({ before: this.#endpoints.get(after.id), after }))
    await withUndo(async undo => {
      for (const { before, after } of changes) {
        await this.#tellOthers(before, after)
        undo.add(`tell other hosts of endpoint ${after.name} again`, () => this.#tellOthers(after, before))
      }
      const puts = endpoints.map(endpoint => put(key.endpoint(endpoint), endpoint))
      await this.#write([...puts, ...this.#keptPorts.operations(livePorts)], parts)
    })
    this.#keptPorts.commit(livePorts)
    for (const { before, after } of changes) {
      this.#endpoints.set(after.id, after)
      this.#endpointChanged(before, after)
    }
  }

  livePorts(): LivePorts[] {
    return this.#keptPorts.all()
  }

  livePortsOf(networkId: string, name: string): PortSpec[] {
    return this.#keptPorts.of(networkId, name)
  }

  async deleteEndpoint(endpoint: Endpoint, parts: readonly TxnPart[] = []): Promise<void> {
    const before = this.#endpoints.get(endpoint.id)
    await this.#write([del(key.endpoint(endpoint))], parts)
    this.#endpoints.delete(endpoint.id)
    this.#endpointChanged(before, undefined)
    await this.#tellOthers(before, undefined)
  }

  /**
   * What other hosts know of an endpoint on a global network. A new one is told before it is recorded here: what a crash
   * leaves in between, the cluster's next session takes back. What is there already may change without the others
   * hearing of it at once.
   */
  async #tellOthers(before: Endpoint | undefined, after: Endpoint | undefined): Promise<void> {
    const { cluster } = this
    const endpoint = after ?? before
    if (cluster === undefined || endpoint === undefined || this.#networks.has(endpoint.networkId)) return
    const wasJoined = before?.state === 'joined'
    if (after?.state !== 'joined') return wasJoined ? await cluster.withdraw(before) : undefined
    try {
      await cluster.publish(after, this.sandboxNameOf(after))
    } catch (error) {
      if (wasJoined && kindOf(error) === 'Unavailable') return
      // it may have arrived all the same
      if (!wasJoined) await cluster.withdraw(after)
      throw error
    }
  }

  /** Of an endpoint: its sandbox's name, or dockerd's path of the container's namespace. */
  sandboxNameOf({ sandboxId = '', sandboxKey = '' }: Endpoint): string {
    return this.#sandboxes.get(sandboxId)?.name ?? sandboxKey
  }

  #clusterOf({ name }: Network): Cluster {
    if (this.cluster === undefined) throw new Error(`network ${name} is global, and this host has no cluster`)
    return this.cluster
  }

  #endpointChanged(before: Endpoint | undefined, after: Endpoint | undefined): void {
    const endpoint = after ?? before
    if (endpoint === undefined) return
    this.#changed({
      of: 'endpoint',
      ...(before === undefined ? {} : { before }),
      ...(after === undefined ? {} : { after }),
      network: this.networkOf(endpoint)?.name ?? '',
      sandbox: this.sandboxNameOf(endpoint),
    })
  }

  /** Chosen before they are sorted: a connect asks for one sandbox's and has no use for the order of all the others. */
  #oldestFirst(chosen: (endpoint: Endpoint) => boolean): Endpoint[] {
    return [...this.#endpoints.values()].filter(chosen).sort(byAge)
  }

  /** One transaction with what others have to write. */
  async #write(operations: readonly Operation[], parts: readonly TxnPart[]): Promise<void> {
    const conditions = parts.flatMap(part => part.conditions())
    const revision = await this.store.txn(conditions, [...operations, ...parts.flatMap(part => part.operations)])
    for (const part of parts) part.done(revision)
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
