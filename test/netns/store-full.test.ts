import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openLmdb } from '../../src/store/lmdb.js'
import { put } from '../../src/store/store.js'

let disk: string
beforeEach(() => {
  disk = mkdtempSync(join(tmpdir(), 'tst-store-full-'))
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tst-store-full', disk])
})
afterEach(() => {
  execFileSync('umount', [disk])
  rmSync(disk, { recursive: true })
})

// lmdb-js aborted the process here: "corrupted size vs. prev_size".
test('a full disk refuses changes in a sentence, and takes them again when there is room', async () => {
  const path = join(disk, 'state', 'tsnet.mdb')
  const store = openLmdb(path)
  await store.txn([], [put('before', 1)])
  const filler = join(disk, 'filler')
  writeFileSync(filler, Buffer.alloc(6 * 2 ** 20))
  for (let i = 0; i < 3; i++) {
    const error = await store.txn([], [put('refused', i)]).catch(e => e)
    expect([error.kind, error.message]).toEqual([
      'Unavailable',
      `the disk of ${path} is full: less than 4 MiB are free; make room`,
    ])
  }
  expect((await store.list('')).entries.map(e => e.key)).toEqual(['before'])
  rmSync(filler)
  await store.txn([], [put('after', 1)])
  let written = 0
  const full = async () => {
    for (; ; written++) await store.txn([], [put(`big/${written}`, 'x'.repeat(100_000))])
  }
  await expect(full()).rejects.toMatchObject({ kind: 'Unavailable' })
  expect(written).toBeGreaterThan(5)
  const before = await store.list('')
  await store.close()
  const reopened = openLmdb(path)
  expect(await reopened.list('')).toEqual(before)
  await reopened.close()
})
