import type { IResponseHeader } from 'etcd3'

/** A change that etcd has told of: in the same history the key is at that revision what it was. */
export interface Witness {
  key: Buffer
  revision: number
  isDeletion: boolean
}

/** Whether etcd has still the history that it had, or was put back to a backup. */
export class History {
  /** Grows when etcd turns out to have another history than it had. */
  count = 0
  /** The newest change that is known. */
  witness: Witness | undefined
  /** Of the answer that was furthest in the present history. */
  header: IResponseHeader | undefined

  /** In one history the term of raft never goes back, from an answer to one that was asked for after it had come (`before`). */
  note(header: IResponseHeader, before: IResponseHeader | undefined): void {
    if (isAnother(header, before) && isAnother(header, this.header)) this.#another()
    else if (this.header && Number(header.raft_term) < Number(this.header.raft_term)) return
    this.header = header
  }

  saw(change: Witness): void {
    if (change.revision > (this.witness?.revision ?? 0)) this.witness = change
  }

  /** Nothing can be proved by it any more. */
  forget(change: Witness): void {
    if (this.witness === change) this.witness = undefined
  }

  /** etcd turns out not to know a change that it told of. */
  disown(change: Witness): void {
    if (this.witness === change) this.#another()
  }

  #another(): void {
    this.count++
    this.witness = undefined
  }
}

const isAnother = (header: IResponseHeader, before: IResponseHeader | undefined): boolean =>
  before !== undefined &&
  (header.cluster_id !== before.cluster_id || Number(header.raft_term) < Number(before.raft_term))
