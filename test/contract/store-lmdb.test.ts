import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { open } from 'lmdb'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { openLmdb } from '../../src/store/lmdb.js'
import { put, type Store, StoreCompacted } from '../../src/store/store.js'
import { type BuiltCli, buildCli } from '../helpers/built-cli.js'
import { repo } from '../helpers/machine.js'

let folder: string
let path: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tsnet-lmdb-'))
  path = join(folder, 'state', 'tsnet.mdb')
})
afterEach(() => rmSync(folder, { recursive: true }))

const withStore = async <T>(work: (store: Store) => Promise<T>): Promise<T> => {
  const store = openLmdb(path)
  try {
    return await work(store)
  } finally {
    await store.close()
  }
}

describe('the file', () => {
  test('is readable by its owner only, and so is its folder, also when they were not before', async () => {
    mkdirSync(join(folder, 'state'), { mode: 0o755 })
    for (let i = 0; i < 2; i++) {
      await withStore(store => store.txn([], [put('a', 1)]))
      const modes = [join(folder, 'state'), path, `${path}-lock`].map(p => (statSync(p).mode & 0o777).toString(8))
      expect(modes).toEqual(['700', '600', '600'])
    }
  })

  test('keeps values, revisions and the log over a restart, and revisions go on growing', async () => {
    const before = await withStore(async store => {
      await store.txn([], [put('a', { n: 1 }), put('b', null)])
      await store.txn([], [put('a', { n: 2 })])
      await store.txn([], [{ type: 'delete', key: 'b' }])
      return store.list('')
    })
    await withStore(async store => {
      expect(await store.list('')).toEqual(before)
      const changes: unknown[] = []
      for await (const batch of store.watch('', 1, new AbortController().signal))
        if (changes.push(...batch.map(c => [c.type, c.key, c.revision])) === 2) break
      expect(changes).toEqual([
        ['put', 'a', 2],
        ['delete', 'b', 3],
      ])
      expect(await store.txn([], [put('c', 1)])).toBe(4)
    })
  })

  test('holds the last 10,000 revisions of the log and no more', async () => {
    await withStore(async store => {
      await Promise.all(Array.from({ length: 12_000 }, (_, i) => store.txn([], [put('a', i)])))
    })
    await withStore(async store => {
      const first = (after: number) =>
        store.watch('', after, new AbortController().signal)[Symbol.asyncIterator]().next()
      expect((await first(2000)).value).toMatchObject([{ revision: 2001 }])
      const error = await first(1999).catch(e => e)
      expect(error).toBeInstanceOf(StoreCompacted)
      expect(error.message).toBe('changes before revision 2001 are forgotten')
    })
  })

  test('a lease from before a restart ends when its time has passed again', async () => {
    await withStore(async store => {
      const lease = await store.lease(300)
      await store.txn([], [{ type: 'put', key: 'leased', value: 1, lease: lease.id }])
    })
    await withStore(async store => {
      const { revision } = await store.list('')
      expect(await store.get('leased')).toBeDefined()
      const watch = store.watch('leased', revision, new AbortController().signal)[Symbol.asyncIterator]()
      expect((await watch.next()).value).toMatchObject([{ type: 'delete', key: 'leased' }])
    })
    await withStore(async store => expect(await store.get('leased')).toBeUndefined())
  })
})

describe('a file that cannot be read is refused with what to do', () => {
  const refusal = async () => {
    const error = await withStore(async () => undefined).catch(e => e)
    return [error?.kind, error?.message]
  }
  const remedy = 'restore it from a backup, or move it away to begin with an empty store'
  const fill = () =>
    withStore(async store => {
      for (let i = 0; i < 300; i++) await store.txn([], [put(`network/n${i}`, 'x'.repeat(500))])
    })
  /** Write past the store, with lmdb itself. */
  const scribble = async (key: (string | number)[], text: string) => {
    const db = open<string, (string | number)[]>({ path, noSubdir: true, encoding: 'string' })
    await db.put(key, text)
    await db.close()
  }

  test('one of a newer tsnet, whichever record says so', async () => {
    for (const key of [['revision'], ['data', 'network/n1']]) {
      await fill()
      await scribble(key, JSON.stringify({ v: 2, value: { any: 'shape' } }))
      expect(await refusal()).toEqual([
        'Unavailable',
        `the store ${path} was written by a newer tsnet (schema 2, this one knows 1): run that version, or move it away to begin with an empty store`,
      ])
      rmSync(path)
    }
  })

  test.each([
    ['{"v":1,"val', 'the value of data network/n1 is not JSON'],
    ['null', 'the value of data network/n1 has no schema version'],
    ['{"value":{}}', 'the value of data network/n1 has no schema version'],
  ])('one with the value %s, which is named', async (text, why) => {
    await fill()
    await scribble(['data', 'network/n1'], text)
    expect(await refusal()).toEqual(['Unavailable', `the store ${path} is damaged (${why}): ${remedy}`])
  })

  test.each(['hello', 'x'.repeat(100_000)])('one that is no lmdb file', async text => {
    await fill()
    writeFileSync(path, text)
    expect(await refusal()).toEqual(['Unavailable', `the store ${path} is damaged (it is not an lmdb file): ${remedy}`])
    expect(readFileSync(path, 'utf8')).toBe(text)
  })

  // lmdb dies of SIGBUS and SIGSEGV on these when they reach it, and this process with it.
  test.each([0.02, 0.3, 0.6, 0.9])('one that was cut short to %s of its size', async part => {
    await fill()
    truncateSync(path, Math.floor(statSync(path).size * part))
    const [kind, message] = await refusal()
    expect(kind).toBe('Unavailable')
    expect(message).toContain(`the store ${path} is damaged (`)
    expect(message).toContain(remedy)
  })

  test('one with pages overwritten', async () => {
    await fill()
    const size = statSync(path).size
    const file = openSync(path, 'r+')
    writeSync(file, Buffer.alloc(size - 8192, 0xa5), 0, size - 8192, 8192)
    const [kind, message] = await refusal()
    expect(kind).toBe('Unavailable')
    expect(message).toContain(`the store ${path} is damaged (`)
  })

  test('one in a folder that cannot be made', async () => {
    writeFileSync(join(folder, 'state'), '')
    const [kind, message] = await refusal()
    expect(kind).toBe('InvalidParameter')
    expect(message).toContain(`directory ${join(folder, 'state')} cannot be made`)
    expect(existsSync(path)).toBe(false)
  })
})

