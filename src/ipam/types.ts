import type { Family } from '../cnm/types.js'

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
}
