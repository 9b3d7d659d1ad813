import { setTimeout as sleep } from 'node:timers/promises'
import { type Change, type Entry, type Store, StoreCompacted, StorePutBack } from '../store/store.js'

export interface Listing<T> {
  entries: Entry<T>[]
  revision: number
}

export interface Following<T> {
  store: Store
  prefix: string
  list: () => Promise<Listing<T>>
  /** everything, at first and whenever changes may have been missed */
  reset: (entries: Entry<T>[]) => void
  apply: (changes: Change<T>[]) => void
  signal: AbortSignal
  /** it cannot be listed again, or is another one than it was */
  failed: (error: unknown) => void
}

/** Between a watch that broke and the next listing, lest one that breaks at once keeps the store busy. */
const relistMs = 200

/**
 * Know everything below a prefix, without a gap between the listing and the watch. Returns when the listing is in.
 * @throws what `list` throws the first time
 */
export async function follow<T>({ store, prefix, list, reset, apply, signal, failed }: Following<T>): Promise<void> {
  const read = async (): Promise<number> => {
    const { entries, revision } = await list()
    if (!signal.aborted) reset(entries)
    return revision
  }
  const watch = async (revision: number): Promise<void> => {
    try {
      for await (const changes of store.watch<T>(prefix, revision, signal)) {
        if (signal.aborted) return
        apply(changes)
      }
    } catch (error) {
      // more than this prefix has to be compared again
      if (error instanceof StorePutBack) throw error
      if (!(error instanceof StoreCompacted)) await sleep(relistMs)
    }
  }
  const keepOn = async (first: number): Promise<void> => {
    for (let revision = first; !signal.aborted; revision = await read()) {
      await watch(revision)
      if (signal.aborted) return
    }
  }
  keepOn(await read()).catch(failed)
}
