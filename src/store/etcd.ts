import type {
  ICompare,
  IKeyValue,
  ILeaseGrantResponse,
  ILeaseKeepAliveResponse,
  ILeaseRevokeResponse,
  IRangeResponse,
  IRequestOp,
  IResponseHeader,
  ITxnResponse,
} from 'etcd3'
import { invalid, NetError, notFound, unavailable } from '../errors.js'
import { type Edit, refuseTtl, toEdits } from './core.js'
import { EtcdClient, rangeEnd } from './etcd-client.js'
import { explain, says } from './etcd-errors.js'
import type { Method } from './etcd-member.js'
import { type EtcdOptions, readTls } from './etcd-url.js'
import { watchEvents } from './etcd-watch.js'
import { formatRecord, parseRecord } from './record.js'
import {
  type Change,
  type Condition,
  type Entry,
  type Lease,
  type Operation,
  type Store,
  StoreConflict,
} from './store.js'

const methods = {
  range: { service: 'KV', name: 'range' },
  txn: { service: 'KV', name: 'txn' },
  grant: { service: 'Lease', name: 'leaseGrant' },
  keepAlive: { service: 'Lease', name: 'leaseKeepAlive', stream: true, urgent: true },
  revoke: { service: 'Lease', name: 'leaseRevoke' },
} as const satisfies Record<string, Method>

/** Of conditions and of operations each: etcd's own limit, unless `--max-txn-ops` says otherwise. */
export const mostPerTxn = 128
/** Read at a time: a thousand records of a few KB neither block us for long nor wait long for etcd. */
const pageLength = 1_000

/**
 * The store that hosts share: `prefix/key` in etcd, with the meaning of src/store/store.ts. Returns at once, whether etcd is there or not;
 * every call fails with Unavailable within `timeoutMs` while it is not.
 *
 * Be aware: a transaction has at most 128 conditions and 128 operations, and 1.5 MiB; transactions under way at the same time
 * are carried out in any order. If the answer to one is lost, the error says that its fate is unknown. Leases last whole
 * seconds, rounded up, and at least 1.5 times etcd's election timeout.
 * @throws {NetError} InvalidParameter: a file of `tls` cannot be read
 */
export async function openEtcd(options: EtcdOptions): Promise<EtcdStore> {
  if (options.tls) readTls(options.tls)
  return new EtcdStore(options)
}

export class EtcdStore implements Store {
  readonly #client: EtcdClient
  readonly #prefix: string

  constructor(options: EtcdOptions) {
    this.#client = new EtcdClient(options)
    this.#prefix = `${options.prefix}/`
  }

  /** For people: `etcd://10.0.0.1:2379/tsnet`. */
  get name(): string {
    return this.#client.name
  }

  /** Why no member could be used when last tried; undefined since one could. Asking again may take `timeoutMs`. */
  get failure(): NetError | undefined {
    return this.#client.failure
  }

  async get<T>(key: string): Promise<Entry<T> | undefined> {
    const { kvs } = await this.#call<IRangeResponse>(methods.range, { key: this.#bytes(key) })
    return kvs[0] && this.#toEntry(kvs[0])
  }

  async list<T>(prefix: string): Promise<{ entries: Entry<T>[]; revision: number }> {
    for (;;) {
      try {
        return await this.#pages(prefix)
      } catch (error) {
        // The revision of the first page was forgotten before the last was read: begin again.
        if (!(error instanceof NetError && says(error.cause, 'has been compacted'))) throw error
      }
    }
  }

