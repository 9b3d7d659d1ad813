/** Mutual exclusion by key, first come first served. A key costs nothing while nobody holds it. */
export class KeyedLock {
  readonly #tails = new Map<string, Promise<void>>()

  /** Run `work` while holding `key`. Not re-entrant: taking a key twice in one call chain never returns. */
  async with<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key)
    let release!: () => void
    const mine = new Promise<void>(resolve => {
      release = resolve
    })
    this.#tails.set(key, mine)
    try {
      await before
      return await work()
    } finally {
      release()
      if (this.#tails.get(key) === mine) this.#tails.delete(key)
    }
  }

  /** Hold several keys at once, always taken in the same order so that two callers cannot wait for each other. */
  withAll<T>(keys: readonly string[], work: () => Promise<T>): Promise<T> {
    const [first, ...rest] = [...new Set(keys)].sort()
    return first === undefined ? work() : this.with(first, () => this.withAll(rest, work))
  }
}

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
