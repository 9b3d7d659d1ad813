/** The objects of the Container Network Model as they are stored and as the API shows them. Plain data: no methods, no class. */

export type Family = 4 | 6

/** Which door an object came in by: it decides who configures the sandbox and who hands out addresses. */
export type Door = 'tsnet' | 'docker'

/** A bridge of ours whose traffic the firewall decides about. */
export interface ForwardedBridge {
  name: string
  /** families in which ports are published at the host's addresses */
  published: readonly Family[]
  /** families in which endpoints are reached at their own addresses */
  direct: readonly Family[]
  /** nothing goes out, nobody outside comes in: only the doors matter */
  internal?: boolean
  doors: readonly HostDoor[]
}

/** What of a network comes to the host itself, whose firewall has to let it in. */
export interface HostDoor {
  /** `the resolver at 10.30.0.1` */
  what: string
  family: Family
  protocol: 'tcp' | 'udp'
  /** absent: many */
  port?: number
  /** the link by which it comes */
  link: string
  /** the address that it comes to; absent: one of the host's */
  address?: string
}

/** One address pool of a network. */
export interface Subnet {
  family: Family
  /** CIDR without host bits: `10.30.0.0/24` */
  subnet: string
  /** CIDR inside `subnet` from which addresses are chosen; the whole subnet when absent */
  range?: string
  /** plain address, no prefix length; absent when the network has no gateway */
  gateway?: string
  /** plain address by which this host itself is on the network, where the driver has it so (macvlan's `host_access`, overlay) */
  hostAddress?: string
  /** addresses kept out of use, by the name the user gave */
  auxAddresses: Record<string, string>
  /** the key of the pool in our IPAM */
  poolId: string
  /** who hands out addresses here: we do, or dockerd's own IPAM tells us which one it chose */
  assignedBy: Door
  /** the Docker network that brought this subnet with it; absent for the network's own */
  dockerNetworkId?: string
}

export interface Network<Options = unknown> {
  /** 64 hex digits; Docker's own id for a network made by `docker network create` */
  id: string
  name: string
  /** a row of drivers/index.ts */
  driver: string
  /** local: of this host. global: of every host with the same cluster store, under the same id and name. */
  scope: 'local' | 'global'
  /** as the driver's option table parsed them, under their short names */
  options: Options
  subnets: Subnet[]
  internal: boolean
  labels: Record<string, string>
  createdBy: Door
  /** ISO 8601 */
  createdAt: string
  /** ids of this host's Docker networks attached to this one with `-o network=NAME` */
  dockerNetworkIds: string[]
}

/** A network namespace with our links in it. Docker's containers have none of these: dockerd keeps their sandboxes. */
export interface Sandbox {
  id: string
  name: string
  /** path of the namespace: `/run/netns/NAME` when we made it, else what the user gave */
  netns: string
  /** we made the namespace, so we delete it and make it again after a reboot */
  owned: boolean
  /** made by `tsnet run --rm`: gone for good when its namespace is */
  ephemeral: boolean
  /** the namespace is another one's: nothing is connected to it or configured in it through this sandbox */
  shares?: Share
  /** where it looks for names that are not of its networks, and what it appends to short ones; absent: as the host does */
  dns?: SandboxDns
  /** of commands in it; absent: the host's */
  hostname?: string
  /** lines of /etc/hosts besides the sandbox's own */
  extraHosts?: ExtraHost[]
  createdAt: string
}

export interface SandboxDns {
  /** addresses, asked from within the sandbox; none: the host's servers */
  servers: string[]
  /** none: the host's */
  search: string[]
}

export interface ExtraHost {
  name: string
  address: string
}

/** Whose namespace a sandbox shares: the host's, that of another sandbox of ours, or that of a Docker container. */
export interface Share {
  with: 'host' | 'sandbox' | 'container'
  /** of the other sandbox or the container */
  id?: string
  name: string
  /** the container's own files, by their names in /etc */
  files?: Record<string, string>
}

export interface Route {
  /** CIDR */
  destination: string
  /** next hop; absent: on link */
  via?: string
}

/** A neighbour that nobody needs to ask for: `ip neighbour add ADDRESS lladdr MAC nud permanent`. */
export interface StaticNeighbour {
  address: string
  mac: string
}

