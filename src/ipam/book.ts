import { conflict, invalid } from '../errors.js'
import {
  type Cidr,
  formatAddress,
  formatCidr,
  hasAddress,
  hostSpan,
  intersect,
  parseAddress,
  parseCidr,
  type Span,
} from '../net/cidr.js'
import { Allocator } from './allocator.js'
import type { AddressSpec, Allocation, Pool } from './types.js'

/** dockerd asked for an address or a pool, and no endpoint or network has come for it yet. */
export const dockerOwner = 'docker'
/** How many names of released addresses a pool remembers. */
export const namesRemembered = 1_024

/** An address that is taken; revision 0 while the store does not have it yet. */
export interface Held extends Allocation {
  value: bigint
  revision: number
}

/** One pool's addresses in memory. All of it is synchronous: a choice and its mark cannot be torn apart by an await. */
export class PoolBook {
  readonly subnet: Cidr
  readonly held = new Map<bigint, Held>()
  /** the address last released under a name; in order of release */
  readonly names = new Map<string, bigint>()
  readonly #range: Cidr | undefined
  /** of the subnet: all pools that share it choose from the same addresses */
  readonly #allocator: Allocator
  /** the books of all pools that share the subnet, this one among them */
  readonly #siblings: Set<PoolBook>

  constructor(
    public pool: Pool,
    /** of the pool's own key */
    public revision: number,
    coolDownMs: number,
    sibling?: PoolBook,
  ) {
    this.subnet = parseCidr(pool.subnet)
    this.#range = pool.range === undefined ? undefined : parseCidr(pool.range, 'range')
    this.#allocator = sibling ? sibling.#allocator : new Allocator(this.subnet, coolDownMs)
    this.#siblings = (sibling ? sibling.#siblings : new Set<PoolBook>()).add(this)
  }

