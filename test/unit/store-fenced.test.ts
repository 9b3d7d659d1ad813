import { expect, test } from 'vitest'
import { type Fence, fenced } from '../../src/store/fenced.js'
import { MemoryStore } from '../../src/store/memory.js'
import { absent, put, StoreConflict } from '../../src/store/store.js'

async function behindFence() {
  const store = new MemoryStore()
  let fence: Fence | undefined
  const renew = async (): Promise<void> => {
    fence = { key: 'alive', revision: await store.txn([], [put('alive', 'again')]) }
  }
  return { store, renew, fenced: fenced(store, () => fence) }
}

test('a transaction that is carried out after its writer has begun again changes nothing', async () => {
  const { store, renew, fenced } = await behindFence()
  await renew()
  const { txn } = store
  let carryOut = (): void => {}
  store.txn = (...args) =>
    new Promise((resolve, reject) => {
      carryOut = () => void txn.apply(store, args).then(resolve, reject)
    })
  const late = fenced.txn([], [put('late', 1)])
  store.txn = txn
  await txn.call(store, [], [put('alive', 'by another process of this name')])
  carryOut()
  await expect(late).rejects.toMatchObject({ kind: 'Unavailable', message: "alive is no longer this process's" })
  expect(await store.get('late')).toBeUndefined()
  await renew()
  await fenced.txn([], [put('late', 2)])
  expect(await store.get('late')).toMatchObject({ value: 2 })
})

test('a transaction that meets a new fence is asked for again, and conflicts of its own are told as they are', async () => {
  const { store, renew, fenced } = await behindFence()
  await fenced.txn([], [put('a', 'before there is a fence')])
  await renew()
  const { txn } = store
  store.txn = async (...args) => {
    store.txn = txn
    await renew()
    return await txn.apply(store, args)
  }
  await fenced.txn([], [put('b', 1)])
  expect(await store.get('b')).toMatchObject({ value: 1 })
  await expect(fenced.txn([absent('b')], [put('b', 2)])).rejects.toThrow(StoreConflict)
})
