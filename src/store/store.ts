import { NetError } from '../errors.js'

/**
 * What tsnet keeps: a key-value store with one global, ever-growing revision, the shape of etcd's
 * (https://etcd.io/docs/v3.5/learning/api/) so that etcd and the embedded store are one interface.
 *
 * Keys are paths without a leading slash (`network/<id>`). Values are JSON-serialisable; each store wraps them
 * with a schema version. Revisions are whole numbers; a key's revision is that of the transaction that last wrote it.
 */
export interface Store {
  get<T>(key: string): Promise<Entry<T> | undefined>
  /** Every key that starts with `prefix`, in key order, and the revision at which that was so. */
  list<T>(prefix: string): Promise<{ entries: Entry<T>[]; revision: number }>
  /**
   * All operations or none, in one revision, which is returned once the change is durable against the death of this process.
   * @throws {StoreConflict} a condition did not hold; nothing was written
   */
  txn(conditions: readonly Condition[], operations: readonly Operation[]): Promise<number>
  /**
   * Changes with a revision greater than `afterRevision`, one batch per transaction, until `signal` aborts.
   * @throws {StoreCompacted} the store no longer knows that far back, or has not come that far (it was restored from a
   *   backup): list again and watch from there
   */
  watch<T>(prefix: string, afterRevision: number, signal: AbortSignal): AsyncIterable<Change<T>[]>
  /** Keys put with this lease are deleted when it ends: not kept alive for `ttlMs`, or revoked. */
  lease(ttlMs: number): Promise<Lease>
  close(): Promise<void>
}

export interface Entry<T> {
  key: string
  value: T
  revision: number
}

/**
 * `revision` 0: the key does not exist. Otherwise: the key is still as that revision wrote it.
 * `emptyPrefix`: no key starts with it.
 */
export type Condition = { key: string; revision: number } | { emptyPrefix: string }

export type Operation =
  | { type: 'put'; key: string; value: unknown; lease?: string }
  /** absent keys are fine */
  | { type: 'delete'; key: string }

/** One part of a transaction that another part of the program carries out: what is to be written together cannot come apart. */
export interface TxnPart {
  /** asked for when it is carried out */
  conditions(): readonly Condition[]
  readonly operations: readonly Operation[]
  /** It is written, in this revision. */
  done(revision: number): void
}

export type Change<T> =
  | { type: 'put'; key: string; value: T; revision: number }
  | { type: 'delete'; key: string; revision: number }

export interface Lease {
  readonly id: string
  /** Start the time to live again. @throws {NetError} NotFound: it has ended already */
  keepAlive(): Promise<void>
  revoke(): Promise<void>
}

export const put = (key: string, value: unknown): Operation => ({ type: 'put', key, value })
export const del = (key: string): Operation => ({ type: 'delete', key })
export const absent = (key: string): Condition => ({ key, revision: 0 })
export const empty = (prefix: string): Condition => ({ emptyPrefix: prefix })
export const unchanged = (entry: Entry<unknown>): Condition => ({ key: entry.key, revision: entry.revision })

/** Somebody else was quicker: the one error for a lost race, whatever the store. `key` is the first condition that did not hold. */
export class StoreConflict extends NetError {
  override readonly name = 'StoreConflict'
  constructor(readonly key: string) {
    super('Conflict', `${key} was changed by somebody else`)
  }
}

/** A watch cannot tell all that happened after the revision it was asked for: the sentence says why. List again. */
export class StoreCompacted extends NetError {
  override readonly name = 'StoreCompacted'
  constructor(why: string) {
    super('Unavailable', why)
  }
}

/** It was put back to a backup: what this process has written since may be gone, and what it has deleted may be there again. */
export class StorePutBack extends StoreCompacted {
  constructor(revision: number) {
    super(`the store was put back to a backup from before revision ${revision}`)
  }
}

export const forgottenBefore = (oldestRevision: number): StoreCompacted =>
  new StoreCompacted(`changes before revision ${oldestRevision} are forgotten`)
