import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach } from 'vitest'
import type { Change, Store } from '../../src/store/store.js'

export interface StoreUnderTest {
  store: Store
  /** Make the store forget all changes before its present revision. */
  compact(): Promise<void>
}

/** A store for each test, and a prefix that nobody else uses. */
export class StoreWorld {
  store!: Store
  compact!: StoreUnderTest['compact']
  prefix!: string
  stop!: AbortController

  readonly key = (rest: string): string => this.prefix + rest

  /** Changes as they come, flattened, until `count` of them are there. */
  readonly collect = async (count: number, after: number, from = this.prefix): Promise<Change<unknown>[]> => {
    const got: Change<unknown>[] = []
    for await (const batch of this.store.watch(from, after, this.stop.signal)) {
      got.push(...batch)
      if (got.length >= count) break
    }
    return got
  }
}

export function useStore(make: () => Promise<StoreUnderTest>): StoreWorld {
  const world = new StoreWorld()
  beforeEach(async () => {
    Object.assign(world, await make(), { prefix: `test-${randomUUID()}/`, stop: new AbortController() })
  })
  afterEach(async () => {
    world.stop.abort()
    await world.store.close()
  })
  return world
}
