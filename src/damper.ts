export interface DamperSizes {
  /** repairs at most in `windowMs` before the first pause */
  burst: number
  windowMs: number
  /** the first pause; each further one is twice as long */
  firstMs: number
  longestMs: number
}

interface Fought {
  repairedAt: number[]
  pauseMs: number
  pausedUntil: number
}

/** When somebody else undoes every repair, repairs come ever more seldom, so that two programs do not spend the machine on a quarrel. */
export class Damper {
  readonly #sizes: DamperSizes
  readonly #now: () => number
  readonly #fought = new Map<string, Fought>()

  constructor(sizes: Partial<DamperSizes> = {}, now: () => number = () => performance.now()) {
    this.#sizes = { burst: 10, windowMs: 10_000, firstMs: 1_000, longestMs: 60_000, ...sizes }
    this.#now = now
  }

  /** Something was repaired. Returns for how long to leave it alone: 0, but where it was repaired too often of late. */
  repaired(key: string): number {
    const { burst, windowMs, firstMs, longestMs } = this.#sizes
    const now = this.#now()
    for (const [other, { pausedUntil, pauseMs, repairedAt }] of this.#fought) {
      // whoever is quiet for as long as a pause and a window has given up
      const quietSince = Math.max(pausedUntil + pauseMs, repairedAt.at(-1) ?? 0)
      if (now > quietSince + windowMs) this.#fought.delete(other)
    }
    const fought = this.#fought.get(key) ?? { repairedAt: [], pauseMs: 0, pausedUntil: 0 }
    this.#fought.set(key, fought)
    fought.repairedAt = [...fought.repairedAt.filter(at => at > now - windowMs), now]
    const isFight = fought.pauseMs > 0 || fought.repairedAt.length >= burst
    if (!isFight) return 0
    fought.pauseMs = Math.min(Math.max(firstMs, 2 * fought.pauseMs), longestMs)
    fought.pausedUntil = now + fought.pauseMs
    fought.repairedAt = []
    return fought.pauseMs
  }
}
