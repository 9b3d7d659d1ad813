import { conflict, forbidden, invalid } from '../errors.js'
import { checkObjectName, parseMac, randomId, randomMac, shortId } from '../names.js'
import { addressOf, familyOf, holds } from '../net/subnets.js'
import type { TxnPart } from '../store/store.js'
import { type Undo, withUndo } from '../undo.js'
import type { CnmDeps } from './deps.js'
import type { Containers, Namespaces, Place, WantedSandbox, Wiring } from './driver.js'
import { parseEndpointOptions } from './endpoint-options.js'
import { byPreference, type Candidate, electGateway } from './gateways.js'
import { chooseIfname, joinUnderFreeName } from './ifnames.js'
import { takePart } from './membership.js'
import { refuseFixed, subnetOf } from './networks.js'
import type { ConnectSpec, EndpointView } from './specs.js'
import type { Endpoint, Family, Network, Route, Sandbox, Share } from './types.js'

export interface EndpointDeps extends CnmDeps {
  namespaces: Namespaces
  containers: Containers
}

/** `tsn` and 12 digits: the host's end of an endpoint, found again after any restart because the id says it. */
export const hostLinkName = (endpointId: string): string => `tsn${shortId(endpointId)}`

export const placeOf = (sandbox: Sandbox, endpoint: Endpoint): Place => {
  if (endpoint.ifname === undefined) throw new Error(`endpoint ${endpoint.id} of sandbox ${sandbox.name} has no ifname`)
  return { netns: sandbox.netns, ifname: endpoint.ifname }
}

/** An endpoint and, where it is one of our sandboxes, its place there. */
export const wiringOf = (deps: CnmDeps, endpoint: Endpoint): Wiring =>
  endpoint.sandboxId === undefined
    ? { endpoint }
    : { endpoint, place: placeOf(deps.state.sandbox(endpoint.sandboxId), endpoint) }

/**
 * Attach a sandbox of ours to a network: addresses, links, routes, ports. The caller holds the sandbox's lock, and the network's, which
 * others who come to a local one may share; `inTurn` has them do all but the recording one after the other.
 */
export async function connect(
  deps: EndpointDeps,
  found: Network,
  sandbox: Sandbox,
  spec: ConnectSpec,
  inTurn: (work: () => Promise<void>) => Promise<void>,
): Promise<Endpoint> {
  const driver = deps.drivers.get(found.driver)
  const endpoint = newEndpoint(deps, found, sandbox, spec)
  return await withUndo(async undo => {
    const parts: TxnPart[] = []
    await inTurn(async () => {
      const network = await takePart(deps, found, undo)
      endpoint.addresses = await chooseAddresses(deps, network, endpoint, spec, { undo, parts })
      undo.add(`delete the link of ${endpoint.name}`, () => driver.deleteEndpoint(network, wiringOf(deps, endpoint)))
      const join = () => driver.join(network, wiringOf(deps, endpoint))
      if (spec.ifname !== undefined) await join()
      else await joinUnderFreeName(deps, sandbox, endpoint, driver.ifnamePrefix(network), join)
      endpoint.state = 'joined'
      undo.add(`put sandbox ${sandbox.name} back in order`, () => wire(deps, sandbox, attached(deps, sandbox)))
      wire(deps, sandbox, [...attached(deps, sandbox), endpoint])
      driver.announce?.(network, endpoint)
      if (endpoint.ports.length > 0) {
        undo.add('revoke the published ports', () => driver.revoke?.(network, endpoint, endpoint.bindings))
        endpoint.bindings = (await driver.publish?.(network, endpoint, endpoint.ports)) ?? []
      }
    })
    // last: a crash before this line leaves only marked links and owned addresses, which start-up removes
    await deps.state.putEndpoint(endpoint, parts)
    return endpoint
  })
}

/**
 * Put a sandbox in order as if `leaving` had left: first the default route goes by another endpoint, then the link goes.
 * Nothing where the namespace is not there, or is another's.
 */
export function rewire(deps: EndpointDeps, sandbox: Sandbox, leaving?: Endpoint): void {
  if (sandbox.shares !== undefined || !deps.namespaces.exists(sandbox.netns)) return
  const staying = attached(deps, sandbox).filter(endpoint => endpoint.id !== leaving?.id)
  const wanted = wantedSandbox(deps, sandbox, staying)
  deps.namespaces.apply(leaving?.ifname === undefined ? wanted : { ...wanted, leaving: leaving.ifname })
}

/** Check everything that can be checked before anything is taken or made. */
function newEndpoint(deps: EndpointDeps, network: Network, sandbox: Sandbox, spec: ConnectSpec): Endpoint {
  if (deps.state.endpointsOfSandbox(sandbox.id).some(other => other.networkId === network.id))
    throw conflict(`sandbox ${sandbox.name} is already attached to network ${network.name}`)
  refuseShared(sandbox)
  refuseFixed(deps, network)
  const options = parseEndpointOptions(spec.options)
  if ((spec.ports ?? []).length > 0 && deps.drivers.get(network.driver).publish === undefined)
    throw invalid(
      `network ${network.name} publishes no ports: endpoints of driver ${network.driver} are reached at their own addresses`,
    )
  for (const alias of spec.aliases ?? []) checkObjectName(alias, 'alias')
  const id = randomId()
  return {
    id,
    networkId: network.id,
    name: sandbox.name,
    createdBy: 'tsnet',
    sandboxId: sandbox.id,
    addresses: [],
    mac: spec.mac === undefined ? randomMac() : parseMac(spec.mac),
    hostLink: hostLinkName(id),
    ifname: chooseIfname(deps, network, sandbox, spec.ifname),
    aliases: spec.aliases ?? [],
    routes: checkRoutes(network, spec.routes ?? []),
    ...(options === undefined ? {} : { options }),
    ports: spec.ports ?? [],
    bindings: [],
    state: 'created',
    createdAt: new Date().toISOString(),
  }
}