  siblings(): PoolBook[] {
    return [...this.#siblings]
  }

  /** The pool is no more: its addresses are free for those that share its subnet. */
  close(now: number): void {
    for (const value of [...this.held.keys()]) this.release(value, now)
    this.#siblings.delete(this)
  }

  format(value: bigint): string {
    return formatAddress(this.subnet.family, value)
  }

  formatWithPrefix(value: bigint): string {
    return `${this.format(value)}/${this.subnet.prefixLength}`
  }

  heldBy(owner: string): Held | undefined {
    for (const held of this.held.values()) if (held.owner === owner && held.revision > 0) return held
    return undefined
  }

  /** @throws {NetError} InvalidParameter: not an address that a host of this subnet may have */
  parse(text: string): bigint {
    return parseHostAddress(this.subnet, text)
  }

  /** Choose an address and mark it as taken. */
  takeNext(spec: AddressSpec, now: number): Held {
    const remembered = spec.name === undefined ? undefined : this.names.get(spec.name)
    if (remembered !== undefined && this.#allocator.isFree(remembered)) return this.take(remembered, spec)
    const span: Span = spec.anywhere ? this.subnet : (this.#range ?? this.subnet)
    const value = this.#allocator.takeNext({ span, serial: spec.serial ?? false }, now)
    if (value === undefined) throw exhausted(this.pool, spec)
    return this.#hold(value, spec)
  }

  /** Mark this address as taken. @throws {NetError} Conflict, naming who has it */
  take(value: bigint, spec: Omit<Allocation, 'address'>): Held {
    const holder = this.#holderAmongSiblings(value, spec.owner)
    if (holder) throw conflict(`address ${holder.address} is already used by ${nameOwner(holder)}`)
    this.#allocator.take(value)
    return this.#hold(value, spec)
  }

  /** An address that was in use is free again. */
  release(value: bigint, now: number): void {
    if (this.held.delete(value) && !this.#isHeld(value)) this.#allocator.release(value, now)
  }

  /** Take back a mark: the address was never in use. */
  giveBack(held: Held): void {
    if (this.held.get(held.value) !== held) return
    this.held.delete(held.value)
    if (!this.#isHeld(held.value)) this.#allocator.giveBack(held.value)
  }

  /** Make this name the youngest; returns the names that are forgotten for it. */
  remember(name: string, value: bigint): string[] {
    this.names.delete(name)
    this.names.set(name, value)
    const forgotten: string[] = []
    for (const oldest of this.names.keys()) {
      if (this.names.size <= namesRemembered) break
      this.names.delete(oldest)
      forgotten.push(oldest)
    }
    return forgotten
  }

  /** A router, or whatever else has an address on the LAN without us, may be named by each network there. */
  #holderAmongSiblings(value: bigint, owner: string): Held | undefined {
    const own = this.held.get(value)
    if (own) return own
    const others = [...this.#siblings].flatMap(book => book.held.get(value) ?? [])
    return others.find(other => !(isOutsider(owner) && isOutsider(other.owner)))
  }

  #isHeld(value: bigint): boolean {
    return [...this.#siblings].some(book => book.held.has(value))
  }

  #hold(value: bigint, { owner, ownerName, name }: Omit<Allocation, 'address'>): Held {
    const held = { ...allocation({ address: this.format(value), owner, ownerName, name }), value, revision: 0 }
    this.held.set(value, held)
    return held
  }
}

/** @throws {NetError} InvalidParameter: not an address that a host of this subnet may have */
export function parseHostAddress(subnet: Cidr, text: string): bigint {
  const address = parseAddress(text)
  if (!hasAddress(subnet, address)) throw invalid(`address ${text} is not in subnet ${formatCidr(subnet)}`)
  const { first, last } = hostSpan(subnet)
  if (address.value >= first && address.value <= last) return address.value
  const use = address.value > last ? 'broadcast' : subnet.family === 4 ? 'network' : 'subnet-router anycast'
  const [from, to] = [formatAddress(subnet.family, first), formatAddress(subnet.family, last)]
  throw invalid(`address ${text} is the ${use} address of ${formatCidr(subnet)}; choose one from ${from} to ${to}`)
}

/** The addresses of a pool among which one may be chosen. */
export function choosable({ subnet, range }: Pool, { anywhere }: { anywhere?: boolean }): Span {
  const cidr = parseCidr(subnet)
  return intersect(range === undefined || anywhere ? cidr : parseCidr(range), hostSpan(cidr))
}

export function exhausted(pool: Pool, spec: AddressSpec): Error {
  const { owner, subnet, range } = pool
  const { first, last } = choosable(pool, spec)
  const where = range === undefined || spec.anywhere ? `subnet ${subnet}` : `range ${range} of subnet ${subnet}`
  return conflict(`${where} of ${nameOwner({ owner })} has no free address: all ${last - first + 1n} are in use`)
}

/** A network's own address: nobody's endpoint, and no host's. */
export const isOutsider = (owner: string): boolean => owner === 'gateway' || owner.startsWith('aux:')

/** A book of a pool with which this one shares its subnet. */
export function siblingOf(pool: Pool, books: Iterable<PoolBook>): PoolBook | undefined {
  for (const book of books) if (pool.shared && book.pool.shared && book.pool.subnet === pool.subnet) return book
  return undefined
}

/** The stored form: absent fields stay absent. */
export const allocation = (a: {
  address: string
  owner: string
  ownerName?: string | undefined
  name?: string | undefined
}): Allocation => ({
  address: a.address,
  owner: a.owner,
  ...(a.ownerName !== undefined && { ownerName: a.ownerName }),
  ...(a.name !== undefined && { name: a.name }),
})

/** What to call an owner in a sentence. */
export function nameOwner({ owner, ownerName }: { owner: string; ownerName?: string }): string {
  if (ownerName !== undefined) return ownerName
  if (owner === dockerOwner) return 'Docker'
  if (owner === 'gateway') return 'the gateway'
  return owner.startsWith('aux:') ? `auxiliary address ${owner.slice('aux:'.length)}` : owner
}
