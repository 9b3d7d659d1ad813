import { unavailable } from '../errors.js'
import { EmbeddedStore, nothing } from './core.js'
import type { Condition, Entry, Lease, Operation } from './store.js'

/** When a call that is told to fail does so: before anything is written, or after, as when the answer gets lost. */
export type Fault = 'before' | 'after'

export interface Call {
  /** 1 for the first call on this store */
  nth: number
  method: 'get' | 'list' | 'txn' | 'lease'
}

/** The store that forgets, for tests: the same rules as lmdb, and it fails when told to. */
export class MemoryStore extends EmbeddedStore {
  /** Asked at every call; what it returns makes that call fail with Unavailable. */
  fault: (call: Call) => Fault | undefined = () => undefined
  #calls = 0

  constructor() {
    super({ write: async () => {}, close: async () => {} }, nothing())
  }

  /** How many calls there have been. */
  get calls(): number {
    return this.#calls
  }

  override get<T>(key: string): Promise<Entry<T> | undefined> {
    return this.#call('get', () => super.get<T>(key))
  }

  override list<T>(prefix: string): Promise<{ entries: Entry<T>[]; revision: number }> {
    return this.#call('list', () => super.list<T>(prefix))
  }

  override txn(conditions: readonly Condition[], operations: readonly Operation[]): Promise<number> {
    return this.#call('txn', () => super.txn(conditions, operations))
  }

  override lease(ttlMs: number): Promise<Lease> {
    return this.#call('lease', () => super.lease(ttlMs))
  }

  async #call<T>(method: Call['method'], work: () => Promise<T>): Promise<T> {
    const nth = ++this.#calls
    const fault = this.fault({ nth, method })
    if (fault === 'before') throw unavailable(`the store failed call ${nth} (${method}) as told`)
    const result = await work()
    if (fault === 'after') throw unavailable(`the store lost the answer to call ${nth} (${method}) as told`)
    return result
  }
}
