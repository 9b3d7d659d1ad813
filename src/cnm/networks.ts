import { isIP } from 'node:net'
import { conflict, forbidden, invalid, unavailable } from '../errors.js'
import type { Addresses, Pool } from '../ipam/ipam.js'
import type { Log } from '../log.js'
import { checkObjectName, randomId, shortId } from '../names.js'
import { addressOf, familyOf, holds, parseSubnet } from '../net/subnets.js'
import { StoreConflict } from '../store/store.js'
import { type Undo, withUndo } from '../undo.js'
import type { Cluster } from './cluster.js'
import type { Driver, Drivers } from './driver.js'
import type { EventLog } from './event-log.js'
import type { DockerPool, NetworkSpec } from './specs.js'
import type { State } from './state.js'
import type { Family, Network, Subnet } from './types.js'

export interface CnmDeps {
  state: State
  ipam: Addresses
  drivers: Drivers
  /** CIDRs of the host's addresses and routes, the default routes left out */
  hostSubnets: () => string[]
  events: EventLog
  log: Log
}

/** Owner of pools that dockerd asked for and no network has come for yet. */
export const dockerPoolOwner = 'a Docker network being created'
/** Owners of addresses that belong to no endpoint, as the IPAM keeps them. */
export const gatewayOwner = 'gateway'
export const hostOwner = 'host'
export const auxOwner = (name: string): string => `aux:${name}`
/** An endpoint's address is owned by the endpoint's id. */
export const isEndpointId = (owner: string): boolean => /^[0-9a-f]{64}$/.test(owner)

export const networkLock = (id: string): string => `network:${id}`
/** What stands for a name until dockerd has told it. */
export const dockerPlaceholder = (id: string): string => `docker-${shortId(id)}`

/** @throws {NetError} Unavailable: there is none */
export function clusterOf({ state: { cluster } }: CnmDeps): Cluster {
  if (cluster === undefined)
    throw unavailable(
      'this daemon keeps its objects on this host alone: for networks of many hosts start it with --store etcd://HOST:2379',
    )
  return cluster
}

/** Make a network as the CLI and the API ask for it. The caller holds the lock of the name. */
export async function createNetwork(deps: CnmDeps, spec: NetworkSpec): Promise<Network> {
  checkObjectName(spec.name, 'network')
  deps.state.checkNetworkNameFree(spec.name)
  const type = spec.driver ?? 'bridge'
  const { scope } = deps.drivers.get(type)
  if (scope === 'global') clusterOf(deps)
  const options = deps.drivers.get(type).parseOptions(spec.options ?? {})
  const wanted = wantedSubnets(spec)
  const network: Network = {
    id: randomId(),
    name: spec.name,
    driver: type,
    scope,
    options,
    subnets: [],
    internal: spec.internal === true || asksInternal(options),
    labels: spec.labels ?? {},
    createdBy: 'tsnet',
    createdAt: new Date().toISOString(),
    dockerNetworkIds: [],
  }
  return await withUndo(async undo => {
    for (const subnet of wanted) network.subnets.push(await reserveSubnet(deps, network, subnet, undo))
    return await establish(deps, network, undo)
  })
}

/** Validate, build and remember a network whose addresses are reserved. A global one is built where it is used, when it is. */
export async function establish(deps: CnmDeps, network: Network, undo: Undo): Promise<Network> {
  const driver = deps.drivers.get(network.driver)
  if (network.scope === 'global') return await establishGlobal(deps, driver, network)
  driver.validate(network, othersOf(deps, network))
  await reserveHostAddresses(deps, network)
  // recorded first: ensureNetwork is several steps, and a failure in the middle of them is undone by the same delete
  undo.add(`delete the kernel objects of network ${network.name}`, () =>
    driver.deleteNetwork(network, othersOf(deps, network)),
  )
  await driver.ensureNetwork(network)
  // last: a crash before this line leaves only marked objects, which start-up removes
  await deps.state.createNetwork(network)
  return network
}

/** With what the driver chooses for the whole cluster: chosen again until no other network has it. */
async function establishGlobal(deps: CnmDeps, driver: Driver, network: Network): Promise<Network> {
  for (let attempt = 1; ; attempt++) {
    const settled = driver.settle?.(network) ?? network
    driver.validate(settled, othersOf(deps, settled))
    const unique = driver.unique?.(settled) ?? []
    try {
      await deps.state.createNetwork(settled, unique)
      return settled
    } catch (error) {
      if (!(error instanceof StoreConflict)) throw error
      const taken = unique.find(what => error.key.endsWith(what)) ?? error.key
      const wasChosen = unique.join() !== (driver.unique?.(network) ?? []).join()
      if (!wasChosen || attempt === settleAttempts)
        throw conflict(`${taken.replace('/', ' ')} is taken by another network of the cluster`, { cause: error })
    }
  }
}

