import type { Cluster, ClusterListener, HostReport, HostView } from '../cnm/cluster.js'
import type { OtherHosts, Remote } from '../cnm/driver.js'
import type { Endpoint, Host, Member, Network, Peer } from '../cnm/types.js'
import { conflict, kindOf, messageOf, type NetError, unavailable } from '../errors.js'
import type { Log } from '../log.js'
import { fenced } from '../store/fenced.js'
import { del, put, type Store, StoreConflict } from '../store/store.js'
import { HostAdmin, usesOf } from './admin.js'
import { Admission, type Admitted } from './admission.js'
import { follow } from './follow.js'
import { FollowedNetworks } from './followed.js'
import { Hosts } from './hosts.js'
import { type AliveRecord, type HostRecord, keys, type NetworkRecord, type OnNetwork } from './keys.js'
import { Networks } from './networks.js'
import { OwnRecords } from './own.js'
import { onNetwork } from './peers.js'
import { type Attempt, Session } from './session.js'
import { Verification, type VerifyRequest, verifyKeys } from './verify.js'

export interface ClusterDeps {
  /** the store of all hosts: each call ends within 3 s */
  shared: Store
  /** the shared store, for messages: its address without passwords */
  where: string
  /** this host's own store */
  local: Store
  host: Omit<Host, 'vtep'>
  log: Log
  /** Give back every address that a host has. */
  releaseHost: (host: string) => Promise<void>
  /** Give back a plain address of a pool, if this owner has it. */
  releaseAddress: (poolId: string, address: string, owner: string) => Promise<void>
  /** Give back a plain address that bears this host's name, unless something here has it. */
  releaseStray: (poolId: string, address: string) => Promise<void>
  /** for how long the others take this host to be up without hearing of it; 10 s by default */
  leaseMs?: number
  /** between two tries to connect, growing; 0.2 to 2 s by default */
  pausesMs?: { shortest: number; longest: number }
}

/** This host's address for the others, and the link that has it. */
export type Underlay = ReturnType<OtherHosts['underlay']>

/** The cluster by way of a store that all hosts share, with a copy here of what concerns this host. */
export class ClusterOfHosts implements Cluster, OtherHosts {
  /** the store of all hosts, to which this host writes only while it is announced there */
  readonly shared: Store
  readonly #deps: ClusterDeps
  readonly #networks: Networks
  readonly #own: OwnRecords
  readonly #hosts: Hosts
  readonly #followed: FollowedNetworks
  readonly #admission: Admission
  readonly #admin: HostAdmin
  readonly #verification: Verification
  readonly #session: Session
  #attempt: Attempt | undefined
  #listener: ClusterListener | undefined
  #underlay: Underlay | undefined
  #upWork = Promise.resolve()
  #admitted: Admitted = { formerNames: [], removed: false }

