import { expect, test } from 'vitest'
import { invalid, unavailable } from '../../src/errors.js'
import { MemoryStore } from '../../src/store/memory.js'
import { noticing } from '../../src/store/noticing.js'
import { absent, put, StoreConflict } from '../../src/store/store.js'

test('whoever must know hears of every call that was not answered, of no refusal, and the caller hears the same', async () => {
  const store = new MemoryStore()
  const heard: unknown[] = []
  const noticed = noticing(store, error => heard.push(error))
  await noticed.txn([absent('a')], [put('a', 1)])
  expect([await noticed.get('a'), (await noticed.list('')).entries]).toMatchObject([{ value: 1 }, [{ key: 'a' }]])
  await expect(noticed.txn([absent('a')], [put('a', 2)])).rejects.toThrow(StoreConflict)
  await expect((await noticed.lease(1000)).keepAlive()).resolves.toBeUndefined()
  const refused = invalid('too large')
  store.txn = () => Promise.reject(refused)
  await expect(noticed.txn([], [])).rejects.toBe(refused)
  expect(heard).toEqual([])
  const silence = unavailable('no answer')
  for (const verb of ['get', 'list', 'txn', 'lease'] as const) store[verb] = () => Promise.reject(silence)
  for (const call of [noticed.get('a'), noticed.list(''), noticed.txn([], []), noticed.lease(1000)])
    await expect(call).rejects.toBe(silence)
  expect(heard).toEqual([silence, silence, silence, silence])
  await store.close()
})
