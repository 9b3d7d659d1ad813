import { isIP } from 'node:net'
import { conflict, invalid } from '../errors.js'
import type { Addresses, Pool } from '../ipam/ipam.js'
import { addressOf, familyOf, holds, parseSubnet } from '../net/subnets.js'
import type { Undo } from '../undo.js'
import { auxOwner, type CnmDeps, dockerPoolOwner, gatewayOwner, hostOwner } from './deps.js'
import type { DockerPool, NetworkSpec } from './specs.js'
import type { Family, Network, Subnet } from './types.js'

// A network's subnets, and what is reserved in them before anybody is attached.

export interface WantedSubnet {
  family: Family
  /** absent: any */
  subnet?: string
  range?: string
  gateway?: string
  auxAddresses: Record<string, string>
}

/** Sort the flat lists of `--subnet`, `--ip-range`, `--gateway` and `--aux-address` by subnet. */
export function wantedSubnets(spec: NetworkSpec): WantedSubnet[] {
  const wanted: WantedSubnet[] = (spec.subnets ?? []).map(text => {
    const subnet = parseSubnet(text)
    return { family: familyOf(subnet), subnet, auxAddresses: {} }
  })
  if (!wanted.some(({ family }) => family === 4)) wanted.unshift({ family: 4, auxAddresses: {} })
  if (spec.ipv6 === true && !wanted.some(({ family }) => family === 6)) wanted.push({ family: 6, auxAddresses: {} })
  const holder = (what: string, address: string): WantedSubnet => {
    const found = wanted.find(({ subnet }) => subnet !== undefined && holds(subnet, address))
    if (found !== undefined) return found
    const subnets = wanted.flatMap(({ subnet }) => subnet ?? [])
    throw invalid(
      subnets.length === 0
        ? `${what} needs a --subnet that it lies in`
        : `${what} is outside of subnet ${subnets.join(', ')}`,
    )
  }
  for (const text of spec.ipRanges ?? []) {
    const range = parseSubnet(text, 'range')
    const subnet = holder(`range ${range}`, range)
    if (subnet.range !== undefined)
      throw invalid(`subnet ${subnet.subnet} has two ranges, ${subnet.range} and ${range}`)
    subnet.range = range
  }
  for (const gateway of spec.gateways ?? []) {
    checkAddress('gateway', gateway)
    const subnet = holder(`gateway ${gateway}`, gateway)
    if (subnet.gateway !== undefined)
      throw invalid(`subnet ${subnet.subnet} has two gateways, ${subnet.gateway} and ${gateway}`)
    subnet.gateway = gateway
  }
  for (const [name, address] of Object.entries(spec.auxAddresses ?? {})) {
    checkAddress(`auxiliary address ${name}`, address)
    holder(`auxiliary address ${name}=${address}`, address).auxAddresses[name] = address
  }
  return wanted
}

function checkAddress(what: string, text: string): void {
  if (isIP(text) === 0) throw invalid(`${what} ${text} is not an IP address`)
}

export async function reserveSubnet(
  { ipam, drivers }: CnmDeps,
  network: Network,
  wanted: WantedSubnet,
  undo: Undo,
): Promise<Subnet> {
  const { name, scope } = network
  const { family, subnet, range, auxAddresses } = wanted
  const driver = drivers.get(network.driver)
  const onLan = driver.segment === 'lan'
  const hasGateway = wanted.gateway !== undefined || (!onLan && driver.hasGateway?.(network, family) !== false)
  const pool = await ipam.requestPool({
    family,
    owner: `network ${name}`,
    scope,
    shared: onLan,
    ...(subnet === undefined ? {} : { subnet }),
    ...(range === undefined ? {} : { range }),
  })
  undo.add(`release pool ${pool.subnet}`, () => ipam.releasePool(pool.id))
  for (const [aux, address] of Object.entries(auxAddresses))
    await ipam.requestAddress(pool.id, { address, owner: auxOwner(aux), ownerName: `auxiliary address ${aux}` })
  const gateway = !hasGateway
    ? undefined
    : await ipam.requestAddress(pool.id, {
        owner: gatewayOwner,
        ownerName: `the gateway of network ${name}`,
        anywhere: true,
        ...(wanted.gateway === undefined ? {} : { address: wanted.gateway }),
      })
  return {
    family,
    subnet: pool.subnet,
    ...(pool.range === undefined ? {} : { range: pool.range }),
    ...(gateway === undefined ? {} : { gateway: addressOf(gateway) }),
    auxAddresses,
    poolId: pool.id,
    assignedBy: 'tsnet',
  }
}

