import { describe, expect, test } from 'vitest'
import { put } from '../../src/store/store.js'
import { type StoreUnderTest, useStore } from '../helpers/store.js'

/** What the embedded stores promise besides: one process, one queue. etcd carries out what is under way in any order. */
export function orderContract(name: string, make: () => Promise<StoreUnderTest>): void {
  describe(`${name}, in order`, () => {
    const world = useStore(make)
    const { key } = world

    test('transactions issued one after the other without waiting happen in that order', async () => {
      const revisions = await Promise.all(
        Array.from({ length: 100 }, (_, i) => world.store.txn([], [put(key('a'), i)])),
      )
      expect(revisions).toEqual([...new Set(revisions)].sort((a, b) => a - b))
      expect((await world.store.get(key('a')))?.value).toBe(99)
    })

    test('a transaction issued at any moment of another is answered', async () => {
      for (let pause = 0; pause < 40; pause++) {
        const first = world.store.txn([], [put(key('a'), pause)])
        for (let i = 0; i < pause; i++) await null
        const second = world.store.txn([], [put(key('b'), pause)])
        expect(await second).toBeGreaterThan(await first)
      }
    })
  })
}
