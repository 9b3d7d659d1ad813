import { setTimeout as sleep } from 'node:timers/promises'
import { notFound, unavailable } from '../../src/errors.js'
import {
  type Change,
  type Condition,
  type Lease,
  type Operation,
  type Store,
  StoreCompacted,
} from '../../src/store/store.js'

/** One host's way to the store: it can be cut off, and answers can be lost or late. */
export class Line implements Store {
  #cut = new AbortController()
  #isCut = false
  #compacted = false
  #leases = 0
  #endedLeases = 0
  /** how many there have been */
  watches = 0
  /** instead of the next answer to a transaction, which has been carried out */
  loseAnswers = 0
  lateMs = 0

  constructor(readonly store: Store) {}

  cut(): void {
    this.#isCut = true
    this.#compacted = false
    this.#cut.abort()
  }

  mend(): void {
    this.#isCut = false
    this.#cut = new AbortController()
  }

  get = <T>(key: string) => this.#call(() => this.store.get<T>(key))
  list = <T>(prefix: string) => this.#call(() => this.store.list<T>(prefix))
  txn = (conditions: readonly Condition[], operations: readonly Operation[]) =>
    this.#call(async () => {
      const revision = await this.store.txn(conditions, operations)
      if (this.loseAnswers > 0) {
        this.loseAnswers--
        throw unavailable('the answer was lost')
      }
      return revision
    })

  /** End every watch as a store does that has forgotten what comes next. */
  compact(): void {
    this.#compacted = true
    this.#cut.abort()
    this.#cut = new AbortController()
  }

  async *watch<T>(prefix: string, afterRevision: number, signal: AbortSignal): AsyncGenerator<Change<T>[]> {
    const cut = this.#cut.signal
    this.watches++
    yield* this.store.watch<T>(prefix, afterRevision, AbortSignal.any([signal, cut]))
    if (signal.aborted) return
    throw this.#compacted
      ? new StoreCompacted(`changes before revision ${afterRevision + 1} are forgotten`)
      : unavailable('the line is cut')
  }

  /** As a store does whose leases have run out while nothing was heard. */
  endLeases(): void {
    this.#endedLeases = this.#leases
  }

  lease = async (ttlMs: number): Promise<Lease> => {
    const lease = await this.#call(() => this.store.lease(ttlMs))
    const nth = ++this.#leases
    return {
      id: lease.id,
      keepAlive: () =>
        this.#call(async () => {
          if (nth <= this.#endedLeases) throw notFound('the lease has ended')
          await lease.keepAlive()
        }),
      revoke: () => this.#call(() => lease.revoke()),
    }
  }

  close = async (): Promise<void> => {}

  async #call<T>(work: () => Promise<T>): Promise<T> {
    if (this.lateMs > 0) await sleep(this.lateMs)
    if (this.#isCut) throw unavailable('the line is cut')
    const result = await work()
    if (this.#isCut) throw unavailable('the line is cut')
    return result
  }
}
