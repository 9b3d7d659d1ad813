import { unavailable } from '../errors.js'
import { type Condition, type Store, StoreConflict } from './store.js'

/** A key that is written anew whenever its writer begins again, as that last wrote it. */
export type Fence = Extract<Condition, { key: string }>

/**
 * The same store, which carries out a transaction only while the fence is as it was when that was asked for. A transaction that
 * got no answer may be carried out later, even seconds later; whoever then writes the fence anew knows that it no longer can
 * be, and that what is read from then on is final.
 */
export function fenced(store: Store, fence: () => Fence | undefined): Store {
  return {
    get: key => store.get(key),
    list: prefix => store.list(prefix),
    watch: (...args) => store.watch(...args),
    lease: ttlMs => store.lease(ttlMs),
    close: () => store.close(),
    async txn(conditions, operations) {
      for (;;) {
        const asked = fence()
        try {
          return await store.txn(asked === undefined ? conditions : [asked, ...conditions], operations)
        } catch (error) {
          if (!(error instanceof StoreConflict) || error.key !== asked?.key) throw error
          // nothing was written; with the new fence it is as if it were asked for now
          if (fence() === asked) throw unavailable(`${asked.key} is no longer this process's`, { cause: error })
        }
      }
    },
  }
}