/** What is done to a namespace is done through the sandbox that it belongs to. */
function refuseShared({ name, shares }: Sandbox): void {
  if (shares === undefined) return
  const instead = {
    host: 'it has all that the host has',
    sandbox: `connect sandbox ${shares.name} instead`,
    container: `use docker network connect NETWORK ${shares.name} instead`,
  }
  throw forbidden(`sandbox ${name} shares the namespace of ${wordsOfShare(shares)}: ${instead[shares.with]}`)
}

export const wordsOfShare = (share: Share): string =>
  share.with === 'host' ? 'the host' : `${share.with} ${share.name}`

function checkRoutes(network: Network, routes: Route[]): Route[] {
  for (const { destination, via } of routes) {
    if (via !== undefined && subnetOf(network, via) === undefined)
      throw invalid(`route ${destination}: next hop ${via} is in no subnet of network ${network.name}`)
    if (destination.endsWith('/0')) throw invalid(`route ${destination}: the default route is the network's own`)
  }
  return routes
}

async function chooseAddresses(
  deps: EndpointDeps,
  network: Network,
  endpoint: Endpoint,
  spec: ConnectSpec,
  { undo, parts }: { undo: Undo; parts: TxnPart[] },
): Promise<string[]> {
  const asked = { 4: spec.ip, 6: spec.ip6 }
  const addresses: string[] = []
  for (const family of [4, 6] as const) {
    const subnet = chooseSubnet(network, family, asked[family])
    if (subnet === undefined) continue
    const cidr = await deps.ipam.requestAddress(subnet.poolId, {
      owner: endpoint.id,
      ownerName: `endpoint ${endpoint.name}`,
      name: endpoint.name,
      parts,
      ...(asked[family] === undefined ? {} : { address: asked[family] }),
    })
    undo.add(`release ${cidr}`, () => deps.ipam.releaseAddress(subnet.poolId, addressOf(cidr), endpoint.id))
    addresses.push(cidr)
  }
  return addresses
}

/** The network's first own subnet of the family, or the one that the asked address lies in. */
function chooseSubnet(network: Network, family: Family, asked: string | undefined) {
  const subnets = network.subnets.filter(subnet => subnet.family === family)
  if (asked === undefined) return subnets.find(({ dockerNetworkId }) => dockerNetworkId === undefined) ?? subnets[0]
  const subnet = familyOf(asked) === family ? subnets.find(candidate => holds(candidate.subnet, asked)) : undefined
  if (subnet === undefined) {
    const known = subnets.length === 0 ? `it has none for IPv${family}` : subnets.map(s => s.subnet).join(', ')
    throw invalid(`address ${asked} is in no subnet of network ${network.name} (${known})`)
  }
  return subnet
}

/** Without those whose network is gone, which reconcile removes: what they had inside goes, and keeps nothing else from working. */
export const attached = ({ state }: EndpointDeps, sandbox: Sandbox): Endpoint[] =>
  state
    .endpointsOfSandbox(sandbox.id)
    .filter(endpoint => endpoint.state === 'joined' && state.networkOf(endpoint) !== undefined)

/** Make a sandbox's inside what these endpoints want it to be. */
export function wire(deps: EndpointDeps, sandbox: Sandbox, endpoints: readonly Endpoint[]): void {
  deps.namespaces.apply(wantedSandbox(deps, sandbox, endpoints))
}

export function wantedSandbox(deps: EndpointDeps, sandbox: Sandbox, endpoints: readonly Endpoint[]): WantedSandbox {
  const candidates = byPreference(endpoints.map(endpoint => candidateOf(deps, endpoint)))
  const wanted: WantedSandbox = { sandbox, links: [], gateways: {} }
  for (const { endpoint, attachment } of candidates) {
    const { mac, addresses, options } = endpoint
    wanted.links.push({
      ifname: placeOf(sandbox, endpoint).ifname,
      mac,
      ...(attachment.mtu === undefined ? {} : { mtu: attachment.mtu }),
      addresses,
      ...(attachment.announced && { announced: true }),
      routes: [...attachment.routes, ...endpoint.routes],
      sysctls: options?.sysctls ?? {},
      neighbours: options?.neighbours ?? [],
      ...(options === undefined || options.metric === 0 ? {} : { metric: options.metric }),
    })
  }
  for (const family of [4, 6] as const) {
    const elected = electGateway(candidates, family)
    const via = elected?.attachment.gateways[family]
    if (elected === undefined || via === undefined) continue
    wanted.gateways[family] = { via, ifname: placeOf(sandbox, elected.endpoint).ifname }
  }
  return wanted
}

export function candidateOf(deps: EndpointDeps, endpoint: Endpoint): Candidate {
  const network = deps.state.network(endpoint.networkId)
  return { network, endpoint, attachment: deps.drivers.get(network.driver).attachment(network, endpoint) }
}

export function endpointView({ state }: CnmDeps, endpoint: Endpoint): EndpointView {
  const network = state.networkOf(endpoint)?.name ?? endpoint.networkId
  return { ...endpoint, network, sandbox: state.sandboxNameOf(endpoint) }
}
