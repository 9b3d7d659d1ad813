import { conflict, kindOf } from '../errors.js'
import { KeyedLock } from '../locks.js'
import { absent, del, type Entry, type Operation, put, StoreConflict, unchanged } from '../store/store.js'
import { allocation, dockerOwner, exhausted, isOutsider, nameOwner } from './book.js'
import type { ClusterBook } from './cluster-book.js'
import type { ClusterPools } from './cluster-pools.js'
import {
  asCalledNow,
  type ClusterAllocation,
  type ClusterIpamDeps,
  isUnavailable,
  nameHolder,
  nameSlotKey,
  ofHost,
} from './cluster-records.js'
import type { Journal, JournaledAddress } from './journal.js'
import { noPool } from './pools.js'
import { addressKey, addressPrefix, type RememberedName } from './records.js'
import type { AddressSpec, Allocation, LostAddress } from './types.js'

/** A pool that is not small is read after so many conflicts in one request: it is nearly full. */
const conflictsUntilRead = 8

type Found = Entry<ClusterAllocation>

/**
 * The addresses of global networks in the shared store: one key each, which exactly one host can create. Every verb that
 * changes one holds its lock, so that journal, book and store are changed for one reason at a time.
 */
export class ClusterAddresses {
  readonly #deps: ClusterIpamDeps
  readonly #journal: Journal
  readonly #pools: ClusterPools
  readonly #now: () => number
  readonly #locks = new KeyedLock()

  constructor(deps: ClusterIpamDeps, journal: Journal, pools: ClusterPools) {
    this.#deps = deps
    this.#journal = journal
    this.#pools = pools
    this.#now = deps.now ?? (() => performance.now())
  }

  async request(poolId: string, spec: AddressSpec): Promise<string> {
    const book = this.#book(poolId)
    if (spec.address !== undefined) return await this.#requestThis(book, spec.address, spec)
    const already = spec.sameOwnerIsFine && this.ofPool(poolId).find(({ owner }) => owner === spec.owner)
    if (already) return book.formatWithPrefix(book.parse(already.address))
    return book.formatWithPrefix(await this.#choose(book, spec))
  }

  claim(poolId: string, text: string, owner: string, ownerName?: string): Promise<void> {
    const book = this.#book(poolId)
    return this.#withAddress(book, book.parse(text), async address => {
      const own = this.#own(poolId, address)
      if (own?.owner === owner) return
      if (own && own.owner !== dockerOwner) throw await this.#taken(own, poolId)
      const wanted = allocation({ address, owner, ownerName, name: own?.name })
      if (own && !isOutsider(owner)) await this.#journal.putAddress(poolId, wanted)
      const holder = own ? await this.#reassign(book, wanted) : await this.#create(book, wanted)
      if (!holder && isOutsider(owner)) await this.#journal.deleteAddress(poolId, address)
      if (holder && !this.#isOurs(holder, owner)) throw await this.#taken(holder, poolId)
    })
  }

