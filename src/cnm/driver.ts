import type { OptionHelp } from '../options.js'
import type {
  Endpoint,
  Family,
  ForwardedBridge,
  Member,
  Network,
  PortBinding,
  PortSpec,
  Route,
  Sandbox,
  StaticNeighbour,
} from './types.js'

/** One difference between what should be and what is, and how to remove it. `tsnet reconcile --dry-run` prints the words. */
export interface Step {
  /** `create bridge br-4f1c09d2ab17 of network web` */
  words: string
  apply(): unknown
}

/** Where the sandbox's end of an endpoint goes. Docker's containers have no place: dockerd fetches the link from the host. */
export interface Place {
  /** path of the namespace */
  netns: string
  /** name of the link in there */
  ifname: string
}

/** What a sandbox has to know of an endpoint to use it. */
export interface Attachment {
  /** the link's name in the sandbox's namespace, or in the host's when there is no place */
  link: string
  /** absent: as the link was made */
  mtu?: number
  gateways: Partial<Record<Family, string>>
  routes: Route[]
  /** The driver tells the neighbours who has the addresses now (`Driver.announce`); else the kernel is asked to. */
  announced?: true
}

/** Bindings of an endpoint that end because others take their host ports. */
export interface Loss {
  network: Network
  endpoint: Endpoint
  /** some of the endpoint's own */
  bindings: readonly PortBinding[]
}

/** Who has to give way to these. */
export type Replaced = (granted: readonly PortBinding[]) => readonly Loss[]

/** What the host itself has to do with a network's addresses. */
export interface HostAddresses {
  /** what to call the link that has `present`: `eth0` */
  link: string
  /** plain addresses that the host has on the network's segment already: nobody else may get them */
  present: string[]
  /** the host needs an address of its own in every subnet */
  wanted: boolean
}

export interface Wiring {
  endpoint: Endpoint
  place?: Place
}

/** What is behind another host's VTEP: one MAC address and the plain addresses that it answers to. */
export interface Remote {
  mac: string
  addresses: readonly string[]
  vtep: string
}

/** What drivers of global networks know of the other hosts. */
export interface OtherHosts {
  /** this host's name, by which hostMacOf (src/names.ts) knows it */
  readonly host: string
  /** plain address of this host for the others, and the link that has it. @throws {NetError} Unavailable: there is none now */
  underlay(): { vtep: string; link: string }
  /**
   * Everything of the network on other hosts, in the order in which it came to be: of two that have one address the later has it.
   * Undefined while the cluster store has not told it yet: leave what is there.
   */
  remotes(networkId: string): readonly Remote[] | undefined
  /** VTEPs of the other hosts on the network, for what has to reach all of them. */
  vteps(networkId: string): readonly string[]
}

/**
 * What `tsnet overlay verify` looks at on a host: the links of the network, their MTU, forwarding and neighbour entries for
 * what is on other hosts, and whether the other hosts' own addresses answer.
 */
export type OverlayCheck = 'links' | 'mtu' | 'fdb' | 'neighbours' | 'reach'

/** What other hosts have of a network. */
export interface OthersOnNetwork {
  remotes: readonly Remote[]
  members: readonly Member[]
}

/** One thing that is wrong. */
export interface Finding {
  check: OverlayCheck
  /** `forwarding entry of 02:42:0a:32:00:07 goes to 192.0.2.3 instead of 192.0.2.2` */
  words: string
}

/** What a host finds wrong about a network. */
export interface Findings {
  /** what was looked at: nothing where the network is not in use on the host */
  checked: OverlayCheck[]
  found: Finding[]
}

/** A network with everything that should be attached to it. */
export interface WantedNetwork<Options = unknown> {
  network: Network<Options>
  endpoints: Wiring[]
}

/**
 * What a kind of network must be able to do. Every verb states an end, not a step: called again with the same
 * arguments it changes nothing. None takes a lock: the controller holds the network's.
 */