  async txn(conditions: readonly Condition[], operations: readonly Operation[]): Promise<number> {
    const edits = toEdits(operations)
    for (const [what, { length }] of Object.entries({ conditions, operations }))
      if (length > mostPerTxn) throw invalid(`a transaction in etcd has at most ${mostPerTxn} ${what}, not ${length}`)
    const request = {
      compare: conditions.map(condition => this.#toCompare(condition)),
      success: edits.map(edit => this.#toRequest(edit)),
      // Read in the same revision that refused.
      failure: conditions.map(condition => ({
        request_range: { ...this.#rangeOf(condition), keys_only: true, limit: 1 },
      })),
    }
    const { header, succeeded, responses } = await this.#call<ITxnResponse>(methods.txn, request, false)
    if (succeeded) {
      const revision = Number(header.revision)
      const written = edits.find(({ type }) => type === 'put')
      if (written) this.#client.history.saw({ key: this.#bytes(written.key), revision, isDeletion: false })
      return revision
    }
    const held = (condition: Condition, i: number) =>
      Number(responses[i]?.response_range?.kvs[0]?.mod_revision ?? 0) === ('key' in condition ? condition.revision : 0)
    const first = conditions.find((condition, i) => !held(condition, i)) ?? conditions[0]!
    throw new StoreConflict('key' in first ? first.key : first.emptyPrefix)
  }

  async *watch<T>(prefix: string, afterRevision: number, signal: AbortSignal): AsyncGenerator<Change<T>[]> {
    for await (const { events, revision } of watchEvents(this.#client, this.#bytes(prefix), afterRevision, signal)) {
      if (signal.aborted) return
      yield events.map(({ type, kv }) =>
        type === 'Delete'
          ? { type: 'delete', key: this.#keyOf(kv), revision }
          : { type: 'put', ...this.#toEntry<T>(kv) },
      )
    }
  }

  async lease(ttlMs: number): Promise<Lease> {
    refuseTtl(ttlMs)
    // One whose answer was lost ends by itself, without keys.
    const { ID: id } = await this.#call<ILeaseGrantResponse>(methods.grant, { TTL: Math.ceil(ttlMs / 1000), ID: 0 })
    return {
      id,
      keepAlive: async () => {
        const { TTL } = await this.#call<ILeaseKeepAliveResponse>(methods.keepAlive, { ID: id })
        if (Number(TTL) <= 0) throw notFound(`lease ${id} has ended`)
      },
      revoke: async () => {
        await this.#call<ILeaseRevokeResponse>(methods.revoke, { ID: id }).catch(error => {
          if (!(error instanceof NetError && error.kind === 'NotFound')) throw error
        })
      },
    }
  }

  async close(): Promise<void> {
    this.#client.close()
  }

  async #pages<T>(prefix: string): Promise<{ entries: Entry<T>[]; revision: number }> {
    let key = this.#bytes(prefix)
    const range_end = rangeEnd(key)
    let revision = 0
    const entries: Entry<T>[] = []
    for (;;) {
      const page = await this.#call<IRangeResponse>(methods.range, { key, range_end, revision, limit: pageLength })
      revision ||= Number(page.header.revision)
      for (const kv of page.kvs) entries.push(this.#toEntry(kv))
      const last = page.kvs.at(-1)
      if (!page.more || !last) return { entries, revision }
      key = Buffer.concat([last.key, Buffer.of(0)])
    }
  }

  #bytes(key: string): Buffer {
    return Buffer.from(this.#prefix + key)
  }

  #keyOf(kv: IKeyValue): string {
    return kv.key.toString().slice(this.#prefix.length)
  }

  #toEntry<T>(kv: IKeyValue): Entry<T> {
    const key = this.#keyOf(kv)
    const value = parseRecord<T>(kv.value.toString(), {
      damaged: (why, cause) =>
        unavailable(`${this.name} is damaged (the value of ${key} ${why}): delete that key, or restore a backup`, {
          cause,
        }),
      newer: said => unavailable(`${key} in ${this.name} ${said}: run that version on this host too`),
    })
    return { key, value, revision: Number(kv.mod_revision) }
  }

  #rangeOf(condition: Condition): { key: Buffer; range_end?: Buffer } {
    if ('key' in condition) return { key: this.#bytes(condition.key) }
    const key = this.#bytes(condition.emptyPrefix)
    return { key, range_end: rangeEnd(key) }
  }

  /** A comparison of a range must hold for each of its keys; of none, it is with a key that was never created. */
  #toCompare(condition: Condition): ICompare {
    const [equal, create, mod] = [0, 1, 2]
    const range = this.#rangeOf(condition)
    return 'key' in condition && condition.revision !== 0
      ? { ...range, result: equal, target: mod, mod_revision: condition.revision }
      : { ...range, result: equal, target: create, create_revision: 0 }
  }

  #toRequest(edit: Edit): IRequestOp {
    const key = this.#bytes(edit.key)
    if (edit.type === 'delete') return { request_delete_range: { key } }
    const value = Buffer.from(formatRecord(edit.text))
    return { request_put: { key, value, ...(edit.lease !== undefined && { lease: edit.lease }) } }
  }

  async #call<T extends { header: IResponseHeader }>(method: Method, request: object, repeatable = true): Promise<T> {
    try {
      return await this.#client.call<T>(method, request, { repeatable })
    } catch (error) {
      if (error instanceof NetError) throw error
      if (says(error, 'requested lease not found')) throw notFound('the lease has ended', { cause: error })
      if (says(error, 'too many operations') || says(error, 'request is too large'))
        throw invalid(`etcd takes no such transaction: ${explain(error)}`, { cause: error })
      throw unavailable(`${this.name}: ${explain(error)}`, { cause: error })
    }
  }
}
