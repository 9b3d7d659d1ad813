import { AsyncLocalStorage } from 'node:async_hooks'

/**
 * One counter for every step with an effect, whichever part takes it: requests to the kernel, transactions of the firewall and of
 * stores, ports bound, files written, namespaces made. Nothing here knows the steps of an operation: they are counted while it runs.
 */
class Faults {
  /** names of the steps taken since `during` began, in order */
  steps: string[] = []
  #fails: (step: number, name: string) => boolean = () => false
  readonly #scope = new AsyncLocalStorage<true>()
  readonly #waiting = new Set<Promise<unknown>>()

  /** Count what `work` does, and nothing that goes on beside it; the steps for which `fails` is true, from 1 on, fail. */
  async during<T>(fails: (step: number, name: string) => boolean, work: () => Promise<T>): Promise<T> {
    this.steps = []
    this.#fails = fails
    try {
      return await this.#scope.run(true, work)
    } finally {
      this.#fails = () => false
    }
  }

  /** Count a step; true when it is to fail. */
  hits(name: string): boolean {
    if (this.#scope.getStore() === undefined) return false
    this.steps.push(name)
    return this.#fails(this.steps.length, name)
  }

  /** What the kernel takes its time for: a link is deleted before it has forgotten it, and so before our socket is closed. */
  waits<T>(work: Promise<T>): Promise<T> {
    this.#waiting.add(work)
    work.catch(() => undefined).finally(() => this.#waiting.delete(work))
    return work
  }

  /** Resolves when nothing of that is under way. */
  async rest(): Promise<void> {
    while (this.#waiting.size > 0) await Promise.allSettled(this.#waiting)
    await new Promise(setImmediate)
  }

  /** Count a step; throw when it is to fail, as the system would. */
  step(name: string): void {
    if (this.hits(name)) throw new InjectedFault(name)
  }
}

export class InjectedFault extends Error {
  readonly code = 'EIO'
  constructor(step: string) {
    super(`${step}: Input/output error`)
  }
}

export const faults = new Faults()
