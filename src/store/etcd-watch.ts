import { setTimeout as sleep } from 'node:timers/promises'
import type { IEvent, IRangeResponse, IResponseHeader, IWatchResponse } from 'etcd3'
import { NetError, unavailable } from '../errors.js'
import { type EtcdClient, rangeEnd } from './etcd-client.js'
import { explain, isFinal, says } from './etcd-errors.js'
import type { Method } from './etcd-member.js'
import { forgottenBefore, StoreCompacted, StorePutBack } from './store.js'

const range: Method = { service: 'KV', name: 'range', urgent: true }
const watch: Method = { service: 'Watch', name: 'watch' }
const pauseMs = 50

/** What one transaction did; without events: nothing happened until that revision. */
export interface Batch {
  revision: number
  events: IEvent[]
}

/**
 * What happens below a prefix after a revision, across members that die and leaders that change.
 *
 * Before every beginning linearizable reads ask whether etcd still knows what came after the revision last seen, and whether
 * its history is still the one that was seen: it is not if it has another cluster's id, has not come to that revision, is in
 * an earlier term of raft (`etcdctl snapshot restore` begins again with the first), or does not know the newest change that it
 * has told of: where etcd was put back and has passed that revision since, nothing else tells.
 * @throws {StoreCompacted} it does not, or is not
 * @throws {NetError} Unavailable: cut off for twice `client.timeoutMs`, or etcd will not have it
 */
export async function* watchEvents(
  client: EtcdClient,
  prefix: Buffer,
  afterRevision: number,
  signal: AbortSignal,
): AsyncGenerator<Batch> {
  let seen = afterRevision
  const before = client.history.count
  let wellMs = performance.now()
  while (!signal.aborted) {
    let isWell = false
    try {
      const header = await check(client, prefix, seen, signal)
      const known = await knownUntil(client, signal)
      if (client.history.count !== before) throw new StorePutBack(seen)
      // from there on it may be another: what it says since is told, if anything
      seen = Math.max(afterRevision, Math.min(seen, known))
      for await (const batch of follow(client, prefix, seen + 1, Number(header.revision), signal)) {
        if (batch.events.length > 0) yield noted(client, batch)
        seen = Math.max(seen, batch.revision)
        isWell = true
      }
    } catch (error) {
      if (signal.aborted) return
      if (error instanceof StoreCompacted) throw error
      if (client.closed) throw unavailable('the store is closed')
      // Until now, however long nothing happened.
      if (isWell) wellMs = performance.now()
      const isLate = performance.now() - wellMs > 2 * client.timeoutMs
      if (isLate || isFinal(error)) throw asUnavailable(error)
      await sleep(pauseMs, undefined, { signal }).catch(() => {})
    }
  }
}

async function check(client: EtcdClient, prefix: Buffer, seen: number, signal: AbortSignal): Promise<IResponseHeader> {
  const request = { key: prefix, revision: seen, keys_only: true }
  const { header } = await client.call<IRangeResponse>(range, request, { repeatable: true, signal }).catch(error => {
    // Of what the compaction's own revision deleted, etcd before 3.4.34 tells nobody: so it is forgotten too.
    if (says(error, 'has been compacted')) throw forgottenBefore(seen + 2)
    if (says(error, 'is a future revision')) throw new StorePutBack(seen)
    throw error
  })
  return header
}

/** The revision until which the history is proved to be the one that was seen; without anything to prove it by, any. */
async function knownUntil(client: EtcdClient, signal: AbortSignal): Promise<number> {
  const { witness } = client.history
  if (!witness) return Number.POSITIVE_INFINITY
  const { key, revision, isDeletion } = witness
  const revisionAt = async (at: number): Promise<number> => {
    const request = { key, revision: at, keys_only: true }
    const { kvs } = await client.call<IRangeResponse>(range, request, { repeatable: true, signal })
    return Number(kvs[0]?.mod_revision ?? 0)
  }
  try {
    const now = await revisionAt(revision)
    const isSo = isDeletion ? now === 0 && (await revisionAt(revision - 1)) > 0 : now === revision
    if (!isSo) client.history.disown(witness)
  } catch (error) {
    if (says(error, 'is a future revision')) client.history.disown(witness)
    else if (!says(error, 'has been compacted')) throw error
    else if ((await revisionAt(0)) !== revision) {
      client.history.forget(witness)
      throw forgottenBefore(revision)
    }
  }
  return revision
}

function noted(client: EtcdClient, batch: Batch): Batch {
  const { type, kv } = batch.events.at(-1)!
  client.history.saw({ key: kv.key, revision: batch.revision, isDeletion: type === 'Delete' })
  return batch
}

/** Until the stream breaks, which is an error, or `signal` aborts, which may be one. */
async function* follow(
  client: EtcdClient,
  prefix: Buffer,
  fromRevision: number,
  leastRevision: number,
  signal: AbortSignal,
): AsyncGenerator<Batch> {
  const stream = await client.stream<IWatchResponse>(watch, signal)
  let failure: unknown
  try {
    const range = { key: prefix, range_end: rangeEnd(prefix) }
    stream.answers.write({ create_request: { ...range, start_revision: fromRevision, progress_notify: true } })
    for await (const answer of stream.answers) {
      stream.heard()
      const revision = Number(answer.header.revision)
      if (Number(answer.compact_revision) > 0) throw forgottenBefore(Number(answer.compact_revision))
      if (answer.canceled) throw new Error(answer.cancel_reason || 'etcd ended the watch')
      // This member is behind, or was put back since the check.
      if (answer.created && revision < leastRevision) throw new Error('etcd is behind what it was')
      if (answer.created) yield { revision: fromRevision - 1, events: [] }
      else if (answer.events.length === 0) yield { revision, events: [] }
      else yield* byRevision(answer.events)
    }
    throw new Error('etcd ended the stream')
  } catch (error) {
    failure = error
    throw error
  } finally {
    stream.end(failure)
  }
}

/** etcd never divides a transaction between answers. */
function* byRevision(events: IEvent[]): Generator<Batch> {
  let batch: Batch | undefined
  for (const event of events) {
    const revision = Number(event.kv.mod_revision)
    if (batch && batch.revision !== revision) yield batch
    if (batch?.revision !== revision) batch = { revision, events: [] }
    batch.events.push(event)
  }
  if (batch) yield batch
}

const asUnavailable = (error: unknown): NetError =>
  error instanceof NetError ? error : unavailable(`etcd cannot be watched: ${explain(error)}`, { cause: error })