  async release(poolId: string, text: string, onlyIfOwner?: string): Promise<void> {
    const book = this.#pools.book(poolId)
    if (!book) return
    await this.#withAddress(book, book.parse(text), async address => {
      const own = this.#journal.address(poolId, address)
      if (own && onlyIfOwner !== undefined && own.owner !== onlyIfOwner) return
      // all that is this host's is in the journal; a network's own addresses are not, and are anybody's to release
      const isNetworks = onlyIfOwner !== undefined && isOutsider(onlyIfOwner)
      if (!own && !isNetworks) return
      await this.#journal.putAddress(poolId, { ...(own ?? { address, owner: onlyIfOwner ?? '' }), release: true })
      if (this.#deps.unreachable() === undefined) await unlessUnavailable(() => this.#finishRelease(book, address))
    })
  }

  /** Of this host. */
  ofPool(poolId: string): Allocation[] {
    const book = this.#pools.book(poolId)
    if (!book) return []
    const held = this.#journal.addresses(poolId).filter(({ release }) => !release)
    return held.sort((a, b) => (book.parse(a.address) < book.parse(b.address) ? -1 : 1)).map(allocation)
  }

  async holder(poolId: string, text: string): Promise<Allocation | undefined> {
    const book = this.#pools.book(poolId)
    if (!book) return undefined
    const address = book.format(book.parse(text))
    const holder = this.#own(poolId, address) ?? (await this.#read(poolId, address))?.value
    return holder && allocation(holder)
  }

  /** Put an address into the store that its owner has already. @throws {NetError} Conflict: somebody else has it there */
  add(poolId: string, record: Allocation): Promise<void> {
    const book = this.#book(poolId)
    return this.#withAddress(book, book.parse(record.address), async () => {
      const isKnown = this.#own(poolId, record.address) !== undefined
      const holder = isKnown ? await this.#reassign(book, record) : await this.#create(book, record)
      if (holder && !this.#isOurs(holder, record.owner)) throw await this.#taken(holder, poolId)
    })
  }

  /**
   * Make the store what the journal says of an address: give it back if it waits for that, create it again if it is missing.
   * Returns who has it where that is another. It stays in the journal until its owner here lets it go, so that this
   * is told again after a crash.
   */
  reclaim(poolId: string, text: string): Promise<LostAddress | undefined> {
    const book = this.#book(poolId)
    return this.#withAddress(book, book.parse(text), async address => {
      await this.#finishRelease(book, address)
      const own = this.#own(poolId, address)
      if (!own) return undefined
      const holder = await this.#reassign(book, own)
      if (!holder) return undefined
      const { host } = holder
      const by = nameOwner(await asCalledNow(this.#deps, holder, poolId))
      return { poolId, address, owner: own.owner, by, ...(host !== undefined && { host }) }
    })
  }

  /** Give back what bears this host's name and is not in its journal. Reads the whole pool. */
  async sweep(poolId: string): Promise<void> {
    const { entries } = await this.#deps.shared.list<ClusterAllocation>(`${addressPrefix}${poolId}/`)
    for (const found of entries)
      if (found.value.host === this.#deps.host) await this.releaseStray(poolId, found.value.address)
  }

  /** Give back an address that bears this host's name, unless it is in the journal. */
  async releaseStray(poolId: string, text: string): Promise<void> {
    const book = this.#pools.book(poolId)
    if (!book) return
    await this.#withAddress(book, book.parse(text), async address => {
      if (this.#journal.address(poolId, address)) return
      const found = await this.#read(poolId, address)
      // one that changes meanwhile is in use again
      if (found?.value.host === this.#deps.host) await this.#delete(book, found)
    })
  }

  async #choose(book: ClusterBook, spec: AddressSpec): Promise<bigint> {
    for (const { address, release } of this.#journal.addresses(book.pool.id))
      if (release) await this.#withAddress(book, book.parse(address), () => this.#finishRelease(book, address))
    const remembered = await this.#remembered(book, spec.name)
    if (remembered !== undefined && book.isFree(remembered) && (await this.#try(book, remembered, spec)))
      return remembered
    if (book.isSmall && !book.wasRead) await this.#readAll(book)
    for (let conflicts = 0, isFresh = false; ; ) {
      const value = book.takeNext(spec, this.#now())
      if (value !== undefined && (await this.#try(book, value, spec))) return value
      if (value === undefined && isFresh) throw exhausted(book.pool, spec)
      if (value !== undefined) {
        conflicts++
        book.jump()
      }
      isFresh = value === undefined || book.isSmall || conflicts % conflictsUntilRead === 0
      if (isFresh) await this.#readAll(book)
    }
  }

  #try(book: ClusterBook, value: bigint, { owner, ownerName, name }: AddressSpec): Promise<boolean> {
    book.take(value)
    return this.#withAddress(book, value, async address => {
      if (this.#own(book.pool.id, address)) return false
      return (await this.#create(book, allocation({ address, owner, ownerName, name }))) === undefined
    })
  }

  #requestThis(book: ClusterBook, text: string, spec: AddressSpec): Promise<string> {
    const value = book.parse(text)
    return this.#withAddress(book, value, async address => {
      const { owner, ownerName, name } = spec
      const wanted = allocation({ address, owner, ownerName, name })
      const holder = this.#own(book.pool.id, address) ?? (await this.#create(book, wanted))
      if (holder && !(spec.sameOwnerIsFine && holder.owner === owner && this.#isOurs(holder, owner)))
        throw await this.#taken(holder, book.pool.id)
      return book.formatWithPrefix(value)
    })
  }

  /** Create the address's key, in the journal first. Returns who has it already; then nothing has changed. */
  async #create(book: ClusterBook, wanted: Allocation): Promise<ClusterAllocation | undefined> {
    const poolId = book.pool.id
    const { address } = wanted
    const value = book.parse(address)
    await this.#finishRelease(book, address)
    book.take(value)
    // a network's own addresses go with their pool, whoever made them: nothing to remember
    if (!isOutsider(wanted.owner)) await this.#journal.putAddress(poolId, wanted)
    try {
      for (let found: Found | undefined; ; ) {
        if (await this.#write(book, found, wanted)) return undefined
        found = await this.#read(poolId, address)
        // what bears our name and is not in the journal is a try of ours whose answer was lost, or of a life before the journal
        if (!found || found.value.host === this.#deps.host) continue
        await this.#journal.deleteAddress(poolId, address)
        book.met(value)
        return found.value
      }
    } catch (error) {
      if (isUnavailable(error) && !isOutsider(wanted.owner))
        await this.#journal.putAddress(poolId, { ...wanted, release: true })
      else {
        await this.#journal.deleteAddress(poolId, address)
        book.giveBack(value)
      }
      throw error
    }
  }

  /** Make the store say this of an address that this host has. Returns who has it, if that is somebody else. */
  async #reassign(book: ClusterBook, wanted: Allocation): Promise<ClusterAllocation | undefined> {
    for (;;) {
      const found = await this.#read(book.pool.id, wanted.address)
      if (found && !this.#isOurs(found.value, wanted.owner)) return found.value
      if (found?.value.owner === wanted.owner || (await this.#write(book, found, wanted))) return undefined
    }
  }

  /** Do what waits for the store, if anything does. The address cools down even if it never was in use: who knows. */
  async #finishRelease(book: ClusterBook, address: string): Promise<void> {
    const poolId = book.pool.id
    const own = this.#journal.address(poolId, address)
    if (!own?.release) return
    const value = book.parse(address)
    for (;;) {
      const found = await this.#read(poolId, address)
      const isOurs = found !== undefined && this.#isOurs(found.value, own.owner)
      if (isOurs && !(await this.#delete(book, found))) continue
      await this.#journal.deleteAddress(poolId, address)
      if (found && !isOurs) book.met(value)
      else book.release(value, this.#now())
      return
    }
  }

  /** False: somebody else was quicker. */
  #write(book: ClusterBook, found: Found | undefined, wanted: Allocation): Promise<boolean> {
    const key = addressKey(book.pool.id, wanted.address)
    const record = ofHost(allocation(wanted), this.#deps.host)
    return unlessChanged(() =>
      this.#pools.whileStands(book, [found ? unchanged(found) : absent(key)], [put(key, record)]),
    )
  }

  /** False: somebody else was quicker. */
  #delete(book: ClusterBook, found: Found): Promise<boolean> {
    const { name, address } = found.value
    const remember: Operation[] =
      name === undefined ? [] : [put(nameSlotKey(book.pool.id, name), { name, address } satisfies RememberedName)]
    return unlessChanged(async () => {
      try {
        await this.#pools.whileStands(book, [unchanged(found)], [del(found.key), ...remember])
      } catch (error) {
        if (kindOf(error) !== 'NotFound') throw error
        await this.#deps.shared.txn([unchanged(found)], [del(found.key)])
      }
    })
  }

  #read(poolId: string, address: string): Promise<Found | undefined> {
    return this.#deps.shared.get<ClusterAllocation>(addressKey(poolId, address))
  }

  /** Learn which addresses others have. What bears our name and is not in the journal is free: see #create. */
  async #readAll(book: ClusterBook): Promise<void> {
    const { entries } = await this.#deps.shared.list<ClusterAllocation>(`${addressPrefix}${book.pool.id}/`)
    const others = entries.filter(({ value }) => value.host !== this.#deps.host)
    book.learn(new Set(others.map(({ value }) => book.parse(value.address))))
  }

  /** The address last released under a name, by whatever host. */
  async #remembered(book: ClusterBook, name: string | undefined): Promise<bigint | undefined> {
    if (name === undefined) return undefined
    const slot = (await this.#deps.shared.get<RememberedName>(nameSlotKey(book.pool.id, name)))?.value
    return slot?.name === name ? book.parse(slot.address) : undefined
  }

  /** What this host has, and does not only wait to give back. */
  #own(poolId: string, address: string): JournaledAddress | undefined {
    const own = this.#journal.address(poolId, address)
    return own?.release ? undefined : own
  }

  #isOurs({ host, owner }: ClusterAllocation, wanted: string): boolean {
    return host === this.#deps.host || (host === undefined && owner === wanted)
  }

  async #taken(holder: ClusterAllocation, poolId: string): Promise<Error> {
    const words = nameHolder(await asCalledNow(this.#deps, holder, poolId), this.#deps.host)
    return conflict(`address ${holder.address} is already used by ${words}`)
  }

  #book(poolId: string): ClusterBook {
    const book = this.#pools.book(poolId)
    if (!book) throw noPool(poolId)
    return book
  }

  /** Alone with an address, in the one way to write it. */
  #withAddress<T>(book: ClusterBook, value: bigint, work: (address: string) => Promise<T>): Promise<T> {
    const address = book.format(value)
    return this.#locks.with(addressKey(book.pool.id, address), () => work(address))
  }
}

async function unlessChanged(work: () => Promise<unknown>): Promise<boolean> {
  try {
    await work()
    return true
  } catch (error) {
    if (error instanceof StoreConflict) return false
    throw error
  }
}

async function unlessUnavailable(work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (!isUnavailable(error)) throw error
  }
}
