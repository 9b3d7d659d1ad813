import { conflict } from '../errors.js'
import { KeyedLock } from '../locks.js'
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
import { allocation, dockerOwner, type Held, nameOwner, PoolBook, siblingOf } from './book.js'
import { type DefaultPool, defaultPools, noPool, overlap, planPool, samePool } from './pools.js'
import { addressKey, deletePool, guardKey, loadBooks, poolKey, rememberName } from './records.js'
import type { Addresses, AddressSpec, Allocation, Pool, PoolAdoption, PoolSpec, Release } from './types.js'

export { dockerOwner } from './book.js'
export type { Addresses, AddressSpec, Allocation, Pool, PoolSpec } from './types.js'

export interface IpamDeps {
  store: Store
  /** monotonic milliseconds; performance.now by default */
  now?: () => number
  /** for how long a released address is not chosen again; 10 s by default */
  coolDownMs?: number
  /** CIDRs of the host's routes and addresses, read from the kernel each time a subnet is chosen */
  hostSubnets: () => string[]
  /** instead of ours, for the families that are among them */
  defaultPools?: readonly DefaultPool[]
  /** stable and unique per host: the default IPv6 pools are derived from it */
  hostId: string
}

/**
 * Address management for every door: pools, and the addresses given out of them, one store key each. The store says who was first;
 * the books in memory say what to try. Cool-downs are in memory only: a restart ends them.
 */
export class Ipam implements Addresses {
  readonly #store: Store
  readonly #now: () => number
  readonly #coolDownMs: number
  readonly #hostSubnets: () => string[]
  readonly #defaultPools: readonly DefaultPool[]
  readonly #books = new Map<string, PoolBook>()
  readonly #locks = new KeyedLock()

  constructor(deps: IpamDeps) {
    this.#store = deps.store
    this.#now = deps.now ?? (() => performance.now())
    this.#coolDownMs = deps.coolDownMs ?? 10_000
    this.#hostSubnets = deps.hostSubnets
    this.#defaultPools = defaultPools(deps.hostId, deps.defaultPools)
  }

  /** Take over from the store what is not known yet. To be called before anything else. */
  async load(): Promise<void> {
    for (const [id, book] of await loadBooks(this.#store, this.#books, this.#coolDownMs)) this.#books.set(id, book)
  }

  requestPool(spec: PoolSpec): Promise<Pool> {
    return this.#locks.with(guardKey, async () => {
      for (;;) {
        const taken = [...this.#books.values()]
        const same = samePool(spec, taken)
        if (same) return same
        const pool = planPool(spec, taken, this.#defaultPools, this.#hostSubnets)
        try {
          const revision = await this.#writePool(pool)
          const sibling = siblingOf(pool, this.#books.values())
          this.#books.set(pool.id, new PoolBook(pool, revision, this.#coolDownMs, sibling))
          return pool
        } catch (error) {
          if (!(error instanceof StoreConflict)) throw error
          await this.load()
        }
      }
    })
  }

  adoptPool(poolId: string, { owner, shared }: PoolAdoption): Promise<void> {
    return this.#locks.with(guardKey, async () => {
      const book = this.#book(poolId)
      const sibling = book.siblings().find(other => other !== book)
      if (!shared && sibling) throw overlap(book.pool.subnet, sibling.pool)
      const { shared: _, ...pool } = book.pool
      const adopted = (): Pool => ({ ...pool, owner, ...(shared && { shared }) })
      book.revision = await this.#whilePoolStands(book, [], () => [put(poolKey(poolId), adopted())])
      book.pool = adopted()
    })
  }

  releasePool(poolId: string, onlyIfOwner?: string): Promise<void> {
    return this.#locks.with(guardKey, async () => {
      const book = this.#books.get(poolId)
      if (!book || (onlyIfOwner !== undefined && book.pool.owner !== onlyIfOwner)) return
      await deletePool(this.#store, poolId)
      this.#books.delete(poolId)
      book.close(this.#now())
    })
  }

  async requestAddress(poolId: string, spec: AddressSpec): Promise<string> {
    const book = this.#book(poolId)
    if (spec.address !== undefined) return this.#requestThis(book, spec.address, spec)
    const already = spec.sameOwnerIsFine && book.heldBy(spec.owner)
    if (already) return book.formatWithPrefix(already.value)
    if (spec.parts) {
      const held = book.takeNext(spec, this.#now())
      spec.parts.push(partOf(book, held))
      return book.formatWithPrefix(held.value)
    }
    for (;;) {
      const { value } = await this.#writeChosen(book, book.takeNext(spec, this.#now()))
      if (value !== undefined) return book.formatWithPrefix(value)
    }
  }

  async claim(poolId: string, address: string, newOwner: string, ownerName?: string, parts?: TxnPart[]): Promise<void> {
    const book = this.#book(poolId)
    const value = book.parse(address)
    await this.#withAddress(book, value, async () => {
      const holder = book.held.get(value)
      const wanted = allocation({ address: book.format(value), owner: newOwner, ownerName, name: holder?.name })
      if (!holder) {
        const held = book.take(value, wanted)
        return parts === undefined ? this.#write(book, held) : void parts.push(partOf(book, held))
      }
      if (holder.owner !== dockerOwner && holder.owner !== newOwner)
        throw conflict(`address ${holder.address} is already used by ${nameOwner(holder)}`)
      const key = addressKey(poolId, holder.address)
      const part: TxnPart = {
        conditions: () => [{ key, revision: holder.revision }],
        operations: [put(key, wanted)],
        done: revision => void book.held.set(value, { ...wanted, value, revision }),
      }
      if (parts !== undefined) parts.push(part)
      else part.done(await this.#store.txn(part.conditions(), part.operations))
    })
  }

  async releaseAddress(poolId: string, address: string, onlyIfOwner?: string): Promise<void> {
    const book = this.#books.get(poolId)
    if (!book) return
    const value = book.parse(address)
    await this.#withAddress(book, value, async () => {
      const holder = book.held.get(value)
      if (!holder || (onlyIfOwner !== undefined && holder.owner !== onlyIfOwner)) return
      const key = addressKey(poolId, holder.address)
      await this.#store.txn([{ key, revision: holder.revision }], [del(key), ...rememberName(book, holder)])
      book.release(value, this.#now())
    })
  }

