import { isIPv6 } from 'node:net'
import type {
  DockerAddressRequest,
  DockerEndpointSpec,
  DockerJoin,
  DockerNetworkSpec,
  DockerPool,
  DockerPoolGrant,
  DockerPoolRequest,
} from '../cnm/specs.js'
import type { Family, PortRange, PortSpec, Protocol, Route } from '../cnm/types.js'
import { invalid } from '../errors.js'
import type { CreateEndpoint, CreateNetwork, IpamData, PortMapping, RequestAddress, RequestPool } from './wire.js'

/** Between dockerd's messages and the controller's words. Pure functions. */

/** What our IPAM calls its addresses, for local and global networks alike; a pool that bears another name is dockerd's. */
export const addressSpace = 'tsnet'

const gatewayKey = 'com.docker.network.gateway'

/** Protocol numbers: /usr/include/linux/in.h */
const protocols = new Map<number, Protocol>([
  [6, 'tcp'],
  [17, 'udp'],
  [132, 'sctp'],
])

const plain = (cidr: string): string => cidr.slice(0, cidr.indexOf('/'))

export const networkSpecOf = (request: CreateNetwork): DockerNetworkSpec => ({
  networkId: request.NetworkID,
  options: request.Options.user,
  internal: request.Options.internal,
  // A release that does not say so still sends the pools.
  ipv6: request.Options.ipv6 || request.IPv6Data.length > 0,
  pools: [...poolsOf(4, request.IPv4Data), ...poolsOf(6, request.IPv6Data)],
})

/** dockerd's `null` IPAM stands for "no addresses" with the pool of everything: that is no pool. */
const poolsOf = (family: Family, data: readonly IpamData[]): DockerPool[] =>
  data.flatMap(({ AddressSpace, Pool, Gateway, AuxAddresses }) =>
    Pool === undefined || Pool.endsWith('/0')
      ? []
      : {
          family,
          assignedBy: AddressSpace === addressSpace ? 'tsnet' : 'docker',
          subnet: Pool,
          ...(Gateway !== undefined && { gateway: plain(Gateway) }),
          auxAddresses: Object.fromEntries(Object.entries(AuxAddresses).map(([name, cidr]) => [name, plain(cidr)])),
        },
  )

export function endpointSpecOf(request: CreateEndpoint): DockerEndpointSpec {
  const { Address, AddressIPv6, MacAddress } = request.Interface
  const mac = MacAddress ?? request.Options.mac
  return {
    networkId: request.NetworkID,
    endpointId: request.EndpointID,
    addresses: [Address, AddressIPv6].filter(address => address !== undefined),
    ...(mac !== undefined && { mac }),
    ...(request.Options.user !== undefined && { options: request.Options.user }),
  }
}

/**
 * dockerd fails the call for any field that it had filled in itself, even with an equal value
 * (moby daemon/libnetwork/drivers/remote/driver.go, CreateEndpoint). Without the MAC `docker inspect` shows none.
 */
export function createEndpointAnswer(request: CreateEndpoint, created: { mac?: string }): object {
  const mac = created.mac ?? request.Options.mac
  return request.Interface.MacAddress === undefined && mac !== undefined ? { Interface: { MacAddress: mac } } : {}
}

/**
 * A default route is never sent as a route with a next hop: dockerd would take the endpoint for the container's gateway
 * without having an address for it, and undo the join. It goes as the gateway; one without next hop goes as a route on
 * link, which dockerd overlooks when it asks whether the container needs its gateway network, so that is switched off.
 */
export function joinAnswer(join: DockerJoin): object {
  const isDefault = (route: Route): boolean => route.destination.endsWith('/0')
  const via = (family: Family): string | undefined =>
    join.routes.find(route => isDefault(route) && route.destination.includes(':') === (family === 6))?.via
  const gateway4 = join.gateway4 ?? via(4)
  const gateway6 = join.gateway6 ?? via(6)
  const routes = join.routes.filter(route => !isDefault(route) || route.via === undefined)
  return {
    InterfaceName: { SrcName: join.link, DstPrefix: join.ifnamePrefix },
    ...(gateway4 !== undefined && { Gateway: gateway4 }),
    ...(gateway6 !== undefined && { GatewayIPv6: gateway6 }),
    ...(routes.length > 0 && { StaticRoutes: routes.map(staticRoute) }),
    ...((join.disableGatewayService || routes.some(isDefault)) && { DisableGatewayService: true }),
  }
}

