import { unavailable } from '../../src/errors.js'
import { ClusterIpam, type ClusterIpamDeps, type GlobalNetwork } from '../../src/ipam/cluster.js'
import type { Pool } from '../../src/ipam/types.js'
import { MemoryStore } from '../../src/store/memory.js'
import { put, type Store } from '../../src/store/store.js'

// Hosts with address management over one shared store, and what their suites ask of it.

/** A shared store and the networks in it, which every host knows at once. */
export class ClusterWorld<S extends Store = MemoryStore> {
  readonly networks: GlobalNetwork[] = []
  isUp = true

  constructor(readonly shared: S) {}

  /** The same `local` is the same host after a restart. */
  async host(
    name: string,
    deps: Partial<ClusterIpamDeps> = {},
    local: Store = new MemoryStore(),
  ): Promise<ClusterIpam> {
    const ipam = new ClusterIpam({
      shared: this.shared,
      local,
      host: name,
      networks: () => this.networks,
      networkKey: id => `network/${id}`,
      clusterIdKey: 'cluster/id',
      unreachable: () => (this.isUp ? undefined : unavailable('the shared store is away')),
      hostSubnets: () => [],
      coolDownMs: 0,
      ...deps,
    })
    await ipam.load()
    return ipam
  }

  /** Record a network with these pools, in the store and for every host. */
  async network(name: string, ...pools: Pool[]): Promise<GlobalNetwork> {
    const subnets = pools.map(({ id, family, subnet, range }) => ({
      family,
      subnet,
      ...(range === undefined ? {} : { range }),
      auxAddresses: {},
      poolId: id,
      assignedBy: 'tsnet' as const,
    }))
    const network = { id: `id-of-${name}`, name, createdAt: new Date().toISOString(), subnets }
    await this.shared.txn([], [put(`network/${network.id}`, network)])
    this.networks.push(network)
    return network
  }

  /** A network with one pool that `host` made. */
  async pool(host: ClusterIpam, subnet: string, range?: string): Promise<string> {
    const family = subnet.includes(':') ? 6 : 4
    const pool = await host.requestPool({ family, subnet, owner: 'network blue', ...(range && { range }) })
    await this.network('blue', pool)
    return pool.id
  }

  /** Address, owner and host of everything in the store. */
  async stored(): Promise<string[]> {
    const { entries } = await this.shared.list<{ address: string; owner: string; host?: string }>('ipam/address/')
    return entries.map(({ value }) => `${value.address} ${value.owner} ${value.host ?? ''}`.trim())
  }
}

export const memoryWorld = (): ClusterWorld => new ClusterWorld(new MemoryStore())
export const keysOf = async (store: Store, prefix: string): Promise<string[]> =>
  (await store.list(prefix)).entries.map(({ key }) => key)
