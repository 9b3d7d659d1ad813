import type { Family } from '../cnm/types.js'
import type { TxnPart } from '../store/store.js'

/** A subnet that somebody holds, and the addresses given out of it. */
export interface Pool {
  /** random, never used twice: a late release meant for a pool that is gone cannot hit its successor */
  id: string
  family: Family
  /** CIDR without host bits */
  subnet: string
  /** CIDR inside `subnet` from which addresses are chosen; the whole subnet when absent */
  range?: string
  /** other shared pools may have exactly this subnet: together they give out each address once */
  shared?: true
  /** global: of all hosts of the cluster; absent: of this host */
  scope?: 'global'
  /** what to call the holder in messages: `network lab` */
  owner: string
  /** ISO 8601 */
  createdAt: string
}

/** One address of a pool that is in use. */
export interface Allocation {
  /** plain address, no prefix length */
  address: string
  /** endpoint id, `gateway`, `aux:NAME` or `docker` (dockerd asked for it and no endpoint has come for it yet) */
  owner: string
  /** what to call the owner in messages: `endpoint box` */
  ownerName?: string
  /** the address is remembered under this name after its release */
  name?: string
}

export interface PoolSpec {
  family: Family
  /** CIDR; absent: the next default pool that overlaps neither the host's networks nor another pool */
  subnet?: string
  /** CIDR inside `subnet` */
  range?: string
  owner: string
  /** global: for a network of all hosts of the cluster. Local by default */
  scope?: 'local' | 'global'
  /** the subnet is that of a LAN, on which several networks may be: see Pool */
  shared?: boolean
  /** CIDRs a chosen pool must not overlap, besides what is in use: those already offered in this round */
  avoid?: readonly string[]
  /**
   * A pool with exactly this `subnet` (and `range`, if one is given) is returned as it is instead of Conflict.
   * For Docker: it replays RequestPool after a restart, and `-o network=NAME` joins a network that exists.
   */
  sameIsFine?: boolean
}

export interface AddressSpec {
  /** plain address inside the subnet, also outside the range; absent: the lowest free one */
  address?: string
  /** the last address that was released under this name is given again if it is free */
  name?: string
  owner: string
  ownerName?: string
  /** not the lowest free address but the next one after the last one chosen, wrapping round */
  serial?: boolean
  /** choose from the whole subnet, not from the range only: for gateways */
  anywhere?: boolean
  /**
   * What `owner` already holds is returned instead of Conflict: `address`, or without it any address of `owner`.
   * For replays; only with an `address` for an owner that holds many, such as `docker`.
   */
  sameOwnerIsFine?: boolean
  /**
   * An address that is chosen from a pool of this host is marked as taken, and what is to be written of it is put here, for the caller's
   * own transaction; whoever does not come to that releases the address. Absent: it is written before it is returned.
   */
  parts?: TxnPart[]
}

/** An address on its way back. */
export interface Release {
  /** for the caller's own transaction: after that the address is nobody's in the store */
  parts: readonly TxnPart[]
  /** Nobody uses it any more, so others may have it. After the transaction only. */
  free(): Promise<void>
}

/** Who has a pool from now on. */
export interface PoolAdoption {
  owner: string
  shared: boolean
  /** global: a local pool is handed over to the cluster with its id and its addresses. As it was by default */
  scope?: 'local' | 'global'
}

/** What a cluster's address management does besides: it has a store that all hosts share. */
export interface ClusterAddresses {
  /** Bring this host's addresses and the shared store together, whenever that answers again; returns those that others have. */
  resync(): Promise<LostAddress[]>
  /**
   * A network with these pools was removed. Who removes one releases its pools too, unless it dies before; so does the host that
   * made them, as soon as it hears of it. Pools of other hosts, and those that are gone, are left alone.
   */
  releaseMade(poolIds: readonly string[]): Promise<void>
}

/** What the controller asks of address management, whoever keeps the addresses: this host, or all hosts of a cluster together. */
export interface Addresses {
  /**
   * Reserve a subnet.
   * @throws {NetError} InvalidParameter: a malformed subnet or range. Conflict: it overlaps a pool, which is named;
   *   or no default subnet is left. Unavailable: the pool is global and the cluster's store does not answer
   */
  requestPool(spec: PoolSpec): Promise<Pool>
  /**
   * The network that a pool was asked for has come.
   * @throws {NetError} NotFound: no such pool. Conflict: it shares or overlaps its subnet with another, and the network cannot
   */
  adoptPool(poolId: string, adoption: PoolAdoption): Promise<void>
  /** Free a pool with all its addresses. Unknown pools are fine. With `onlyIfOwner` a pool of anybody else is left alone. */
  releasePool(poolId: string, onlyIfOwner?: string): Promise<void>
  /**
   * Give out an address, as a CIDR with the subnet's prefix length.
   * @throws {NetError} NotFound: no such pool. InvalidParameter: not an address for a host of this subnet.
   *   Conflict: taken, naming by whom; or the pool is exhausted, naming its size. Unavailable as requestPool
   */
  requestAddress(poolId: string, spec: AddressSpec): Promise<string>
  /**
   * Make `newOwner` the owner of an address that is free or that Docker asked for. Repeating it is fine. `parts`: see AddressSpec.
   * @throws {NetError} as requestAddress; Conflict when it is anybody else's
   */
  claim(poolId: string, address: string, newOwner: string, ownerName?: string, parts?: TxnPart[]): Promise<void>
  /**
   * Give an address back. Absent addresses and unknown pools are fine. With `onlyIfOwner` an address of anybody else is left alone.
   * A name that it was requested by remembers it.
   */
  releaseAddress(poolId: string, address: string, onlyIfOwner?: string): Promise<void>
  /** The same in two steps, for an owner who is forgotten in the same transaction and goes on using the address for a moment. */
  startRelease(poolId: string, address: string, owner: string): Release
  /** Global ones only while the cluster's store answers: without it nobody can say which of them are in use. */
  pools(): Pool[]
  pool(id: string): Pool | undefined
  /** In order of address; of a global pool those that this host has. None for an unknown pool. */
  addresses(poolId: string): Allocation[]
  /** Who has this address; nobody for an unknown pool. @throws {NetError} Unavailable as requestPool */
  holder(poolId: string, address: string): Promise<Allocation | undefined>
}

/** An address that this host had, and another owner has now. */
export interface LostAddress {
  poolId: string
  address: string
  /** who had it here */
  owner: string
  /** what to call who has it now: `endpoint box` */
  by: string
  /** name of that one's host; absent where it is a network's */
  host?: string
}
