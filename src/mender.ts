import type { Damper } from './damper.js'

export interface Mending<T> {
  /** Look at one thing because of what was told of it; says what had to be repaired. */
  look: (key: string, told: readonly T[]) => Promise<readonly string[]>
  /** The same of it had to be repaired so often that it is left alone for a while. */
  fought: (key: string, pauseMs: number) => void
  failed: (key: string, error: unknown) => void
  damper: Damper
}

interface Thing<T> {
  told: T[]
  running: boolean
  timer?: NodeJS.Timeout
}

/** Repairs many things, each by itself: told of one while it is looked at, or left alone, that is looked at once more, not once a time. */
export class Mender<T> {
  readonly #how: Mending<T>
  readonly #things = new Map<string, Thing<T>>()
  #stopped = false

  constructor(how: Mending<T>) {
    this.#how = how
  }

  tell(key: string, told: T): void {
    const thing = this.#things.get(key) ?? { told: [], running: false }
    this.#things.set(key, thing)
    thing.told.push(told)
    if (!thing.running) void this.#run(key, thing)
  }

  /** It is being looked at, or will be. */
  isBusy(key: string): boolean {
    return this.#things.has(key)
  }

  stop(): void {
    this.#stopped = true
    for (const { timer } of this.#things.values()) clearTimeout(timer)
  }

  async #run(key: string, thing: Thing<T>): Promise<void> {
    thing.running = true
    // all that is told in one go is one thing to look at
    await Promise.resolve()
    while (thing.told.length > 0 && !this.#stopped) {
      const told = thing.told.splice(0)
      const repaired = await this.#how.look(key, told).catch(error => {
        this.#how.failed(key, error)
        return ['all of it']
      })
      const pauseMs = Math.max(0, ...repaired.map(words => this.#how.damper.repaired(`${key} ${words}`)))
      if (pauseMs > 0) {
        this.#how.fought(key, pauseMs)
        await new Promise<void>(resolve => {
          thing.timer = setTimeout(resolve, pauseMs)
          thing.timer.unref()
        })
      }
    }
    thing.running = false
    this.#things.delete(key)
  }
}
