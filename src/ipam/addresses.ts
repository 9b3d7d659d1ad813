import { invalid } from '../errors.js'
import type { TxnPart } from '../store/store.js'
import type { ClusterIpam } from './cluster.js'
import type { Ipam } from './ipam.js'
import { overlap, overlapping, samePool, toTaken } from './pools.js'
import type { Addresses, AddressSpec, Allocation, Pool, PoolAdoption, PoolSpec, Release } from './types.js'

/**
 * Address management of both scopes as one: each pool's calls go where the pool is. No subnet is given out in one scope
 * that overlaps one of the other, because both meet in this host's routes.
 */
export class AllAddresses implements Addresses {
  readonly #local: Ipam
  readonly #cluster: ClusterIpam | undefined

  constructor(local: Ipam, cluster?: ClusterIpam) {
    this.#local = local
    this.#cluster = cluster
  }

  requestPool(spec: PoolSpec): Promise<Pool> {
    return spec.scope === 'global' ? this.#requestGlobal(spec) : this.#requestLocal(spec)
  }

  async adoptPool(poolId: string, adoption: PoolAdoption): Promise<void> {
    const pool = this.#local.pool(poolId)
    if (pool === undefined || adoption.scope !== 'global') return await this.#of(poolId).adoptPool(poolId, adoption)
    const others = this.#local.pools().filter(other => other.id !== poolId)
    refuseOverlap(pool.subnet, others)
    const { shared: _, ...global } = pool
    await this.#needCluster().importPool(
      { ...global, scope: 'global', owner: adoption.owner },
      this.#local.addresses(poolId),
    )
    // last: until here the local pool has lost nothing. From here on the cluster's is the one that is asked, even after a crash.
    await this.#local.releasePool(poolId)
  }

  async releasePool(poolId: string, onlyIfOwner?: string): Promise<void> {
    const isLocal = this.#local.pool(poolId) !== undefined
    // unknown to both: of a network that was forgotten just now. Known to both: handed over half way
    if (!isLocal || this.#cluster?.knows(poolId)) await this.#cluster?.releasePool(poolId, onlyIfOwner)
    if (isLocal) await this.#local.releasePool(poolId, onlyIfOwner)
  }

  async requestAddress(poolId: string, spec: AddressSpec): Promise<string> {
    return await this.#of(poolId).requestAddress(poolId, spec)
  }

  async claim(poolId: string, address: string, newOwner: string, ownerName?: string, parts?: TxnPart[]): Promise<void> {
    await this.#of(poolId).claim(poolId, address, newOwner, ownerName, parts)
  }

  async releaseAddress(poolId: string, address: string, onlyIfOwner?: string): Promise<void> {
    await this.#of(poolId).releaseAddress(poolId, address, onlyIfOwner)
  }

  startRelease(poolId: string, address: string, owner: string): Release {
    return this.#of(poolId).startRelease(poolId, address, owner)
  }

  pools(): Pool[] {
    return [...this.#local.pools(), ...(this.#cluster?.isUp() ? this.#cluster.pools() : [])]
  }

  pool(id: string): Pool | undefined {
    return this.#cluster?.pool(id) ?? this.#local.pool(id)
  }

  addresses(poolId: string): Allocation[] {
    return this.#of(poolId).addresses(poolId)
  }

  async holder(poolId: string, address: string): Promise<Allocation | undefined> {
    return await this.#of(poolId).holder(poolId, address)
  }

  async #requestGlobal(spec: PoolSpec): Promise<Pool> {
    const cluster = this.#needCluster()
    if (spec.subnet !== undefined) refuseOverlap(spec.subnet, this.#local.pools())
    const pool = await cluster.requestPool({ ...spec, avoid: avoiding(spec, this.#local.pools()) })
    // the cluster's store may have taken its time, and a local pool may have come meanwhile
    const inTheWay = spec.sameIsFine ? undefined : overlapping(pool.subnet, this.#local.pools().map(toTaken))
    if (!inTheWay) return pool
    await cluster.releasePool(pool.id)
    throw overlap(pool.subnet, inTheWay)
  }

  async #requestLocal(spec: PoolSpec): Promise<Pool> {
    const globals = this.#cluster?.pools() ?? []
    const same = samePool(spec, globals.map(toTaken))
    if (same) return same
    if (spec.subnet !== undefined) refuseOverlap(spec.subnet, globals)
    return await this.#local.requestPool({ ...spec, avoid: avoiding(spec, globals) })
  }

  #of(poolId: string): Addresses {
    return this.#cluster?.knows(poolId) ? this.#cluster : this.#local
  }

  #needCluster(): ClusterIpam {
    if (this.#cluster) return this.#cluster
    throw invalid('a global network needs a store that all hosts share: start the daemon with --store etcd://...')
  }
}

function refuseOverlap(subnet: string, others: readonly Pool[]): void {
  const other = overlapping(subnet, others.map(toTaken))
  if (other) throw overlap(subnet, other)
}

const avoiding = ({ avoid }: PoolSpec, pools: readonly Pool[]): string[] => [
  ...(avoid ?? []),
  ...pools.map(({ subnet }) => subnet),
]