  startRelease(poolId: string, address: string, owner: string): Release {
    const book = this.#books.get(poolId)
    const holder = book?.held.get(book.parse(address))
    if (book === undefined || holder?.owner !== owner || holder.revision === 0)
      return { parts: [], free: () => this.releaseAddress(poolId, address, owner) }
    const key = addressKey(poolId, holder.address)
    const part: TxnPart = {
      conditions: () => [{ key, revision: holder.revision }],
      operations: [del(key), ...rememberName(book, holder)],
      done: () => undefined,
    }
    return {
      parts: [part],
      free: async () => {
        if (book.held.get(holder.value) === holder) book.release(holder.value, this.#now())
      },
    }
  }

  /** In the order in which they came. */
  pools(): Pool[] {
    return [...this.#books.values()].map(book => book.pool)
  }

  pool(id: string): Pool | undefined {
    return this.#books.get(id)?.pool
  }

  addresses(poolId: string): Allocation[] {
    const held = [...(this.#books.get(poolId)?.held.values() ?? [])].filter(h => h.revision > 0)
    return held.sort((a, b) => (a.value < b.value ? -1 : 1)).map(allocation)
  }

  async holder(poolId: string, address: string): Promise<Allocation | undefined> {
    const book = this.#books.get(poolId)
    const held = book?.held.get(book.parse(address))
    return held && allocation(held)
  }

  async #writePool(pool: Pool): Promise<number> {
    const key = poolKey(pool.id)
    const guard = { key: guardKey, revision: (await this.#store.get(guardKey))?.revision ?? 0 }
    try {
      return await this.#store.txn([guard, absent(key)], [put(key, pool), put(guardKey, pool.id)])
    } catch (error) {
      // The answer may have been lost after the pool was written. Its id is ours alone, so this deletes nobody else's.
      if (!(error instanceof StoreConflict)) await this.#store.txn([], [del(key)]).catch(() => {})
      throw error
    }
  }

  #requestThis(book: PoolBook, address: string, spec: AddressSpec): Promise<string> {
    const value = book.parse(address)
    return this.#withAddress(book, value, async () => {
      const mine = spec.sameOwnerIsFine && book.held.get(value)?.owner === spec.owner
      if (!mine) await this.#write(book, book.take(value, spec))
      return book.formatWithPrefix(value)
    })
  }

  /** Store an address that was chosen; no value when another host had it first, which the book then knows. */
  #writeChosen(book: PoolBook, chosen: Held): Promise<{ value?: bigint }> {
    const { value } = chosen
    return this.#locks.with(addressKey(book.pool.id, chosen.address), async () => {
      try {
        await this.#write(book, chosen)
        return { value }
      } catch (error) {
        if (!(error instanceof StoreConflict)) throw error
        await this.#reread(book, value)
        return {}
      }
    })
  }

  /** Store an address that is marked in the book; a failure takes the mark back. */
  async #write(book: PoolBook, held: Held): Promise<void> {
    const key = addressKey(book.pool.id, held.address)
    try {
      held.revision = await this.#whilePoolStands(book, [absent(key)], () => [put(key, allocation(held))])
    } catch (error) {
      book.giveBack(held)
      throw error
    }
  }

  /** A transaction that succeeds only while the pool exists. */
  async #whilePoolStands(book: PoolBook, conditions: Condition[], operations: () => Operation[]): Promise<number> {
    const key = poolKey(book.pool.id)
    for (;;) {
      try {
        return await this.#store.txn([{ key, revision: book.revision }, ...conditions], operations())
      } catch (error) {
        if (!(error instanceof StoreConflict) || error.key !== key) throw error
        const entry = await this.#store.get<Pool>(key)
        if (!entry) throw noPool(book.pool.id)
        book.pool = entry.value
        book.revision = entry.revision
      }
    }
  }

  /** Alone with an address. Where another host changed it meanwhile, `work` is done again with what the store says. */
  #withAddress<T>(book: PoolBook, value: bigint, work: () => Promise<T>): Promise<T> {
    return this.#locks.with(addressKey(book.pool.id, book.format(value)), async () => {
      for (;;) {
        try {
          return await work()
        } catch (error) {
          if (!(error instanceof StoreConflict)) throw error
          await this.#reread(book, value)
        }
      }
    })
  }

  async #reread(book: PoolBook, value: bigint): Promise<void> {
    const entry = await this.#store.get<Allocation>(addressKey(book.pool.id, book.format(value)))
    book.release(value, this.#now())
    if (entry) book.take(value, entry.value).revision = entry.revision
  }

  #book(poolId: string): PoolBook {
    const book = this.#books.get(poolId)
    if (!book) throw noPool(poolId)
    return book
  }
}

/** What is to be written of an address that is marked in the book: only while the pool exists, and nobody has it. */
function partOf(book: PoolBook, held: Held): TxnPart {
  const key = addressKey(book.pool.id, held.address)
  return {
    conditions: () => [{ key: poolKey(book.pool.id), revision: book.revision }, absent(key)],
    operations: [put(key, allocation(held))],
    done(revision) {
      held.revision = revision
    },
  }
}
