import { kindOf } from '../errors.js'
import { del, type Entry, StoreConflict, unchanged } from '../store/store.js'
import { nameOwner } from './book.js'
import { ClusterAddresses } from './cluster-addresses.js'
import { ClusterPools } from './cluster-pools.js'
import { type ClusterAllocation, type ClusterIpamDeps, type GlobalNetwork, poolsOf } from './cluster-records.js'
import { Journal } from './journal.js'
import { addressKey, addressPrefix } from './records.js'
import type { Addresses, AddressSpec, Allocation, LostAddress, Pool, PoolAdoption, PoolSpec, Release } from './types.js'

export type { ClusterIpamDeps, GlobalNetwork } from './cluster-records.js'

/** etcd takes 128 conditions and as many operations in a transaction unless told otherwise. */
const deletesAtOnce = 100
/** How many questions are on their way to the store at a time while all of this host's addresses are compared. */
const questionsAtOnce = 32

/**
 * Address management for networks of many hosts: pools and addresses in a store that all hosts share, where a transaction
 * decides who was first. What this host has of them is in a journal of its own, so that it goes on working without that store:
 * requests fail then, releases wait. `resync` brings the two together whenever the store answers again.
 */
export class ClusterIpam implements Addresses {
  readonly #deps: ClusterIpamDeps
  readonly #journal: Journal
  readonly #pools: ClusterPools
  readonly #addresses: ClusterAddresses

  constructor(deps: ClusterIpamDeps) {
    this.#deps = deps
    this.#journal = new Journal(deps.local)
    this.#pools = new ClusterPools(deps, this.#journal)
    this.#addresses = new ClusterAddresses(deps, this.#journal, this.#pools)
  }

  /** Read the journal. To be called before anything else; asks the local store only. */
  load(): Promise<void> {
    return this.#journal.load()
  }

  isUp(): boolean {
    return this.#deps.unreachable() === undefined
  }

  async requestPool(spec: PoolSpec): Promise<Pool> {
    this.#refuseUnreachable()
    return await this.#pools.request(spec)
  }

  async adoptPool(poolId: string, { owner }: PoolAdoption): Promise<void> {
    this.#refuseUnreachable()
    await this.#pools.adopt(poolId, owner)
  }

  /** Take over a local pool with its id and its addresses: all of it or nothing. @throws {NetError} Conflict, Unavailable */
  async importPool(pool: Pool, addresses: readonly Allocation[]): Promise<void> {
    this.#refuseUnreachable()
    await this.#pools.add(pool)
    try {
      for (const record of addresses) await this.#addresses.add(pool.id, record)
    } catch (error) {
      await this.#pools.release(pool.id)
      throw error
    }
  }

  releasePool(poolId: string, onlyIfOwner?: string): Promise<void> {
    return this.#pools.release(poolId, onlyIfOwner)
  }

  releaseMade(poolIds: readonly string[]): Promise<void> {
    return this.#pools.releaseMade(poolIds)
  }

  async requestAddress(poolId: string, spec: AddressSpec): Promise<string> {
    this.#refuseUnreachable()
    return await this.#addresses.request(poolId, spec)
  }

  async claim(poolId: string, address: string, newOwner: string, ownerName?: string): Promise<void> {
    this.#refuseUnreachable()
    await this.#addresses.claim(poolId, address, newOwner, ownerName)
  }

  releaseAddress(poolId: string, address: string, onlyIfOwner?: string): Promise<void> {
    return this.#addresses.release(poolId, address, onlyIfOwner)
  }

  /** The store in which it is somebody's is not the one that forgets the owner. */
  startRelease(poolId: string, address: string, owner: string): Release {
    return { parts: [], free: () => this.releaseAddress(poolId, address, owner) }
  }

  pools(): Pool[] {
    return this.#pools.known()
  }

  pool(id: string): Pool | undefined {
    return this.#pools.pool(id)
  }

  knows(poolId: string): boolean {
    return this.#pools.knows(poolId)
  }

  addresses(poolId: string): Allocation[] {
    return this.#addresses.ofPool(poolId)
  }

  holder(poolId: string, address: string): Promise<Allocation | undefined> {
    return this.#addresses.holder(poolId, address)
  }