/** As src/cnm/endpoint-options.ts reads them. */
export interface EndpointOptions {
  /** of a sandbox's gateways the one with the highest number wins */
  gw_priority: number
  /** of this endpoint's routes; 0: the kernel's own choice */
  metric: number
  /** names with IFNAME where the interface's name belongs */
  sysctls: Record<string, string>
  neighbours: StaticNeighbour[]
  /** absent in records of 0.1: true */
  anti_spoof?: boolean
  /** MAC addresses and CIDRs that it may send from besides its own; absent in records of 0.1 */
  extra_addresses?: string[]
}

export type Protocol = 'tcp' | 'udp' | 'sctp'

/** First and last port, both included. */
export interface PortRange {
  first: number
  last: number
}

/** What the user asked to publish: one `-p`. */
export interface PortSpec {
  protocol: Protocol
  /** absent: every address of the host, v4 and v6 */
  hostIp?: string
  /** absent: a free port of our choosing */
  hostPort?: PortRange
  containerPort: PortRange
  /** CIDRs of clients that may use it, and nobody else but the host itself; absent: everybody */
  from?: string[]
}

/** What is published: `size` consecutive ports of one host address to as many of one endpoint address. */
export interface PortBinding {
  protocol: Protocol
  /** `0.0.0.0` and `::` mean every address of that family */
  hostIp: string
  hostPort: number
  containerIp: string
  containerPort: number
  size: number
  /** as in the PortSpec */
  from?: string[]
  /** the PortSpec that asked for it, as `-p` writes it; absent in records of 0.1 */
  spec?: string
  /** published by `tsnet publish add`, not with the endpoint */
  live?: true
  /** no port of the host: the endpoint's own address, which is `hostIp` too, is reached there by routing */
  direct?: true
}

export interface Endpoint {
  /** 64 hex digits; Docker's own id for a container's endpoint */
  id: string
  networkId: string
  /** unique in its network: the sandbox's name, or `docker-<id12>` where dockerd tells us none */
  name: string
  createdBy: Door
  /** our sandbox's id; absent for Docker's containers */
  sandboxId?: string
  /** path of the namespace as dockerd names it, once joined */
  sandboxKey?: string
  /** CIDRs: `10.30.0.2/24` */
  addresses: string[]
  mac: string
  /** name of the link on the host's side */
  hostLink: string
  /** name of the link inside the sandbox; dockerd chooses its own */
  ifname?: string
  aliases: string[]
  routes: Route[]
  /** absent when none was given */
  options?: EndpointOptions
  /** what was asked */
  ports: PortSpec[]
  /** what is published now */
  bindings: PortBinding[]
  /** created: has its addresses. joined: is wired to a sandbox. */
  state: 'created' | 'joined'
  createdAt: string
}

/** A host of the cluster, as it says of itself. */
export interface Host {
  /** `--host-name` */
  name: string
  /** made once, kept in the state directory: tells a host from another one of the same name */
  id: string
  /** plain address at which the other hosts send it VXLAN packets; empty while it has none */
  vtep: string
  /** of tsnet */
  version: string
  /** ISO 8601; of the daemon */
  startedAt: string
}

/** What a host has of a global network besides endpoints. */
export interface Member {
  networkId: string
  /** name of the host */
  host: string
  /** the host's own addresses on the network, CIDRs; empty while nothing on the host is attached to it */
  addresses: string[]
  /** MAC address at which other hosts reach those */
  mac: string
  /** ids of the host's Docker networks attached to it */
  dockerNetworkIds: string[]
  /** who hands out the addresses of the host's containers: our IPAM, or dockerd's own, which knows of no other host */
  assignedBy: Door
}

/** An endpoint of a global network, as its host tells the others. */
export interface Peer extends Endpoint {
  /** name of the host */
  host: string
  /** the sandbox's name, or dockerd's path of the container's namespace */
  sandbox: string
}

/** What other programs may have changed, by what it is and then in words: `link br-1 was deleted`. */
export interface Touches {
  /** of the host's namespace, by name */
  links: ReadonlyMap<string, readonly string[]>
  /** those of them that are no more */
  gone: ReadonlySet<string>
  /** by network id, entries for what is on other hosts */
  entries: ReadonlyMap<string, ReadonlyMap<string, readonly string[]>>
  /** by sandbox id: in its namespace */
  sandboxes: ReadonlyMap<string, readonly string[]>
  /** news were lost: anything in the host's namespace may have changed, but for entries */
  lost: boolean
}
