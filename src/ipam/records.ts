import { createHash } from 'node:crypto'
import { del, type Entry, type Operation, put, type Store } from '../store/store.js'
import { type Held, PoolBook, siblingOf } from './book.js'
import type { Allocation, Pool } from './types.js'

// How pools and addresses lie in the store: one key each.

const root = 'ipam/'
export const poolPrefix = `${root}pool/`
export const addressPrefix = `${root}address/`
export const namePrefix = `${root}name/`

/** Written with every new pool, so that two hosts that add pools at the same time notice each other. */
export const guardKey = `${root}pools`
export const poolKey = (poolId: string): string => poolPrefix + poolId
export const addressKey = (poolId: string, address: string): string => `${addressPrefix}${poolId}/${address}`
/** Hashed, because a name may hold anything and be of any length. */
const nameKey = (poolId: string, name: string): string =>
  `${namePrefix}${poolId}/${createHash('sha256').update(name).digest('hex').slice(0, 32)}`

/** The address that was last released under a name. */
export interface RememberedName {
  name: string
  address: string
}

/** What to write when an address is released: under its name it is remembered, and the oldest name is forgotten for it. */
export function rememberName(book: PoolBook, { name, value, address }: Held): Operation[] {
  if (name === undefined) return []
  const poolId = book.pool.id
  const forgotten = book.remember(name, value).map(old => del(nameKey(poolId, old)))
  return [put(nameKey(poolId, name), { name, address } satisfies RememberedName), ...forgotten]
}

/**
 * The books of the pools in the store, but those in `books` already, which know more than the store does.
 * Addresses without a pool are deleted: the release of their pool was cut short.
 */
export async function loadBooks(
  store: Store,
  books: ReadonlyMap<string, PoolBook>,
  coolDownMs: number,
): Promise<Map<string, PoolBook>> {
  const { entries } = await store.list<unknown>(root)
  // By age, so that pools are listed, and names forgotten, in the order in which they came.
  entries.sort((a, b) => a.revision - b.revision)
  const loaded = new Map<string, PoolBook>()
  for (const { value, revision } of entries.filter(isUnder(poolPrefix))) {
    const pool = value as Pool
    const sibling = siblingOf(pool, [...books.values(), ...loaded.values()])
    if (!books.has(pool.id)) loaded.set(pool.id, new PoolBook(pool, revision, coolDownMs, sibling))
  }
  const orphans: string[] = []
  const bookOf = ({ key }: Entry<unknown>): PoolBook | undefined => {
    const poolId = key.split('/')[2] ?? ''
    if (!loaded.has(poolId) && !books.has(poolId)) orphans.push(key)
    return loaded.get(poolId)
  }
  for (const entry of entries.filter(isUnder(addressPrefix))) {
    const stored = entry.value as Allocation
    const book = bookOf(entry)
    if (book) book.take(book.parse(stored.address), stored).revision = entry.revision
  }
  for (const entry of entries.filter(isUnder(namePrefix))) {
    const { name, address } = entry.value as RememberedName
    const book = bookOf(entry)
    book?.remember(name, book.parse(address))
  }
  await deleteKeys(store, orphans)
  return loaded
}

/**
 * Delete a pool and what lies under it: in one transaction, but for what is more than that holds, or comes at the last moment. No
 * address can be added to a pool that is no more, and load() removes what a crash leaves.
 */
export async function deletePool(store: Store, poolId: string): Promise<void> {
  const records = await keysOfPool(store, poolId)
  await store.txn([], [poolKey(poolId), ...records.slice(0, deletesAtOnce)].map(del))
  await deletePoolRecords(store, poolId)
}

/** Delete what lies under a pool, once the pool's own key is gone. */
export async function deletePoolRecords(store: Store, poolId: string): Promise<void> {
  await deleteKeys(store, await keysOfPool(store, poolId))
}

async function keysOfPool(store: Store, poolId: string): Promise<string[]> {
  const lists = await Promise.all([addressPrefix, namePrefix].map(prefix => store.list(`${prefix}${poolId}/`)))
  return lists.flatMap(({ entries }) => entries.map(({ key }) => key))
}

/** etcd takes 128 operations in a transaction unless told otherwise. */
const deletesAtOnce = 100

export async function deleteKeys(store: Store, keys: readonly string[]): Promise<void> {
  for (let i = 0; i < keys.length; i += deletesAtOnce) await store.txn([], keys.slice(i, i + deletesAtOnce).map(del))
}

const isUnder =
  (prefix: string) =>
  ({ key }: Entry<unknown>): boolean =>
    key.startsWith(prefix)
