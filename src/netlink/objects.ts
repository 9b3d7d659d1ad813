import type { Family } from '../cnm/types.js'
import type { BridgeData, BridgePortData, MacvlanData, VlanData, VxlanData } from './kinds.js'
import type { neighbourStates, routeTypes, scopes } from './tables.js'

export type { Family }

/** The kinds of link that this layer can create; a listed link may be of any other kind (its `data` is then absent). */
export type LinkKind = 'bridge' | 'veth' | 'vxlan' | 'macvlan' | 'vlan'

/** One link, as `ip -d link show` reports it. */
export interface Link {
  index: number
  name: string
  /** what `ip link add type` calls it; absent for hardware and loopback */
  kind?: string
  /** administratively up (IFF_UP) */
  up: boolean
  /** up and with carrier (IFF_LOWER_UP) */
  running: boolean
  mtu: number
  /** `02:42:ac:11:00:02`; absent for links without a 6 byte address */
  mac?: string
  /** index of the bridge that this link is a port of */
  master?: number
  alias?: string
  group: number
  /** index of the other end: a veth's peer, the parent of a vlan or macvlan; in `peerNetnsid` when that is present */
  peerIndex?: number
  /** the id that this namespace has for the namespace of the other end */
  peerNetnsid?: number
  /** IFF_* */
  flags: number
  bridge?: BridgeData
  vxlan?: VxlanData
  macvlan?: MacvlanData
  vlan?: VlanData
  /** what the bridge keeps about this link, when it is a bridge port */
  port?: BridgePortData
  addrGenMode?: AddrGenMode
  /** those of its sysctls that we look at; without IPv6 in the kernel there are none of IPv6 */
  settings?: LinkSettings
}

/** net.ipv4.conf.LINK.arp_notify; net.ipv6.conf.LINK.disable_ipv6, accept_dad, ndisc_notify */
export interface LinkSettings {
  arpNotify?: number | undefined
  disableIpv6?: number
  acceptDad?: number
  ndiscNotify?: number
}

/** How the kernel makes the IPv6 link-local address: `none` makes none. IN6_ADDR_GEN_MODE_* of linux/if_link.h */
export type AddrGenMode = 'eui64' | 'none' | 'stable-privacy' | 'random'

export type Scope = keyof typeof scopes

/** One address, as `ip addr show` reports it. */
export interface Address {
  index: number
  family: Family
  /** `10.30.0.2/24` */
  address: string
  /** the other end's address, on a point to point link */
  peer?: string
  broadcast?: string
  label?: string
  scope: Scope
  /** IFA_F_* of linux/if_addr.h */
  flags: number
  permanent: boolean
  /** IPv6: chosen as a source only where there is no other */
  deprecated: boolean
  /** IPv6: duplicate address detection has not finished */
  tentative: boolean
  /** IPv6: duplicate address detection found another owner */
  dadFailed: boolean
}

export type RouteType = keyof typeof routeTypes

/** One route, as `ip route show` reports it. */
export interface Route {
  family: Family
  /** CIDR; `0.0.0.0/0` and `::/0` are the default routes */
  destination: string
  via?: string
  /** index of the link packets leave by */
  index?: number
  /** preferred source address */
  source?: string
  type: RouteType
  scope: Scope
  /** RTPROT_* or our own number, see /etc/iproute2/rt_protos */
  protocol: number
  metric: number
  table: number
  onlink: boolean
  mtu?: number
}

export type NeighbourState = keyof typeof neighbourStates

/** One neighbour, as `ip neigh show` reports it. */
export interface Neighbour {
  index: number
  family: Family
  address: string
  mac?: string
  state: NeighbourState
  router: boolean
  /** a proxy entry: this host answers for the address */
  proxy: boolean
  externLearned: boolean
  /** who made it: RTPROT_* or our own number; absent for the kernel's own and for whoever does not say */
  protocol?: number
}

/** One forwarding entry of a bridge or a vxlan, as `bridge fdb show` reports it. */
export interface FdbEntry {
  /** the bridge port, the bridge itself, or the vxlan */
  index: number
  mac: string
  /** the bridge that holds the entry; absent when the link itself does (`self`) */
  master?: number
  /** the entry is the link's own (a vxlan's remote, a NIC's filter), not its bridge's */
  self: boolean
  /** vxlan: address of the remote vtep */
  dst?: string
  /** vxlan: UDP port of the remote vtep, when not the device's own */
  port?: number
  /** vxlan: network id at the remote vtep, when not the device's own */
  vni?: number
  /** vxlan: index of the link that leads to the remote vtep */
  via?: number
  vlan?: number
  /** `permanent` is the bridge's own address (never forwarded to), `static` never ages, `dynamic` was learnt */
  state: 'permanent' | 'static' | 'dynamic'
  externLearned: boolean
}