/** Enough for a number chosen among millions: more than one conflict is already a miracle. */
const settleAttempts = 5

/** The other networks of the same driver. */
export const othersOf = (deps: CnmDeps, network: Network): Network[] =>
  deps.state.networks().filter(other => other.driver === network.driver && other.id !== network.id)

/** Record, once, the networks that are there without anybody having made them. */
export async function ensureFixedNetworks({ state, drivers, log }: CnmDeps): Promise<void> {
  for (const name of drivers.fixed()) {
    const known = state.networks().find(network => network.name === name)
    if (known === undefined)
      await state.createNetwork({
        id: randomId(),
        name,
        driver: name,
        scope: 'local',
        options: {},
        subnets: [],
        internal: false,
        labels: {},
        createdBy: 'tsnet',
        createdAt: new Date().toISOString(),
        dockerNetworkIds: [],
      })
    else if (known.driver !== name)
      log.warn({ network: name }, `network ${name} is missing: one of driver ${known.driver} has its name`)
  }
}

/** @throws {NetError} Forbidden: nothing is attached to a network of this kind */
export function refuseFixed({ drivers }: CnmDeps, network: Network): void {
  const { fixed } = drivers.get(network.driver)
  if (fixed !== undefined) throw forbidden(`nothing is attached to network ${network.name}: ${fixed}`)
}

/** The caller holds the network's lock. */
export async function deleteNetwork(deps: CnmDeps, network: Network): Promise<void> {
  if (deps.drivers.get(network.driver).fixed !== undefined)
    throw forbidden(`network ${network.name} is part of every host and cannot be removed`)
  const endpoints = deps.state.endpointsOfNetwork(network.id)
  if (endpoints.length > 0)
    throw conflict(`network ${network.name} is in use by ${endpoints.map(endpoint => endpoint.name).join(', ')}`)
  if ((network.createdBy === 'tsnet' || network.scope === 'global') && network.dockerNetworkIds.length > 0)
    throw conflict(
      `network ${network.name} is attached to Docker network ${network.dockerNetworkIds.join(', ')}; remove that with docker network rm first`,
    )
  const driver = deps.drivers.get(network.driver)
  await driver.deleteNetwork(network, othersOf(deps, network))
  await deps.state.deleteNetwork(network, driver.unique?.(network))
  // after the network is forgotten: a crash in between leaves pools without a network, which start-up releases
  for (const subnet of network.subnets) await deps.ipam.releasePool(subnet.poolId)
}

interface WantedSubnet {
  family: Family
  /** absent: any */
  subnet?: string
  range?: string
  gateway?: string
  auxAddresses: Record<string, string>
}

/** Sort the flat lists of `--subnet`, `--ip-range`, `--gateway` and `--aux-address` by subnet. */
function wantedSubnets(spec: NetworkSpec): WantedSubnet[] {
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

async function reserveSubnet(
  { ipam, drivers }: CnmDeps,
  { name, driver, scope }: Network,
  wanted: WantedSubnet,
  undo: Undo,
): Promise<Subnet> {
  const { family, subnet, range, auxAddresses } = wanted
  const onLan = drivers.get(driver).segment === 'lan'
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
  const gateway =
    onLan && wanted.gateway === undefined
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
  const shared = drivers.get(network.driver).segment === 'lan'
  // ours already where dockerd's first try was cut off
  const isAsked = (other: Pool): boolean =>
    other.subnet === pool.subnet && (other.owner === dockerPoolOwner || other.owner === owner)
  const asked = pool.assignedBy === 'tsnet' ? ipam.pools().find(isAsked) : undefined
  const { id } = asked ?? (await ipam.requestPool({ family: pool.family, subnet: pool.subnet, owner, scope, shared }))
  if (asked === undefined) undo.add(`release pool ${pool.subnet}`, () => ipam.releasePool(id))
  else await ipam.adoptPool(id, { owner, scope, shared })
  if (pool.gateway !== undefined) await ipam.claim(id, pool.gateway, gatewayOwner, `the gateway of ${owner}`)
  for (const [name, address] of Object.entries(pool.auxAddresses))
    await ipam.claim(id, address, auxOwner(name), `auxiliary address ${name}`)
  return {
    family: pool.family,
    subnet: pool.subnet,
    ...(pool.gateway === undefined ? {} : { gateway: pool.gateway }),
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

/** The subnet of a network that an address lies in. */
export const subnetOf = (network: Network, address: string): Subnet | undefined =>
  network.subnets.find(({ subnet }) => holds(subnet, addressOf(address)))

export const asksInternal = (options: unknown): boolean =>
  typeof options === 'object' && options !== null && 'internal' in options && options.internal === true
