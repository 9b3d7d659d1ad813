import { kindOf } from '../errors.js'
import type { Store } from './store.js'

/** The same store, of which somebody else is told when it has not answered a call. Watches tell whoever watches. */
export function noticing(store: Store, unanswered: (error: unknown) => void): Store {
  const telling = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work
    } catch (error) {
      if (kindOf(error) === 'Unavailable') unanswered(error)
      throw error
    }
  }
  return {
    get: key => telling(store.get(key)),
    list: prefix => telling(store.list(prefix)),
    txn: (conditions, operations) => telling(store.txn(conditions, operations)),
    lease: ttlMs => telling(store.lease(ttlMs)),
    watch: (...args) => store.watch(...args),
    close: () => store.close(),
  }
}
