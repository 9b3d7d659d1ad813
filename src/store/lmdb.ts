import { chmodSync, closeSync, existsSync, fstatSync, ftruncateSync, openSync, readSync, statfsSync } from 'node:fs'
import { dirname } from 'node:path'
import { open, type RootDatabase } from 'lmdb'
import { ensureDirectory } from '../directories.js'
import { messageOf, NetError, unavailable } from '../errors.js'
import { type Batch, type Commit, type Contents, EmbeddedStore, type Journal, logLength, nothing } from './core.js'
import { formatRecord, parseRecord } from './record.js'
import type { Store } from './store.js'

type Key = ['revision'] | ['data', string] | ['log', number] | ['lease', string]

/**
 * The embedded store in one lmdb file (mode 0600, its folder 0700), made when missing.
 *
 * Be aware: a transaction is acknowledged when lmdb has committed and synced it, on lmdb's own thread: it survives
 * kill -9 and, as far as the disk tells the truth, a power cut. The contents are read once, here; the file has one
 * owner, and a second process that writes to it would not be noticed. Writing ends 4 MiB before the disk is full.
 * @throws {NetError} Unavailable: the file is damaged or newer than this program; the message says what to do
 */
export function openLmdb(path: string): Store {
  const db = openFile(path)
  try {
    return new EmbeddedStore(new LmdbJournal(db, path), readContents(db, path))
  } catch (error) {
    void db.close()
    throw error
  }
}

const startEmpty = 'move it away to begin with an empty store'
const damaged = (path: string, why: string, cause?: unknown): NetError =>
  unavailable(`the store ${path} is damaged (${why}): restore it from a backup, or ${startEmpty}`, { cause })

function openFile(path: string): RootDatabase<string, Key> {
  try {
    ensureDirectory(dirname(path), 0o700)
    chmodSync(dirname(path), 0o700)
    if (existsSync(path)) checkHeader(path)
    const db = open<string, Key>({ path, noSubdir: true, encoding: 'string' })
    for (const file of [path, `${path}-lock`]) chmodSync(file, 0o600)
    return db
  } catch (error) {
    if (error instanceof NetError) throw error
    throw unavailable(`the store ${path} cannot be opened: ${messageOf(error)}`, { cause: error })
  }
}

/**
 * A meta page in words of 8 bytes: `struct MDB_page_header`, then `struct MDB_meta`, as the mdb.c of lmdb-js 3 lays them out on
 * 64-bit machines, in the machine's own byte order. Two such pages begin the file; the later transaction holds.
 */
const metaWord = { magic: 3, pageSize: 6, lastPage: 18, transaction: 19 }
const metaWords = 20
const lmdbMagic = 0xbeefc0den

/**
 * What lmdb does not survive must not reach it: a file that is no lmdb file (SIGSEGV) and one that was cut short (SIGBUS).
 * A file may rightly end before its last page, if that page is free; so the missing end is filled up with zeros,
 * which lmdb reports as a damaged page wherever it needs one.
 */
function checkHeader(path: string): void {
  const file = openSync(path, 'r+')
  try {
    const size = fstatSync(file).size
    if (size === 0) return
    const readMeta = (at: number) => {
      const words = new BigUint64Array(metaWords)
      const length = readSync(file, words, 0, words.byteLength, at)
      const word = (name: keyof typeof metaWord) => words[metaWord[name]] ?? 0n
      if (length < words.byteLength || low32(word('magic')) !== lmdbMagic) throw damaged(path, 'it is not an lmdb file')
      return word
    }
    const first = readMeta(0)
    const pageSize = low32(first('pageSize'))
    const second = readMeta(Number(pageSize))
    const latest = first('transaction') >= second('transaction') ? first : second
    const wanted = Number((latest('lastPage') + 1n) * pageSize)
    if (size < wanted) ftruncateSync(file, wanted)
  } finally {
    closeSync(file)
  }
}

const low32 = (word: bigint): bigint => BigInt.asUintN(32, word)

const format = (value: unknown): string => formatRecord(JSON.stringify(value))

const parse = <T>(path: string, key: Key, text: string): T =>
  parseRecord(text, {
    damaged: (why, cause) => damaged(path, `the value of ${key.join(' ')} ${why}`, cause),
    newer: said => unavailable(`the store ${path} ${said}: run that version, or ${startEmpty}`),
  })

type DataRecord = { value: unknown; revision: number; lease?: string | undefined }

function readContents(db: RootDatabase<string, Key>, path: string): Contents {
  const contents = nothing()
  try {
    // First, so that a newer store is refused as newer whatever else is in it.
    const revision = db.get(['revision'])
    if (revision !== undefined) contents.revision = parse(path, ['revision'], revision)
    for (const { key, value: text } of db.getRange()) {
      if (key[0] === 'data') {
        const { value, revision, lease } = parse<DataRecord>(path, key, text)
        const kept = JSON.stringify(value)
        contents.entries.set(key[1], { text: kept, revision, ...(lease !== undefined && { lease }) })
      } else if (key[0] === 'log') contents.log.push(parse<Commit>(path, key, text))
      else if (key[0] === 'lease') contents.leases.set(key[1], parse<number>(path, key, text))
    }
  } catch (error) {
    throw error instanceof NetError ? error : damaged(path, messageOf(error), error)
  }
  return contents
}

/** Kept free on the disk, for the pages of the tree that any change copies. */
const reservedBytes = 4 * 2 ** 20

class LmdbJournal implements Journal {
  constructor(
    readonly db: RootDatabase<string, Key>,
    readonly path: string,
  ) {}

  async write({ commits, leases }: Batch): Promise<void> {
    const { db } = this
    this.#refuseFullDisk(commits)
    await db.batch(() => {
      for (const [id, ttlMs] of leases)
        ttlMs === undefined ? db.remove(['lease', id]) : db.put(['lease', id], format(ttlMs))
      for (const { revision, edits } of commits) {
        for (const edit of edits) {
          if (edit.type === 'delete') db.remove(['data', edit.key])
          else {
            const { text, lease } = edit
            db.put(['data', edit.key], format({ value: JSON.parse(text), revision, lease } satisfies DataRecord))
          }
        }
        db.put(['log', revision], format({ revision, edits } satisfies Commit))
        db.remove(['log', revision - logLength])
        db.put(['revision'], format(revision))
      }
    })
  }

  /** lmdb-js corrupts its memory, and the process dies, when a write fails for want of space; so it must not come to that. */
  #refuseFullDisk(commits: readonly Commit[]): void {
    const { bavail, bsize } = statfsSync(this.path)
    const texts = commits.flatMap(c => c.edits).map(e => (e.type === 'put' ? e.text.length : 0))
    // Every value is written twice, as data and in the log, in up to 4 bytes a character; what else changes in the tree is small.
    const neededBytes = reservedBytes + texts.reduce((sum, length) => sum + 8 * length, 0)
    if (bavail * bsize < neededBytes)
      throw unavailable(`the disk of ${this.path} is full: less than ${neededBytes >> 20} MiB are free; make room`)
  }

  close(): Promise<void> {
    return this.db.close()
  }
}
