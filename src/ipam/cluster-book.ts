import { createHash, randomBytes } from 'node:crypto'
import { type Cidr, formatAddress, parseCidr } from '../net/cidr.js'
import { Allocator } from './allocator.js'
import { choosable, parseHostAddress } from './book.js'
import type { AddressSpec, Pool } from './types.js'

/** Pools of so many addresses are cheaper to read than to guess in. */
const smallSize = 1_024n
/** Addresses are chosen among so many from the first on: in an IPv6 /64 they stay short, and hosts still seldom meet. */
const spread = 1n << 32n

/**
 * What this host knows of one pool's addresses, all of it in memory: its own, those that it met in the hands of others, and
 * those that cool down. Each host goes through the pool in order from a place of its own, so that hosts seldom
 * want the same address; the shared store says who was first.
 */
export class ClusterBook {
  readonly subnet: Cidr
  /** all addresses were read at least once */
  wasRead = false
  /** of the pool's key in the shared store; undefined: not read yet */
  revision: number | undefined
  readonly #allocator: Allocator
  /** taken by other hosts when we looked last */
  readonly #others = new Set<bigint>()

  constructor(
    readonly pool: Pool,
    host: string,
    coolDownMs: number,
  ) {
    this.subnet = parseCidr(pool.subnet)
    this.#allocator = new Allocator(this.subnet, coolDownMs)
    this.#goOnAt(createHash('sha256').update(`${host}/${pool.id}`).digest('hex').slice(0, 16))
  }

  get isSmall(): boolean {
    const { first, last } = choosable(this.pool, {})
    return last - first < smallSize
  }

  parse(text: string): bigint {
    return parseHostAddress(this.subnet, text)
  }

  format(value: bigint): string {
    return formatAddress(this.subnet.family, value)
  }

  formatWithPrefix(value: bigint): string {
    return `${this.format(value)}/${this.subnet.prefixLength}`
  }

  isFree(value: bigint): boolean {
    return this.#allocator.isFree(value)
  }

  /** An address that is free as far as is known here, marked as taken. A gateway is the lowest one. */
  takeNext({ anywhere = false }: AddressSpec, now: number): bigint | undefined {
    return this.#allocator.takeNext({ span: choosable(this.pool, { anywhere }), serial: !anywhere }, now)
  }

  take(value: bigint): void {
    this.#others.delete(value)
    this.#allocator.take(value)
  }

  /** It was ours and is free now. */
  release(value: bigint, now: number): void {
    this.#others.delete(value)
    this.#allocator.release(value, now)
  }

  /** It was marked here and never used. */
  giveBack(value: bigint): void {
    this.#allocator.giveBack(value)
  }

  /** Somebody else has it. */
  met(value: bigint): void {
    this.#allocator.take(value)
    this.#others.add(value)
  }

  /** The addresses of all others, as just read. */
  learn(others: ReadonlySet<bigint>): void {
    for (const value of this.#others) if (!others.has(value)) this.giveBack(value)
    this.#others.clear()
    for (const value of others) this.met(value)
    this.wasRead = true
  }

  /** Two hosts that met go on together, and meet again at every step: go on elsewhere. */
  jump(): void {
    this.#goOnAt(randomBytes(8).toString('hex'))
  }

  #goOnAt(hex: string): void {
    const { first, last } = choosable(this.pool, {})
    const size = last - first + 1n
    this.#allocator.goOnAt(first + (BigInt(`0x${hex}`) % (size < spread ? size : spread)))
  }
}
