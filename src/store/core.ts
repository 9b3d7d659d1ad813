import { invalid, messageOf, NetError, notFound, unavailable } from '../errors.js'
import {
  type Change,
  type Condition,
  type Entry,
  forgottenBefore,
  type Lease,
  type Operation,
  type Store,
  StoreConflict,
  StorePutBack,
} from './store.js'

/** How many revisions a watch can look back. */
export const logLength = 10_000
const longestKey = 512 // lmdb takes 1,978 bytes; ours are short paths
/** setTimeout fires at once beyond this. */
const longestTimerMs = 2 ** 31 - 1

/** A value as it is kept: JSON text, so that nobody shares an object with the store. */
export interface Stored {
  text: string
  revision: number
  lease?: string
}

export type Edit = { type: 'put'; key: string; text: string; lease?: string } | { type: 'delete'; key: string }

/** What one transaction changed. */
export interface Commit {
  revision: number
  edits: Edit[]
}

/** What is made durable in one step. `leases`: time to live by id, undefined for a lease that has ended. */
export interface Batch {
  commits: Commit[]
  leases: Map<string, number | undefined>
}

/** Everything a store knows; `log` holds the last commits, revision by revision without gaps. */
export interface Contents {
  revision: number
  entries: Map<string, Stored>
  log: Commit[]
  leases: Map<string, number>
}

export const nothing = (): Contents => ({ revision: 0, entries: new Map(), log: [], leases: new Map() })

/** Where batches go. One write at a time, in order. */
export interface Journal {
  /** All of the batch or nothing of it. */
  write(batch: Batch): Promise<void>
  close(): Promise<void>
}

interface Job {
  plan(staged: Staged): number
  resolve(revision: number): void
  reject(error: unknown): void
}

/**
 * A store whose whole contents are in memory, behind a journal that makes them durable: conditions, revisions, watches
 * and leases live here once for every embedded store. Nothing is visible before the journal has it; transactions
 * that arrive while it writes go into its next batch together, so that a slow disk slows the batch and not each of them.
 */
export class EmbeddedStore implements Store {
  readonly #contents: Contents
  readonly #journal: Journal
  readonly #queue: Job[] = []
  readonly #timers = new Map<string, NodeJS.Timeout>()
  readonly #watchers = new Set<() => void>()
  #draining = false
  #drained = Promise.resolve()
  #closed = false
  #lastLease = 0

  constructor(journal: Journal, contents: Contents) {
    this.#journal = journal
    this.#contents = contents
    // Whoever held a lease before a restart gets the full time to come back, as after a change of leader in etcd.
    for (const [id, ttlMs] of contents.leases) this.#startTimer(id, ttlMs)
  }

  async get<T>(key: string): Promise<Entry<T> | undefined> {
    this.#refuseClosed()
    const stored = this.#contents.entries.get(key)
    return stored && { key, value: JSON.parse(stored.text), revision: stored.revision }
  }

