import { createHash } from 'node:crypto'
import type { Network } from '../cnm/types.js'
import { kindOf, type NetError } from '../errors.js'
import type { Store } from '../store/store.js'
import { isOutsider, nameOwner } from './book.js'
import type { DefaultPool } from './pools.js'
import { namePrefix } from './records.js'
import type { Allocation, Pool } from './types.js'

// What the hosts of a cluster keep of pools and addresses in the store that they share. Keys are those of a local store.

export interface ClusterPool extends Pool {
  /** name of the host that made it, which sees to it that it does not outlive its network */
  host: string
}

export interface ClusterAllocation extends Allocation {
  /** name of the host; absent for a network's own addresses (gateway, auxiliary), which go with their pool */
  host?: string
}

/** What address management must know of a global network. */
export type GlobalNetwork = Pick<Network, 'id' | 'name' | 'createdAt' | 'subnets'>

export interface ClusterIpamDeps {
  /** of all hosts */
  shared: Store
  /** of this host, for the journal */
  local: Store
  /** this host's name */
  host: string
  /** the global networks known here; without the shared store those that this host has something of */
  networks: () => Iterable<GlobalNetwork>
  /** where the shared store has a network */
  networkKey: (id: string) => string
  /** where it has the cluster's id, from which default IPv6 pools are derived */
  clusterIdKey: string
  /** why the shared store cannot be written to now: requests are refused with that at once, and releases wait for `resync` */
  unreachable: () => NetError | undefined
  /** CIDRs of this host's routes and addresses */
  hostSubnets: () => string[]
  /** what an endpoint of any host is called now: Docker's get their addresses before their names */
  endpointName?: (networkId: string, id: string) => Promise<string | undefined>
  /** instead of ours */
  defaultPools?: readonly DefaultPool[]
  /** monotonic milliseconds; performance.now by default */
  now?: () => number
  /** for how long an address that was released here is not chosen again here; 10 s by default */
  coolDownMs?: number
}

/**
 * Where a pool remembers the address last released under a name. 65,536 places for each pool, where a name may push out
 * another: that bounds what is kept without any host knowing all names.
 */
export const nameSlotKey = (poolId: string, name: string): string =>
  `${namePrefix}${poolId}/${createHash('sha256').update(name).digest('hex').slice(0, 4)}`

/** The stored form of an allocation of `host`. */
export const ofHost = (record: Allocation, host: string): ClusterAllocation =>
  isOutsider(record.owner) ? record : { ...record, host }

/** What to call who has an address, with the host where that is another one. */
export const nameHolder = (record: ClusterAllocation, here: string): string =>
  record.host === undefined || record.host === here ? nameOwner(record) : `${nameOwner(record)} on host ${record.host}`

/** The subnets' pools, as their networks know them. */
export function poolsOf(network: GlobalNetwork): Pool[] {
  return network.subnets.map(({ poolId, family, subnet, range }) => ({
    id: poolId,
    family,
    subnet,
    ...(range === undefined ? {} : { range }),
    scope: 'global',
    owner: `network ${network.name}`,
    createdAt: network.createdAt,
  }))
}

/** The store did not answer: what was asked of it may have been done or not. */
export const isUnavailable = (error: unknown): boolean => kindOf(error) === 'Unavailable'

/** A holder by the name that its endpoint has now: one of Docker's got its address before its name. */
export async function asCalledNow(
  { networks, endpointName }: Pick<ClusterIpamDeps, 'networks' | 'endpointName'>,
  holder: ClusterAllocation,
  poolId: string,
): Promise<ClusterAllocation> {
  const network = [...networks()].find(({ subnets }) => subnets.some(subnet => subnet.poolId === poolId))
  const name = network && (await endpointName?.(network.id, holder.owner).catch(() => undefined))
  return name === undefined ? holder : { ...holder, ownerName: `endpoint ${name}` }
}
