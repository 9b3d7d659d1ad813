import { ip4, ip6, mac } from './address-codecs.js'
import {
  type AttrsOf,
  asciiz,
  attr,
  be16,
  be32,
  bool8,
  bool32,
  choice,
  flag,
  i32,
  linkInfo,
  map,
  message,
  nest,
  pad,
  type Rows,
  struct,
  table,
  u8,
  u16,
  u32,
} from './codec.js'

// One table a kind of link: what stands in IFLA_INFO_DATA. Keys are the kernel's names without their prefix.

/** The kernel counts bridge times in hundredths of a second (USER_HZ). */
const seconds = map(
  u32,
  (s: number) => Math.round(s * 100),
  ticks => ticks / 100,
)

/** IFLA_BR_*, linux/if_link.h. Times are in seconds. */
const bridgeRows = {
  forwardDelay: attr(1, seconds),
  helloTime: attr(2, seconds),
  maxAge: attr(3, seconds),
  ageingTime: attr(4, seconds),
  stpState: attr(5, bool32),
  priority: attr(6, u16),
  vlanFiltering: attr(7, bool8),
  groupFwdMask: attr(9, u16),
  mcastRouter: attr(22, u8),
  mcastSnooping: attr(23, bool8),
  mcastQuerier: attr(25, bool8),
  nfCallIptables: attr(36, bool8),
  nfCallIp6tables: attr(37, bool8),
  nfCallArptables: attr(38, bool8),
  vlanDefaultPvid: attr(39, u16),
} satisfies Rows
export type BridgeData = AttrsOf<typeof bridgeRows>

/** IFLA_BRPORT_*, linux/if_link.h: what a bridge keeps about one of its ports. */
const bridgePortRows = {
  state: attr(1, choice(u8, { disabled: 0, listening: 1, learning: 2, forwarding: 3, blocking: 4 }, 'disabled')),
  priority: attr(2, u16),
  cost: attr(3, u32),
  hairpin: attr(4, bool8),
  guard: attr(5, bool8),
  rootBlock: attr(6, bool8),
  fastLeave: attr(7, bool8),
  learning: attr(8, bool8),
  /** flood unicast frames with an unknown destination to this port (`flood` to ip) */
  unicastFlood: attr(9, bool8),
  proxyarp: attr(10, bool8),
  proxyarpWifi: attr(12, bool8),
  mcastFlood: attr(27, bool8),
  mcastToUcast: attr(28, bool8),
  vlanTunnel: attr(29, bool8),
  bcastFlood: attr(30, bool8),
  groupFwdMask: attr(31, u16),
  neighSuppress: attr(32, bool8),
  isolated: attr(33, bool8),
  locked: attr(39, bool8),
} satisfies Rows
export type BridgePortData = AttrsOf<typeof bridgePortRows>

/** IFLA_VXLAN_*, linux/if_link.h. `group` is the default remote, unicast or multicast; an address's family chooses its row. */
const vxlanRows = {
  id: attr(1, u32),
  group: attr(2, ip4),
  /** index of the link that carries the tunnel */
  parent: attr(3, u32),
  local: attr(4, ip4),
  ttl: attr(5, u8),
  tos: attr(6, u8),
  learning: attr(7, bool8),
  /** seconds */
  ageing: attr(8, u32),
  limit: attr(9, u32),
  proxy: attr(11, bool8),
  rsc: attr(12, bool8),
  l2miss: attr(13, bool8),
  l3miss: attr(14, bool8),
  port: attr(15, be16),
  group6: attr(16, ip6),
  local6: attr(17, ip6),
  udpCsum: attr(18, bool8),
  udpZeroCsum6Tx: attr(19, bool8),
  udpZeroCsum6Rx: attr(20, bool8),
  gbp: attr(23, flag),
  collectMetadata: attr(25, bool8),
  label: attr(26, be32),
} satisfies Rows
/** As the rows, but `local` and `group` are of either family: link-requests.ts and links.ts choose the row. */
export type VxlanData = Omit<AttrsOf<typeof vxlanRows>, 'local6' | 'group6'>

/** IFLA_MACVLAN_*, linux/if_link.h */
const macvlanRows = {
  mode: attr(1, choice(u32, { private: 1, vepa: 2, bridge: 4, passthru: 8, source: 16 }, 'private')),
  /** MACVLAN_FLAG_NOPROMISC 1, MACVLAN_FLAG_NODST 2 */
  flags: attr(2, u16),
  bcQueueLen: attr(7, u32),
} satisfies Rows
export type MacvlanData = AttrsOf<typeof macvlanRows>

/** IFLA_VLAN_*, linux/if_link.h */
const vlanRows = {
  id: attr(1, u16),
  protocol: attr(5, choice(be16, { '802.1Q': 0x8100, '802.1ad': 0x88a8 }, '802.1Q')),
} satisfies Rows
export type VlanData = AttrsOf<typeof vlanRows>

/** struct ifinfomsg, linux/rtnetlink.h */
export const ifinfomsg = struct([
  ['family', u8],
  ['_pad', pad(1)],
  ['type', u16],
  ['index', i32],
  ['flags', u32],
  ['change', u32],
])

/** What a veth's peer is made with: IFLA_* of linux/if_link.h */
export const vethPeer = message(
  ifinfomsg,
  table('veth peer', {
    address: attr(1, mac),
    ifname: attr(3, asciiz),
    mtu: attr(4, u32),
    group: attr(27, u32),
    netNsFd: attr(28, u32),
  }),
)

export const bridge = table('bridge', bridgeRows)
export const bridgePort = table('bridge port', bridgePortRows)
export const vxlan = table('vxlan', vxlanRows)
export const macvlan = table('macvlan', macvlanRows)
export const vlan = table('vlan', vlanRows)
/** VETH_INFO_PEER of linux/veth.h holds a whole link message; the kernel wants it without NLA_F_NESTED or with, alike. */
export const veth = table('veth', { peer: nest(1, vethPeer) })

export const info = linkInfo({ bridge, veth, vxlan, macvlan, vlan }, { bridge: bridgePort })
