import type { Cluster, ClusterListener, HostView } from '../cnm/cluster.js'
import type { OtherHosts, Remote } from '../cnm/driver.js'
import type { Endpoint, Host, Member, Network, Peer } from '../cnm/types.js'
import { conflict, kindOf, messageOf, unavailable } from '../errors.js'
import type { Log } from '../log.js'
import { del, put, type Store, StoreConflict } from '../store/store.js'
import { HostAdmin } from './admin.js'
import { Admission } from './admission.js'
import { follow } from './follow.js'
import { Hosts } from './hosts.js'
import {
  type AliveRecord,
  type HostRecord,
  isMember,
  isPeer,
  keys,
  type MemberRecord,
  type NetworkRecord,
  type OnNetwork,
} from './keys.js'
import { Networks } from './networks.js'
import { OwnRecords } from './own.js'
import { NetworkPeers } from './peers.js'
import { type Attempt, Session } from './session.js'

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
  /** Give back a plain address of a pool, if that host has it. */
  releaseAddress: (poolId: string, address: string, host: string) => Promise<void>
  /** for how long the others take this host to be up without hearing of it; 10 s by default */
  leaseMs?: number
}

/** This host's address for the others, and the link that has it. */
export type Underlay = ReturnType<OtherHosts['underlay']>

/** The cluster by way of a store that all hosts share, with a copy here of what concerns this host. */
export class ClusterOfHosts implements Cluster, OtherHosts {
  readonly #deps: ClusterDeps
  readonly #networks: Networks
  readonly #own: OwnRecords
  readonly #hosts: Hosts
  readonly #peers = new Map<string, NetworkPeers>()
  readonly #followed = new Map<string, AbortController>()
  readonly #admission: Admission
  readonly #admin: HostAdmin
  readonly #session: Session
  #attempt: Attempt | undefined
  #listener: ClusterListener | undefined
  #underlay: Underlay | undefined
  #upWork = Promise.resolve()
  #removed = false
  #formerNames: string[] = []