describe('kill -9 of the writer', () => {
  let built: BuiltCli
  beforeAll(() => {
    built = buildCli()
  })
  afterAll(() => built.remove())

  /** Run a writer, kill it after a random time, return what it said had been acknowledged. */
  async function writeAndDie(round: number): Promise<{ n: number; revision: number }[]> {
    const module = join(dirname(built.script), 'store', 'lmdb.js')
    const stdio = ['ignore', 'pipe', 'inherit'] as const
    const child = spawn(process.execPath, [join(repo, 'test/helpers/store-writer.mjs'), module, path, `${round}`], {
      stdio: [...stdio],
    })
    const chunks: Buffer[] = []
    child.stdout!.on('data', chunk => chunks.push(chunk))
    const ended = once(child, 'close')
    await Promise.race([once(child.stdout!, 'data'), ended])
    await new Promise(resolve => setTimeout(resolve, Math.random() * 60))
    child.kill('SIGKILL')
    expect(await ended).toEqual([null, 'SIGKILL'])
    return Buffer.concat(chunks)
      .toString()
      .split('\n')
      .filter(Boolean)
      .map(line => JSON.parse(line))
  }

  test('at any time leaves every acknowledged transaction and none by half, and revisions go on', {
    timeout: 60_000,
  }, async () => {
    let last = 0
    let acknowledged = 0
    for (let round = 0; round < 25; round++) {
      const acks = await writeAndDie(round)
      acknowledged += acks.length
      for (const ack of acks) expect(ack.revision).toBeGreaterThan(last)
      await withStore(async store => {
        const { entries, revision } = await store.list<{ n: number }>(`${round}/`)
        const found = new Map(entries.map(e => [e.key, e]))
        for (const ack of acks)
          for (const half of ['left', 'right'])
            expect(found.get(`${round}/${ack.n}/${half}`)).toMatchObject({
              value: { n: ack.n },
              revision: ack.revision,
            })
        for (const { key, revision } of entries) {
          const other = key.endsWith('left') ? key.replace(/left$/, 'right') : key.replace(/right$/, 'left')
          expect(found.get(other)?.revision).toBe(revision)
        }
        expect(revision).toBeGreaterThanOrEqual(Math.max(...acks.map(a => a.revision)))
        last = await store.txn([], [put('round', round)])
        expect(last).toBeGreaterThan(revision)
      })
    }
    expect(acknowledged).toBeGreaterThan(25)
    console.log(`${acknowledged} transactions acknowledged by 25 writers that were killed`)
  })
})

describe('speed', () => {
  test('a transaction alone, and a thousand at once (printed, not judged)', async () => {
    await withStore(async store => {
      const times: number[] = []
      for (let i = 0; i < 1000; i++) {
        const start = performance.now()
        await store.txn([], [put(`a/${i}`, { n: i })])
        times.push(performance.now() - start)
      }
      times.sort((a, b) => a - b)
      const start = performance.now()
      await Promise.all(Array.from({ length: 1000 }, (_, i) => store.txn([], [put(`b/${i}`, { n: i })])))
      const together = performance.now() - start
      console.log(
        `lmdb: one transaction ${times[500]!.toFixed(2)} ms (99 %: ${times[990]!.toFixed(2)} ms), 1,000 at once ${together.toFixed(0)} ms`,
      )
      expect((await store.list('')).entries).toHaveLength(2000)
    })
  })
})
