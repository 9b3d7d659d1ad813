import type { Event, EventsOptions } from './specs.js'

/** How many events are remembered for `since`, and how many one reader may be behind. */
export interface EventLogSizes {
  remembered: number
  behind: number
}

interface Reader {
  waiting: Event[]
  lost: number
  wake: () => void
}

/**
 * What has changed, for whoever wants to know. Emitting costs the same whoever listens: a reader that is too slow loses
 * events and is told how many. Kept in memory only; the first event says since when.
 */
export class EventLog {
  readonly #sizes: EventLogSizes
  readonly #ring: Event[] = []
  readonly #readers = new Set<Reader>()
  #oldest = 0
  #closed = false

  constructor(sizes: EventLogSizes = { remembered: 10_000, behind: 1_000 }) {
    this.#sizes = sizes
    this.emit({ type: 'events', action: 'begin', words: 'the daemon has started' })
  }

  emit(event: Omit<Event, 'time'>): void {
    const stamped: Event = { time: new Date().toISOString(), ...event }
    if (this.#ring.length < this.#sizes.remembered) this.#ring.push(stamped)
    else {
      this.#ring[this.#oldest] = stamped
      this.#oldest = (this.#oldest + 1) % this.#sizes.remembered
    }
    for (const reader of this.#readers) {
      if (reader.waiting.length < this.#sizes.behind) reader.waiting.push(stamped)
      else reader.lost++
      reader.wake()
    }
  }

  /** How many listen now. */
  get readers(): number {
    return this.#readers.size
  }

  /** End every reader: the daemon stops. */
  close(): void {
    this.#closed = true
    for (const reader of this.#readers) reader.wake()
  }

  /** Begins to listen at once, not when the first event is asked for. */
  read({ since, until, signal }: EventsOptions): AsyncIterable<Event> {
    const past = since === undefined ? [] : this.#remembered(since, until)
    const reader: Reader = { waiting: [], lost: 0, wake: () => undefined }
    this.#readers.add(reader)
    signal.addEventListener('abort', () => this.#readers.delete(reader), { once: true })
    return this.#follow(reader, past, until, signal)
  }

  async *#follow(reader: Reader, past: Event[], until: Date | undefined, signal: AbortSignal): AsyncGenerator<Event> {
    const wake = (): void => reader.wake()
    const timer =
      until === undefined
        ? undefined
        : setTimeout(wake, Math.min(until.getTime() - Date.now() + clockStepMs, longestMs))
    signal.addEventListener('abort', wake, { once: true })
    try {
      yield* past
      for (;;) {
        const event = reader.waiting.shift()
        if (signal.aborted || isPast(until, event)) return
        if (event !== undefined) yield event
        else if (reader.lost > 0) yield this.#lost(reader)
        else if (this.#closed) return
        else
          await new Promise<void>(resolve => {
            reader.wake = resolve
          })
      }
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', wake)
      this.#readers.delete(reader)
    }
  }

  #lost(reader: Reader): Event {
    const words = `${reader.lost} events are lost: they came faster than they were read`
    reader.lost = 0
    return { time: new Date().toISOString(), type: 'events', action: 'lost', words }
  }

  #remembered(since: Date, until: Date | undefined): Event[] {
    const all = [...this.#ring.slice(this.#oldest), ...this.#ring.slice(0, this.#oldest)]
    const first = all[0]
    const found = all.filter(event => Date.parse(event.time) >= since.getTime() && !isPast(until, event))
    const overwritten = first !== undefined && first.action !== 'begin' && Date.parse(first.time) > since.getTime()
    if (!overwritten) return found
    const words = `what came before is forgotten: ${this.#sizes.remembered} events are remembered`
    return [{ time: first.time, type: 'events', action: 'lost', words }, ...found]
  }
}

/** A timer and the clock need not agree to the millisecond. */
const clockStepMs = 2
/** The longest time of a timer, 2^31 - 1 ms. */
const longestMs = 2 ** 31 - 1

const isPast = (until: Date | undefined, event: Event | undefined): boolean =>
  until !== undefined && (event === undefined ? Date.now() : Date.parse(event.time)) >= until.getTime()