/**
 * A subnet that dockerd brings with a network. With our IPAM the pool exists, dockerd having asked for it a moment ago;
 * with Docker's own, our IPAM records it, so that overlaps are noticed and CLI sandboxes stay clear of containers.
 */
export async function adoptSubnet(
  { ipam, drivers }: CnmDeps,
  network: Network,
  pool: DockerPool,
  undo: Undo,
): Promise<Subnet> {
  const owner = `network ${network.name}`
  const { scope } = network
  const driver = drivers.get(network.driver)
  const shared = driver.segment === 'lan'
  // dockerd before 28 makes one up where none belongs
  const gateway = driver.hasGateway?.(network, pool.family) === false ? undefined : pool.gateway
  // ours already where dockerd's first try was cut off
  const isAsked = (other: Pool): boolean =>
    other.subnet === pool.subnet && (other.owner === dockerPoolOwner || other.owner === owner)
  const asked = pool.assignedBy === 'tsnet' ? ipam.pools().find(isAsked) : undefined
  const { id } = asked ?? (await ipam.requestPool({ family: pool.family, subnet: pool.subnet, owner, scope, shared }))
  if (asked === undefined) undo.add(`release pool ${pool.subnet}`, () => ipam.releasePool(id))
  else await ipam.adoptPool(id, { owner, scope, shared })
  if (gateway !== undefined) await ipam.claim(id, gateway, gatewayOwner, `the gateway of ${owner}`)
  for (const [name, address] of Object.entries(pool.auxAddresses))
    await ipam.claim(id, address, auxOwner(name), `auxiliary address ${name}`)
  return {
    family: pool.family,
    subnet: pool.subnet,
    ...(gateway === undefined ? {} : { gateway }),
    auxAddresses: pool.auxAddresses,
    poolId: id,
    assignedBy: pool.assignedBy,
  }
}

/**
 * Keep the host's addresses on the network's segment from everybody else, and find one for the host in every subnet where
 * the driver wants that: the auxiliary address `host`, or one that our IPAM chooses. Sets `hostAddress` of the subnets.
 */
export async function reserveHostAddresses({ ipam, drivers }: CnmDeps, network: Network): Promise<void> {
  const host = drivers.get(network.driver).hostAddresses?.(network)
  if (host === undefined) return
  for (const subnet of network.subnets) {
    const { poolId } = subnet
    // one that the user has named, being the gateway or kept out of use, is reserved already
    for (const address of host.present)
      if (holds(subnet.subnet, address) && (await ipam.holder(poolId, address)) === undefined)
        await ipam.claim(poolId, address, auxOwner(host.link), `the host itself, on ${host.link}`)
    if (!host.wanted || subnet.hostAddress !== undefined) continue
    subnet.hostAddress = subnet.auxAddresses.host ?? (await chooseHostAddress(ipam, network, subnet))
    if (host.present.includes(subnet.hostAddress))
      throw conflict(`auxiliary address host=${subnet.hostAddress} is the host's on ${host.link}; choose a free one`)
  }
}

async function chooseHostAddress(
  ipam: Addresses,
  { name }: Network,
  { poolId, subnet, assignedBy }: Subnet,
): Promise<string> {
  if (assignedBy === 'docker')
    throw invalid(
      `the host needs an address of its own in ${subnet}, which Docker's IPAM must not give to a container: name one with --aux-address host=ADDRESS, or use --ipam-driver tsnet`,
    )
  return addressOf(await ipam.requestAddress(poolId, { owner: hostOwner, ownerName: `the host on network ${name}` }))
}
