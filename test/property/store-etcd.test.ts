import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openEtcd } from '../../src/store/etcd.js'
import { parseEtcdUrl } from '../../src/store/etcd-url.js'
import { MemoryStore } from '../../src/store/memory.js'
import {
  absent,
  type Condition,
  del,
  empty,
  type Operation,
  put,
  type Store,
  StoreConflict,
} from '../../src/store/store.js'
import { Etcd } from '../helpers/etcd.js'

let etcd: Etcd
beforeAll(async () => {
  etcd = await Etcd.start()
}, 60_000)
afterAll(() => etcd.stop())

const key = fc.constantFrom('a', 'b', 'dir/a', 'dir/b', 'dirt')
/** `seen`: the revision that this key had after the n-th transaction. */
const condition = fc.oneof(
  key.map(k => ({ kind: 'absent' as const, key: k })),
  fc.record({ kind: fc.constant('seen' as const), key, back: fc.nat(2) }),
  fc.constantFrom('dir/', 'd', 'none/', '').map(prefix => ({ kind: 'empty' as const, prefix })),
)
const operations = fc.uniqueArray(
  fc.oneof(
    key.map(k => ({ type: 'put' as const, key: k })),
    key.map(k => ({ type: 'delete' as const, key: k })),
  ),
  { selector: operation => operation.key, maxLength: 3 },
)
const steps = fc.array(fc.record({ conditions: fc.array(condition, { maxLength: 3 }), operations }), { maxLength: 20 })

/** A store together with every revision its keys had, since revisions of two stores have only their order in common. */
class Player {
  readonly #seen = new Map<string, number[]>()
  constructor(readonly store: Store) {}

  async play(
    step: {
      conditions: { kind: string; key?: string; back?: number; prefix?: string }[]
      operations: { type: string; key: string }[]
    },
    n: number,
  ) {
    const conditions = step.conditions.map((c): Condition => {
      if (c.kind === 'absent') return absent(c.key!)
      if (c.kind === 'empty') return empty(c.prefix!)
      return { key: c.key!, revision: this.#seen.get(c.key!)?.at(-1 - c.back!) ?? 0 }
    })
    const operations = step.operations.map((o): Operation => (o.type === 'put' ? put(o.key, n) : del(o.key)))
    try {
      const revision = await this.store.txn(conditions, operations)
      for (const o of operations)
        if (o.type === 'put') this.#seen.set(o.key, [...(this.#seen.get(o.key) ?? []), revision])
      return 'done'
    } catch (error) {
      if (error instanceof StoreConflict) return `conflict: ${error.key}`
      throw error
    }
  }

  /** Keys with their values, in order, and which were written together. */
  async contents() {
    const { entries } = await this.store.list('')
    const order = [...new Set(entries.map(entry => entry.revision))].sort((a, b) => a - b)
    return entries.map(entry => [entry.key, entry.value, order.indexOf(entry.revision)])
  }
}

let run = 0
test('whatever is asked of etcd, it answers as the store in memory does', async () => {
  await fc.assert(
    fc.asyncProperty(steps, async steps => {
      const real = new Player(await openEtcd(parseEtcdUrl(etcd.url(`run-${++run}`))))
      const model = new Player(new MemoryStore())
      try {
        for (const [n, step] of steps.entries()) {
          expect(await real.play(step, n)).toBe(await model.play(step, n))
          expect(await real.contents()).toEqual(await model.contents())
        }
      } finally {
        await real.store.close()
        await model.store.close()
      }
    }),
    { numRuns: 60 },
  )
})

test('of transactions under way at once, what came out is what their revisions, one after the other, make of the model', async () => {
  const stores = await Promise.all(Array.from({ length: 4 }, () => openEtcd(parseEtcdUrl(etcd.url('at-once')))))
  const [first] = stores
  const { revision } = await first!.list('')
  const stop = new AbortController()
  const told: string[] = []
  const watching = (async () => {
    for await (const batch of first!.watch('', revision, stop.signal))
      told.push(...batch.map(change => JSON.stringify(change)))
  })()
  const log: { revision: number; conditions: Condition[]; operations: Operation[] }[] = []
  const work = async (store: Store, worker: number) => {
    for (let i = 0; i < 60; i++) {
      const name = `k${(i * 7 + worker) % 5}`
      const seen = await store.get(name)
      const conditions: Condition[] = [{ key: name, revision: seen?.revision ?? 0 }]
      if (i % 10 === 0) conditions.push(empty('lock/'))
      const operations = [seen && i % 3 === 0 ? del(name) : put(name, `${worker}-${i}`)]
      if (i % 10 === 0) operations.push(put(`lock/${worker}`, i))
      if (i % 10 === 5) operations.push(del(`lock/${worker}`))
      await store.txn(conditions, operations).then(
        revision => log.push({ revision, conditions, operations }),
        error => {
          if (!(error instanceof StoreConflict)) throw error
        },
      )
    }
  }
  await Promise.all(stores.flatMap((store, i) => [work(store, 2 * i), work(store, 2 * i + 1)]))
  const { entries } = await first!.list('')

  // Played again in the order of revisions, every condition must have held and the end must be the same.
  log.sort((a, b) => a.revision - b.revision)
  expect(new Set(log.map(one => one.revision)).size).toBe(log.length)
  const model = new Map<string, { value: unknown; revision: number }>()
  const want: string[] = []
  for (const { revision, conditions, operations } of log) {
    for (const c of conditions) {
      if ('key' in c) expect(model.get(c.key)?.revision ?? 0).toBe(c.revision)
      else expect([...model.keys()].filter(k => k.startsWith(c.emptyPrefix))).toEqual([])
    }
    for (const o of operations) {
      if (o.type === 'put') {
        model.set(o.key, { value: o.value, revision })
        want.push(JSON.stringify({ type: 'put', key: o.key, value: o.value, revision }))
      } else if (model.delete(o.key)) want.push(JSON.stringify({ type: 'delete', key: o.key, revision }))
    }
  }
  expect(log.length).toBeGreaterThan(100)
  expect(new Map(entries.map(({ key, value, revision }) => [key, { value, revision }]))).toEqual(
    new Map([...model].sort(([a], [b]) => (a < b ? -1 : 1))),
  )
  await expect.poll(() => told.length, { timeout: 10_000 }).toBe(want.length)
  const normal = (lines: string[]) => lines.map(line => Object.entries(JSON.parse(line)).sort().join()).sort()
  expect(normal(told)).toEqual(normal(want))
  stop.abort()
  await watching
  await Promise.all(stores.map(store => store.close()))
})
