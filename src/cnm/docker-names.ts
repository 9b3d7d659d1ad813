import type { KeyedLock } from '../locks.js'
import { isObjectName } from '../names.js'
import { dockerPlaceholder, networkLock } from './deps.js'
import { forgetPortsOfOthers, restoreLivePorts } from './docker-ports.js'
import { type EndpointDeps, placeOf } from './endpoints.js'
import type { DockerNames } from './names.js'
import type { Endpoint, Network } from './types.js'

/**
 * Give networks and endpoints that came by Docker's door the names that they have there. What is unknown, or called so
 * already, is passed over: facts may come late, twice, or of things that have gone.
 */
export async function learnDockerNames(
  deps: EndpointDeps,
  locks: KeyedLock,
  { networks, endpoints, containers }: DockerNames,
): Promise<void> {
  for (const { id, name } of networks) {
    if (deps.state.networkOfDocker(id)?.name !== dockerPlaceholder(id)) continue
    await locks.with('networks', () => locks.with(networkLock(id), () => renameNetwork(deps, id, name)))
  }
  for (const fact of endpoints) {
    const networkId = deps.state.endpoint(fact.id)?.networkId
    if (networkId !== undefined)
      await locks.with(networkLock(networkId), async () => {
        await renameEndpoint(deps, networkId, fact)
        await restoreLivePorts(deps, fact.id)
      })
  }
  if (containers !== undefined) await forgetPortsOfOthers(deps, containers)
}

async function renameNetwork(deps: EndpointDeps, id: string, name: string): Promise<void> {
  const network = deps.state.networkOfDocker(id)
  if (network?.name !== dockerPlaceholder(id) || !isObjectName(name)) return
  if (deps.state.networks().some(other => other.name === name)) return
  const renamed = await deps.state.renameNetwork(network, name)
  const driver = deps.drivers.get(renamed.driver)
  for (const { poolId, dockerNetworkId } of renamed.subnets)
    if (dockerNetworkId === undefined)
      await deps.ipam.adoptPool(poolId, { owner: `network ${name}`, shared: driver.segment === 'lan' })
  await driver.ensureNetwork(renamed)
  for (const endpoint of deps.state.endpointsOfNetwork(id)) await remark(deps, renamed, endpoint)
}

async function renameEndpoint(
  deps: EndpointDeps,
  networkId: string,
  fact: DockerNames['endpoints'][number],
): Promise<void> {
  const endpoint = deps.state.endpoint(fact.id)
  if (endpoint?.networkId !== networkId || endpoint.createdBy !== 'docker') return
  const network = deps.state.network(networkId)
  const others = deps.state.endpointsOfNetwork(networkId).filter(other => other.id !== fact.id)
  const taken = others.some(other => other.name.toLowerCase() === fact.name.toLowerCase())
  const name = taken || !isObjectName(fact.name) ? dockerPlaceholder(fact.id) : fact.name
  const aliases = [...new Set([fact.name, ...fact.aliases])].filter(alias => alias !== name && isObjectName(alias))
  if (name === endpoint.name && aliases.join() === endpoint.aliases.join()) return
  const renamed = { ...endpoint, name, aliases }
  const ports = deps.state.livePortsOf(networkId, endpoint.name)
  const moved =
    ports.length === 0 || name === endpoint.name
      ? []
      : [
          { networkId, name: endpoint.name, ports: [] },
          { networkId, name, ports },
        ]
  await deps.state.putEndpoints([renamed], moved)
  if (name !== endpoint.name) await remark(deps, network, renamed)
}

/** Links carry the names of their network and endpoint. */
async function remark(deps: EndpointDeps, network: Network, endpoint: Endpoint): Promise<void> {
  const driver = deps.drivers.get(network.driver)
  if (endpoint.state !== 'joined' || driver.isLost(endpoint)) return
  const sandbox = endpoint.sandboxId === undefined ? undefined : deps.state.sandbox(endpoint.sandboxId)
  await driver.join(network, { endpoint, ...(sandbox === undefined ? {} : { place: placeOf(sandbox, endpoint) }) })
}
