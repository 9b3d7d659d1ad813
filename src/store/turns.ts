/** At most so many pieces of work at once; the others wait, first come first served. */
export class Turns {
  #running = 0
  readonly #waiting: { resolve(): void; reject(error: unknown): void }[] = []

  constructor(readonly mostAtOnce: number) {}

  async take<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running < this.mostAtOnce) this.#running++
    else await new Promise<void>((resolve, reject) => this.#waiting.push({ resolve, reject }))
    try {
      return await work()
    } finally {
      const next = this.#waiting.shift()
      if (next) next.resolve()
      else this.#running--
    }
  }

  /** Whoever waits is told `error` instead. */
  refuseWaiting(error: unknown): void {
    for (const { reject } of this.#waiting.splice(0)) reject(error)
  }
}
