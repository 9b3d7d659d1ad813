import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import { logLength } from '../../src/store/core.js'
import { openLmdb } from '../../src/store/lmdb.js'
import { MemoryStore } from '../../src/store/memory.js'
import { put, type Store } from '../../src/store/store.js'
import { storeContract } from './store.contract.js'
import { orderContract } from './store-order.contract.js'

/** Both embedded stores forget by themselves, after so many revisions and some slack. */
const writeUntilForgotten = (store: Store) => async () => {
  await Promise.all(Array.from({ length: logLength * 1.2 }, (_, i) => store.txn([], [put('filler', i)])))
}

const makeMemory = async () => {
  const store = new MemoryStore()
  return { store, compact: writeUntilForgotten(store) }
}
storeContract('memory', makeMemory)
orderContract('memory', makeMemory)

const root = mkdtempSync(join(tmpdir(), 'tsnet-store-'))
let count = 0
afterAll(() => rmSync(root, { recursive: true }))

const makeLmdb = async () => {
  const store = openLmdb(join(root, `${++count}`, 'tsnet.mdb'))
  return { store, compact: writeUntilForgotten(store) }
}
storeContract('lmdb', makeLmdb)
orderContract('lmdb', makeLmdb)
