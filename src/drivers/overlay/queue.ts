import { setImmediate as turn } from 'node:timers/promises'
import type { Kernel } from '../../netlink/kernel.js'
import type { Request } from '../../netlink/requests.js'

/** Requests sent at once: about 5 ms of the kernel's time and ours. */
const requestsAtOnce = 500

interface Work {
  requests: Iterator<Request>
  done: () => void
  failed: (error: unknown) => void
}

/**
 * What one network's links are told, in the order in which it is given. A little is told at once; of much, a part in each turn of
 * the event loop, so that a hundred thousand remotes do not keep everybody else waiting.
 */
export class RequestQueue {
  readonly #kernel: Kernel
  readonly #waiting: Work[] = []
  #closed = false

  constructor(kernel: Kernel) {
    this.#kernel = kernel
  }

  /** Returns when they are told: at once where they are few and nothing waits before them, and then nothing is to be awaited. */
  apply(requests: readonly Iterable<Request>[]): Promise<void> | undefined {
    const work = chained(requests)
    if (this.#waiting.length === 0 && this.#send(work)) return undefined
    return new Promise((done, failed) => {
      this.#waiting.push({ requests: work, done, failed })
      if (this.#waiting.length === 1) void this.#drain()
    })
  }

  /** The links are gone, or going: what still waits is told nobody. */
  close(): void {
    this.#closed = true
  }

  async #drain(): Promise<void> {
    for (;;) {
      await turn()
      const work = this.#waiting[0]
      if (work === undefined) return
      try {
        if (!this.#closed && !this.#send(work.requests)) continue
        work.done()
      } catch (error) {
        work.failed(error)
      }
      this.#waiting.shift()
      if (this.#waiting.length === 0) return
    }
  }

  /** Some of them; true when those were the last. */
  #send(requests: Iterator<Request>): boolean {
    const batch: Request[] = []
    while (batch.length < requestsAtOnce) {
      const { done, value } = requests.next()
      if (done) {
        this.#kernel.apply(batch)
        return true
      }
      batch.push(value)
    }
    this.#kernel.apply(batch)
    return false
  }
}

function* chained(lists: readonly Iterable<Request>[]): Generator<Request> {
  for (const list of lists) yield* list
}
