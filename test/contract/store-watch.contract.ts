import { expect, test } from 'vitest'
import { type Change, del, put, StoreCompacted } from '../../src/store/store.js'
import type { StoreWorld } from '../helpers/store.js'

/** The part of the contract that is about time: watches and leases. */
export function watchContract(world: StoreWorld): void {
  const { key, collect } = world

  test('a watch tells what happens after its revision, one batch per transaction', async () => {
    const start = await world.store.txn([], [put(key('before'), 1)])
    const batches: Change<unknown>[][] = []
    const watching = (async () => {
      for await (const batch of world.store.watch(world.prefix, start, world.stop.signal))
        if (batches.push(batch) === 3) return
    })()
    const one = await world.store.txn([], [put(key('a'), 'x'), put(key('b'), 'y')])
    await world.store.txn([], [put('elsewhere-of-the-contract', world.prefix)])
    const two = await world.store.txn([], [put(key('a'), 'z')])
    const three = await world.store.txn([], [del(key('a')), put(key('c'), 1)])
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
    const { revision } = await world.store.list(world.prefix)
    for (let i = 0; i < 20; i++) await world.store.txn([], [put(key(`${i}`), i)])
    const watching = collect(25, revision)
    for (let i = 20; i < 25; i++) await world.store.txn([], [put(key(`${i}`), i)])
    const got = await watching
    expect(got.map(c => (c.type === 'put' ? c.value : 'deleted'))).toEqual([...Array(25).keys()])
  })

  test('list, then watch from its revision, misses nothing and repeats nothing under writes', async () => {
    const writing = (async () => {
      for (let i = 0; i < 200; i++) await world.store.txn([], [put(key(`k${i % 7}`), i)])
    })()
    await world.store.txn([], [put(key('k0'), -1)])
    const { entries, revision } = await world.store.list<number>(world.prefix)
    const seen = new Map(entries.map(e => [e.key, e.value]))
    for await (const batch of world.store.watch<number>(world.prefix, revision, world.stop.signal)) {
      for (const change of batch) {
        expect(change.revision).toBeGreaterThan(revision)
        if (change.type === 'put') seen.set(change.key, change.value)
      }
      if ([...seen.values()].includes(199)) break
    }
    await writing
    const want = new Map((await world.store.list<number>(world.prefix)).entries.map(e => [e.key, e.value]))
    expect(seen).toEqual(want)
  })

  test('two watches of the same prefix are told the same', async () => {
    const { revision } = await world.store.list(world.prefix)
    const both = Promise.all([collect(3, revision), collect(3, revision)])
    await world.store.txn([], [put(key('a'), 1)])
    await world.store.txn([], [put(key('a'), 2)])
    await world.store.txn([], [del(key('a'))])
    const [one, two] = await both
    expect(one).toEqual(two)
    expect(one.map(c => c.type)).toEqual(['put', 'put', 'delete'])
  })

  test('an aborted watch ends without an error', async () => {
    const { revision } = await world.store.list(world.prefix)
    const watching = collect(1, revision)
    world.stop.abort()
    expect(await watching).toEqual([])
    expect(await collect(1, revision)).toEqual([])
  })

  test('a watch from before the last compaction says so, and from the present revision on it works', async () => {
    const old = await world.store.txn([], [put(key('a'), 1)])
    await world.store.txn([], [put(key('a'), 2)])
    await world.compact()
    await expect(collect(1, old)).rejects.toBeInstanceOf(StoreCompacted)
    const { entries, revision } = await world.store.list(world.prefix)
    expect(entries.map(e => e.value)).toEqual([2])
    const watching = collect(1, revision)
    await world.store.txn([], [put(key('a'), 3)])
    expect((await watching).map(c => c.type === 'put' && c.value)).toEqual([3])
  })

  test('a lease that is not kept alive takes its keys with it, and only those', async () => {
    const lease = await world.store.lease(1_000)
    await world.store.txn([], [{ type: 'put', key: key('leased'), value: 1, lease: lease.id }, put(key('kept'), 1)])
    const { revision } = await world.store.list(world.prefix)
    expect(await collect(1, revision)).toMatchObject([{ type: 'delete', key: key('leased') }])
    expect((await world.store.list(world.prefix)).entries.map(e => e.key)).toEqual([key('kept')])
    await expect(lease.keepAlive()).rejects.toMatchObject({ kind: 'NotFound' })
  })

  test('a lease that is kept alive lasts', async () => {
    const lease = await world.store.lease(2_000)
    await world.store.txn([], [{ type: 'put', key: key('leased'), value: 1, lease: lease.id }])
    for (let i = 0; i < 6; i++) {
      await new Promise(resolve => setTimeout(resolve, 500))
      await lease.keepAlive()
    }
    expect((await world.store.get(key('leased')))?.value).toBe(1)
    await lease.revoke()
  })

  test('revoking a lease deletes its keys at once, in one revision, and may be repeated', async () => {
    const lease = await world.store.lease(60_000)
    const { revision } = await world.store.list(world.prefix)
    for (const k of ['a', 'b']) await world.store.txn([], [{ type: 'put', key: key(k), value: 1, lease: lease.id }])
    await lease.revoke()
    expect((await world.store.list(world.prefix)).entries).toEqual([])
    const deletions = (await collect(4, revision)).filter(c => c.type === 'delete')
    expect(new Set(deletions.map(c => c.revision)).size).toBe(1)
    await lease.revoke()
    await expect(lease.keepAlive()).rejects.toMatchObject({ kind: 'NotFound' })
  })

  test('a key put again without its lease outlives it', async () => {
    const lease = await world.store.lease(60_000)
    await world.store.txn([], [{ type: 'put', key: key('a'), value: 1, lease: lease.id }])
    await world.store.txn([], [put(key('a'), 2)])
    await lease.revoke()
    expect((await world.store.get(key('a')))?.value).toBe(2)
  })

  test('a put with a lease that has ended is refused', async () => {
    const lease = await world.store.lease(60_000)
    await lease.revoke()
    const late = world.store.txn([], [{ type: 'put', key: key('a'), value: 1, lease: lease.id }])
    await expect(late).rejects.toMatchObject({ kind: 'NotFound' })
    expect(await world.store.get(key('a'))).toBeUndefined()
  })

  test('a watch from a revision that the store has not come to says so: it was put back to a backup', async () => {
    const { revision } = await world.store.list(world.prefix)
    const ahead = collect(1, revision + 1_000_000)
    await expect(ahead).rejects.toBeInstanceOf(StoreCompacted)
  })

  test('a watch that nobody reads for a while has lost nothing', async () => {
    const { revision } = await world.store.list(world.prefix)
    const watch = world.store.watch(world.prefix, revision, world.stop.signal)[Symbol.asyncIterator]()
    const first = watch.next()
    for (let i = 0; i < 500; i++) await world.store.txn([], [put(key(`${i}`), 'x'.repeat(1_000))])
    const got = [(await first).value[0].key]
    while (got.length < 500) got.push(...(await watch.next()).value.map((c: Change<unknown>) => c.key))
    expect(got).toEqual(Array.from({ length: 500 }, (_, i) => key(`${i}`)))
  })
}