  constructor(deps: ClusterDeps) {
    this.#deps = deps
    const { local, where, log, leaseMs = 10_000, pausesMs = { shortest: 200, longest: 2000 } } = deps
    const host = deps.host.name
    const shared = fenced(deps.shared, () => this.#admission.fence)
    this.shared = shared
    this.#networks = new Networks({
      shared,
      local,
      member: id => this.#own.member(id),
      changed: (before, after) => this.#tell(listener => listener.networkChanged(before, after)),
      lost: ({ name }) => this.#session.fail(conflict(`network ${name} is missing in it`)),
    })
    this.#own = new OwnRecords({
      shared,
      local,
      host,
      networks: this.#networks,
      log,
      endpointsOf: id => this.#listener?.endpointsOf(id) ?? [],
      unreachable: () => this.unreachable(),
      releaseStray: deps.releaseStray,
      doubt: error => this.doubt(error),
    })
    this.#hosts = new Hosts({
      host,
      vtepChanging: name => this.#followed.touchHost(name),
      ownDeleted: () => this.#session.fail(conflict('another host has removed this one')),
    })
    this.#followed = new FollowedNetworks({
      shared,
      host,
      vtepOf: name => this.#hosts.vtepOf(name),
      isMember: id => this.#own.member(id) !== undefined,
      mend: id => this.#own.mend(id),
      isWanted: (id, key) => this.#own.isWanted(id, key),
      lost: () => this.#session.fail(conflict('another host has removed records of this one')),
      changed: (id, before, after) => this.#tell(listener => listener.remotesChanged(id, before, after)),
    })
    this.#admission = new Admission({
      shared: deps.shared,
      local,
      where,
      host: () => this.#hostRecord(),
      records: () => this.#own.records(),
      forgetAll: () => this.#own.forgetAll(),
    })
    const { releaseHost, releaseAddress } = deps
    const lastSeen = (name: string) => this.#hosts.lastSeen(name)
    this.#admin = new HostAdmin({ shared, host, lastSeen, releaseHost, releaseAddress })
    const look = async (id: string) => (await this.#listener?.verify(id)) ?? { checked: [], found: [] }
    this.#verification = new Verification({ shared, host, isUp: name => this.#hosts.isAlive(name), look, log })
    this.#session = new Session({
      shared,
      where,
      log,
      leaseMs,
      pausesMs,
      announce: async lease => {
        await this.#admission.checkCluster()
        this.#admitted = await this.#admission.announce(lease.id)
      },
      synchronise: attempt => this.#synchronise(attempt),
      up: () => {
        this.#upWork = this.#upWork
          .then(() => this.#listener?.up())
          .catch(error => log.error({ err: error }, `could not follow the cluster: ${messageOf(error)}`))
      },
      down: because => this.#tell(listener => listener.down(because)),
    })
  }

  /** What this host has part in, from its own store; before anything else. */
  async load(): Promise<void> {
    await this.#admission.load()
    await this.#own.load()
  }

  /** Connect, and keep connected; returns at once. */
  start(listener: ClusterListener): void {
    this.#listener = listener
    this.#session.start()
  }

  /** The others see this host go down, where the store answers. Neither store is closed. */
  async close(): Promise<void> {
    await this.#session.close(() => this.shared.txn([], [put(keys.host(this.host), this.#hostRecord())]))
    this.#followed.close()
    await this.#upWork
  }

  /** The underlay has another address now, or none. */
  setUnderlay(underlay: Underlay | undefined): void {
    this.#underlay = underlay
    if (this.#session.unreachable() === undefined) this.#admission.tellVtep().catch(error => this.#session.fail(error))
  }

  get host(): string {
    return this.#deps.host.name
  }

  downBecause(): string | undefined {
    return this.#session.because
  }

  /** Why nothing can be written now. */
  unreachable(): NetError | undefined {
    return this.#session.unreachable()
  }

  /** Somebody was not answered by the store: connect again, and compare everything. */
  doubt(error: unknown): void {
    this.#session.fail(error)
  }

  networks(): Network[] {
    return this.#networks.views()
  }

  async createNetwork(network: Network, unique: readonly string[]): Promise<void> {
    this.#refuseUnreachable()
    await this.#asking(() => this.#networks.create(network, unique))
  }

  async deleteNetwork(network: Network, unique: readonly string[]): Promise<void> {
    this.#refuseUnreachable()
    await this.#asking(async () => {
      try {
        await this.#networks.delete(network.id, unique)
      } catch (error) {
        if (!(error instanceof StoreConflict)) throw error
        throw conflict(
          `network ${network.name} is in use on other hosts: ${usesOf(await this.readNetwork(network.id), name => this.#hosts.isAlive(name))}`,
        )
      }
    })
  }

  member(networkId: string): Member | undefined {
    return this.#own.member(networkId)
  }

  async putMember(member: Member): Promise<void> {
    await this.#own.putMember(member)
    // without an answer the next session learns it
    if (this.#attempt !== undefined)
      await this.#followed.ensure(member.networkId, this.#attempt).catch(error => this.#session.fail(error))
  }

  async reduceMember(member: Member): Promise<void> {
    await this.#own.reduceMember(member)
    if (this.member(member.networkId) === undefined) this.#followed.delete(member.networkId)
  }

  publish(endpoint: Endpoint, sandbox: string): Promise<void> {
    return this.#own.publish(endpoint, sandbox)
  }

  withdraw(endpoint: Endpoint): Promise<void> {
    return this.#own.withdraw(endpoint)
  }

  peers(): Peer[] {
    return this.#followed.peers()
  }

  async readNetwork(networkId: string): Promise<{ peers: Peer[]; members: Member[]; remotes: Remote[] }> {
    this.#refuseUnreachable()
    const { entries } = await this.shared.list<OnNetwork>(keys.on(networkId))
    return onNetwork(entries, this.host, name => this.#hosts.vtepOf(name))
  }

  async verify(networkId: string, timeoutMs: number): Promise<HostReport[]> {
    const { peers, members } = await this.readNetwork(networkId)
    return await this.#verification.ask(networkId, [...peers, ...members], timeoutMs)
  }

  async hosts(): Promise<HostView[]> {
    this.#refuseUnreachable()
    return await this.#admin.views()
  }

  async removeHost(name: string, options: { force: boolean }): Promise<void> {
    this.#refuseUnreachable()
    await this.#admin.removeHost(name, options)
  }

  async removePeer(peer: Peer): Promise<void> {
    this.#refuseUnreachable()
    await this.#admin.removePeer(peer, this.#networks.view(peer.networkId))
  }

  underlay(): Underlay {
    if (this.#underlay === undefined)
      throw unavailable(`this host has no address at which other hosts can reach it: see --advertise`)
    return this.#underlay
  }

  remotes(networkId: string): readonly Remote[] | undefined {
    return this.#followed.remotes(networkId)
  }

  vteps(networkId: string): string[] {
    return this.#followed.vteps(networkId)
  }

  async #synchronise(attempt: Attempt): Promise<void> {
    const { shared } = this
    const { signal, failed, open } = attempt
    const { formerNames, removed } = this.#admitted
    const listing = <T>(prefix: string) => ({
      store: shared,
      prefix,
      list: () => shared.list<T>(prefix),
      signal,
      failed,
    })
    await follow({ ...listing<HostRecord>(keys.hosts), ...this.#hosts.records })
    await follow({ ...listing<AliveRecord>(keys.alives), ...this.#hosts.alive })
    await follow({ ...listing<VerifyRequest>(verifyKeys.requests), ...this.#verification.requests })
    await follow({
      ...listing<NetworkRecord>(keys.networks),
      reset: entries => this.#networks.reset(entries),
      apply: changes => this.#networks.apply(changes),
    })
    for (const name of formerNames) await this.#admin.forgetFormer(name, this.#deps.host)
    await this.#own.restoreNetworks({ removed })
    await this.#own.findForgotten()
    await this.#own.refresh()
    await this.#admission.settled()
    signal.throwIfAborted()
    this.#attempt = attempt
    this.#followed.begin()
    open()
    await this.#admission.tellVtep()
    await this.#listener?.reclaim()
    await Promise.all(this.#own.records().map(({ member }) => this.#followed.ensure(member.networkId, attempt)))
    await this.#networks.dropAttempts()
    if (removed) await shared.txn([], [del(keys.removed(this.#deps.host.id))])
  }

  #hostRecord(): HostRecord {
    return { ...this.#deps.host, vtep: this.#underlay?.vtep ?? '', lastSeen: new Date().toISOString() }
  }

  #refuseUnreachable(): void {
    const error = this.unreachable()
    if (error !== undefined) throw error
  }

  /** A change that got no answer may have been made: what is known is compared again. */
  async #asking<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (kindOf(error) === 'Unavailable') this.#session.fail(error)
      throw error
    }
  }

  #tell(what: (listener: ClusterListener) => void): void {
    try {
      if (this.#listener !== undefined) what(this.#listener)
    } catch (error) {
      this.#deps.log.error({ err: error }, `could not follow the cluster: ${messageOf(error)}`)
    }
  }
}
