import { conflict, invalid, kindOf, messageOf } from '../errors.js'
import type { KeyedLock } from '../locks.js'
import { randomId } from '../names.js'
import { prefixLengthOf } from '../net/subnets.js'
import { type Undo, withUndo } from '../undo.js'
import { clusterOf, dockerPlaceholder, networkLock } from './deps.js'
import type { EndpointDeps } from './endpoints.js'
import { removeEndpoint } from './leaving.js'
import { bindDocker, leaveUnused, unbindDocker } from './membership.js'
import { asksInternal, deleteNetwork, establish, refuseFixed, releasePools, subnetOf } from './networks.js'
import type { DockerNetworkSpec } from './specs.js'
import { adoptSubnet, reserveHostAddresses } from './subnets.js'
import type { Network, Subnet } from './types.js'

/** What `docker network create -d tsnet` asks for, once or again. The caller holds the lock of the set of networks. */
export async function createDockerNetwork(
  deps: EndpointDeps,
  locks: KeyedLock,
  spec: DockerNetworkSpec,
): Promise<void> {
  const known = deps.state.networkOfDocker(spec.networkId)
  if (known?.scope === 'global') return
  if (known !== undefined) return await deps.drivers.get(known.driver).ensureNetwork(known)
  const { network: name, driver, ...options } = spec.options
  if (name === undefined) return await createOwn(deps, spec, driver ?? 'bridge', options)
  const network =
    driver !== undefined && deps.drivers.get(driver).scope === 'global'
      ? await ensureGlobal(deps, spec, name, driver, options)
      : existing(deps, name, { ...(driver === undefined ? {} : { driver }), ...options })
  await locks.with(networkLock(network.id), () => bind(deps, spec, network))
}

/** `-o network=NAME` alone: a network that is there already. */
function existing({ state }: EndpointDeps, name: string, options: Record<string, string>): Network {
  const other = Object.keys(options)[0]
  if (other !== undefined)
    throw invalid(`option ${other} has no effect beside network=${name}: network ${name} has its options already`)
  return state.network(name)
}

/** A network of its own, under Docker's id. dockerd never tells us its name. */
async function createOwn(
  deps: EndpointDeps,
  spec: DockerNetworkSpec,
  driver: string,
  options: Record<string, string>,
): Promise<void> {
  if (deps.drivers.get(driver).scope === 'global')
    throw invalid(
      `a network of driver ${driver} is known to other hosts by its name, which Docker does not tell us: add -o network=NAME`,
    )
  // before anything is made: an id that begins like another's stands for the same links, which are not to be undone
  const name = dockerPlaceholder(spec.networkId)
  deps.state.checkNetworkNameFree(name)
  await make(deps, spec, { id: spec.networkId, name, driver }, options)
}

/** The same line on every host: the first makes the network, the others find it. */
async function ensureGlobal(
  deps: EndpointDeps,
  spec: DockerNetworkSpec,
  name: string,
  driver: string,
  options: Record<string, string>,
): Promise<Network> {
  clusterOf(deps)
  const find = (): Network | undefined => deps.state.networks().find(network => network.name === name)
  const known = find()
  if (known !== undefined) return checkSame(deps, known, driver, options)
  try {
    return await make(deps, spec, { id: randomId(), name, driver }, options)
  } catch (error) {
    // another host was quicker by a moment
    const made = kindOf(error) === 'Conflict' ? find() : undefined
    if (made === undefined) throw error
    return checkSame(deps, made, driver, options)
  }
}

/** What was said again must be what the network is; what was left out may be anything. */
function checkSame(
  { drivers }: EndpointDeps,
  network: Network,
  driver: string,
  options: Record<string, string>,
): Network {
  if (network.driver !== driver) throw conflict(`network ${network.name} is of driver ${network.driver}, not ${driver}`)
  const is = network.options as Record<string, unknown>
  const row = (key: string) =>
    drivers
      .get(driver)
      .optionHelp()
      .find(help => help.name === key || help.alias === key)
  const asked = drivers.get(driver).parseOptions(options) as Record<string, unknown>
  for (const key of Object.keys(options)) {
    const name = row(key)?.name ?? key
    if (JSON.stringify(is[name]) !== JSON.stringify(asked[name]))
      throw conflict(`network ${network.name} has ${name}=${String(is[name])}, not ${options[key]}`)
  }
  return network
}

async function make(
  deps: EndpointDeps,
  spec: DockerNetworkSpec,
  { id, name, driver }: Pick<Network, 'id' | 'name' | 'driver'>,
  options: Record<string, string>,
): Promise<Network> {
  const kind = deps.drivers.get(driver)
  const parsed = kind.parseOptions(options)
  const network: Network = {
    id,
    name,
    driver,
    scope: kind.scope,
    options: parsed,
    subnets: [],
    internal: spec.internal || asksInternal(parsed),
    labels: {},
    createdBy: 'docker',
    createdAt: new Date().toISOString(),
    dockerNetworkIds: [],
  }
  return await withUndo(async undo => {
    network.subnets = await adopt(deps, spec, network, undo)
    return await establish(deps, network, undo)
  })
}

