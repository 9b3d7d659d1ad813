import { messageOf, NetError } from '../errors.js'

/** What a failed call means to whoever made it. */
export type Failure =
  /** not carried out, and another member, or the same one later, may do it */
  | 'elsewhere'
  /** not carried out: log in again */
  | 'login'
  /** not carried out, and never will be */
  | 'final'
  /** perhaps carried out: the answer was lost */
  | 'lost'

/**
 * What etcd says (https://github.com/etcd-io/etcd/blob/v3.4.23/etcdserver/api/v3rpc/rpctypes/error.go), and grpc-js for it:
 * gRPC's status codes do not tell a request that was refused from one whose answer was lost. Not in the list: lost.
 */
const failures: readonly [RegExp, Failure][] = [
  [/invalid auth token|revision of auth store is old/, 'login'],
  [/etcdserver: (no leader|not leader|not capable|too many requests|rpc not supported for learner)/, 'elsewhere'],
  [/raft proposal dropped/, 'elsewhere'],
  // grpc-js, of a call for which there never was a connection
  [/^(No connection established|Name resolution failed|Failed to connect)/, 'elsewhere'],
  [/etcdserver: (too many operations|request is too large|duplicate key|requested lease not found)/, 'final'],
  [/etcdserver: mvcc: (required revision|database space exceeded)/, 'final'],
  [/etcdserver: (permission denied|authentication failed|user name is empty|user name not found)/, 'final'],
]

export const failureOf = (error: unknown): Failure =>
  failures.find(([says]) => says.test(reasonOf(error)))?.[1] ?? 'lost'

export const says = (error: unknown, words: string): boolean => reasonOf(error).includes(words)

/** What went wrong without gRPC's wrapping: `connect ECONNREFUSED 127.0.0.1:2379`. */
export function reasonOf(error: unknown): string {
  const details = (error as { details?: unknown } | undefined)?.details
  return typeof details === 'string' && details !== '' ? details : messageOf(error).replace(/^\d+ [A-Z_]+: /, '')
}

export const isTimeout = (error: unknown): boolean => /^Deadline exceeded/.test(reasonOf(error))

/** The same for people. */
export function explain(error: unknown): string {
  const reason = reasonOf(error)
  if (isTimeout(error)) return 'no answer'
  return reason
    .replace(/^No connection established\. Last error: (Error: )?/, '')
    .replace(/\. Resolution note: $/, '')
    .replace(/^etcdserver: (mvcc: )?/, '')
}

/** No member works; `final` if waiting will not help. */
export class Down extends NetError {
  constructor(
    reasons: [endpoint: string, error: unknown][],
    readonly final = false,
  ) {
    super('Unavailable', `etcd cannot be used: ${reasons.map(([at, error]) => `${at}: ${explain(error)}`).join('; ')}`)
  }
}

/** Waiting will not help. */
export const isFinal = (error: unknown): boolean => (error instanceof Down ? error.final : failureOf(error) === 'final')
