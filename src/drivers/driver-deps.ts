import type { Driver, OtherHosts, Step, Touched, WantedNetwork } from '../cnm/driver.js'
import type { Endpoint, ForwardedBridge, HostDoor, Network } from '../cnm/types.js'
import type { Element } from '../firewall/elements.js'
import type { Firewall } from '../firewall/firewall.js'
import type { Flows } from '../firewall/flows.js'
import type { HostPorts } from '../firewall/host-ports.js'
import type { KernelEvent } from '../netlink/events.js'
import type { Kernel } from '../netlink/kernel.js'
import type { Link } from '../netlink/objects.js'
import type { PublishDefault } from '../ports/default.js'
import type { OtherBridges } from './other-bridges.js'

/** What drivers work with: the host's own namespace. */
export interface DriverDeps {
  kernel: Kernel
  firewall: Firewall
  /** why the firewall has no spoof guard, as the end of a sentence; undefined where it has one */
  unguarded: string | undefined
  hostPorts: HostPorts
  flows: Flows
  otherBridges: OtherBridges
  /** Where dockerd or another firewall drops what it does not know: have it accept what our rules accepted. */
  acceptForeign: () => Promise<void>
  others: OtherHosts
  /** of networks that do not say it themselves */
  publishDefault: PublishDefault
  /** Other programs' rules that drop what ours accept, from or to the network of this bridge, in words. */
  obstacles: (bridge: ForwardedBridge) => string[]
}

/** A driver as the list of drivers sees it: besides the contract, its share of what is planned for all of them together. */
export interface HostDriver<Options> extends Driver<Options> {
  /** Every difference in links, addresses and sysctls, in the order in which to remove them. `links`: all that the host has. */
  plan(wanted: readonly WantedNetwork<Options>[], links: readonly Link[]): Promise<Step[]>
  /** As `plan`, of one network, for what may have been touched of it. Absent: it has nothing here. */
  planTouched?(wanted: WantedNetwork<Options>, touched: Touched): Promise<Step[]>
  /** The host's end of an endpoint, as the kernel tells of it, is as it should be. Absent: that is not to be seen from it. */
  isRight?(network: Network<Options>, endpoint: Endpoint, link: Link): boolean
  /** Pure: the sysctls that the network needs in the host's namespace, by name. Absent: none. */
  settings?(network: Network<Options>): Record<string, string>
  /** Pure, and cheap: whether an entry has come or gone otherwise than this driver told the kernel. Absent: it tells the kernel of none. */
  doubt?(event: KernelEvent): Doubt | undefined
  /** Names of all links in the host's namespace that these networks account for. A marked link that no driver names is a leftover. */
  linkNames(wanted: readonly WantedNetwork<Options>[]): string[]
  /** Everything that the firewall should hold for these networks. Pure. */
  elements(wanted: readonly WantedNetwork<Options>[]): Element[]
  /** What of a network comes to the host itself. Absent: nothing. */
  doors?(network: Network<Options>): HostDoor[]
}

/** An entry for what is on other hosts that another program may have changed. */
export interface Doubt {
  networkId: string
  /** its MAC or plain IP address */
  entry: string
  words: string
}
