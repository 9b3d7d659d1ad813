// Writes to an lmdb store until it is killed: `node store-writer.mjs LMDB_MODULE FILE ROUND`. Each transaction puts a left and a
// right half; once acknowledged, its number and revision go to stdout as a JSON line, synchronously: what is acknowledged is said.
import { writeSync } from 'node:fs'

const [, , module, file, round] = process.argv
const { openLmdb } = await import(module)
const store = openLmdb(file)
const halves = n => ['left', 'right'].map(half => ({ type: 'put', key: `${round}/${n}/${half}`, value: { n } }))

// Some alone, some together: the store writes what comes together in one step.
for (let n = 0; ; n += 5) {
  const together = [n, n + 1, n + 2, n + 3].map(async m => {
    const revision = await store.txn([], halves(m))
    writeSync(1, `${JSON.stringify({ n: m, revision })}\n`)
  })
  await Promise.all(together)
  const revision = await store.txn([], halves(n + 4))
  writeSync(1, `${JSON.stringify({ n: n + 4, revision })}\n`)
}