export interface Driver<Options = unknown> {
  readonly scope: 'local' | 'global'
  /**
   * own: a network's segment is made for it. Its subnet is its alone, and its gateway is ours: the first address, unless
   * one is given. lan: the segment is there without us. Other networks, and the host, may be on it with the same subnet,
   * and a gateway is somebody else's router: there is none unless given.
   */
  readonly segment: 'own' | 'lan'
  /**
   * There is one network of this kind, under the driver's name, from the first start on: nobody makes or removes one, and
   * no sandbox is attached to it. The text says what to do instead.
   */
  readonly fixed?: string
  /** Pure. @throws {NetError} InvalidParameter: unknown key (naming the nearest), or a value that its row does not allow */
  parseOptions(raw: Readonly<Record<string, string>>): Options
  /** Rows for help texts and documents: short name, Docker's name, default, help. */
  optionHelp(): OptionHelp[]
  /** Choose what the options leave to us and no two networks may share, at random: asked again when another host has it. Absent: nothing. */
  settle?(network: Network<Options>): Network<Options>
  /** Pure: names for what no two networks of the cluster may share, as settled: `vni/4100`. */
  unique?(network: Network<Options>): string[]
  /** Refuse what cannot work, before anything is made. `others` are the networks of this driver. */
  validate(network: Network<Options>, others: readonly Network<Options>[]): void
  /** Pure. Whether the network has a gateway where none is asked for. Absent: as `segment` has it. */
  hasGateway?(network: Pick<Network<Options>, 'options' | 'internal'>, family: Family): boolean
  /** Absent: nothing. Asked after `validate`, before the network is made. */
  hostAddresses?(network: Network<Options>): HostAddresses
  /** `before`: what the network was until now; what that had and the network has no more is deleted. */
  ensureNetwork(network: Network<Options>, before?: Network<Options>): Promise<void>
  /** `others` are the networks of this driver: what they use too stays. */
  deleteNetwork(network: Network<Options>, others: readonly Network<Options>[]): Promise<void>
  /** Make the endpoint's links, and the sandbox's end in its place. */
  join(network: Network<Options>, wiring: Wiring): Promise<void>
  /**
   * The sandbox's end has come up: let it be reached at once, by those too who remember another's MAC address for its addresses.
   * Absent: the kernel sees to that.
   */
  announce?(network: Network<Options>, endpoint: Endpoint): void
  /** What of the network is not as it was meant on this host, in words. Absent: nothing. */
  notes?(network: Network<Options>): string[]
  /** `eth`: what names of links inside start with, unless the user chose one. */
  ifnamePrefix(network: Network<Options>): string
  /** Pure. */
  attachment(network: Network<Options>, endpoint: Endpoint): Attachment
  /** The endpoint's links are gone, and with them what dockerd had put into the container: nobody can make them again. */
  isLost(endpoint: Endpoint): boolean
  /** What `join` made, wherever it is now. Absent is fine, the namespace included. */
  deleteEndpoint(network: Network<Options>, wiring: Wiring): Promise<void>
  /**
   * Make ports of an endpoint reachable from outside, besides those that are; returns what was granted. `replaced` is told
   * what that will be, and returns bindings, of any endpoint, that end in the same moment; if it throws, nothing happens.
   * Absent: this kind of network publishes nothing.
   */
  publish?(
    network: Network<Options>,
    endpoint: Endpoint,
    ports: readonly PortSpec[],
    replaced?: Replaced,
  ): Promise<PortBinding[]>
  /** End these bindings of the endpoint: nothing new comes by them. Absent is fine. */
  revoke?(network: Network<Options>, endpoint: Endpoint, bindings: readonly PortBinding[]): Promise<void>
  /** End the connections that came by bindings that are revoked. Never throws. */
  endFlows?(network: Network<Options>, bindings: readonly PortBinding[]): Promise<void>
  /** These very bindings, which the endpoint has had: after a `revoke` that was followed by a failure. Present is fine. */
  republish?(network: Network<Options>, endpoint: Endpoint, bindings: readonly PortBinding[]): Promise<void>
  /** What is on other hosts has changed: all of it, or as much as differs. Fine where the network's links are not there: ensureNetwork asks for all of it. A promise where it takes a while. */
  updateRemotes?(
    network: Network<Options>,
    before: readonly Remote[],
    after: readonly Remote[],
  ): Promise<void> | undefined
  /**
   * Compare what this host should have of the network with what the kernel has, and try to reach the other hosts; changes
   * nothing. `others` is everything on other hosts, as the cluster's store has it at this moment.
   */
  verify?(wanted: WantedNetwork<Options>, others: OthersOnNetwork): Promise<Findings>
}

