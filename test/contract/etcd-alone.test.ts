import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { absent, put, type Store, StoreCompacted } from '../../src/store/store.js'
import { Etcd } from '../helpers/etcd.js'
import { insist, open, outcome, record, soonMs } from '../helpers/etcd-store.js'
import { until } from '../helpers/machine.js'

describe('etcd of one member', () => {
  let etcd: Etcd
  beforeAll(async () => {
    etcd = await Etcd.start()
  }, 60_000)
  afterAll(() => etcd.stop())
  const member = () => etcd.members[0]!
  const back = async () => {
    if (!member().runs) member().start()
    member().resume()
    await etcd.ready()
  }
  afterEach(back, 60_000)

  test('a store opened before etcd is there fails each call within 3 s, naming where and why, and works once it is', async () => {
    await member().kill()
    const store = await open(etcd, 'early')
    const { error, ms } = await outcome(store.get('a'))
    expect(error).toMatchObject({ kind: 'Unavailable' })
    expect(error!.message).toBe(`etcd cannot be used: ${etcd.endpoints[0]}: connect ECONNREFUSED ${etcd.endpoints[0]}`)
    expect(ms).toBeLessThan(soonMs)
    await back()
    await until('the store to work', () => store.txn([], [put('a', 1)]).catch(() => 0))
  })

  test('a transaction whose answer is lost says that its fate is unknown', async () => {
    const store = await open(etcd, 'lost', etcd.endpoints, 1_500)
    await store.txn([], [put('a', 1)])
    member().pause()
    const { error, ms } = await outcome(store.txn([], [put('a', 2)]))
    expect(error).toMatchObject({ kind: 'Unavailable' })
    expect(error!.message).toMatch(/whether the change was made is unknown$/)
    expect(ms).toBeLessThan(soonMs)
    const killed = store.get('a')
    await member().kill()
    expect((await outcome(killed)).error).toMatchObject({ kind: 'Unavailable' })
  })

  test('a watch to which nothing happened for a long time goes on after a restart of etcd', async () => {
    const store = await open(etcd, 'idle', etcd.endpoints, 1_500)
    const { got } = record(store, (await store.list('')).revision)
    // Longer than it may be cut off.
    await new Promise(resolve => setTimeout(resolve, 3_500))
    await member().kill()
    await back()
    await insist(store, 'a', 1)
    await until('the watch to go on', () => got.length === 1)
  })

  test('changes forgotten while a watch was cut off end it with StoreCompacted, and list and watch go on from there', async () => {
    const store = await open(etcd, 'compacted', etcd.endpoints, 1_500)
    const revision = await store.txn([], [put('a', 1)])
    const { got, end } = record(store, revision)
    await store.txn([], [put('a', 2)])
    await until('the watch to run', () => got.length === 1)
    member().pause()
    // Long enough for the watch to have lost it; what happens meanwhile is done through another connection, later.
    await until(
      'the store to give up its member',
      () =>
        store.get('a').then(
          () => false,
          () => true,
        ),
      10_000,
    )
    await store.close()
    expect(await end).toMatchObject({ kind: 'Unavailable' })
    member().resume()
    await etcd.ready()
    await etcd.ctl('put', 'compacted/a', '{"v":1,"value":3}')
    await etcd.ctl('del', 'compacted/a')
    await etcd.compact()
    const again = await open(etcd, 'compacted')
    // The last change, a deletion, is at the compaction's own revision: etcd 3.4.23 would just not tell of it.
    for (const after of [got[0]!.revision, got[0]!.revision + 1])
      expect(await record(again, after).end).toBeInstanceOf(StoreCompacted)
    const now = await again.list('')
    expect(now.entries).toEqual([])
    const next = record(again, now.revision)
    await again.txn([], [put('a', 4)])
    await until('the watch to run', () => next.values().includes(4))
  })

  test('a restored snapshot ends a watch with StoreCompacted: by its revision, and once that has grown past what was seen, by the term of raft', async () => {
    const store = await open(etcd, 'restored')
    await store.txn([], [put('kept', 1)])
    const file = join(etcd.dir, 'snapshot')
    await etcd.saveSnapshot(file)
    const revision = await store.txn([], [put('gone', 1)])
    const seenMore = record(store, revision)
    // Read again only when etcd has come past what it has seen, by another history.
    const late = store.watch('', revision - 1, AbortSignal.timeout(30_000))[Symbol.asyncIterator]()
    expect((await late.next()).value).toMatchObject([{ key: 'gone', revision }])
    await member().kill()
    member().start() // another term
    await etcd.ready()
    await store.list('')
    await etcd.restoreSnapshot(file)
    expect(await seenMore.end).toBeInstanceOf(StoreCompacted)
    let now = 0
    while (now <= revision) now = await store.txn([], [put('kept', 2)])
    await expect(late.next()).rejects.toBeInstanceOf(StoreCompacted)
    const { entries } = await store.list('')
    expect(entries.map(entry => entry.key)).toEqual(['kept'])
  }, 60_000)

  test('ten thousand keys of 1 KB are listed, and a record of a newer tsnet is refused by name', async () => {
    const store = await open(etcd, 'many')
    for (let at = 0; at < 10_000; at += 100)
      await store.txn(
        [],
        Array.from({ length: 100 }, (_, i) => put(`k/${at + i}`, 'x'.repeat(1_000))),
      )
    expect((await store.list('k/')).entries).toHaveLength(10_000)
    await etcd.ctl('put', 'many/new', '{"v":2,"value":1}')
    await expect(store.get('new')).rejects.toMatchObject({
      kind: 'Unavailable',
      message: `new in ${store.name} was written by a newer tsnet (schema 2, this one knows 1): run that version on this host too`,
    })
    await etcd.ctl('put', 'many/new', 'nonsense')
    await expect(store.list('')).rejects.toThrow('is damaged (the value of new is not JSON)')
  })

  test('five thousand transactions at once are all carried out, and when etcd goes meanwhile none waits long', async () => {
    const flood = (store: Store) => Array.from({ length: 5_000 }, (_, i) => store.txn([], [put(`k${i}`, i)]))
    const store = await open(etcd, 'flood')
    // however long a busy machine takes
    const patient = await open(etcd, 'flood', etcd.endpoints, 20_000)
    await Promise.all(flood(patient))
    expect((await store.list('')).entries).toHaveLength(5_000)
    const second = flood(store).map(outcome)
    await second[0]
    await member().kill()
    const begin = performance.now()
    const failed = (await Promise.all(second)).filter(({ error }) => error)
    expect(performance.now() - begin).toBeLessThan(2 * soonMs)
    expect(failed.length).toBeGreaterThan(0)
    for (const { error } of failed) expect(error).toMatchObject({ kind: 'Unavailable' })
  })

  test('a transaction of more than 128 operations, or too large for etcd, is refused with the limit', async () => {
    const store = await open(etcd, 'limits')
    const many = Array.from({ length: 129 }, (_, i) => put(`k${i}`, i))
    await expect(store.txn([], many)).rejects.toMatchObject({
      kind: 'InvalidParameter',
      message: 'a transaction in etcd has at most 128 operations, not 129',
    })
    await store.txn(
      many.slice(1).map(({ key }) => absent(key)),
      many.slice(1),
    )
    const large = store.txn([], [put('large', 'x'.repeat(2_000_000))])
    await expect(large).rejects.toMatchObject({ kind: 'InvalidParameter' })
  })

  test('an aborted watch ends at once, even while etcd does not answer', async () => {
    const store = await open(etcd, 'abort')
    const { revision } = await store.list('')
    member().pause()
    const abort = new AbortController()
    const { end } = record(store, revision, '', abort.signal)
    await new Promise(resolve => setTimeout(resolve, 200))
    const begin = performance.now()
    abort.abort()
    expect(await end).toBeUndefined()
    expect(performance.now() - begin).toBeLessThan(2_500)
  })
})
