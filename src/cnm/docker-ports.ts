import { isDeepStrictEqual } from 'node:util'
import { messageOf } from '../errors.js'
import { formatPortSpec, parsePortSpec, specOf } from '../ports/spec.js'
import { withUndo } from '../undo.js'
import type { EndpointDeps } from './endpoints.js'
import type { Endpoint, Network, PortBinding, PortSpec } from './types.js'

// Ports of Docker's containers: those of `docker run -p`, which dockerd tells at every start of the container, and those of
// `tsnet publish add`, of which it knows nothing. A container that starts again has a new endpoint, so the latter are
// kept by network and name, and published again as soon as dockerd has told the new endpoint's name.

/** Publish what dockerd asks for, instead of what it had asked for before. */
export async function publishContainer(
  deps: EndpointDeps,
  network: Network,
  endpoint: Endpoint,
  ports: PortSpec[],
): Promise<void> {
  const driver = deps.drivers.get(network.driver)
  // dockerd sends a container's ports for each of its networks; an internal one has no outside
  if (network.internal) return
  if (driver.publish === undefined) {
    if (ports.length > 0)
      deps.log.warn(
        { network: network.name, endpoint: endpoint.name, ports },
        `driver ${network.driver} publishes no ports: they are reached at the container's address`,
      )
    return
  }
  if (JSON.stringify(endpoint.ports) === JSON.stringify(ports)) return
  await withUndo(async undo => {
    const had = endpoint.bindings.filter(isDockers)
    const before = await unpublishContainer(deps, network, endpoint, isDockers)
    if (ports.length === 0) return
    undo.add('publish the former ports again', async () => {
      await driver.republish?.(network, endpoint, had)
      await deps.state.putEndpoint(endpoint)
    })
    const granted = (await driver.publish?.(network, before, ports)) ?? []
    undo.add('revoke the ports', () => driver.revoke?.(network, before, granted))
    await deps.state.putEndpoint({ ...before, ports, bindings: [...before.bindings, ...granted] })
  })
}

export const isDockers = (binding: PortBinding): boolean => binding.live === undefined
export const isAny = (): boolean => true

/** The kernel looks for flows on a core for this long; by then dockerd waits for an interface to move, not for us. */
const endFlowsAfterMs = 10

/** End the bindings that `which` chooses; what is so already is not written. */
export async function unpublishContainer(
  deps: EndpointDeps,
  network: Network,
  endpoint: Endpoint,
  which: (binding: PortBinding) => boolean,
  change: Partial<Endpoint> = {},
): Promise<Endpoint> {
  const driver = deps.drivers.get(network.driver)
  const ended = endpoint.bindings.filter(which)
  const updated = { ...endpoint, ports: [], bindings: endpoint.bindings.filter(b => !which(b)), ...change }
  if (isDeepStrictEqual(updated, endpoint)) return endpoint
  return await withUndo(async undo => {
    undo.add('publish the ports again', () => driver.republish?.(network, endpoint, ended))
    await driver.revoke?.(network, endpoint, ended)
    await deps.state.putEndpoint(updated)
    if (ended.length > 0) setTimeout(() => void driver.endFlows?.(network, ended), endFlowsAfterMs)
    return updated
  })
}

/** Publish again what `tsnet publish add` had published for the container of this name. The caller holds the network's lock. */
export async function restoreLivePorts(deps: EndpointDeps, endpointId: string): Promise<void> {
  const endpoint = deps.state.endpoint(endpointId)
  if (endpoint?.createdBy !== 'docker' || endpoint.state !== 'joined') return
  const network = deps.state.network(endpoint.networkId)
  const there = new Set(endpoint.bindings.filter(b => b.live).map(specOf))
  const missing = deps.state.livePortsOf(network.id, endpoint.name).filter(port => !there.has(formatPortSpec(port)))
  for (const port of missing)
    try {
      await addLive(deps, network, endpointId, port)
    } catch (error) {
      // the container runs: there is nobody who could be told otherwise
      const fields = { network: network.name, endpoint: endpoint.name, port: formatPortSpec(port) }
      deps.log.warn({ ...fields, reason: messageOf(error) }, 'could not publish a port again')
    }
}

async function addLive(deps: EndpointDeps, network: Network, endpointId: string, port: PortSpec): Promise<void> {
  const endpoint = deps.state.endpoint(endpointId)
  if (endpoint === undefined) return
  const driver = deps.drivers.get(network.driver)
  await withUndo(async undo => {
    const granted = ((await driver.publish?.(network, endpoint, [port])) ?? []).map(asLive)
    undo.add('revoke the port', () => driver.revoke?.(network, endpoint, granted))
    await deps.state.putEndpoint({ ...endpoint, bindings: [...endpoint.bindings, ...granted] })
  })
}

/** What asked for these. */
export function specsOf(bindings: readonly PortBinding[]): PortSpec[] {
  const from = new Map(bindings.map(binding => [specOf(binding), binding.from]))
  return [...from].map(([text, sources]) => ({ ...parsePortSpec(text), ...(sources && { from: sources }) }))
}

export const asLive = (binding: PortBinding): PortBinding => ({ ...binding, live: true })

/** Containers that are not among these have been removed, and what was published for them is forgotten. */
export async function forgetPortsOfOthers(deps: EndpointDeps, containers: readonly string[]): Promise<void> {
  const { state } = deps
  const gone = state
    .livePorts()
    .filter(({ networkId, name }) => {
      const attached = state.endpointsOfNetwork(networkId).some(endpoint => endpoint.name === name)
      return !attached && !containers.includes(name)
    })
    .map(of => ({ ...of, ports: [] }))
  if (gone.length > 0) await state.putEndpoints([], gone)
}
