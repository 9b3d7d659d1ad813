import { describe, expect, test } from 'vitest'
import { absent, del, empty, put, StoreConflict, unchanged } from '../../src/store/store.js'
import { type StoreUnderTest, useStore } from '../helpers/store.js'
import { watchContract } from './store-watch.contract.js'

/**
 * What every store must do. A store may be shared with other users (etcd): tests keep to a prefix of their own, take no
 * revision to be the next one, and wait for what they expect instead of sleeping.
 */
export function storeContract(name: string, make: () => Promise<StoreUnderTest>): void {
  describe(name, () => {
    const world = useStore(make)
    const { key, collect } = world

    test('what is put is got back with the revision of its transaction', async () => {
      const revision = await world.store.txn([], [put(key('a'), { n: 1, list: ['x', null] })])
      expect(await world.store.get(key('a'))).toEqual({ key: key('a'), value: { n: 1, list: ['x', null] }, revision })
    })

    test('an absent key is undefined', async () => {
      expect(await world.store.get(key('none'))).toBeUndefined()
    })

    test('falsy values are values', async () => {
      for (const value of [0, '', false, null]) {
        await world.store.txn([], [put(key('a'), value)])
        expect((await world.store.get(key('a')))?.value).toBe(value)
      }
    })

    test('what the caller does to a value afterwards does not reach the store', async () => {
      const value = { list: [1] }
      await world.store.txn([], [put(key('a'), value)])
      value.list.push(2)
      const got = await world.store.get<{ list: number[] }>(key('a'))
      got?.value.list.push(3)
      expect((await world.store.get(key('a')))?.value).toEqual({ list: [1] })
    })

    test('revisions grow, and a key keeps the revision of its own last change', async () => {
      const first = await world.store.txn([], [put(key('a'), 1)])
      const second = await world.store.txn([], [put(key('b'), 1)])
      expect(second).toBeGreaterThan(first)
      expect((await world.store.get(key('a')))?.revision).toBe(first)
      const third = await world.store.txn([], [put(key('a'), 1)])
      expect(third).toBeGreaterThan(second)
      expect((await world.store.get(key('a')))?.revision).toBe(third)
    })

    test('all operations of a transaction happen in one revision', async () => {
      await world.store.txn([], [put(key('old'), 1)])
      const revision = await world.store.txn([], [put(key('a'), 1), put(key('b'), 2), del(key('old'))])
      const { entries } = await world.store.list(world.prefix)
      expect(entries.map(e => [e.key, e.revision])).toEqual([
        [key('a'), revision],
        [key('b'), revision],
      ])
    })

    test('deleting an absent key is fine', async () => {
      const before = await world.store.txn([], [put(key('a'), 1)])
      expect(await world.store.txn([], [del(key('none'))])).toBeGreaterThanOrEqual(before)
    })

    test('a list is in key order, has the prefix only, and says its revision', async () => {
      for (const k of ['b', 'a/2', 'a/10', 'a', 'c/x']) await world.store.txn([], [put(key(k), k)])
      const revision = await world.store.txn([], [put(`${world.prefix.slice(0, -1)}-other`, 1)])
      const got = await world.store.list(world.prefix)
      expect(got.entries.map(e => e.value)).toEqual(['a', 'a/10', 'a/2', 'b', 'c/x'])
      expect(got.revision).toBeGreaterThanOrEqual(revision)
      expect((await world.store.list(key('a/'))).entries.map(e => e.value)).toEqual(['a/10', 'a/2'])
      expect((await world.store.list(key('zzz'))).entries).toEqual([])
    })

    test('create if absent succeeds once', async () => {
      await world.store.txn([absent(key('a'))], [put(key('a'), 'first')])
      const error = await world.store.txn([absent(key('a'))], [put(key('a'), 'second')]).catch(e => e)
      expect(error).toBeInstanceOf(StoreConflict)
      expect((error as StoreConflict).key).toBe(key('a'))
      expect((await world.store.get(key('a')))?.value).toBe('first')
    })

    test('change if unchanged fails after another change and after a deletion', async () => {
      await world.store.txn([], [put(key('a'), 1)])
      const seen = (await world.store.get(key('a')))!
      await world.store.txn([unchanged(seen)], [put(key('a'), 2)])
      await expect(world.store.txn([unchanged(seen)], [put(key('a'), 3)])).rejects.toBeInstanceOf(StoreConflict)
      const again = (await world.store.get(key('a')))!
      await world.store.txn([unchanged(again)], [del(key('a'))])
      await expect(world.store.txn([unchanged(again)], [put(key('a'), 4)])).rejects.toBeInstanceOf(StoreConflict)
      await world.store.txn([absent(key('a'))], [put(key('a'), 5)])
      await expect(world.store.txn([unchanged(again)], [del(key('a'))])).rejects.toBeInstanceOf(StoreConflict)
      expect((await world.store.get(key('a')))?.value).toBe(5)
    })

    test('a transaction whose condition fails writes nothing', async () => {
      await world.store.txn([], [put(key('taken'), 1)])
      const failing = world.store.txn(
        [absent(key('free')), absent(key('taken'))],
        [put(key('free'), 1), del(key('taken'))],
      )
      await expect(failing).rejects.toBeInstanceOf(StoreConflict)
      expect((await world.store.list(world.prefix)).entries.map(e => e.key)).toEqual([key('taken')])
    })

    test('a key twice in one transaction is refused', async () => {
      const twice = world.store.txn([], [put(key('a'), 1), del(key('a'))])
      await expect(twice).rejects.toMatchObject({ kind: 'InvalidParameter' })
      expect((await world.store.list(world.prefix)).entries).toEqual([])
    })

    test('of fifty that race to create a key one wins, and the others lose with StoreConflict', async () => {
      const got = await Promise.allSettled(
        Array.from({ length: 50 }, (_, i) =>
          world.store.txn([absent(key('a'))], [put(key('a'), i), put(key(`mine-${i}`), i)]),
        ),
      )
      const winners = got.flatMap((r, i) => (r.status === 'fulfilled' ? [i] : []))
      expect(winners).toHaveLength(1)
      for (const r of got) if (r.status === 'rejected') expect(r.reason).toBeInstanceOf(StoreConflict)
      const { entries } = await world.store.list(world.prefix)
      expect(entries.map(e => e.value)).toEqual([winners[0], winners[0]])
    })

    test('fifty increments by compare and change, all at once, add up', async () => {
      await world.store.txn([], [put(key('n'), 0)])
      const increment = async (): Promise<void> => {
        const seen = (await world.store.get<number>(key('n')))!
        try {
          await world.store.txn([unchanged(seen)], [put(key('n'), seen.value + 1)])
        } catch (error) {
          if (!(error instanceof StoreConflict)) throw error
          await increment()
        }
      }
      await Promise.all(Array.from({ length: 50 }, increment))
      expect((await world.store.get(key('n')))?.value).toBe(50)
    })

    test('a transaction that asks for an empty prefix succeeds while nothing has it, and names it when something has', async () => {
      await world.store.txn([], [put(key('net'), 1), put(key('net-other/x'), 1)])
      await world.store.txn([empty(key('net/'))], [put(key('net/a'), 1)])
      const second = await world.store.txn([absent(key('b')), empty(key('net/'))], [put(key('b'), 1)]).catch(e => e)
      expect(second).toBeInstanceOf(StoreConflict)
      expect((second as StoreConflict).key).toBe(key('net/'))
      expect(await world.store.get(key('b'))).toBeUndefined()
      await world.store.txn([], [del(key('net/a'))])
      await world.store.txn([empty(key('net/'))], [del(key('net'))])
      expect(await world.store.get(key('net'))).toBeUndefined()
    })

    test('a conflict names the first condition that does not hold', async () => {
      await world.store.txn([], [put(key('a'), 1), put(key('b'), 1), put(key('c/d'), 1)])
      const a = (await world.store.get(key('a')))!
      const conflictOf = (...conditions: Parameters<typeof world.store.txn>[0]) =>
        world.store.txn(conditions, [put(key('x'), 1)]).then(
          () => 'none',
          error => (error as StoreConflict).key,
        )
      expect(await conflictOf(unchanged(a), absent(key('b')), empty(key('c/')))).toBe(key('b'))
      expect(await conflictOf(empty(key('c/')), absent(key('b')))).toBe(key('c/'))
      expect(await conflictOf({ key: key('none'), revision: a.revision }, absent(key('b')))).toBe(key('none'))
      expect(await conflictOf({ key: key('a'), revision: a.revision - 1 })).toBe(key('a'))
      expect((await world.store.list(world.prefix)).entries.map(e => e.key)).not.toContain(key('x'))
    })

    test('conditions alone are a question: they hold or they do not, and nothing is written', async () => {
      const { revision } = await world.store.list(world.prefix)
      expect(await world.store.txn([absent(key('a'))], [])).toBeGreaterThanOrEqual(revision)
      await world.store.txn([], [put(key('a'), 1)])
      await expect(world.store.txn([absent(key('a'))], [])).rejects.toBeInstanceOf(StoreConflict)
    })

    test('of twenty that race to take an empty prefix one wins', async () => {
      const take = (i: number) => world.store.txn([empty(key('net/'))], [put(key(`net/${i}`), i)])
      const got = await Promise.allSettled(Array.from({ length: 20 }, (_, i) => take(i)))
      expect(got.filter(r => r.status === 'fulfilled')).toHaveLength(1)
      expect((await world.store.list(key('net/'))).entries).toHaveLength(1)
    })

    test('keys and values of all characters come back as they were', async () => {
      const keys = ['a b', 'ä/ö', '日本', '%2F', 'q?x=1#y', 'z\u{10ffff}']
      for (const k of keys) await world.store.txn([], [put(key(k), { [k]: `${k}\n\u0000"` })])
      const { entries } = await world.store.list<Record<string, string>>(world.prefix)
      expect(entries.map(e => e.key).sort()).toEqual(keys.map(key).sort())
      for (const k of keys) expect((await world.store.get(key(k)))?.value).toEqual({ [k]: `${k}\n\u0000"` })
    })

    test('thousands of keys are listed in order, each once', async () => {
      const keys = Array.from({ length: 2_500 }, (_, i) => key(`many/${String(i).padStart(5, '0')}`))
      for (let at = 0; at < keys.length; at += 100)
        await world.store.txn(
          [],
          keys.slice(at, at + 100).map(k => put(k, k)),
        )
      expect((await world.store.list(key('many/'))).entries.map(e => e.value)).toEqual(keys)
    })

    test('a closed store refuses, ends its watches, and may be closed again', async () => {
      const { revision } = await world.store.list(world.prefix)
      const watching = collect(1, revision).catch(error => error)
      await world.store.close()
      await world.store.close()
      expect(await watching).toMatchObject({ kind: 'Unavailable' })
      await expect(world.store.get(key('a'))).rejects.toMatchObject({ kind: 'Unavailable' })
      await expect(world.store.txn([], [put(key('a'), 1)])).rejects.toMatchObject({ kind: 'Unavailable' })
    })

    watchContract(world)
  })
}
