import { bitsOf, type Cidr, hostSpan, intersect, type Span } from '../net/cidr.js'

/** Which number to choose next: the lowest that is free, or with `serial` the next after the last one chosen this way. */
export interface Choice {
  span: Span
  serial?: boolean
}

/**
 * Which addresses of a subnet are in use, and which to give next. Pure: no store, and the time is an argument (monotonic ms).
 * A released address cools down: it is not chosen again for a while unless nothing else is free, because neighbours,
 * resolvers and connection tracking remember whom it belonged to. Asked for by its number it can be had at once.
 */
export class Allocator {
  readonly #first: bigint
  readonly #hosts: Span
  readonly #coolDownMs: number
  /** in use or cooling down */
  readonly #blocked: NumberSet
  /** when a released address may be chosen again; in order of release, so the first is always the first to be ready */
  readonly #cooling = new Map<bigint, number>()
  #lastSerial: bigint | undefined

  constructor(subnet: Cidr, coolDownMs: number) {
    this.#first = subnet.first
    this.#hosts = hostSpan(subnet)
    this.#coolDownMs = coolDownMs
    this.#blocked = new NumberSet(bitsOf(subnet.family) - subnet.prefixLength)
  }

  isFree(value: bigint): boolean {
    return this.#cooling.has(value) || !this.#blocked.has(value - this.#first)
  }

  /** Take the next free address inside `span`; undefined when there is none. */
  takeNext({ span, serial }: Choice, now: number): bigint | undefined {
    this.#endCoolDowns(now)
    const { first, last } = intersect(span, this.#hosts)
    const afterLast =
      serial && this.#lastSerial !== undefined ? this.#nextFree(this.#lastSerial + 1n, first, last) : undefined
    const value = afterLast ?? this.#nextFree(first, first, last) ?? this.#longestCooled(first, last)
    if (value === undefined) return undefined
    if (serial) this.#lastSerial = value
    this.take(value)
    return value
  }

  /** Let the next serial choice begin here. */
  goOnAt(value: bigint): void {
    this.#lastSerial = value - 1n
  }

  /** Take this address, which must be free. */
  take(value: bigint): void {
    this.#cooling.delete(value)
    this.#blocked.add(value - this.#first)
  }

  release(value: bigint, now: number): void {
    this.#endCoolDowns(now)
    this.#cooling.set(value, now + this.#coolDownMs)
  }

  /** Give back an address that nobody has ever used: it needs no cool-down. */
  giveBack(value: bigint): void {
    this.#blocked.delete(value - this.#first)
  }

  #nextFree(from: bigint, first: bigint, last: bigint): bigint | undefined {
    const offset = this.#blocked.nextAbsent((from < first ? first : from) - this.#first)
    const value = offset === undefined ? undefined : offset + this.#first
    return value !== undefined && value <= last ? value : undefined
  }

  #longestCooled(first: bigint, last: bigint): bigint | undefined {
    for (const value of this.#cooling.keys()) if (first <= value && value <= last) return value
    return undefined
  }

  #endCoolDowns(now: number): void {
    for (const [value, readyAt] of this.#cooling) {
      if (readyAt > now) return
      this.#cooling.delete(value)
      this.#blocked.delete(value - this.#first)
    }
  }
}

const wordBits = 5n
const full = -1

/**
 * A set of whole numbers below 2^bits that finds the next number it does not have in a few steps, however many it has.
 * A sparse tree of 32-bit words: in the lowest level a bit says that its number is in the set, in each level above
 * that the whole word below it is full. 4 levels serve a /16, 13 an IPv6 /64; words that are 0 are not kept.
 */
export class NumberSet {
  readonly #levels: Map<bigint, number>[]

  constructor(bits: number) {
    this.#levels = Array.from({ length: Math.max(1, Math.ceil(bits / Number(wordBits))) }, () => new Map())
  }

  has(number: bigint): boolean {
    return (this.#word(0, number >> wordBits) & bitOf(number)) !== 0
  }

  add(number: bigint): void {
    let index = number
    for (const level of this.#levels.keys()) {
      const word = this.#word(level, index >> wordBits) | bitOf(index)
      this.#setWord(level, index >> wordBits, word)
      if (word !== full) return
      index >>= wordBits
    }
  }

  delete(number: bigint): void {
    let index = number
    for (const level of this.#levels.keys()) {
      const before = this.#word(level, index >> wordBits)
      this.#setWord(level, index >> wordBits, before & ~bitOf(index))
      if (before !== full) return
      index >>= wordBits
    }
  }

  /** The lowest number from `from` on that is not in the set; undefined at the end of the tree. */
  nextAbsent(from: bigint): bigint | undefined {
    let level = 0
    let index = from
    // Up, until a word has a clear bit at or after the index.
    for (;;) {
      const at = index >> wordBits
      if (level === this.#levels.length - 1 && at > 0n) return undefined
      const absent = ~this.#word(level, at) & (full << Number(index & 31n))
      if (absent !== 0) {
        index = (at << wordBits) | lowestBit(absent)
        break
      }
      if (++level === this.#levels.length) return undefined
      index = at + 1n
    }
    // Down again: what a clear bit stands for is not full.
    while (level-- > 0) index = (index << wordBits) | lowestBit(~this.#word(level, index))
    return index
  }

  #word(level: number, at: bigint): number {
    return this.#levels[level]?.get(at) ?? 0
  }

  #setWord(level: number, at: bigint, word: number): void {
    if (word === 0) this.#levels[level]?.delete(at)
    else this.#levels[level]?.set(at, word)
  }
}

const bitOf = (index: bigint): number => 1 << Number(index & 31n)
const lowestBit = (word: number): bigint => BigInt(31 - Math.clz32(word & -word))
