import { setMaxListeners } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import type { IAuthenticateResponse, IResponseHeader } from 'etcd3'
import { type NetError, unavailable } from '../errors.js'
import { Turns } from '../locks.js'
import { Down, explain, type Failure, failureOf, isFinal, isTimeout, says } from './etcd-errors.js'
import { History } from './etcd-history.js'
import { type Answers, Member, type Method } from './etcd-member.js'
import { type EtcdOptions, formatEtcd } from './etcd-url.js'

const range: Method = { service: 'KV', name: 'range' }
const authenticate: Method = { service: 'Auth', name: 'authenticate' }
const longestPauseMs = 200
const mostAtOnce = 128

interface Attempt {
  /** Asking twice is the same as asking once, so that a lost answer is asked for again. */
  repeatable: boolean
  signal?: AbortSignal | undefined
}

export interface Stream<T> {
  answers: Answers<T>
  /** The member gave a sign of life. */
  heard(): void
  end(error?: unknown): void
}

/**
 * Calls to whichever member of an etcd works. All are asked at once, and the first that answers a linearizable read (so
 * it has a leader, and the leader a majority) is used until a call to it fails; then all are asked again. While
 * something is watched, the member in use must give a sign of life every `beatMs`.
 */
export class EtcdClient {
  readonly timeoutMs: number
  /** Why the last search for a member that works found none; undefined since one was found. */
  failure: NetError | undefined
  readonly history = new History()
  readonly #options: EtcdOptions
  readonly #beatMs: number
  /** What the members said to the search that is under way or was the last. */
  readonly #reasons = new Map<string, unknown>()
  #current: Member | undefined
  #connecting: Promise<Member> | undefined
  #token: string | undefined
  /** gRPC takes any number of calls, and then none is answered in time. */
  readonly #turns = new Turns(mostAtOnce)
  #streams = 0
  #heart: NodeJS.Timeout | undefined
  readonly #closed = new AbortController()

