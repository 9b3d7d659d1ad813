import { readFrames } from './framing.js'
import { NetlinkError } from './netlink-error.js'
import type { Request } from './request.js'

/** One item of a list; undefined: none that is wanted. */
export type Parse<T> = (bytes: Buffer, start: number, end: number) => T | undefined

/** What a request lists, as it comes. */
export class Listing<T> {
  readonly #found: T[] = []
  #interrupted = false

  constructor(
    readonly request: Request,
    readonly sequence: number,
    readonly parse: Parse<T>,
  ) {}

  /** The whole of it; undefined: it changed while it was read. */
  get found(): T[] | undefined {
    return this.#interrupted ? undefined : this.#found
  }

  /** Take a datagram; true when it was the last. Throws NetlinkError. */
  add(bytes: Buffer, size: number): boolean {
    for (const message of readFrames(bytes, size)) {
      if (message.sequence !== this.sequence) continue
      this.#interrupted ||= message.interrupted
      if (message.what !== 'message') {
        if (message.failure) throw new NetlinkError(this.request.op, message.failure)
        return true
      }
      const item = this.parse(bytes, message.start, message.end)
      if (item !== undefined) this.#found.push(item)
    }
    return false
  }
}
