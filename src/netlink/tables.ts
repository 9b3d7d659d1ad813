import { ip, mac } from './address-codecs.js'
import { asciiz, attr, be16, choice, i32, list, message, nest, pad, struct, table, u8, u16, u32 } from './codec.js'
import { bridgePort, ifinfomsg, info } from './kinds.js'

// The messages of rtnetlink(7). Keys are the kernel's names without their prefix.

/** AF_*: what `family` says in every header. */
export const afUnspec = 0
export const afInet = 2
export const afBridge = 7
export const afInet6 = 10

/** IPV4_DEVCONF_*, linux/ip.h */
const ip4Settings = table('inet settings', { arpNotify: attr(22, u32) })
/** IFLA_INET_CONF: each setting an attribute where it is sent; told, all of them are an array, from number 1 on. */
const ip4Conf: typeof ip4Settings = {
  put: ip4Settings.put,
  get: struct([
    ['_before', pad(21 * u32.size)],
    ['arpNotify', u32],
  ]).get,
}
/** IFLA_INET6_CONF, which is only told: an array by DEVCONF_*, linux/ipv6.h */
const ip6Conf = struct([
  ['_before', pad(26 * i32.size)],
  ['disableIpv6', i32],
  ['acceptDad', i32],
  ['_forceTllao', pad(i32.size)],
  ['ndiscNotify', i32],
])

/** IFLA_AF_SPEC by family; IFLA_INET_*, IFLA_INET6_* of linux/if_link.h */
const afSpec = table('afSpec', {
  inet: nest(afInet, table('inet', { conf: nest(1, ip4Conf) })),
  inet6: nest(
    afInet6,
    table('inet6', {
      conf: attr(2, ip6Conf),
      addrGenMode: attr(8, choice(u8, { eui64: 0, none: 1, 'stable-privacy': 2, random: 3 }, 'eui64')),
    }),
  ),
})

/** IFLA_*, linux/if_link.h */
export const linkMessage = message(
  ifinfomsg,
  table('link', {
    address: attr(1, mac),
    broadcast: attr(2, mac),
    ifname: attr(3, asciiz),
    mtu: attr(4, u32),
    link: attr(5, u32),
    master: attr(10, u32),
    txqlen: attr(13, u32),
    operstate: attr(16, u8),
    info: nest(18, info),
    ifalias: attr(20, asciiz),
    afSpec: nest(26, afSpec),
    group: attr(27, u32),
    netNsFd: attr(28, u32),
    extMask: attr(29, u32),
    linkNetnsid: attr(37, i32),
    propList: nest(53, list(54, asciiz)),
  }),
)

/** Of all that there is to tell of a link, whose it is. */
export const linkMarkMessage = message(ifinfomsg, table('link', { ifalias: attr(20, asciiz), group: attr(27, u32) }))

/** `bridge link set`: the same header, with the port's settings in IFLA_PROTINFO (AF_BRIDGE only) */
export const bridgePortMessage = message(ifinfomsg, table('bridge link', { protinfo: nest(12, bridgePort) }))

/** struct ifaddrmsg and IFA_*, linux/if_addr.h */
export const addressMessage = message(
  struct([
    ['family', u8],
    ['prefixLength', u8],
    ['flags', u8],
    ['scope', u8],
    ['index', u32],
  ]),
  table('address', {
    address: attr(1, ip),
    local: attr(2, ip),
    label: attr(3, asciiz),
    broadcast: attr(4, ip),
    /** ifa_prefered, ifa_valid, and two time stamps */
    cacheinfo: attr(
      6,
      struct([
        ['preferred', u32],
        ['valid', u32],
        ['created', u32],
        ['updated', u32],
      ]),
    ),
    /** all 32 bits, of which the header has 8 */
    flags: attr(8, u32),
  }),
)

/** RTAX_*, linux/rtnetlink.h */
const routeMetrics = table('route metrics', { mtu: attr(2, u32), advmss: attr(8, u32), hoplimit: attr(10, u32) })

/** struct rtmsg and RTA_*, linux/rtnetlink.h */
export const routeMessage = message(
  struct([
    ['family', u8],
    ['destinationLength', u8],
    ['sourceLength', u8],
    ['tos', u8],
    ['table', u8],
    ['protocol', u8],
    ['scope', u8],
    ['type', u8],
    ['flags', u32],
  ]),
  table('route', {
    dst: attr(1, ip),
    oif: attr(4, u32),
    gateway: attr(5, ip),
    priority: attr(6, u32),
    prefsrc: attr(7, ip),
    metrics: nest(8, routeMetrics),
    /** all 32 bits, of which the header has 8 */
    table: attr(15, u32),
  }),
)

/** struct ndmsg and NDA_*, linux/neighbour.h: neighbours, and the forwarding entries of bridges and vxlans (AF_BRIDGE) */
export const neighbourMessage = message(
  struct([
    ['family', u8],
    ['_pad', pad(3)],
    ['index', i32],
    ['state', u16],
    ['flags', u8],
    ['type', u8],
  ]),
  table('neighbour', {
    dst: attr(1, ip),
    lladdr: attr(2, mac),
    vlan: attr(5, u16),
    port: attr(6, be16),
    vni: attr(7, u32),
    ifindex: attr(8, u32),
    master: attr(9, u32),
    linkNetnsid: attr(10, i32),
    /** who made it, RTPROT_*; of neighbours, not of forwarding entries */
    protocol: attr(12, u8),
  }),
)

/** struct netconfmsg and NETCONFA_*, linux/netconf.h: which link's sysctls have changed; -1 stands for all links */
export const settingsMessage = message(
  struct([
    ['family', u8],
    ['_pad', pad(3)],
  ]),
  table('settings', { index: attr(1, i32) }),
)

/** RT_SCOPE_*, linux/rtnetlink.h: of addresses and routes */
export const scopes = { global: 0, site: 200, link: 253, host: 254, nowhere: 255 } as const

/** RTN_*, linux/rtnetlink.h */
export const routeTypes = {
  unspec: 0,
  unicast: 1,
  local: 2,
  broadcast: 3,
  anycast: 4,
  multicast: 5,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
  throw: 9,
  nat: 10,
} as const

/** IFA_F_*, linux/if_addr.h */
export const addressFlags = {
  temporary: 0x01,
  noDad: 0x02,
  dadFailed: 0x08,
  deprecated: 0x20,
  tentative: 0x40,
  permanent: 0x80,
  noPrefixRoute: 0x200,
} as const

/** NUD_*, linux/neighbour.h */
export const neighbourStates = {
  none: 0,
  incomplete: 0x01,
  reachable: 0x02,
  stale: 0x04,
  delay: 0x08,
  probe: 0x10,
  failed: 0x20,
  noarp: 0x40,
  permanent: 0x80,
} as const

/** NTF_*, linux/neighbour.h */
export const neighbourFlags = { self: 0x02, master: 0x04, proxy: 0x08, externLearned: 0x10, router: 0x80 } as const
