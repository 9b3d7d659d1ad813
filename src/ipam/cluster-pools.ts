import { KeyedLock } from '../locks.js'
import { absent, type Condition, del, type Operation, put, StoreConflict, unchanged } from '../store/store.js'
import { ClusterBook } from './cluster-book.js'
import { type ClusterIpamDeps, type ClusterPool, isUnavailable, poolsOf } from './cluster-records.js'
import type { Journal } from './journal.js'
import { globalDefaultPools, noPool, overlap, overlapping, planPool, samePool, toTaken } from './pools.js'
import { deletePoolRecords, guardKey, poolKey, poolPrefix } from './records.js'
import type { Pool, PoolSpec } from './types.js'

/** All pools of the cluster, and the guard that is written with each new one: unchanged, nobody has added one since. */
interface PoolsRead {
  pools: ClusterPool[]
  guard: Condition
}

/** The pools of global networks, in the shared store. They are few, so they are read whenever one is added. */
export class ClusterPools {
  readonly #deps: ClusterIpamDeps
  readonly #journal: Journal
  readonly #coolDownMs: number
  readonly #books = new Map<string, ClusterBook>()
  readonly #locks = new KeyedLock()
  /** ids of those that this host made and has not released */
  readonly #made = new Set<string>()
  /** the newest revision of the shared store that this process has seen */
  #newest = 0

  constructor(deps: ClusterIpamDeps, journal: Journal) {
    this.#deps = deps
    this.#journal = journal
    this.#coolDownMs = deps.coolDownMs ?? 10_000
  }

