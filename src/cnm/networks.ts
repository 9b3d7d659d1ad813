import { conflict, forbidden } from '../errors.js'
import { checkObjectName, randomId } from '../names.js'
import { addressOf, holds } from '../net/subnets.js'
import { StoreConflict } from '../store/store.js'
import { type Undo, withUndo } from '../undo.js'
import { type CnmDeps, clusterOf } from './deps.js'
import type { Driver } from './driver.js'
import { cleanUp } from './leftovers.js'
import type { NetworkSpec, NetworkView } from './specs.js'
import { reserveHostAddresses, reserveSubnet, wantedSubnets } from './subnets.js'
import type { Network, Subnet } from './types.js'

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
  const { cluster } = deps.state
  await withUndo(async undo => {
    // nothing is on it, so a global one has no links here
    if (network.scope === 'local') undo.add(`put network ${network.name} back`, () => driver.ensureNetwork(network))
    await driver.deleteNetwork(network, othersOf(deps, network))
    const member = cluster?.member(network.id)
    if (member !== undefined) {
      undo.add(`be a member of network ${network.name} again`, () => cluster?.putMember(member))
      await cluster?.reduceMember({ ...member, addresses: [] })
    }
    await deps.state.deleteNetwork(network, driver.unique?.(network))
  })
  // After the network is forgotten. A crash in between leaves pools without a network, which start-up releases; those of a global
  // one also the host that made them, when it hears that the network is gone.
  await releasePools(deps, network, network.subnets)
}

/** Of a network that does not have these subnets any more. */
export async function releasePools(deps: CnmDeps, { name }: Network, subnets: readonly Subnet[]): Promise<void> {
  for (const { subnet, poolId } of subnets)
    await cleanUp(deps, `release pool ${subnet} of network ${name}`, () => deps.ipam.releasePool(poolId))
}

/** The subnet of a network that an address lies in. */
export const subnetOf = (network: Network, address: string): Subnet | undefined =>
  network.subnets.find(({ subnet }) => holds(subnet, addressOf(address)))

export const asksInternal = (options: unknown): boolean =>
  typeof options === 'object' && options !== null && 'internal' in options && options.internal === true

/** As far as this host knows: nobody is on it, and it is there because somebody said `tsnet network create`. */
export const isUnused = ({ drivers }: CnmDeps, network: NetworkView): boolean =>
  network.createdBy === 'tsnet' &&
  network.dockerNetworkIds.length === 0 &&
  network.endpoints.length === 0 &&
  drivers.get(network.driver).fixed === undefined