  constructor(deps: ClusterDeps) {
    this.#deps = deps
    const { shared, local, where, log, leaseMs = 10_000 } = deps
    const host = deps.host.name
    this.#networks = new Networks({
      shared,
      local,
      member: id => this.#own.member(id),
      changed: (before, after) => this.#tell(listener => listener.networkChanged(before, after)),
    })
    this.#own = new OwnRecords({
      shared,
      local,
      host,
      networks: this.#networks,
      endpointsOf: id => this.#listener?.endpointsOf(id) ?? [],
      unreachable: () => this.#session.unreachable(),
      doubt: error => this.#session.fail(error),
    })
    this.#hosts = new Hosts({
      host,
      vtepChanging: name => {
        for (const peers of this.#peers.values()) peers.touchHost(name)
      },
      ownDeleted: () => this.#session.fail(conflict('another host has removed this one')),
    })
    this.#admission = new Admission({
      shared,
      local,
      where,
      host: () => this.#hostRecord(),
      records: () => this.#own.records(),
      forgetAll: async () => {
        for (const { member } of this.#own.records()) await this.#own.forget(member.networkId)
      },
    })
    const { releaseHost, releaseAddress } = deps
    this.#admin = new HostAdmin({
      shared,
      host,
      lastSeen: name => this.#hosts.lastSeen(name),
      releaseHost,
      releaseAddress,
    })
    this.#session = new Session({
      shared,
      where,
      log,
      leaseMs,
      announce: async lease => {
        await this.#admission.checkCluster()
        const { formerNames, removed } = await this.#admission.announce(lease.id)
        this.#formerNames = formerNames
        this.#removed = removed
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

  /** What this host has part in, from its own store. To be called before anything else. */
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
    const { shared } = this.#deps
    await this.#session.close(() => shared.txn([], [put(keys.host(this.host), this.#hostRecord())]))
    for (const id of this.#peers.keys()) this.#unfollow(id)
    await this.#upWork
  }

  /** The underlay has another address now, or none. */
  setUnderlay(underlay: Underlay | undefined): void {
    const before = this.#underlay?.vtep
    this.#underlay = underlay
    if (before === underlay?.vtep || this.#session.unreachable() !== undefined) return
    this.#deps.shared.txn([], [put(keys.host(this.host), this.#hostRecord())]).catch(error => this.#session.fail(error))
  }

  get host(): string {
    return this.#deps.host.name
  }

  downBecause(): string | undefined {
    return this.#session.because
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
        throw conflict(`network ${network.name} is in use on other hosts: ${await this.#uses(network.id)}`)
      }
    })
  }

  member(networkId: string): Member | undefined {
    return this.#own.member(networkId)
  }

  async putMember(member: Member): Promise<void> {
    await this.#own.putMember(member)
    const { networkId } = member
    if (this.#attempt === undefined || this.#followed.has(networkId)) return
    // without an answer the next session learns it
    await this.#follow(networkId, this.#attempt).catch(error => this.#session.fail(error))
  }

  async deleteMember(networkId: string): Promise<void> {
    await this.#own.deleteMember(networkId)
    this.#unfollow(networkId)
  }

  publish(endpoint: Endpoint, sandbox: string): Promise<void> {
    return this.#own.publish(endpoint, sandbox)
  }

  withdraw(endpoint: Endpoint): Promise<void> {
    return this.#own.withdraw(endpoint)
  }

  peers(): Peer[] {
    return [...this.#peers.values()].flatMap(peers => peers.peers())
  }

  async readNetwork(networkId: string): Promise<{ peers: Peer[]; members: Member[] }> {
    this.#refuseUnreachable()
    const { entries } = await this.#deps.shared.list<OnNetwork>(keys.on(networkId))
    const records = entries.map(({ value }) => value)
    return { peers: records.filter(isPeer), members: records.filter(isMember) }
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
    const peers = this.#peers.get(networkId)
    return peers?.known ? peers.remotes() : undefined
  }

  vteps(networkId: string): string[] {
    return this.#peers.get(networkId)?.vteps() ?? []
  }

  async #synchronise(attempt: Attempt): Promise<void> {
    const { shared, log } = this.#deps
    const { signal, failed, open } = attempt
    const listing = <T>(prefix: string) => ({
      store: shared,
      prefix,
      list: () => shared.list<T>(prefix),
      signal,
      failed,
    })
    await follow({ ...listing<HostRecord>(keys.hosts), ...this.#hosts.records })
    await follow({ ...listing<AliveRecord>(keys.alives), ...this.#hosts.alive })
    await follow({
      ...listing<NetworkRecord>(keys.networks),
      reset: entries => this.#networks.reset(entries, id => !this.#removed && this.#own.member(id) !== undefined),
      apply: changes => this.#networks.apply(changes),
    })
    for (const name of this.#formerNames) await this.#admin.forget(name)
    for (const record of this.#own.records()) await this.#restore(record)
    await this.#own.refresh()
    await this.#admission.settled()
    signal.throwIfAborted()
    this.#attempt = attempt
    this.#followed.clear()
    open()
    await this.#listener?.reclaim()
    const toFollow = this.#own.records().filter(({ member }) => !this.#followed.has(member.networkId))
    await Promise.all(toFollow.map(({ member }) => this.#follow(member.networkId, attempt)))
    await this.#networks.dropAttempts()
    if (this.#removed) await shared.txn([], [del(keys.removed(this.#deps.host.id))])
    log.debug({ networks: this.#peers.size }, 'the cluster store is read')
  }

  /** What the store has lost of a network that this host has part in; of a host that was removed, the network was deleted rightly. */
  async #restore({ member: { networkId }, network, leaving }: MemberRecord): Promise<void> {
    if (leaving || this.#networks.stands(networkId)) return
    if (this.#removed) {
      this.#unfollow(networkId)
      return await this.#own.forget(networkId)
    }
    try {
      await this.#networks.restore(network)
      this.#deps.log.warn(
        { network: network.name },
        `network ${network.name} was missing in the cluster store: made again`,
      )
    } catch (error) {
      if (!(error instanceof StoreConflict)) throw error
      this.#deps.log.error(
        { network: network.name },
        `network ${network.name} is missing in the cluster store and cannot be made again: another has ${error.key}; disconnect from it what is on this host`,
      )
    }
  }

  /** Mend what the store has of this host on a network, and follow what others have. */
  async #follow(networkId: string, attempt: Attempt): Promise<void> {
    const stop = new AbortController()
    this.#followed.set(networkId, stop)
    const peers = this.#peersOf(networkId)
    await follow<OnNetwork>({
      store: this.#deps.shared,
      prefix: keys.on(networkId),
      list: () => this.#own.mend(networkId),
      signal: AbortSignal.any([stop.signal, attempt.signal]),
      failed: attempt.failed,
      reset: entries => peers.reset(entries),
      apply: changes => peers.apply(changes),
    })
    // the caller looks at all of it next
    peers.settle()
    if (this.#own.member(networkId) === undefined) this.#unfollow(networkId)
  }

  #unfollow(networkId: string): void {
    this.#followed.get(networkId)?.abort()
    this.#followed.delete(networkId)
    this.#peers.get(networkId)?.close()
    this.#peers.delete(networkId)
  }

  #peersOf(networkId: string): NetworkPeers {
    const known = this.#peers.get(networkId)
    if (known !== undefined) return known
    const peers = new NetworkPeers({
      networkId,
      host: this.host,
      vtepOf: host => this.#hosts.vtepOf(host),
      changed: (before, after) => this.#tell(listener => listener.remotesChanged(networkId, before, after)),
      ownDeleted: key => {
        if (this.#own.isWanted(networkId, key))
          this.#session.fail(conflict('another host has removed records of this one'))
      },
    })
    this.#peers.set(networkId, peers)
    return peers
  }

  /** `web on h1, db on h2 (down); attached to Docker on h3` */
  async #uses(networkId: string): Promise<string> {
    const { peers, members } = await this.readNetwork(networkId)
    const host = (name: string): string => (this.#hosts.isAlive(name) ? name : `${name} (down)`)
    const docker = members.filter(({ dockerNetworkIds }) => dockerNetworkIds.length > 0)
    const rest = members.filter(member => !docker.includes(member) && !peers.some(peer => peer.host === member.host))
    return [
      peers.map(peer => `${peer.name} on ${host(peer.host)}`).join(', '),
      docker.length === 0 ? '' : `attached to Docker on ${docker.map(member => host(member.host)).join(', ')}`,
      rest.length === 0 ? '' : `member ${rest.map(member => host(member.host)).join(', ')}`,
    ]
      .filter(part => part !== '')
      .join('; ')
  }

  #hostRecord(): HostRecord {
    return { ...this.#deps.host, vtep: this.#underlay?.vtep ?? '', lastSeen: new Date().toISOString() }
  }

  #refuseUnreachable(): void {
    const error = this.#session.unreachable()
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
