import type { ValueOf } from './codec.js'
import type { VxlanData } from './kinds.js'
import type { Address, Family, FdbEntry, Link, Neighbour, NeighbourState, Route, RouteType, Scope } from './objects.js'
import {
  addressFlags,
  type addressMessage,
  afInet,
  afInet6,
  type linkMessage,
  neighbourFlags,
  type neighbourMessage,
  neighbourStates,
  type routeMessage,
  routeTypes,
  scopes,
} from './tables.js'

// From the kernel's messages to the objects that the rest of tsnet knows.

/** IFF_UP, IFF_LOWER_UP of linux/if.h; RTNH_F_ONLINK of linux/rtnetlink.h */
const iffUp = 1
const iffLowerUp = 0x10000
const routeOnlink = 4

const wordOf = <W extends Record<string, number>>(words: W, number: number, other: keyof W): keyof W =>
  Object.keys(words).find(word => words[word] === number) ?? other

const familyOf = (af: number): Family | undefined => (af === afInet ? 4 : af === afInet6 ? 6 : undefined)

/** The row of a link's own kind, under the name of the kind. */
function kindData(info: ValueOf<typeof linkMessage>['attrs']['info']): Partial<Link> {
  switch (info?.kind) {
    case 'bridge':
      return { bridge: info.data ?? {} }
    case 'vxlan': {
      const { local6, group6, ...data } = info.data ?? {}
      const vxlan: VxlanData = data
      if (local6) vxlan.local = local6
      if (group6) vxlan.group = group6
      return { vxlan }
    }
    case 'macvlan':
      return { macvlan: info.data ?? {} }
    case 'vlan':
      return { vlan: info.data ?? {} }
    default:
      return {}
  }
}

export function parseLink({ index, flags, attrs }: ValueOf<typeof linkMessage>): Link {
  const { info } = attrs
  const link: Link = {
    index,
    name: attrs.ifname ?? '',
    up: (flags & iffUp) !== 0,
    running: (flags & iffLowerUp) !== 0,
    mtu: attrs.mtu ?? 0,
    group: attrs.group ?? 0,
    flags,
    ...kindData(info),
  }
  if (info?.kind) link.kind = info.kind
  if (attrs.address?.length === 17) link.mac = attrs.address
  if (attrs.master) link.master = attrs.master
  if (attrs.ifalias) link.alias = attrs.ifalias
  if (attrs.link) link.peerIndex = attrs.link
  if (attrs.linkNetnsid !== undefined) link.peerNetnsid = attrs.linkNetnsid
  if (info?.slaveData) link.port = info.slaveData
  const { inet, inet6 } = attrs.afSpec ?? {}
  if (inet6?.addrGenMode) link.addrGenMode = inet6.addrGenMode
  if (inet?.conf || inet6?.conf) link.settings = { ...inet?.conf, ...inet6?.conf }
  return link
}

export function parseAddress(message: ValueOf<typeof addressMessage>): Address | undefined {
  const { index, prefixLength, attrs } = message
  const family = familyOf(message.family)
  // IPv4 has its own address in `local`; so has IPv6 only where there is a peer.
  const address = attrs.local ?? attrs.address
  if (!family || !address) return undefined
  const flags = attrs.flags ?? message.flags
  const parsed: Address = {
    index,
    family,
    address: `${address}/${prefixLength}`,
    scope: wordOf(scopes, message.scope, 'global') as Scope,
    flags,
    permanent: (flags & addressFlags.permanent) !== 0,
    deprecated: (flags & addressFlags.deprecated) !== 0,
    tentative: (flags & addressFlags.tentative) !== 0,
    dadFailed: (flags & addressFlags.dadFailed) !== 0,
  }
  if (attrs.address && attrs.address !== address) parsed.peer = attrs.address
  if (attrs.broadcast) parsed.broadcast = attrs.broadcast
  if (attrs.label) parsed.label = attrs.label
  return parsed
}

export function parseRoute(message: ValueOf<typeof routeMessage>): Route | undefined {
  const { attrs } = message
  const family = familyOf(message.family)
  if (!family) return undefined
  const route: Route = {
    family,
    destination: `${attrs.dst ?? (family === 4 ? '0.0.0.0' : '::')}/${message.destinationLength}`,
    type: wordOf(routeTypes, message.type, 'unspec') as RouteType,
    scope: wordOf(scopes, message.scope, 'global') as Scope,
    protocol: message.protocol,
    metric: attrs.priority ?? 0,
    table: attrs.table ?? message.table,
    onlink: (message.flags & routeOnlink) !== 0,
  }
  if (attrs.gateway) route.via = attrs.gateway
  if (attrs.oif) route.index = attrs.oif
  if (attrs.prefsrc) route.source = attrs.prefsrc
  if (attrs.metrics?.mtu) route.mtu = attrs.metrics.mtu
  return route
}

export function parseNeighbour(message: ValueOf<typeof neighbourMessage>): Neighbour | undefined {
  const { index, flags, attrs } = message
  const family = familyOf(message.family)
  if (!family || !attrs.dst) return undefined
  const neighbour: Neighbour = {
    index,
    family,
    address: attrs.dst,
    state: wordOf(neighbourStates, message.state, 'none') as NeighbourState,
    router: (flags & neighbourFlags.router) !== 0,
    proxy: (flags & neighbourFlags.proxy) !== 0,
    externLearned: (flags & neighbourFlags.externLearned) !== 0,
  }
  if (attrs.lladdr) neighbour.mac = attrs.lladdr
  if (attrs.protocol) neighbour.protocol = attrs.protocol
  return neighbour
}

/** As `bridge fdb show` names ndm_state. */
const fdbState = (state: number): FdbEntry['state'] =>
  state & neighbourStates.permanent ? 'permanent' : state & neighbourStates.noarp ? 'static' : 'dynamic'

export function parseFdb({ index, state, flags, attrs }: ValueOf<typeof neighbourMessage>): FdbEntry | undefined {
  if (!attrs.lladdr) return undefined
  const entry: FdbEntry = {
    index,
    mac: attrs.lladdr,
    self: (flags & neighbourFlags.self) !== 0,
    state: fdbState(state),
    externLearned: (flags & neighbourFlags.externLearned) !== 0,
  }
  if (attrs.master) entry.master = attrs.master
  if (attrs.dst) entry.dst = attrs.dst
  if (attrs.port) entry.port = attrs.port
  if (attrs.vni !== undefined) entry.vni = attrs.vni
  if (attrs.ifindex) entry.via = attrs.ifindex
  if (attrs.vlan) entry.vlan = attrs.vlan
  return entry
}