  constructor(options: EtcdOptions) {
    this.#options = options
    this.timeoutMs = options.timeoutMs ?? 3_000
    this.#beatMs = this.timeoutMs / 2
    setMaxListeners(0, this.#closed.signal) // one for each call under way
  }

  get closed(): boolean {
    return this.#closed.signal.aborted
  }

  get name(): string {
    return formatEtcd(this.#options)
  }

  /**
   * @throws {NetError} Unavailable within `timeoutMs`
   * @throws what gRPC said, if the request was refused for good
   */
  async call<T extends { header: IResponseHeader }>(method: Method, request: object, attempt: Attempt): Promise<T> {
    const work = () => this.#call<T>(method, request, attempt)
    return method.urgent ? work() : this.#turns.take(work)
  }

  async #call<T extends { header: IResponseHeader }>(
    method: Method,
    request: object,
    { repeatable, signal }: Attempt,
  ): Promise<T> {
    const end = performance.now() + this.timeoutMs
    const stop = signal ? AbortSignal.any([signal, this.#closed.signal]) : this.#closed.signal
    for (let pauseMs = 10; ; pauseMs = Math.min(2 * pauseMs, longestPauseMs)) {
      let member: Member | undefined
      let token: string | undefined
      let begunMs = 0
      const before = this.history.header
      try {
        ;({ member, token } = await this.#ready(end, stop))
        begunMs = performance.now()
        const leftMs = Math.max(1, end - begunMs)
        const timeoutMs = repeatable ? Math.min(leftMs, this.#beatMs) : leftMs
        const answer = await member.call<T>(method, request, { timeoutMs, token, signal: stop })
        this.history.note(answer.header, before)
        return answer
      } catch (error) {
        this.#refuseClosed()
        signal?.throwIfAborted()
        const failure = this.#failureOf(error)
        if (failure === 'login') this.#forget(token)
        else if (member && failure !== 'final' && !isSlow(member, error, begunMs)) this.#drop(member)
        if (member && failure === 'lost' && !repeatable) throw lost(member, error)
        if (failure === 'final') throw error
        if (performance.now() + pauseMs >= end) {
          this.failure = error instanceof Down ? error : new Down([[member?.endpoint ?? this.name, error]])
          // Nor will those who wait their turn be answered.
          if (!this.#current) this.#turns.refuseWaiting(this.failure)
          throw this.failure
        }
        await sleep(pauseMs, undefined, { signal: stop }).catch(() => {})
      }
    }
  }

  /** Answers until `end` is called, as it must be; with the error, if they ended with one. */
  async stream<T>(method: Method, signal: AbortSignal): Promise<Stream<T>> {
    const stop = AbortSignal.any([signal, this.#closed.signal])
    const { member, token } = await this.#ready(performance.now() + this.timeoutMs, stop)
    const answers = await member.stream<T>(method, token)
    const cancel = () => answers.cancel()
    stop.addEventListener('abort', cancel)
    if (stop.aborted) cancel()
    this.#streams++
    this.#heart ??= setInterval(() => void this.#beat(), this.#beatMs).unref()
    return {
      answers,
      heard: () => {
        member.heardMs = performance.now()
      },
      end: error => {
        stop.removeEventListener('abort', cancel)
        cancel()
        if (error !== undefined && !stop.aborted && !isFinal(error)) this.#drop(member)
        if (--this.#streams > 0) return
        clearInterval(this.#heart)
        this.#heart = undefined
      },
    }
  }

  close(): void {
    this.#closed.abort()
    clearInterval(this.#heart)
    this.#turns.refuseWaiting(unavailable('the store is closed'))
    this.#current?.end()
  }

  /** The member to use, known to work, with somebody logged in. */
  async #ready(end: number, stop: AbortSignal): Promise<{ member: Member; token: string | undefined }> {
    this.#refuseClosed()
    if (!this.#current) {
      this.#connecting ??= this.#connect().finally(() => {
        this.#connecting = undefined
      })
      await this.#within(this.#connecting, end, stop)
    }
    const member = this.#current
    if (!member) return this.#ready(end, stop)
    const isLoggedIn = this.#options.user === undefined || this.#token !== undefined
    if (!isLoggedIn || performance.now() - member.heardMs > this.timeoutMs) {
      // It may have died since: that is found out by asking, not by a transaction whose fate is then unknown.
      await this.#within(this.#ask(member), end, stop).catch(error => {
        if (stop.aborted) throw error
        this.#drop(member)
        throw new Down([[member.endpoint, error]], isFinal(error))
      })
    }
    return { member, token: this.#token }
  }

  async #connect(): Promise<Member> {
    const { endpoints } = this.#options
    const end = performance.now() + this.timeoutMs
    const members: Member[] = []
    this.#reasons.clear()
    try {
      for (const endpoint of endpoints) members.push(await Member.create(endpoint, this.#options))
      this.#current = await Promise.any(members.map(member => this.#askUntil(member, end)))
      this.failure = undefined
      return this.#current
    } catch (error) {
      const isOfMembers = error instanceof AggregateError
      this.failure = isOfMembers ? this.#down(error.errors.some(isFinal)) : new Down([[this.name, error]], true)
      throw this.failure
    } finally {
      for (const member of members) if (member !== this.#current) member.end()
    }
  }

  #down(final = false): Down {
    return new Down(
      this.#options.endpoints.map(at => [at, this.#reasons.get(at) ?? 'no answer']),
      final,
    )
  }

  /** Ask a member that may be starting, or choosing a leader, until it answers. */
  async #askUntil(member: Member, end: number): Promise<Member> {
    for (let pauseMs = 20; ; pauseMs = Math.min(2 * pauseMs, longestPauseMs)) {
      try {
        await this.#ask(member)
        return member
      } catch (error) {
        this.#reasons.set(member.endpoint, error)
        if (member.ended || this.#failureOf(error) === 'final' || performance.now() + pauseMs >= end) throw error
        await sleep(pauseMs, undefined, { signal: this.#closed.signal })
      }
    }
  }

  /** A linearizable read: only a member that reaches the majority can answer it. */
  async #ask(member: Member): Promise<void> {
    const token = await this.#logIn(member)
    try {
      await member.call(range, this.#anyKey, { timeoutMs: this.#beatMs, token, signal: this.#closed.signal })
    } catch (error) {
      if (this.#failureOf(error) === 'login') this.#forget(token)
      throw error
    }
  }

  get #anyKey(): object {
    const key = Buffer.from(`${this.#options.prefix}/`)
    return { key, range_end: rangeEnd(key), limit: 1, keys_only: true }
  }

  async #beat(): Promise<void> {
    const member = this.#current
    if (!member || performance.now() - member.heardMs < this.#beatMs / 2) return
    const begunMs = performance.now()
    const request = { ...this.#anyKey, serializable: true }
    const options = { timeoutMs: this.#beatMs, token: this.#token, signal: this.#closed.signal }
    await member.call(range, request, options).catch(error => {
      const failure = this.#failureOf(error)
      if ((failure === 'lost' || failure === 'elsewhere') && !isSlow(member, error, begunMs)) this.#drop(member)
    })
  }

  async #logIn(member: Member): Promise<string | undefined> {
    const { user: name, password } = this.#options
    if (name === undefined || this.#token !== undefined) return this.#token
    const options = { timeoutMs: this.#beatMs, token: undefined, signal: this.#closed.signal }
    member.login ??= member
      .call<IAuthenticateResponse>(authenticate, { name, password }, options)
      .then(answer => answer.token)
      .catch(error => {
        // then everybody may do everything
        if (says(error, 'authentication is not enabled')) return ''
        throw error
      })
      .finally(() => {
        member.login = undefined
      })
    this.#token = await member.login
    return this.#token
  }

  /** Whoever has a login and is told to log in has logged in before etcd asked for it. */
  #failureOf(error: unknown): Failure {
    const isToLogIn = this.#options.user !== undefined && says(error, 'user name is empty')
    return isToLogIn ? 'login' : isFinal(error) ? 'final' : failureOf(error)
  }

  /** Unless somebody has logged in again since. */
  #forget(token: string | undefined): void {
    if (this.#token === token) this.#token = undefined
  }

  #drop(member: Member): void {
    member.end()
    if (this.#current === member) this.#current = undefined
  }

  /** `work` goes on, for the others who wait for it. */
  #within<T>(work: Promise<T>, end: number, stop: AbortSignal): Promise<T> {
    return new Promise((resolve, reject) => {
      const abort = () => reject(stop.reason)
      const timer = setTimeout(() => reject(this.#down()), Math.max(0, end - performance.now()))
      const over = () => {
        clearTimeout(timer)
        stop.removeEventListener('abort', abort)
      }
      stop.addEventListener('abort', abort)
      work.then(resolve, reject).finally(over)
      if (stop.aborted) abort()
    })
  }

  #refuseClosed(): void {
    if (this.#closed.signal.aborted) throw unavailable('the store is closed')
  }
}

/** It has answered others meanwhile. */
const isSlow = (member: Member, error: unknown, begunMs: number): boolean =>
  isTimeout(error) && member.heardMs > begunMs

const lost = (member: Member, error: unknown): NetError =>
  unavailable(
    `the answer of etcd at ${member.endpoint} was lost (${explain(error)}): whether the change was made is unknown`,
    { cause: error },
  )

/** The end of the range of all keys that start with `prefix`: https://etcd.io/docs/v3.5/learning/api/#key-value-pair */
export function rangeEnd(prefix: Buffer): Buffer {
  const end = Buffer.from(prefix)
  // Keys are UTF-8, which has no byte 0xff, so that the last byte can always grow.
  end[end.length - 1]! += 1
  return end
}
