import { del, put, type Store } from '../store/store.js'
import type { Sandbox } from './types.js'

const prefix = 'sandbox-intent/'
export const intentKey = ({ id }: Sandbox): string => prefix + id

/**
 * Namespaces that are about to be made. A namespace bears no mark of ours, so without this nobody could tell after a crash, or
 * a failure, whose it is.
 */
export class SandboxIntents {
  readonly #store: Store
  /** under way in this process, and so no leftovers */
  readonly #underWay = new Set<string>()

  constructor(store: Store) {
    this.#store = store
  }

  /** Ends with the sandbox's record or with `forget`. */
  async add(sandbox: Sandbox): Promise<void> {
    this.#underWay.add(sandbox.id)
    await this.#store.txn([], [put(intentKey(sandbox), sandbox)])
  }

  /** It is under way no more: what is left of it is a leftover, whoever gets to it first. */
  abandon({ id }: Sandbox): void {
    this.#underWay.delete(id)
  }

  async forget(sandbox: Sandbox): Promise<void> {
    await this.#store.txn([], [del(intentKey(sandbox))])
  }

  async leftovers(): Promise<Sandbox[]> {
    const { entries } = await this.#store.list<Sandbox>(prefix)
    return entries.map(entry => entry.value).filter(({ id }) => !this.#underWay.has(id))
  }
}
