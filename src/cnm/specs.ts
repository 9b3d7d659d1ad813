import type { HostReport } from './cluster.js'
import type {
  Door,
  Endpoint,
  ExtraHost,
  Family,
  Member,
  Network,
  Peer,
  PortBinding,
  PortSpec,
  Route,
  Sandbox,
  SandboxDns,
} from './types.js'

export type { HostReport, HostView } from './cluster.js'
export type { Finding, OverlayCheck } from './driver.js'

/** What the doors (REST, CLI, Docker) ask of the controller, and what it shows them. Plain data. */

export interface NetworkSpec {
  name: string
  /** default `bridge` */
  driver?: string
  subnets?: string[]
  ipRanges?: string[]
  gateways?: string[]
  auxAddresses?: Record<string, string>
  ipv6?: boolean
  internal?: boolean
  options?: Record<string, string>
  labels?: Record<string, string>
}

export interface SandboxSpec {
  name: string
  /** adopt the namespace at this path */
  netns?: string
  /** adopt the namespace of this process */
  pid?: number
  /** `host`, or `container:NAME`: another sandbox, or a Docker container */
  share?: string
  ephemeral?: boolean
  dns?: SandboxDns
  hostname?: string
  extraHosts?: ExtraHost[]
}

export interface ConnectSpec {
  ip?: string
  ip6?: string
  mac?: string
  ifname?: string
  aliases?: string[]
  ports?: PortSpec[]
  routes?: Route[]
  options?: Record<string, string>
}

export interface PublishSpec {
  port: PortSpec
  /** absent: the network of the default route, of those that publish ports */
  network?: string
  /** take the host port from whoever has it */
  replace?: boolean
}

export interface NetworkView extends Network {
  /** of a global network those of all hosts, each a Peer */
  endpoints: (Endpoint | Peer)[]
  /** of a global network: what each host has of it besides */
  members?: Member[]
  /** why this is not all that there is, as the end of a sentence: `etcd does not answer` */
  incomplete?: string
  /** other programs' firewall rules that drop what tsnet accepts: `table inet filter, chain forward: policy drop (out of the network)` */
  obstacles?: string[]
  /** what is not as it was meant on this host: `anti_spoof is off on this host: nftables does not work here; ...` */
  notes?: string[]
}

/** What is wrong about a network, on every host that is on it. */
export interface OverlayReport {
  /** the network's name */
  network: string
  /** every host has answered, and nothing is wrong on any */
  ok: boolean
  /** in the order of their names */
  hosts: HostReport[]
}

export interface EndpointView extends Endpoint {
  /** the network's name */
  network: string
  /** the sandbox's name, or dockerd's path of the container's namespace */
  sandbox: string
}

export interface SandboxView extends Sandbox {
  endpoints: EndpointView[]
  /** the namespace is not there now (its process ended, or somebody removed it) */
  missing: boolean
}

/** What a name or an id means, of whatever kind. */
export type Inspected =
  | ({ kind: 'network' } & NetworkView)
  | ({ kind: 'sandbox' } & SandboxView)
  | ({ kind: 'endpoint' } & EndpointView)

/** One change, on one line. */
export interface Event {
  /** ISO 8601 */
  time: string
  type: 'network' | 'sandbox' | 'endpoint' | 'host' | 'reconcile' | 'cluster' | 'events'
  /**
   * `create`, `remove`, `update`, `connect`, `disconnect`, `publish`, `revoke`; of host `damage` (another program has changed
   * what is ours) or `foreign` (we have adapted to another firewall); of reconcile `change` or `failure`; of cluster `up`, `down` or `lost`; of events `begin` or `lost`
   */
  action: string
  /** of the object */
  id?: string
  name?: string
  /** of an endpoint: the network's name */
  network?: string
  /** of an endpoint: the sandbox's name, or dockerd's path of the container's namespace */
  sandbox?: string
  addresses?: string[]
  bindings?: PortBinding[]
  /** who made the object */
  createdBy?: Door
  /** of host, reconcile, cluster and events: what happened */
  words?: string
}

export interface EventsOptions {
  /** absent: from now on */
  since?: Date
  /** absent: for ever */
  until?: Date
  signal: AbortSignal
}

export interface ReconcileReport {
  dryRun: boolean
  /** in words, in the order in which they were made (or would be) */
  changes: string[]
  /** changes that failed, with the reason */
  failures: string[]
}

/** What dockerd says of a network; it never says the name. */
export interface DockerNetworkSpec {
  networkId: string
  /** the user's `-o` */
  options: Record<string, string>
  internal: boolean
  ipv6: boolean
  pools: DockerPool[]
}

export interface DockerPool {
  family: Family
  /** who assigns: our IPAM when the address space is ours */
  assignedBy: Door
  /** CIDR */
  subnet: string
  /** plain address */
  gateway?: string
  auxAddresses: Record<string, string>
}

export interface DockerEndpointSpec {
  networkId: string
  endpointId: string
  /** CIDRs that dockerd chose; ours to record */
  addresses: string[]
  mac?: string
  /** the user's `driver-opt=`, without those that are dockerd's own affair */
  options?: Record<string, string>
}

export interface DockerJoin {
  /** name of the link in the host's namespace that dockerd shall fetch */
  link: string
  ifnamePrefix: string
  gateway4?: string
  gateway6?: string
  routes: Route[]
  /** keep dockerd from attaching its own gateway network */
  disableGatewayService: boolean
}

export interface DockerPoolRequest {
  /** CIDR; absent: any */
  subnet?: string
  range?: string
  family: Family
  /** `--ipam-opt` */
  options: Record<string, string>
}

export interface DockerPoolGrant {
  poolId: string
  subnet: string
  /** CIDR of the gateway when the pool is that of an existing network */
  gateway?: string
}

export interface DockerAddressRequest {
  poolId: string
  /** absent: any */
  address?: string
  gateway: boolean
  /** the endpoint's name, where dockerd tells it (28.4 and later) */
  name?: string
}