  /** Those of the networks known here, and those made here for networks to come. */
  known(): Pool[] {
    const ofNetworks = [...this.#deps.networks()].flatMap(poolsOf)
    const ids = new Set(ofNetworks.map(({ id }) => id))
    const waiting = this.#journal.pools().filter(({ id, release }) => !release && !ids.has(id))
    return [...ofNetworks, ...waiting.flatMap(({ pool }) => pool ?? [])]
  }

  pool(id: string): Pool | undefined {
    return this.known().find(pool => pool.id === id)
  }

  /** What is known of a pool's addresses; undefined for an unknown pool. */
  book(id: string): ClusterBook | undefined {
    const known = this.#books.get(id)
    if (known) return known
    const pool = this.pool(id)
    return pool && this.#open(pool)
  }

  /** Quicker than asking for the pool. */
  knows(id: string): boolean {
    return this.#books.has(id) || this.pool(id) !== undefined
  }

  /** The pool is gone, and with it what this host had of it. */
  async forget(id: string): Promise<void> {
    this.#books.delete(id)
    for (const { address } of this.#journal.addresses(id)) await this.#journal.deleteAddress(id, address)
  }

  request(spec: PoolSpec): Promise<Pool> {
    let tried: Pool | undefined
    return this.#locks.with(guardKey, async () => {
      await this.#finishReleases()
      return await this.#underGuard(async ({ pools, guard }) => {
        // a conflict may come from our own try, where the client repeated a transaction whose answer was lost
        const same = pools.find(({ id }) => id === tried?.id) ?? samePool(spec, pools.map(toTaken))
        if (same) return await this.#again(same)
        const defaults = this.#deps.defaultPools ?? globalDefaultPools(await this.#clusterId())
        const wanted: PoolSpec = { ...spec, scope: 'global', shared: false }
        tried = planPool(wanted, pools.map(toTaken), defaults, this.#deps.hostSubnets)
        await this.#write(tried, [guard])
        return tried
      })
    })
  }

  /** Put a pool into the shared store that has its id and its addresses already. @throws {NetError} Conflict, Unavailable */
  add(pool: Pool): Promise<void> {
    return this.#locks.with(guardKey, () =>
      this.#underGuard(async ({ pools, guard }) => {
        const inTheWay = overlapping(pool.subnet, others(pool, pools))
        if (inTheWay) throw overlap(pool.subnet, inTheWay)
        // its id is random: if it is there, an earlier try wrote it and did not hear so
        if (pools.some(({ id }) => id === pool.id)) return await this.#journal.putPool({ id: pool.id, pool })
        return await this.#write(pool, [guard])
      }),
    )
  }

  /**
   * Put back a pool that a network has and the store has not: it was restored from a time before. `inTheWay`: the pool that
   * took the subnet meanwhile. A network that is gone gets no pool back: what is known of it here is old.
   */
  restore(pool: Pool, networkId: string): Promise<{ stands: boolean; inTheWay?: ClusterPool }> {
    return this.#locks.with(guardKey, () =>
      this.#underGuard(async ({ pools, guard }) => {
        const network = await this.#deps.shared.get(this.#deps.networkKey(networkId))
        if (!network) return { stands: false }
        if (pools.some(({ id }) => id === pool.id)) return { stands: true }
        const inTheWay = overlapping(pool.subnet, others(pool, pools))
        if (inTheWay) return { stands: false, inTheWay }
        await this.#put(pool, [guard, unchanged(network)])
        return { stands: true }
      }),
    )
  }

  adopt(poolId: string, owner: string): Promise<void> {
    return this.#locks.with(guardKey, async () => {
      const key = poolKey(poolId)
      for (;;) {
        const entry = await this.#deps.shared.get<ClusterPool>(key)
        if (!entry) throw noPool(poolId)
        if (entry.value.owner === owner) return
        const { host, ...pool } = entry.value
        if (this.#journal.pool(poolId)) await this.#journal.putPool({ id: poolId, pool: { ...pool, owner } })
        if (await this.#unlessChanged([unchanged(entry)], [put(key, { ...pool, owner, host })])) return
      }
    })
  }

  /** Of an unknown pool too: its network may have been forgotten just now. It waits in the journal until the store answers. */
  release(poolId: string, onlyIfOwner?: string): Promise<void> {
    return this.#locks.with(guardKey, async () => {
      const known = this.pool(poolId)
      if (onlyIfOwner !== undefined && known?.owner !== onlyIfOwner) return
      await this.#journal.putPool({ id: poolId, release: true })
      this.#made.delete(poolId)
      await this.forget(poolId)
      if (this.#deps.unreachable() !== undefined) return
      try {
        await this.#finishRelease(poolId)
      } catch (error) {
        if (!isUnavailable(error)) throw error
      }
    })
  }

  async releaseMade(poolIds: readonly string[]): Promise<void> {
    for (const id of poolIds) if (this.#made.has(id)) await this.release(id)
  }

  /**
   * Do what waits for the store, and see after the pools that were made here. Returns all pools that there are, and whether
   * the store is older than this process knows it, having been restored from a time before; `settle` ends that.
   */
  async resync(): Promise<{ pools: Map<string, ClusterPool>; isOlder: boolean; settle: () => void }> {
    return await this.#locks.with(guardKey, async () => {
      const { shared, host } = this.#deps
      const ofNetworks = this.#ofNetworks()
      await this.#finishReleases()
      const { entries, revision } = await shared.list<ClusterPool>(poolPrefix)
      const isOlder = revision < this.#newest
      const settle = () => {
        this.#newest = revision
      }
      const pools = new Map(entries.map(({ value }) => [value.id, value]))
      for (const { id, host: maker } of pools.values()) if (maker === host) this.#made.add(id)
      for (const { id } of this.#journal.pools())
        if (ofNetworks.has(id) || !pools.has(id)) await this.#journal.deletePool(id)
      // its network was deleted, and whoever did that died before the pool was
      for (const { host: maker, ...pool } of pools.values())
        if (maker === host && !ofNetworks.has(pool.id) && !this.#journal.pool(pool.id))
          await this.#journal.putPool({ id: pool.id, pool })
      for (const id of this.#books.keys()) if (!pools.has(id) && !ofNetworks.has(id)) this.#books.delete(id)
      // what this host has in a pool whose network is gone must be found too
      for (const id of this.#journal.poolIds()) {
        const pool = pools.get(id)
        if (pool && !this.knows(id)) this.#open(pool)
      }
      return { pools, isOlder, settle }
    })
  }

  /** Delete the pools that a host, which is no more, made for no network. */
  async releaseOfHost(host: string): Promise<void> {
    const ofNetworks = this.#ofNetworks()
    const { entries } = await this.#deps.shared.list<ClusterPool>(poolPrefix)
    for (const { value } of entries) if (value.host === host && !ofNetworks.has(value.id)) await this.#delete(value.id)
  }

  /** A transaction that succeeds only while the pool exists. @throws {NetError} NotFound: it does not */
  async whileStands(book: ClusterBook, conditions: Condition[], operations: Operation[]): Promise<void> {
    const key = poolKey(book.pool.id)
    for (;;) {
      try {
        book.revision ??= (await this.#deps.shared.get(key))?.revision
        if (book.revision === undefined) throw noPool(book.pool.id)
        const revision = await this.#deps.shared.txn([{ key, revision: book.revision }, ...conditions], operations)
        if (revision > this.#newest) this.#newest = revision
        return
      } catch (error) {
        if (!(error instanceof StoreConflict) || error.key !== key) throw error
        book.revision = undefined
      }
    }
  }

  #open(pool: Pool): ClusterBook {
    const book = new ClusterBook(pool, this.#deps.host, this.#coolDownMs)
    for (const { address } of this.#journal.addresses(pool.id)) book.take(book.parse(address))
    this.#books.set(pool.id, book)
    return book
  }

  async #underGuard<T>(work: (read: PoolsRead) => Promise<T>): Promise<T> {
    const { shared } = this.#deps
    for (;;) {
      // the guard first: a pool added after this line is noticed, one added before it is in the list
      const guard = { key: guardKey, revision: (await shared.get(guardKey))?.revision ?? 0 }
      const { entries } = await shared.list<ClusterPool>(poolPrefix)
      try {
        return await work({ guard, pools: entries.map(({ value }) => value) })
      } catch (error) {
        if (!(error instanceof StoreConflict)) throw error
      }
    }
  }

  /** A pool that is there already: what this host made is in its journal, what another made is that one's to look after. */
  async #again({ host, ...pool }: ClusterPool): Promise<Pool> {
    if (host === this.#deps.host) await this.#journal.putPool({ id: pool.id, pool })
    return pool
  }

  async #write(pool: Pool, conditions: Condition[]): Promise<void> {
    await this.#journal.putPool({ id: pool.id, pool })
    try {
      await this.#put(pool, conditions)
    } catch (error) {
      if (isUnavailable(error)) await this.#journal.putPool({ id: pool.id, release: true })
      else await this.#journal.deletePool(pool.id)
      throw error
    }
  }

  async #put(pool: Pool, conditions: Condition[]): Promise<void> {
    const record: ClusterPool = { ...pool, scope: 'global', host: this.#deps.host }
    const key = poolKey(pool.id)
    await this.#deps.shared.txn([...conditions, absent(key)], [put(key, record), put(guardKey, pool.id)])
    this.#made.add(pool.id)
  }

  /**
   * What was let go while the store did not answer must not be in the way of what comes next, nor what this host made for a
   * network before it was killed.
   */
  async #finishReleases(): Promise<void> {
    const ofNetworks = this.#ofNetworks()
    for (const { id, release } of this.#journal.pools())
      if (release || (this.#journal.isOfEarlierLife(id) && !ofNetworks.has(id))) await this.#finishRelease(id)
  }

  /** Ids of the pools that networks have. */
  #ofNetworks(): Set<string> {
    return new Set([...this.#deps.networks()].flatMap(({ subnets }) => subnets.map(({ poolId }) => poolId)))
  }

  async #finishRelease(poolId: string): Promise<void> {
    await this.#delete(poolId)
    await this.#journal.deletePool(poolId)
  }

  async #delete(poolId: string): Promise<void> {
    // the pool's key first: no address can be added after that
    await this.#deps.shared.txn([], [del(poolKey(poolId))])
    await deletePoolRecords(this.#deps.shared, poolId)
  }

  async #clusterId(): Promise<string> {
    return JSON.stringify((await this.#deps.shared.get(this.#deps.clusterIdKey))?.value ?? '')
  }

  async #unlessChanged(conditions: Condition[], operations: Operation[]): Promise<boolean> {
    try {
      await this.#deps.shared.txn(conditions, operations)
      return true
    } catch (error) {
      if (error instanceof StoreConflict) return false
      throw error
    }
  }
}

const others = (pool: Pool, pools: readonly ClusterPool[]) => pools.filter(({ id }) => id !== pool.id).map(toTaken)