  /**
   * The store answers, for the first time or again, and the global networks are known: give back what waits for that, and
   * put back what this host has and the store, restored from a time before, has not. Returns the addresses that others got
   * meanwhile: they count as this host's until they are released, and are returned each time until then.
   * @throws {NetError} Unavailable: it stopped answering; what was done stays done
   */
  async resync(): Promise<LostAddress[]> {
    // before the pools are read: a pool that is made meanwhile is none that is missing
    const poolIds = this.#journal.poolIds()
    const { pools: standing, isOlder, settle } = await this.#pools.resync()
    const lost: LostAddress[] = []
    for (const network of this.#deps.networks())
      for (const pool of poolsOf(network))
        if (!standing.has(pool.id)) lost.push(...(await this.#restore(pool, network)))
    const lostPools = new Set(lost.map(({ poolId }) => poolId))
    for (const poolId of poolIds) if (!lostPools.has(poolId)) lost.push(...(await this.#reclaim(poolId)))
    // what was released since the time that the store was restored to is there again, and in no journal
    if (isOlder) for (const { id } of this.pools()) await this.#addresses.sweep(id)
    settle()
    return lost
  }

  /** Forget a host that is no more: its addresses in all pools, and the pools that it made for no network. */
  async releaseHost(host: string): Promise<void> {
    for (;;) {
      const { entries } = await this.#deps.shared.list<ClusterAllocation>(addressPrefix)
      const mine = entries.filter(({ value }) => value.host === host)
      if (mine.length === 0) break
      await this.#deleteUnchanged(mine)
    }
    await this.#pools.releaseOfHost(host)
  }

  /** Give back an address that bears this host's name, unless something here has it or waits to give it back. */
  releaseStray(poolId: string, address: string): Promise<void> {
    return this.#addresses.releaseStray(poolId, address)
  }

  /** Forget one address of an endpoint of any host, if that has it still. */
  async releaseOwner(poolId: string, address: string, owner: string): Promise<void> {
    for (;;) {
      const entry = await this.#deps.shared.get<ClusterAllocation>(addressKey(poolId, address))
      if (entry?.value.owner !== owner) return
      await this.#deleteUnchanged([entry])
    }
  }

  /** Who would not be answered is told so at once, and nothing has to be taken back later. */
  #refuseUnreachable(): void {
    const error = this.#deps.unreachable()
    if (error !== undefined) throw error
  }

  async #restore(pool: Pool, network: GlobalNetwork): Promise<LostAddress[]> {
    const { inTheWay, stands } = await this.#pools.restore(pool, network.id)
    const by = inTheWay && { by: nameOwner(inTheWay), host: inTheWay.host }
    if (by) return this.addresses(pool.id).map(({ address, owner }) => ({ poolId: pool.id, address, owner, ...by }))
    if (stands) await this.#restoreNetworks(pool.id, network)
    return []
  }

  /** The network's own addresses, which no host has in its journal. */
  async #restoreNetworks(poolId: string, { name, subnets }: GlobalNetwork): Promise<void> {
    const subnet = subnets.find(other => other.poolId === poolId)
    const own: Allocation[] = Object.entries(subnet?.auxAddresses ?? {}).map(([aux, address]) => ({
      address,
      owner: `aux:${aux}`,
      ownerName: `auxiliary address ${aux}`,
    }))
    if (subnet?.gateway !== undefined)
      own.push({ address: subnet.gateway, owner: 'gateway', ownerName: `the gateway of network ${name}` })
    for (const record of own) await this.#addresses.add(poolId, record)
  }

  async #reclaim(poolId: string): Promise<LostAddress[]> {
    const addresses = this.#journal.addresses(poolId)
    const lost: LostAddress[] = []
    try {
      for (let i = 0; i < addresses.length; i += questionsAtOnce) {
        const some = addresses.slice(i, i + questionsAtOnce)
        const got = await Promise.all(some.map(({ address }) => this.#addresses.reclaim(poolId, address)))
        lost.push(...got.flatMap(one => one ?? []))
      }
    } catch (error) {
      if (kindOf(error) !== 'NotFound') throw error
      await this.#pools.forget(poolId)
    }
    return lost
  }

  /** Somebody else may have got one meanwhile: then nothing is deleted, and the caller looks again. */
  async #deleteUnchanged(entries: Entry<unknown>[]): Promise<void> {
    try {
      for (let i = 0; i < entries.length; i += deletesAtOnce) {
        const some = entries.slice(i, i + deletesAtOnce)
        await this.#deps.shared.txn(
          some.map(unchanged),
          some.map(({ key }) => del(key)),
        )
      }
    } catch (error) {
      if (!(error instanceof StoreConflict)) throw error
    }
  }
}
