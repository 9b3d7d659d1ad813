import { afterAll, afterEach } from 'vitest'
import { type EtcdStore, openEtcd } from '../../src/store/etcd.js'
import { parseEtcdUrl } from '../../src/store/etcd-url.js'
import { type Change, put, type Store } from '../../src/store/store.js'
import type { Etcd } from './etcd.js'
import { until } from './machine.js'

/** A call answers or fails within 3 s; the rest is for a machine that is busy with other things. */
export const soonMs = 6_000
const stores: Store[] = []
const stop = new AbortController()
afterEach(async () => {
  await Promise.all(stores.splice(0).map(store => store.close()))
})
afterAll(() => stop.abort())

/** A store that is closed after the test. */
export async function open(
  etcd: Etcd,
  prefix: string,
  endpoints = etcd.endpoints,
  timeoutMs = 3_000,
): Promise<EtcdStore> {
  const store = await openEtcd({ ...parseEtcdUrl(etcd.url(prefix, { endpoints })), timeoutMs })
  stores.push(store)
  return store
}

/** What a call comes to, and how long it took. */
export async function outcome(work: Promise<unknown>): Promise<{ error?: Error; ms: number }> {
  const begin = performance.now()
  const error = await work.then(
    () => undefined,
    e => e,
  )
  const ms = performance.now() - begin
  return error ? { error, ms } : { ms }
}

/** Read a watch into a list, until it ends. */
export function record(store: Store, after: number, prefix = '', signal = stop.signal) {
  const got: Change<number>[] = []
  const end = (async () => {
    for await (const batch of store.watch<number>(prefix, after, signal)) got.push(...batch)
  })().catch(error => error as Error)
  return { got, end, values: () => got.map(change => (change.type === 'put' ? change.value : undefined)) }
}

/** Put again until it is acknowledged, as one whose fate is unknown may be. */
export async function insist(store: Store, key: string, value: number): Promise<void> {
  await until(
    `${key} to be put`,
    () =>
      store.txn([], [put(key, value)]).then(
        () => true,
        () => false,
      ),
    20_000,
  )
}
