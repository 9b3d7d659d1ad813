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