/** RouteType: 0 has a next hop, 1 is on link (moby daemon/libnetwork/types/types.go). */
const staticRoute = ({ destination, via }: Route): object =>
  via === undefined
    ? { Destination: destination, RouteType: 1 }
    : { Destination: destination, RouteType: 0, NextHop: via }

/** One `PortSpec` for each run of ports that go one to one; sorted, because dockerd sends them in no order at all. */
export function portSpecsOf(mappings: readonly PortMapping[]): PortSpec[] {
  const different = new Map(mappings.map(portSpec).map(spec => [JSON.stringify(spec), spec]))
  const specs: PortSpec[] = []
  for (const spec of [...different.values()].sort(byPlace)) {
    const last = specs.at(-1)
    if (last?.hostPort && spec.hostPort && continues(last, spec)) {
      last.containerPort.last = spec.containerPort.last
      last.hostPort.last = spec.hostPort.last
    } else specs.push(spec)
  }
  return specs
}

const width = (range: PortRange): number => range.last - range.first
const isOneToOne = (spec: PortSpec): boolean =>
  spec.hostPort !== undefined && width(spec.hostPort) === width(spec.containerPort)

const continues = (last: PortSpec, next: PortSpec): boolean =>
  isOneToOne(last) &&
  isOneToOne(next) &&
  last.protocol === next.protocol &&
  last.hostIp === next.hostIp &&
  last.containerPort.last + 1 === next.containerPort.first &&
  last.hostPort!.last + 1 === next.hostPort!.first

const place = ({ protocol, hostIp = '' }: PortSpec): string => `${protocol} ${hostIp}`
function byPlace(a: PortSpec, b: PortSpec): number {
  if (place(a) !== place(b)) return place(a) < place(b) ? -1 : 1
  return a.containerPort.first - b.containerPort.first || (a.hostPort?.first ?? 0) - (b.hostPort?.first ?? 0)
}

function portSpec({ Proto, Port, HostIP, HostPort, HostPortEnd }: PortMapping): PortSpec {
  const protocol = protocols.get(Proto)
  if (protocol === undefined)
    throw invalid(`port ${Port} cannot be published for protocol number ${Proto}: only tcp, udp and sctp can`)
  if (Port === 0) throw invalid('container port 0 cannot be published: ports are 1 to 65535')
  const last = HostPortEnd === 0 ? HostPort : HostPortEnd
  if (last < HostPort || (HostPort === 0 && last !== 0))
    throw invalid(`host ports ${HostPort}-${last} are not a range: it ends before it begins, or begins with 0`)
  return {
    protocol,
    ...(HostIP !== undefined && { hostIp: HostIP }),
    ...(HostPort !== 0 && { hostPort: { first: HostPort, last } }),
    containerPort: { first: Port, last: Port },
  }
}

/** The family is the pool's own where one is asked for: `V6` is only about the choice of one. */
export const poolRequestOf = (request: RequestPool): DockerPoolRequest => ({
  ...(request.Pool !== undefined && { subnet: request.Pool }),
  ...(request.SubPool !== undefined && { range: request.SubPool }),
  family: (request.Pool === undefined ? request.V6 : isIPv6(plain(request.Pool))) ? 6 : 4,
  options: request.Options,
})

export const poolAnswer = ({ poolId, subnet, gateway }: DockerPoolGrant): object => ({
  PoolID: poolId,
  Pool: subnet,
  Data: gateway === undefined ? {} : { [gatewayKey]: gateway },
})

export const addressRequestOf = ({ PoolID, Address, Options }: RequestAddress): DockerAddressRequest => ({
  poolId: PoolID,
  ...(Address !== undefined && { address: Address }),
  gateway: Options.gateway,
  ...(Options.endpointName !== undefined && { name: Options.endpointName }),
})
