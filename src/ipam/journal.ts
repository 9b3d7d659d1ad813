import { del, type Operation, put, type Store } from '../store/store.js'
import type { Allocation, Pool } from './types.js'

const root = 'cluster-ipam/'
const poolPrefix = `${root}pool/`
const addressPrefix = `${root}address/`
const poolKey = (id: string): string => poolPrefix + id
const addressKey = (poolId: string, address: string): string => `${addressPrefix}${poolId}/${address}`

/** An address that this host has, or may have, in the shared store. */
export interface JournaledAddress extends Allocation {
  /** to be given back as soon as the shared store answers */
  release?: true
}

/** A pool that this host made and that no network has yet; or one of anybody, to be deleted. */
export interface JournaledPool {
  id: string
  /** absent: unknown here, and to be deleted */
  pool?: Pool
  release?: true
}

/**
 * What this host has in the shared store, kept in its own: written before the shared store is asked, removed when that has
 * confirmed that it is gone. So whatever gets lost between the two, an answer or this process, is found without reading
 * the pools of the cluster. The copy in memory is changed after the store has taken the change.
 */
export class Journal {
  readonly #store: Store
  readonly #pools = new Map<string, JournaledPool>()
  readonly #addresses = new Map<string, Map<string, JournaledAddress>>()
  readonly #earlierPools = new Set<string>()

  constructor(store: Store) {
    this.#store = store
  }

  async load(): Promise<void> {
    const { entries: pools } = await this.#store.list<JournaledPool>(poolPrefix)
    for (const { value } of pools) {
      this.#pools.set(value.id, value)
      this.#earlierPools.add(value.id)
    }
    const { entries: addresses } = await this.#store.list<JournaledAddress>(addressPrefix)
    for (const { key, value } of addresses) this.#ofPool(key.split('/')[2] ?? '').set(value.address, value)
  }

  pools(): JournaledPool[] {
    return [...this.#pools.values()]
  }

  /** Made before this process began: whoever was to make a network of it is no more. */
  isOfEarlierLife(id: string): boolean {
    return this.#earlierPools.has(id)
  }

  pool(id: string): JournaledPool | undefined {
    return this.#pools.get(id)
  }

  /** Ids of pools with addresses here. */
  poolIds(): string[] {
    return [...this.#addresses.keys()]
  }

  addresses(poolId: string): JournaledAddress[] {
    return [...(this.#addresses.get(poolId)?.values() ?? [])]
  }

  address(poolId: string, address: string): JournaledAddress | undefined {
    return this.#addresses.get(poolId)?.get(address)
  }

  async putPool(pool: JournaledPool): Promise<void> {
    await this.#write(put(poolKey(pool.id), pool))
    this.#pools.set(pool.id, pool)
  }

  async deletePool(id: string): Promise<void> {
    if (this.#pools.has(id)) await this.#write(del(poolKey(id)))
    this.#pools.delete(id)
  }

  async putAddress(poolId: string, record: JournaledAddress): Promise<void> {
    await this.#write(put(addressKey(poolId, record.address), record))
    this.#ofPool(poolId).set(record.address, record)
  }

  async deleteAddress(poolId: string, address: string): Promise<void> {
    const records = this.#addresses.get(poolId)
    if (!records?.has(address)) return
    await this.#write(del(addressKey(poolId, address)))
    records.delete(address)
    if (records.size === 0) this.#addresses.delete(poolId)
  }

  #write(operation: Operation): Promise<number> {
    return this.#store.txn([], [operation])
  }

  #ofPool(poolId: string): Map<string, JournaledAddress> {
    const known = this.#addresses.get(poolId)
    if (known) return known
    const made = new Map<string, JournaledAddress>()
    this.#addresses.set(poolId, made)
    return made
  }
}