  async list<T>(prefix: string): Promise<{ entries: Entry<T>[]; revision: number }> {
    this.#refuseClosed()
    const entries: Entry<T>[] = []
    for (const [key, { text, revision }] of this.#contents.entries)
      if (key.startsWith(prefix)) entries.push({ key, value: JSON.parse(text), revision })
    entries.sort((a, b) => (a.key < b.key ? -1 : 1))
    return { entries, revision: this.#contents.revision }
  }

  async txn(conditions: readonly Condition[], operations: readonly Operation[]): Promise<number> {
    const edits = toEdits(operations)
    return this.#submit(staged => staged.txn(conditions, edits))
  }

  async *watch<T>(prefix: string, afterRevision: number, signal: AbortSignal): AsyncGenerator<Change<T>[]> {
    if (afterRevision > this.#contents.revision) throw new StorePutBack(afterRevision)
    // Pulled from the log, so a watcher that is slow or gone costs nothing.
    for (let seen = afterRevision; !signal.aborted; seen++) {
      while (seen >= this.#contents.revision && !signal.aborted) {
        this.#refuseClosed()
        await this.#nextCommit(signal)
      }
      if (signal.aborted) return
      this.#refuseClosed()
      const { log } = this.#contents
      const oldest = log[0]?.revision ?? this.#contents.revision + 1
      const commit = log[seen + 1 - oldest]
      if (!commit) throw forgottenBefore(oldest)
      const changes = commit.edits.filter(e => e.key.startsWith(prefix)).map(e => toChange<T>(e, commit.revision))
      if (changes.length > 0) yield changes
    }
  }

  async lease(ttlMs: number): Promise<Lease> {
    refuseTtl(ttlMs)
    const id = `${Date.now().toString(36)}-${++this.#lastLease}`
    await this.#submit(staged => staged.startLease(id, ttlMs))
    this.#startTimer(id, ttlMs)
    return {
      id,
      keepAlive: async () => {
        this.#refuseClosed()
        if (!this.#contents.leases.has(id)) throw notFound(`lease ${id} has ended`)
        this.#startTimer(id, ttlMs)
      },
      revoke: () => this.#endLease(id),
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    for (const timer of this.#timers.values()) clearTimeout(timer)
    await this.#drained
    this.#wake()
    await this.#journal.close()
  }

  async #submit(plan: Job['plan']): Promise<number> {
    this.#refuseClosed()
    const done = new Promise<number>((resolve, reject) => this.#queue.push({ plan, resolve, reject }))
    if (!this.#draining) this.#drained = this.#drain()
    return done
  }

  async #drain(): Promise<void> {
    this.#draining = true
    while (this.#queue.length > 0) {
      const staged = new Staged(this.#contents)
      const accepted: { job: Job; revision: number }[] = []
      for (const job of this.#queue.splice(0)) {
        try {
          accepted.push({ job, revision: job.plan(staged) })
        } catch (error) {
          job.reject(error)
        }
      }
      try {
        if (!staged.isEmpty) await this.#journal.write(staged.batch)
        staged.publish()
        this.#wake()
        for (const { job, revision } of accepted) job.resolve(revision)
      } catch (error) {
        const failure =
          error instanceof NetError
            ? error
            : unavailable(`the store cannot write: ${messageOf(error)}`, { cause: error })
        for (const { job } of accepted) job.reject(failure)
      }
    }
    // In the same breath as the last look at the queue: a job in between would wait for ever.
    this.#draining = false
  }

  #startTimer(id: string, ttlMs: number): void {
    if (this.#closed) return
    clearTimeout(this.#timers.get(id))
    // A journal that fails now is tried again later: until it has the end of the lease, the lease goes on.
    const expire = () => void this.#endLease(id).catch(() => this.#startTimer(id, ttlMs))
    this.#timers.set(id, setTimeout(expire, ttlMs).unref())
  }

  async #endLease(id: string): Promise<void> {
    await this.#submit(staged => staged.endLease(id))
    clearTimeout(this.#timers.get(id))
    this.#timers.delete(id)
  }

  #nextCommit(signal: AbortSignal): Promise<void> {
    return new Promise(resolve => {
      const wake = () => {
        this.#watchers.delete(wake)
        signal.removeEventListener('abort', wake)
        resolve()
      }
      this.#watchers.add(wake)
      signal.addEventListener('abort', wake)
    })
  }

  #wake(): void {
    for (const wake of this.#watchers) wake()
  }

  #refuseClosed(): void {
    if (this.#closed) throw unavailable('the store is closed')
  }
}

/** The contents with the transactions of one batch on top, until the journal has them. */
class Staged {
  readonly batch: Batch = { commits: [], leases: new Map() }
  readonly #over = new Map<string, Stored | undefined>()
  readonly #base: Contents
  #revision: number

  constructor(base: Contents) {
    this.#base = base
    this.#revision = base.revision
  }

  get isEmpty(): boolean {
    return this.batch.commits.length === 0 && this.batch.leases.size === 0
  }

  txn(conditions: readonly Condition[], edits: readonly Edit[]): number {
    for (const condition of conditions) {
      if ('emptyPrefix' in condition) this.#refuseKeys(condition.emptyPrefix)
      else if ((this.#get(condition.key)?.revision ?? 0) !== condition.revision) throw new StoreConflict(condition.key)
    }
    for (const edit of edits)
      if (edit.type === 'put' && edit.lease !== undefined && !this.#hasLease(edit.lease))
        throw notFound(`lease ${edit.lease} has ended`)
    return this.#commit(edits.filter(edit => edit.type === 'put' || this.#get(edit.key) !== undefined))
  }

  startLease(id: string, ttlMs: number): number {
    this.batch.leases.set(id, ttlMs)
    return this.#revision
  }

  endLease(id: string): number {
    if (!this.#hasLease(id)) return this.#revision
    this.batch.leases.set(id, undefined)
    return this.#commit(
      this.#keys()
        .filter(key => this.#get(key)?.lease === id)
        .map(key => ({ type: 'delete', key })),
    )
  }

  /** The journal has it: make it what everybody sees. */
  publish(): void {
    const { entries, leases, log } = this.#base
    for (const [key, stored] of this.#over) stored ? entries.set(key, stored) : entries.delete(key)
    for (const [id, ttlMs] of this.batch.leases) ttlMs === undefined ? leases.delete(id) : leases.set(id, ttlMs)
    log.push(...this.batch.commits)
    // Cut in steps: taking one element off the front of a long array copies it.
    if (log.length > logLength + logLength / 10) log.splice(0, log.length - logLength)
    this.#base.revision = this.#revision
  }

  #commit(edits: Edit[]): number {
    if (edits.length === 0) return this.#revision
    const revision = ++this.#revision
    for (const edit of edits) this.#over.set(edit.key, edit.type === 'put' ? toStored(edit, revision) : undefined)
    this.batch.commits.push({ revision, edits })
    return revision
  }

  #refuseKeys(prefix: string): void {
    if (this.#keys().some(key => key.startsWith(prefix) && this.#get(key) !== undefined))
      throw new StoreConflict(prefix)
  }

  #keys(): string[] {
    return [...new Set([...this.#base.entries.keys(), ...this.#over.keys()])]
  }

  #get(key: string): Stored | undefined {
    return this.#over.has(key) ? this.#over.get(key) : this.#base.entries.get(key)
  }

  #hasLease(id: string): boolean {
    return this.batch.leases.has(id) ? this.batch.leases.get(id) !== undefined : this.#base.leases.has(id)
  }
}

const toStored = ({ text, lease }: { text: string; lease?: string }, revision: number): Stored =>
  lease === undefined ? { text, revision } : { text, revision, lease }

export function refuseTtl(ttlMs: number): void {
  if (!(ttlMs >= 1 && ttlMs <= longestTimerMs)) throw invalid(`a lease lasts 1 to ${longestTimerMs} ms, not ${ttlMs}`)
}

/** What a transaction changes, once it is clear that it can: the same keys and values are refused by every store. */
export function toEdits(operations: readonly Operation[]): Edit[] {
  const edits = operations.map(toEdit)
  if (new Set(edits.map(e => e.key)).size < edits.length) throw invalid('a transaction may change a key only once')
  return edits
}

function toEdit(operation: Operation): Edit {
  const { key } = operation
  if (key === '' || Buffer.byteLength(key) > longestKey)
    throw invalid(`store key "${key}" is not 1 to ${longestKey} bytes long`)
  if (operation.type === 'delete') return { type: 'delete', key }
  const text = JSON.stringify(operation.value) as string | undefined
  if (text === undefined) throw invalid(`the value for ${key} cannot be written as JSON`)
  return operation.lease === undefined ? { type: 'put', key, text } : { type: 'put', key, text, lease: operation.lease }
}

const toChange = <T>(edit: Edit, revision: number): Change<T> =>
  edit.type === 'put'
    ? { type: 'put', key: edit.key, value: JSON.parse(edit.text), revision }
    : { type: 'delete', key: edit.key, revision }
