interface Queue {
  /** of the last one who wants the key for himself */
  alone: Promise<void>
  /** of those who share it after him */
  shared: Set<Promise<void>>
  /** who holds the key, or waits for it */
  users: number
}

/** Mutual exclusion by key, first come first served. A key costs nothing while nobody holds it. */
export class KeyedLock {
  readonly #queues = new Map<string, Queue>()

  /** Run `work` while holding `key`. Not re-entrant: taking a key twice in one call chain never returns. */
  with<T>(key: string, work: () => Promise<T>): Promise<T> {
    return this.#take(key, work, (queue, mine) => {
      const before = Promise.all([queue.alone, ...queue.shared])
      queue.alone = mine
      queue.shared = new Set()
      return before
    })
  }

  /** The same beside others who share the key: nobody else has it meanwhile, and whoever came before goes first. */
  shared<T>(key: string, work: () => Promise<T>): Promise<T> {
    return this.#take(key, work, (queue, mine) => {
      queue.shared.add(mine)
      return queue.alone
    })
  }

  /** Hold several keys at once, always taken in the same order so that two callers cannot wait for each other. */
  withAll<T>(keys: readonly string[], work: () => Promise<T>): Promise<T> {
    const sorted = [...new Set(keys)].sort()
    const from = (at: number): Promise<T> => {
      const key = sorted[at]
      return key === undefined ? work() : this.with(key, () => from(at + 1))
    }
    return from(0)
  }

  async #take<T>(
    key: string,
    work: () => Promise<T>,
    enqueue: (queue: Queue, mine: Promise<void>) => Promise<unknown>,
  ): Promise<T> {
    const queue = this.#queues.get(key) ?? { alone: Promise.resolve(), shared: new Set(), users: 0 }
    this.#queues.set(key, queue)
    queue.users++
    let release!: () => void
    const mine = new Promise<void>(resolve => {
      release = resolve
    })
    try {
      await enqueue(queue, mine)
      return await work()
    } finally {
      release()
      queue.shared.delete(mine)
      if (--queue.users === 0) this.#queues.delete(key)
    }
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
