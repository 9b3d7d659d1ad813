import { setTimeout as sleep } from 'node:timers/promises'
import { kindOf, messageOf, NetError, unavailable } from '../errors.js'
import type { Log } from '../log.js'
import { type Lease, type Store, StorePutBack } from '../store/store.js'

export interface SessionDeps {
  shared: Store
  /** the shared store, for messages: its address without passwords */
  where: string
  log: Log
  leaseMs: number
  /** between two tries to connect, growing */
  pausesMs: { shortest: number; longest: number }
  /** Announce this host under the lease's id, for the first time or again. */
  announce: (lease: Lease) => Promise<void>
  /** Learn everything, and bring what the store has of this host up to date. The session has ended when the signal aborts. */
  synchronise: (session: Attempt) => Promise<void>
  up: () => void
  down: (because: string) => void
}

/** One time of being connected. */
export interface Attempt {
  signal: AbortSignal
  /** end it: all is learnt and compared again soon */
  failed: (error: unknown) => void
  /** the networks are known: what this host has may be written from now on */
  open: () => void
}

/**
 * Being connected with the shared store, again and again. Whatever goes wrong ends the session, and the next one learns and compares
 * everything: there is one way to recover, and it is the way to start.
 */
export class Session {
  readonly #deps: SessionDeps
  readonly #closing = new AbortController()
  #phase: 'down' | 'open' | 'up' = 'down'
  #because: string
  /** the log and the listener have been told why it is down */
  #told = false
  #fail: (error: unknown) => void = () => {}
  #lease: Lease | undefined
  #running: Promise<void> = Promise.resolve()

  constructor(deps: SessionDeps) {
    this.#deps = deps
    this.#because = `the cluster store ${deps.where} has not been asked yet`
  }

  /** Why not everything is known and published now. */
  get because(): string | undefined {
    return this.#phase === 'up' ? undefined : this.#because
  }

  /** Why nothing can be written now. */
  unreachable(): NetError | undefined {
    return this.#phase === 'down' ? unavailable(this.#because) : undefined
  }

  start(): void {
    this.#running = this.#run()
  }

  fail(error: unknown): void {
    this.#fail(error)
  }

  /** `farewell` is asked for while the store still answers. */
  async close(farewell: () => Promise<unknown>): Promise<void> {
    const up = this.#phase === 'up'
    this.#phase = 'down'
    this.#because = 'this daemon is stopping'
    this.#closing.abort()
    await this.#running
    if (!up) return
    await farewell().catch(() => {})
    await this.#lease?.revoke().catch(() => {})
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing
    const { shortest, longest } = this.#deps.pausesMs
    for (let pauseMs = shortest; !signal.aborted; pauseMs = Math.min(pauseMs * 2, longest)) {
      const wasUp = await this.#connect()
      if (signal.aborted) return
      if (wasUp) pauseMs = shortest
      await sleep(jittered(pauseMs), undefined, { signal }).catch(() => {})
    }
  }

  /** Returns when the session has ended, with whether it had been up. */
  async #connect(): Promise<boolean> {
    const { shared, where, log, leaseMs, announce, synchronise, up } = this.#deps
    const ended = new AbortController()
    const signal = AbortSignal.any([ended.signal, this.#closing.signal])
    let wasUp = false
    this.#fail = error => {
      if (signal.aborted) return
      this.#down(error)
      ended.abort(error)
    }
    try {
      this.#lease = await shared.lease(leaseMs)
      await announce(this.#lease)
      void this.#keepAlive(signal)
      const open = (): void => {
        if (!signal.aborted) this.#phase = 'open'
      }
      await synchronise({ signal, failed: error => this.#fail(error), open })
      signal.throwIfAborted()
      this.#phase = 'up'
      wasUp = true
      log.info({}, `the cluster store ${where} answers, and everything is known`)
      this.#told = false
      up()
      await new Promise(resolve => signal.addEventListener('abort', resolve))
    } catch (error) {
      this.#fail(error)
    }
    return wasUp
  }

  async #keepAlive(signal: AbortSignal): Promise<void> {
    const { shared, leaseMs, announce } = this.#deps
    for (;;) {
      await sleep(leaseMs / 3, undefined, { signal }).catch(() => {})
      if (signal.aborted) return
      try {
        await this.#lease?.keepAlive().catch(async error => {
          if (kindOf(error) !== 'NotFound') throw error
          // it ended while this process was not running, or could not be heard
          this.#lease = await shared.lease(leaseMs)
          await announce(this.#lease)
        })
      } catch (error) {
        this.#fail(error)
      }
    }
  }

  #down(error: unknown): void {
    const { where, log, down } = this.#deps
    this.#phase = 'down'
    const refused = error instanceof Refused
    const isSilent = kindOf(error) === 'Unavailable' && !(error instanceof StorePutBack)
    const what = isSilent ? 'does not answer' : 'is being read again'
    const since = new Date().toTimeString().slice(0, 8)
    const because = refused ? error.message : `the cluster store ${where} ${what} since ${since} (${messageOf(error)})`
    // one line for all tries, unless there is something new that the user can do
    if (this.#told && (!refused || because === this.#because)) return
    this.#told = true
    this.#because = because
    log.warn({}, because)
    down(because)
  }
}

/** Half to all of it: a thousand hosts that lost the store in the same moment do not come back in the same moment. */
export const jittered = (pauseMs: number): number => pauseMs * (0.5 + Math.random() / 2)

/** The store answers, and this host must not use it: the message says what to do. */
export class Refused extends NetError {
  constructor(message: string) {
    super('Unavailable', message)
  }
}