/** What another program may have changed of a network, in the host's namespace. */
export interface Touched {
  /** names of links: they, or their addresses, routes or settings */
  links: ReadonlySet<string>
  /** sysctls, of whatever link */
  settings: boolean
  /** MAC and plain IP addresses of what is on other hosts, whose entries may be wrong */
  entries: ReadonlySet<string>
}

/** All kinds of network together. */
export interface Drivers {
  /** @throws {NetError} InvalidParameter for a name that no driver has */
  get(type: string): Driver
  /** Names of the drivers that are `fixed`. */
  fixed(): string[]
  /** Every difference between what is wanted and what the kernel and the firewall have, in the order in which to remove them. */
  plan(wanted: readonly WantedNetwork[]): Promise<Step[]>
  /** The same for what may have been touched of one network, looking at nothing else. */
  planTouched(wanted: WantedNetwork, touched: Touched): Promise<Step[]>
  /** Sysctls are as the network needs them: the kernel tells nobody when one is changed. */
  hasSettings(network: Network): boolean
  /** The firewall's share of that. */
  planFirewall(wanted: readonly WantedNetwork[]): Promise<Step[]>
  /** Pure: names of all links in the host's namespace that these networks account for. */
  linkNames(wanted: readonly WantedNetwork[]): string[]
  /** Pure: the bridges whose traffic the firewall decides about. */
  bridges(wanted: readonly WantedNetwork[]): ForwardedBridge[]
  /** What of a network is not as it was meant on this host, in words. */
  notes(network: Network): string[]
  /** Other programs' rules that drop what ours accept, in words; as of the last look at them. */
  obstacles(wanted: WantedNetwork): string[]
  /** There is a link by this name in the host's namespace now. */
  hasLink(name: string): boolean
}

/** What a sandbox's namespace should hold of ours. */
export interface WantedSandbox {
  sandbox: Sandbox
  links: SandboxLink[]
  /** name of a link of ours that is about to go: its routes go first */
  leaving?: string
  /** the default routes: at most one a family */
  gateways: Partial<Record<Family, { via: string; ifname: string }>>
}

export interface SandboxLink {
  ifname: string
  mac: string
  /** absent: as the link was made */
  mtu?: number
  /** CIDRs */
  addresses: string[]
  /** as of an `Attachment` */
  announced?: true
  routes: Route[]
  /** of the routes, the default route among them; the kernel's own choice when absent */
  metric?: number
  /** names with IFNAME where the link's name belongs: `net.ipv4.conf.IFNAME.rp_filter` */
  sysctls: Record<string, string>
  neighbours: StaticNeighbour[]
}

/** Namespaces and what is inside them. Links arrive there by a driver's join; everything else about them is done here. */
export interface Namespaces {
  /** Where a namespace of ours by this name is: `/run/netns/NAME`. */
  pathOf(name: string): string
  /** There is a network namespace at this path now. */
  exists(path: string): boolean
  /** @throws {NetError} NotFound or InvalidParameter: there is no network namespace at this path */
  check(path: string): void
  /** @throws {NetError} Conflict: the name is taken by a namespace of somebody else */
  create(sandbox: Sandbox): void
  /** Absent is fine. */
  delete(sandbox: Sandbox): void
  /** `eth0`, or the next number that no link in the namespace has. */
  freeLinkName(path: string, prefix: string): string
  hasLink(path: string, ifname: string): boolean
  /** How the inside differs; undefined: there is no network namespace. */
  compare(wanted: WantedSandbox): InsideDifference | undefined
  /** Plan and carry out at once. */
  apply(wanted: WantedSandbox): void
  /** Set up the link of this MAC address where somebody else does all the rest; fine if there is none. */
  adjust(path: string, mac: string, how: Pick<SandboxLink, 'sysctls' | 'neighbours'>): void
  /** Equal for two paths of one namespace. @throws {NetError} as `check` does */
  identity(path: string): string
}

/** Nothing in it: all is right. */
export interface InsideDifference {
  /** links that are not there, by name: as long as there are some, nothing else is compared */
  missing: readonly string[]
  step?: Step
}

/** Another engine's containers, by name. */
export interface Containers {
  /**
   * The namespace of a running container.
   * @throws {NetError} NotFound, Conflict (it does not run), Unavailable (the engine does not answer)
   */
  find(ref: string): Promise<Container>
}

export interface Container {
  id: string
  name: string
  /** path of its namespace */
  netns: string
  /** paths of its own files, by their names in /etc */
  files: Record<string, string>
}