/** The Docker network is another name for one of ours; subnets of its own are routed over the same link. */
async function bind(deps: EndpointDeps, spec: DockerNetworkSpec, network: Network): Promise<void> {
  refuseFixed(deps, network)
  if (network.scope === 'global') return await bindGlobal(deps, spec, network)
  await withUndo(async undo => {
    const added = await adopt(deps, spec, network, undo)
    const updated: Network = {
      ...network,
      subnets: [...network.subnets, ...added.map(subnet => ({ ...subnet, dockerNetworkId: spec.networkId }))],
      dockerNetworkIds: [...network.dockerNetworkIds, spec.networkId],
    }
    await reserveHostAddresses(deps, updated)
    const driver = deps.drivers.get(network.driver)
    undo.add(`put network ${network.name} back`, () => driver.ensureNetwork(network, updated))
    await driver.ensureNetwork(updated, network)
    await deps.state.updateNetwork(updated)
  })
}

/** A network of all hosts has the subnets that it has: none comes or goes with one host's Docker. */
async function bindGlobal(deps: EndpointDeps, spec: DockerNetworkSpec, network: Network): Promise<void> {
  const subnets = network.subnets.map(({ subnet }) => subnet)
  for (const pool of withAddresses(spec))
    if (!subnets.includes(pool.subnet))
      throw invalid(
        `subnet ${pool.subnet} is none of network ${network.name} (${subnets.join(', ')}): add --ipam-driver tsnet --ipam-opt network=${network.name}, or --subnet ${subnets[0]}`,
      )
  const byDocker = withAddresses(spec).some(pool => pool.assignedBy === 'docker')
  await bindDocker(deps, network, spec.networkId, byDocker ? 'docker' : 'tsnet')
}

async function adopt(deps: EndpointDeps, spec: DockerNetworkSpec, network: Network, undo: Undo): Promise<Subnet[]> {
  const own = withAddresses(spec).filter(pool => !network.subnets.some(({ subnet }) => subnet === pool.subnet))
  const subnets: Subnet[] = []
  for (const pool of own) subnets.push(await adoptSubnet(deps, network, pool, undo))
  return subnets
}

/** 0.0.0.0/0 and ::/0 are Docker's null IPAM: no addresses at all. */
const withAddresses = (spec: DockerNetworkSpec) => spec.pools.filter(pool => prefixLengthOf(pool.subnet) > 0)

/** Docker has forgotten a network. The caller holds both locks. */
export async function deleteDockerNetwork(
  deps: EndpointDeps,
  network: Network,
  dockerNetworkId: string,
): Promise<void> {
  if (network.scope === 'global') await unbindGlobal(deps, network, dockerNetworkId)
  else if (network.id === dockerNetworkId) await deleteOwn(deps, network)
  else await unbind(deps, network, dockerNetworkId)
}

/** dockerd forgets the network whatever we answer, so endpoints of its containers that are left here are leftovers. */
async function deleteOwn(deps: EndpointDeps, network: Network): Promise<void> {
  const { state } = deps
  await removeContainers(deps, network)
  const others = state.endpointsOfNetwork(network.id)
  if (others.length === 0) return await deleteNetwork(deps, network)
  // sandboxes of ours still use it: it becomes ours, so that `tsnet network rm` can end it
  await state.updateNetwork({ ...network, createdBy: 'tsnet' })
  deps.log.warn(
    { network: network.name, endpoints: others.map(endpoint => endpoint.name) },
    'Docker removed a network that sandboxes still use; it stays until tsnet network rm',
  )
}

async function removeContainers(deps: EndpointDeps, network: Network): Promise<void> {
  for (const endpoint of deps.state.endpointsOfNetwork(network.id))
    if (endpoint.createdBy === 'docker') await removeEndpoint(deps, network, endpoint)
}

async function unbind(deps: EndpointDeps, network: Network, dockerNetworkId: string): Promise<void> {
  const leaving = network.subnets.filter(subnet => subnet.dockerNetworkId === dockerNetworkId)
  for (const endpoint of deps.state.endpointsOfNetwork(network.id)) {
    const subnet = endpoint.addresses[0] === undefined ? undefined : subnetOf(network, endpoint.addresses[0])
    if (endpoint.createdBy === 'docker' && subnet !== undefined && leaving.includes(subnet))
      await removeEndpoint(deps, network, endpoint)
  }
  const updated: Network = {
    ...network,
    subnets: network.subnets.filter(subnet => !leaving.includes(subnet)),
    dockerNetworkIds: network.dockerNetworkIds.filter(id => id !== dockerNetworkId),
  }
  const driver = deps.drivers.get(network.driver)
  await withUndo(async undo => {
    undo.add(`put network ${network.name} back`, () => driver.ensureNetwork(network, updated))
    await driver.ensureNetwork(updated, network)
    await deps.state.updateNetwork(updated)
  })
  await releasePools(deps, network, leaving)
}

/** The network goes with the last host's Docker network, if it was Docker that made it and nothing else is on it. */
async function unbindGlobal(deps: EndpointDeps, network: Network, dockerNetworkId: string): Promise<void> {
  if (network.dockerNetworkIds.length === 1) await removeContainers(deps, network)
  await unbindDocker(deps, network, dockerNetworkId)
  await leaveUnused(deps, network.id)
  if (network.createdBy !== 'docker' || deps.state.endpointsOfNetwork(network.id).length > 0) return
  try {
    await deleteNetwork(deps, deps.state.network(network.id))
  } catch (error) {
    const fields = { network: network.name, reason: messageOf(error) }
    deps.log.info(fields, `network ${network.name} stays for others; tsnet network rm ends it`)
  }
}
