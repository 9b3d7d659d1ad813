import { invalid } from '../errors.js'
import type { KeyedLock } from '../locks.js'
import { hostMacOf } from '../names.js'
import { addressOf, withPrefixLength } from '../net/subnets.js'
import type { Undo } from '../undo.js'
import type { Cluster } from './cluster.js'
import { type CnmDeps, clusterOf, networkLock } from './deps.js'
import { cleanUp } from './leftovers.js'
import { othersOf, subnetOf } from './networks.js'
import type { Member, Network } from './types.js'

// What a host has of a global network: addresses of its own and links, from the first endpoint on it to the last, and
// the Docker networks that stand for it there.

/** Of a host's own address on a global network. */
export const memberOwner = (host: string): string => `host:${host}`

/** The host's membership, or that of a host which has nothing of the network yet. */
export const memberOf = (cluster: Cluster, networkId: string): Member =>
  cluster.member(networkId) ?? {
    networkId,
    host: cluster.host,
    addresses: [],
    mac: hostMacOf(networkId, cluster.host),
    dockerNetworkIds: [],
    assignedBy: 'tsnet',
  }

/** Something on this host is attached to the network. */
export const isUsedHere = ({ state }: CnmDeps, { id }: Network): boolean =>
  state.endpointsOfNetwork(id).some(endpoint => endpoint.state === 'joined')

/** This host has an address of its own in every subnet. */
export const hasPart = ({ subnets }: Network): boolean => subnets.every(({ hostAddress }) => hostAddress !== undefined)

/** The network's links should be in the kernel. */
export const isPresent = (deps: CnmDeps, network: Network): boolean =>
  network.scope === 'local' || (hasPart(network) && isUsedHere(deps, network))

/**
 * Have this host take part in a global network: returns the network as it is then. A local one is there already. The
 * caller holds the network's lock and calls leaveUnused when its endpoint goes.
 */
export async function takePart(deps: CnmDeps, network: Network, undo: Undo): Promise<Network> {
  if (isPresent(deps, network)) return network
  const cluster = clusterOf(deps)
  const before = memberOf(cluster, network.id)
  const addresses = await ownAddresses(deps, network, cluster.host, undo)
  if (addresses.join() !== before.addresses.join()) {
    undo.add(`leave network ${network.name}`, () => cluster.reduceMember(before))
    await cluster.putMember({ ...before, addresses })
  }
  const driver = deps.drivers.get(network.driver)
  const joined = deps.state.network(network.id)
  undo.add(`delete the links of network ${network.name}`, () => driver.deleteNetwork(joined, othersOf(deps, joined)))
  await driver.ensureNetwork(joined)
  // its gateway has just come, and answers questions
  deps.names.update(deps.state, 'everything')
  return joined
}

/** One in every subnet, so that what the host itself sends does not come from the gateway's address, which every host has. */
async function ownAddresses({ ipam }: CnmDeps, network: Network, host: string, undo: Undo): Promise<string[]> {
  const addresses: string[] = []
  for (const { poolId, subnet, hostAddress } of network.subnets) {
    if (hostAddress !== undefined) {
      addresses.push(withPrefixLength(hostAddress, subnet))
      continue
    }
    const owner = memberOwner(host)
    const cidr = await ipam.requestAddress(poolId, { owner, ownerName: `host ${host}` })
    undo.add(`release ${cidr}`, () => ipam.releaseAddress(poolId, addressOf(cidr), owner))
    addresses.push(cidr)
  }
  return addresses
}

/**
 * Let go of a global network on which nothing of this host is left: links, addresses, membership. The caller holds the
 * network's lock.
 */
export async function leaveUnused(deps: CnmDeps, networkId: string): Promise<void> {
  const { drivers, ipam, state } = deps
  const { cluster } = state
  const member = cluster?.member(networkId)
  if (cluster === undefined || member === undefined) return
  const network = state.networkById(networkId)
  if (network === undefined || isUsedHere(deps, network)) return
  // what used it is forgotten already
  await cleanUp(deps, `leave network ${network.name}`, async () => {
    await drivers.get(network.driver).deleteNetwork(network, othersOf(deps, network))
    await cluster.reduceMember({ ...member, addresses: [] })
    for (const cidr of member.addresses) {
      const subnet = subnetOf(network, cidr)
      if (subnet !== undefined) await ipam.releaseAddress(subnet.poolId, addressOf(cidr), memberOwner(cluster.host))
    }
  })
}

/** The same for who does not hold the lock, and need not take it where this host is no member of anything. */
export async function leaveUnlocked(deps: CnmDeps, locks: KeyedLock, networkId: string): Promise<void> {
  if (deps.state.cluster?.member(networkId) === undefined) return
  await locks.with(networkLock(networkId), () => leaveUnused(deps, networkId))
}

/** Let a Docker network of this host stand for a global network. */
export async function bindDocker(
  deps: CnmDeps,
  network: Network,
  dockerNetworkId: string,
  assignedBy: Member['assignedBy'],
): Promise<void> {
  const cluster = clusterOf(deps)
  const member = memberOf(cluster, network.id)
  if (member.dockerNetworkIds.length > 0 && member.assignedBy !== assignedBy)
    throw invalid(
      `network ${network.name} has a Docker network on this host whose addresses come from ${member.assignedBy === 'tsnet' ? 'the IPAM driver tsnet' : "Docker's own IPAM"}; use the same here`,
    )
  await cluster.putMember({ ...member, dockerNetworkIds: [...member.dockerNetworkIds, dockerNetworkId], assignedBy })
}

export async function unbindDocker(deps: CnmDeps, network: Network, dockerNetworkId: string): Promise<void> {
  const cluster = clusterOf(deps)
  const member = memberOf(cluster, network.id)
  const dockerNetworkIds = member.dockerNetworkIds.filter(id => id !== dockerNetworkId)
  await cluster.reduceMember({ ...member, dockerNetworkIds })
}
