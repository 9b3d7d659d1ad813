import { setTimeout as sleep } from 'node:timers/promises'
import { conflict, invalid, messageOf, notFound } from '../errors.js'
import type { Cluster } from './cluster.js'
import { clusterOf } from './deps.js'
import type { Finding, Findings, WantedNetwork } from './driver.js'
import { type EndpointDeps, wiringOf } from './endpoints.js'
import { isPresent } from './membership.js'
import type { NetworkView, OverlayReport } from './specs.js'
import type { Endpoint, ForwardedBridge, Member, Network, Peer, Sandbox } from './types.js'

// What concerns other hosts, asked of the store that all of them share.

/** A network as far as it is known without asking anybody. */
export function networkView(deps: EndpointDeps, network: Network): NetworkView {
  const { state } = deps
  const { cluster } = state
  const own = state.endpointsOfNetwork(network.id)
  const obstacles = deps.drivers.obstacles(inUse(network, own))
  const notes = deps.drivers.notes(network)
  const view = {
    ...network,
    ...(obstacles.length > 0 ? { obstacles } : {}),
    ...(notes.length > 0 ? { notes } : {}),
  }
  if (network.scope === 'local' || cluster === undefined) return { ...view, endpoints: own }
  const others = cluster.peers().filter(({ networkId }) => networkId === network.id)
  return { ...view, endpoints: [...own.map(endpoint => asPeer(deps, cluster, endpoint)), ...others] }
}

/** As much of a network as it takes to know that it is used here, or not: with all endpoints it would cost what they are. */
export const inUse = (network: Network, [endpoint]: readonly Endpoint[]): WantedNetwork => ({
  network,
  endpoints: endpoint === undefined ? [] : [{ endpoint }],
})

/** The bridges of all networks that are on this host. */
export function bridgesHere(deps: EndpointDeps): ForwardedBridge[] {
  const { state, drivers } = deps
  const present = state.networks().filter(network => isPresent(deps, network))
  return drivers.bridges(present.map(network => inUse(network, state.endpointsOfNetwork(network.id))))
}

/** A network with what the cluster's store has of it; where that does not answer, what is known here, and why that is not all. */
export async function wholeNetworkView(deps: EndpointDeps, network: Network): Promise<NetworkView> {
  const { cluster } = deps.state
  const known = networkView(deps, network)
  if (network.scope === 'local' || cluster === undefined) return known
  try {
    const { peers, members } = await cluster.readNetwork(network.id)
    // our own are newer here than what the others have been told of them
    const own = deps.state.endpointsOfNetwork(network.id).map(endpoint => asPeer(deps, cluster, endpoint))
    const others = peers.filter(({ host }) => host !== cluster.host)
    return { ...known, endpoints: [...own, ...others], members: members.sort(byHost) }
  } catch (error) {
    return { ...known, incomplete: cluster.downBecause() ?? messageOf(error) }
  }
}

const byHost = (a: Member, b: Member): number => (a.host < b.host ? -1 : 1)

const asPeer = (deps: EndpointDeps, { host }: Cluster, endpoint: Endpoint): Peer => ({
  ...endpoint,
  host,
  sandbox: deps.state.sandboxNameOf(endpoint),
})

/** The sandbox of this host that a reference means; undefined where it means none, and one of another host may be meant. */
export const ownSandbox = ({ state }: EndpointDeps, networkId: string, ref: string): Sandbox | undefined =>
  state
    .sandboxes()
    .find(
      ({ id, name }) =>
        (name === ref || id === ref) && state.endpointsOfSandbox(id).some(endpoint => endpoint.networkId === networkId),
    )

/** Forget an endpoint of a host that is down and will not do it itself. */
export async function disconnectPeer(deps: EndpointDeps, network: Network, ref: string): Promise<void> {
  const cluster = clusterOf(deps)
  const { peers } = await cluster.readNetwork(network.id)
  const meant = peers.filter(
    ({ host, id, name, sandbox }) => host !== cluster.host && [id, name, sandbox, `${host}/${name}`].includes(ref),
  )
  const [peer, ...others] = meant
  if (peer === undefined) throw notFound(`there is no endpoint ${ref} of network ${network.name} on any other host`)
  if (others.length > 0)
    throw conflict(`${ref} could be ${meant.map(({ host, name }) => `${host}/${name}`).join(' or ')}`)
  await cluster.removePeer(peer)
}

/** How long a host may take to look: it does so twice, and may wait for packets of others that never come. */
const verifyPatienceMs = 15_000

export async function verifyOverlay(deps: EndpointDeps, network: Network): Promise<OverlayReport> {
  if (deps.drivers.get(network.driver).verify === undefined)
    throw invalid(
      `network ${network.name} is of this host alone: driver ${network.driver} has nothing on others to verify`,
    )
  const reports = await clusterOf(deps).verify(network.id, verifyPatienceMs)
  const ok = reports.every(({ state, found }) => state === 'answered' && found.length === 0)
  return { network: network.name, ok, hosts: reports }
}

/** A change takes some milliseconds from the store to the kernel; what is still wrong after this time is wrong. */
const settleMs = 1_000

/** What is wrong about a network on this host. */
export async function verifyHere(deps: EndpointDeps, networkId: string): Promise<Findings> {
  const first = await look(deps, networkId)
  if (first.found.length === 0) return first
  await sleep(settleMs)
  const second = await look(deps, networkId)
  const isFirst = (finding: Finding): boolean =>
    first.found.some(({ check, words }) => check === finding.check && words === finding.words)
  return { checked: second.checked, found: second.found.filter(isFirst) }
}

async function look(deps: EndpointDeps, networkId: string): Promise<Findings> {
  const network = deps.state.network(networkId)
  const endpoints = deps.state.endpointsOfNetwork(networkId).filter(({ state }) => state === 'joined')
  if (endpoints.length === 0) return { checked: [], found: [] }
  const wanted = { network, endpoints: endpoints.map(endpoint => wiringOf(deps, endpoint)) }
  const cluster = clusterOf(deps)
  const { remotes, members } = await cluster.readNetwork(networkId)
  const others = { remotes, members: members.filter(({ host }) => host !== cluster.host) }
  return (await deps.drivers.get(network.driver).verify?.(wanted, others)) ?? { checked: [], found: [] }
}
