import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { absent, put } from '../../src/store/store.js'
import { Etcd, threeOnLoopback } from '../helpers/etcd.js'
import { insist, open, outcome, record, soonMs } from '../helpers/etcd-store.js'
import { until } from '../helpers/machine.js'

describe('etcd of three members', () => {
  let etcd: Etcd
  beforeAll(async () => {
    etcd = await Etcd.start({ members: threeOnLoopback })
  }, 60_000)
  afterEach(async () => {
    for (const member of etcd.members) {
      member.resume()
      if (!member.runs) member.start()
    }
    await etcd.ready()
  }, 60_000)
  afterAll(() => etcd.stop())

  test('endpoints of which the first two are dead are as good as one that lives', async () => {
    const store = await open(etcd, 'dead-first', ['127.0.0.1:1', '127.0.0.1:2', etcd.endpoints[2]!])
    // it is given 3 s for that
    const { error } = await outcome(store.txn([absent('a')], [put('a', 1)]))
    expect(error).toBeUndefined()
  })

  test('a member that accepts connections and says nothing is not waited for', async () => {
    const leader = await etcd.leader()
    const quiet = etcd.members.find(member => member !== leader)!
    quiet.pause()
    const store = await open(etcd, 'quiet', [quiet.endpoint, ...etcd.endpoints.filter(e => e !== quiet.endpoint)])
    const { error } = await outcome(store.txn([], [put('a', 1)]))
    expect(error).toBeUndefined()
  })

  test('the leader is killed again and again under writes: watches go on, nothing is lost, doubled or out of order', async () => {
    const writer = await open(etcd, 'leader')
    const reader = await open(etcd, 'leader')
    const { revision } = await reader.list('')
    const { got, end } = record(reader, revision)
    let n = 0
    for (let round = 0; round < 3; round++) {
      const leader = await etcd.leader()
      for (let i = 0; i < 20; i++) await insist(writer, `k${n}`, n++)
      await leader.kill()
      for (let i = 0; i < 20; i++) await insist(writer, `k${n}`, n++)
      leader.start()
    }
    await until('the last change to arrive', () => got.some(change => change.key === `k${n - 1}`), 15_000)
    const revisions = got.map(change => change.revision)
    expect(revisions).toEqual([...new Set(revisions)].sort((a, b) => a - b))
    const { entries } = await writer.list<number>('')
    expect(entries).toHaveLength(n)
    expect(new Set(got.map(change => change.key))).toEqual(new Set(entries.map(entry => entry.key)))
    for (const entry of entries)
      expect(got.findLast(change => change.key === entry.key)).toMatchObject({ revision: entry.revision })
    await reader.close()
    expect(await end).toMatchObject({ kind: 'Unavailable' })
  }, 60_000)

  test('a watched member that stops answering is left within 3 s, and the watch goes on at another', async () => {
    const leader = await etcd.leader()
    const [quiet, other] = etcd.members.filter(member => member !== leader)
    const writer = await open(etcd, 'quiet-watch', [leader.endpoint, other!.endpoint])
    // It is at the member that will be quiet: no other answers while it looks for one.
    const both = await open(etcd, 'quiet-watch', [quiet!.endpoint, other!.endpoint])
    other!.pause()
    await both.list('')
    other!.resume()
    const { revision } = await both.list('')
    const { got } = record(both, revision)
    await insist(writer, 'before', 1)
    await until('the watch to run', () => got.length === 1)
    quiet!.pause()
    const paused = performance.now()
    await insist(writer, 'after', 2)
    await until('the watch to go on', () => got.length === 2, 10_000)
    expect(performance.now() - paused).toBeLessThan(9_000)
    expect(got.map(change => change.key)).toEqual(['before', 'after'])
  })

  test('without a majority every call fails within 3 s with the reason, and afterwards the same store works', async () => {
    const store = await open(etcd, 'majority')
    await store.txn([], [put('a', 1)])
    const lease = await store.lease(60_000)
    // a leader that is left alone answers keepAlive until it notices
    const first = await etcd.leader()
    const second = etcd.members.find(member => member !== first)!
    await first.kill()
    await second.kill()
    const calls = [
      store.get('a'),
      store.list(''),
      store.txn([], [put('a', 2)]),
      store.lease(5_000),
      lease.keepAlive(),
      lease.revoke(),
    ]
    for (const { error, ms } of await Promise.all(calls.map(outcome))) {
      expect(error).toMatchObject({ kind: 'Unavailable' })
      expect(ms).toBeLessThan(soonMs)
    }
    const { error } = await outcome(store.get('a'))
    for (const endpoint of etcd.endpoints) expect(error!.message).toContain(endpoint)
    expect(store.failure?.message).toBe(error!.message)
    first.start()
    second.start()
    await until('the store to work', () => store.get('a'), 20_000)
    expect(store.failure).toBeUndefined()
  }, 60_000)

  test('a watch without a majority ends with Unavailable after twice the time for a call or a little more', async () => {
    const store = await open(etcd, 'watch-majority', etcd.endpoints, 1_500)
    const { revision } = await store.list('')
    const { end } = record(store, revision)
    const [first, second] = etcd.members
    await first!.kill()
    await second!.kill()
    const begin = performance.now()
    expect(await end).toMatchObject({ kind: 'Unavailable' })
    const ms = performance.now() - begin
    expect(ms).toBeGreaterThan(2_000)
    expect(ms).toBeLessThan(30_000)
  }, 60_000)

  test('two hosts on different members see each other, and a watch at a member that is behind is not taken for the past', async () => {
    const here = await open(etcd, 'two', [etcd.endpoints[0]!])
    const there = await open(etcd, 'two', [etcd.endpoints[1]!])
    for (let i = 0; i < 50; i++) {
      const revision = await here.txn([], [put('n', i)])
      const next = there.watch<number>('', revision, AbortSignal.timeout(5_000))[Symbol.asyncIterator]()
      const change = next.next()
      const wanted = await here.txn([], [put('n', i + 1_000)])
      expect((await change).value).toMatchObject([{ revision: wanted, value: i + 1_000 }])
      await next.return?.(undefined)
    }
  })
})
