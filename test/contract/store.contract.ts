import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  absent,
  type Change,
  del,
  put,
  type Store,
  StoreCompacted,
  StoreConflict,
  unchanged,
} from '../../src/store/store.js'

export interface StoreUnderTest {
  store: Store
  /** Make the store forget all changes before its present revision. */
  compact(): Promise<void>
}

/**
 * What every store must do. A store may be shared with other users (etcd): tests keep to a prefix of their own, take no
 * revision to be the next one, and wait for what they expect instead of sleeping.
 */
export function storeContract(name: string, make: () => Promise<StoreUnderTest>): void {
  describe(name, () => {
    let store: Store
    let compact: StoreUnderTest['compact']
    let prefix: string
    let stop: AbortController
    beforeEach(async () => {
      ;({ store, compact } = await make())
      prefix = `test-${randomUUID()}/`
      stop = new AbortController()
    })
    afterEach(async () => {
      stop.abort()
      await store.close()
    })
    const key = (rest: string) => prefix + rest

    /** Changes as they come, flattened, until `count` of them are there. */
    async function collect(count: number, after: number, from = prefix): Promise<Change<unknown>[]> {
      const got: Change<unknown>[] = []
      for await (const batch of store.watch(from, after, stop.signal)) {
        got.push(...batch)
        if (got.length >= count) break
      }
      return got
    }

    test('what is put is got back with the revision of its transaction', async () => {
      const revision = await store.txn([], [put(key('a'), { n: 1, list: ['x', null] })])
      expect(await store.get(key('a'))).toEqual({ key: key('a'), value: { n: 1, list: ['x', null] }, revision })
    })

    test('an absent key is undefined', async () => {
      expect(await store.get(key('none'))).toBeUndefined()
    })

    test('falsy values are values', async () => {
      for (const value of [0, '', false, null]) {
        await store.txn([], [put(key('a'), value)])
        expect((await store.get(key('a')))?.value).toBe(value)
      }
    })

    test('what the caller does to a value afterwards does not reach the store', async () => {
      const value = { list: [1] }
      await store.txn([], [put(key('a'), value)])
      value.list.push(2)
      const got = await store.get<{ list: number[] }>(key('a'))
      got?.value.list.push(3)
      expect((await store.get(key('a')))?.value).toEqual({ list: [1] })
    })

    test('revisions grow, and a key keeps the revision of its own last change', async () => {
      const first = await store.txn([], [put(key('a'), 1)])
      const second = await store.txn([], [put(key('b'), 1)])
      expect(second).toBeGreaterThan(first)
      expect((await store.get(key('a')))?.revision).toBe(first)
      const third = await store.txn([], [put(key('a'), 1)])
      expect(third).toBeGreaterThan(second)
      expect((await store.get(key('a')))?.revision).toBe(third)
    })

    test('all operations of a transaction happen in one revision', async () => {
      await store.txn([], [put(key('old'), 1)])
      const revision = await store.txn([], [put(key('a'), 1), put(key('b'), 2), del(key('old'))])
      const { entries } = await store.list(prefix)
      expect(entries.map(e => [e.key, e.revision])).toEqual([
        [key('a'), revision],
        [key('b'), revision],
      ])
    })

    test('deleting an absent key is fine', async () => {
      const before = await store.txn([], [put(key('a'), 1)])
      expect(await store.txn([], [del(key('none'))])).toBeGreaterThanOrEqual(before)
    })

    test('a list is in key order, has the prefix only, and says its revision', async () => {
      for (const k of ['b', 'a/2', 'a/10', 'a', 'c/x']) await store.txn([], [put(key(k), k)])
      const revision = await store.txn([], [put(`${prefix.slice(0, -1)}-other`, 1)])
      const got = await store.list(prefix)
      expect(got.entries.map(e => e.value)).toEqual(['a', 'a/10', 'a/2', 'b', 'c/x'])
      expect(got.revision).toBeGreaterThanOrEqual(revision)
      expect((await store.list(key('a/'))).entries.map(e => e.value)).toEqual(['a/10', 'a/2'])
      expect((await store.list(key('zzz'))).entries).toEqual([])
    })

    test('create if absent succeeds once', async () => {
      await store.txn([absent(key('a'))], [put(key('a'), 'first')])
      const error = await store.txn([absent(key('a'))], [put(key('a'), 'second')]).catch(e => e)
      expect(error).toBeInstanceOf(StoreConflict)
      expect((error as StoreConflict).key).toBe(key('a'))
      expect((await store.get(key('a')))?.value).toBe('first')
    })

    test('change if unchanged fails after another change and after a deletion', async () => {
      await store.txn([], [put(key('a'), 1)])
      const seen = (await store.get(key('a')))!
      await store.txn([unchanged(seen)], [put(key('a'), 2)])
      await expect(store.txn([unchanged(seen)], [put(key('a'), 3)])).rejects.toBeInstanceOf(StoreConflict)
      const again = (await store.get(key('a')))!
      await store.txn([unchanged(again)], [del(key('a'))])
      await expect(store.txn([unchanged(again)], [put(key('a'), 4)])).rejects.toBeInstanceOf(StoreConflict)
      await store.txn([absent(key('a'))], [put(key('a'), 5)])
      await expect(store.txn([unchanged(again)], [del(key('a'))])).rejects.toBeInstanceOf(StoreConflict)
      expect((await store.get(key('a')))?.value).toBe(5)
    })

    test('a transaction whose condition fails writes nothing', async () => {
      await store.txn([], [put(key('taken'), 1)])
      const failing = store.txn([absent(key('free')), absent(key('taken'))], [put(key('free'), 1), del(key('taken'))])
      await expect(failing).rejects.toBeInstanceOf(StoreConflict)
      expect((await store.list(prefix)).entries.map(e => e.key)).toEqual([key('taken')])
    })

    test('a key twice in one transaction is refused', async () => {
      const twice = store.txn([], [put(key('a'), 1), del(key('a'))])
      await expect(twice).rejects.toMatchObject({ kind: 'InvalidParameter' })
      expect((await store.list(prefix)).entries).toEqual([])
    })

    test('of fifty that race to create a key one wins, and the others lose with StoreConflict', async () => {
      const got = await Promise.allSettled(
        Array.from({ length: 50 }, (_, i) =>
          store.txn([absent(key('a'))], [put(key('a'), i), put(key(`mine-${i}`), i)]),
        ),
      )
      const winners = got.flatMap((r, i) => (r.status === 'fulfilled' ? [i] : []))
      expect(winners).toHaveLength(1)
      for (const r of got) if (r.status === 'rejected') expect(r.reason).toBeInstanceOf(StoreConflict)
      const { entries } = await store.list(prefix)
      expect(entries.map(e => e.value)).toEqual([winners[0], winners[0]])
    })

    test('fifty increments by compare and change, all at once, add up', async () => {
      await store.txn([], [put(key('n'), 0)])
      const increment = async (): Promise<void> => {
        const seen = (await store.get<number>(key('n')))!
        try {
          await store.txn([unchanged(seen)], [put(key('n'), seen.value + 1)])
        } catch (error) {
          if (!(error instanceof StoreConflict)) throw error
          await increment()
        }
      }
      await Promise.all(Array.from({ length: 50 }, increment))
      expect((await store.get(key('n')))?.value).toBe(50)
    })

    test('transactions issued one after the other without waiting happen in that order', async () => {
      const revisions = await Promise.all(Array.from({ length: 100 }, (_, i) => store.txn([], [put(key('a'), i)])))
      expect(revisions).toEqual([...new Set(revisions)].sort((a, b) => a - b))
      expect((await store.get(key('a')))?.value).toBe(99)
    })

    test('a transaction issued at any moment of another is answered', async () => {
      for (let pause = 0; pause < 40; pause++) {
        const first = store.txn([], [put(key('a'), pause)])
        for (let i = 0; i < pause; i++) await null
        const second = store.txn([], [put(key('b'), pause)])
        expect(await second).toBeGreaterThan(await first)
      }
    })

    test('a watch tells what happens after its revision, one batch per transaction', async () => {
      const start = await store.txn([], [put(key('before'), 1)])
      const batches: Change<unknown>[][] = []
      const watching = (async () => {
        for await (const batch of store.watch(prefix, start, stop.signal)) if (batches.push(batch) === 3) return
      })()
      const one = await store.txn([], [put(key('a'), 'x'), put(key('b'), 'y')])
      await store.txn([], [put('elsewhere-of-the-contract', prefix)])
      const two = await store.txn([], [put(key('a'), 'z')])
      const three = await store.txn([], [del(key('a')), put(key('c'), 1)])
      await watching
      const sorted = batches.map(b => b.sort((p, q) => (p.key < q.key ? -1 : 1)))
      expect(sorted).toEqual([
        [
          { type: 'put', key: key('a'), value: 'x', revision: one },
          { type: 'put', key: key('b'), value: 'y', revision: one },
        ],
        [{ type: 'put', key: key('a'), value: 'z', revision: two }],
        [
          { type: 'delete', key: key('a'), revision: three },
          { type: 'put', key: key('c'), value: 1, revision: three },
        ],
      ])
    })

    test('a watch that starts late is told what it missed, and then what comes', async () => {
      const { revision } = await store.list(prefix)
      for (let i = 0; i < 20; i++) await store.txn([], [put(key(`${i}`), i)])
      const watching = collect(25, revision)
      for (let i = 20; i < 25; i++) await store.txn([], [put(key(`${i}`), i)])
      const got = await watching
      expect(got.map(c => (c.type === 'put' ? c.value : 'deleted'))).toEqual([...Array(25).keys()])
    })

    test('list, then watch from its revision, misses nothing and repeats nothing under writes', async () => {
      const writing = (async () => {
        for (let i = 0; i < 200; i++) await store.txn([], [put(key(`k${i % 7}`), i)])
      })()
      await store.txn([], [put(key('k0'), -1)])
      const { entries, revision } = await store.list<number>(prefix)
      const seen = new Map(entries.map(e => [e.key, e.value]))
      for await (const batch of store.watch<number>(prefix, revision, stop.signal)) {
        for (const change of batch) {
          expect(change.revision).toBeGreaterThan(revision)
          if (change.type === 'put') seen.set(change.key, change.value)
        }
        if ([...seen.values()].includes(199)) break
      }
      await writing
      const want = new Map((await store.list<number>(prefix)).entries.map(e => [e.key, e.value]))
      expect(seen).toEqual(want)
    })

    test('two watches of the same prefix are told the same', async () => {
      const { revision } = await store.list(prefix)
      const both = Promise.all([collect(3, revision), collect(3, revision)])
      await store.txn([], [put(key('a'), 1)])
      await store.txn([], [put(key('a'), 2)])
      await store.txn([], [del(key('a'))])
      const [one, two] = await both
      expect(one).toEqual(two)
      expect(one.map(c => c.type)).toEqual(['put', 'put', 'delete'])
    })

    test('an aborted watch ends without an error', async () => {
      const { revision } = await store.list(prefix)
      const watching = collect(1, revision)
      stop.abort()
      expect(await watching).toEqual([])
      expect(await collect(1, revision)).toEqual([])
    })

    test('a watch from before the last compaction says so, and from the present revision on it works', async () => {
      const old = await store.txn([], [put(key('a'), 1)])
      await store.txn([], [put(key('a'), 2)])
      await compact()
      await expect(collect(1, old)).rejects.toBeInstanceOf(StoreCompacted)
      const { entries, revision } = await store.list(prefix)
      expect(entries.map(e => e.value)).toEqual([2])
      const watching = collect(1, revision)
      await store.txn([], [put(key('a'), 3)])
      expect((await watching).map(c => c.type === 'put' && c.value)).toEqual([3])
    })

    test('a lease that is not kept alive takes its keys with it, and only those', async () => {
      const lease = await store.lease(1_000)
      await store.txn([], [{ type: 'put', key: key('leased'), value: 1, lease: lease.id }, put(key('kept'), 1)])
      const { revision } = await store.list(prefix)
      expect(await collect(1, revision)).toMatchObject([{ type: 'delete', key: key('leased') }])
      expect((await store.list(prefix)).entries.map(e => e.key)).toEqual([key('kept')])
      await expect(lease.keepAlive()).rejects.toMatchObject({ kind: 'NotFound' })
    })

    test('a lease that is kept alive lasts', async () => {
      const lease = await store.lease(2_000)
      await store.txn([], [{ type: 'put', key: key('leased'), value: 1, lease: lease.id }])
      for (let i = 0; i < 6; i++) {
        await new Promise(resolve => setTimeout(resolve, 500))
        await lease.keepAlive()
      }
      expect((await store.get(key('leased')))?.value).toBe(1)
      await lease.revoke()
    })

    test('revoking a lease deletes its keys at once, in one revision, and may be repeated', async () => {
      const lease = await store.lease(60_000)
      const { revision } = await store.list(prefix)
      for (const k of ['a', 'b']) await store.txn([], [{ type: 'put', key: key(k), value: 1, lease: lease.id }])
      await lease.revoke()
      expect((await store.list(prefix)).entries).toEqual([])
      const deletions = (await collect(4, revision)).filter(c => c.type === 'delete')
      expect(new Set(deletions.map(c => c.revision)).size).toBe(1)
      await lease.revoke()
      await expect(lease.keepAlive()).rejects.toMatchObject({ kind: 'NotFound' })
    })

    test('a key put again without its lease outlives it', async () => {
      const lease = await store.lease(60_000)
      await store.txn([], [{ type: 'put', key: key('a'), value: 1, lease: lease.id }])
      await store.txn([], [put(key('a'), 2)])
      await lease.revoke()
      expect((await store.get(key('a')))?.value).toBe(2)
    })

    test('a put with a lease that has ended is refused', async () => {
      const lease = await store.lease(60_000)
      await lease.revoke()
      const late = store.txn([], [{ type: 'put', key: key('a'), value: 1, lease: lease.id }])
      await expect(late).rejects.toMatchObject({ kind: 'NotFound' })
      expect(await store.get(key('a'))).toBeUndefined()
    })

    test('a closed store refuses, ends its watches, and may be closed again', async () => {
      const { revision } = await store.list(prefix)
      const watching = collect(1, revision).catch(error => error)
      await store.close()
      await store.close()
      expect(await watching).toMatchObject({ kind: 'Unavailable' })
      await expect(store.get(key('a'))).rejects.toMatchObject({ kind: 'Unavailable' })
      await expect(store.txn([], [put(key('a'), 1)])).rejects.toMatchObject({ kind: 'Unavailable' })
    })
  })
}
