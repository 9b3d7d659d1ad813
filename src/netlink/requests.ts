import { invalid } from '../errors.js'
import type { ValueOf } from './codec.js'
import type { FdbEntry, NeighbourState, RouteType, Scope } from './objects.js'
import { afOf, familyOf, parsePrefix } from './prefix.js'
import { checkIndex, checkMac, nlm, type Request, request, rtm, words } from './request.js'
import {
  addressFlags,
  addressMessage,
  afBridge,
  neighbourFlags,
  neighbourMessage,
  neighbourStates,
  routeMessage,
  routeTypes,
  scopes,
} from './tables.js'

// What the kernel can be asked to do. Every verb is pure: it returns requests, and Kernel.apply sends them.

export * from './link-requests.js'
export { type Request, type Requests, tolerant } from './request.js'

export interface AddressSpec {
  index: number
  /** `10.30.0.2/24` */
  address: string
  /** `host` for 127.0.0.0/8 and ::1, else `global` */
  scope?: Scope
  /** IPv4, none unless given: `10.30.0.255` */
  broadcast?: string
  /** IPv6: no source for what does not ask for it by name */
  deprecated?: boolean
  /** IPv6: usable at once, without duplicate address detection */
  noDad?: boolean
  /** do not make the route to the address's own subnet */
  noPrefixRoute?: boolean
}

/** INFINITY_LIFE_TIME, net/if_inet6.h */
const forever = 0xffff_ffff

function addressRequest(verb: string, type: number, flags: number, spec: AddressSpec): Request {
  const { family, address, length } = parsePrefix(spec.address)
  const loopback = family === 4 ? address.startsWith('127.') : address === '::1'
  const op = words(`ip address ${verb} ${spec.address}`, {
    dev: checkIndex(spec.index),
    broadcast: spec.broadcast,
    scope: spec.scope,
    preferred_lft: spec.deprecated ? 0 : undefined,
    nodad: spec.noDad,
    noprefixroute: spec.noPrefixRoute,
  })
  const bits = (spec.noDad ? addressFlags.noDad : 0) | (spec.noPrefixRoute ? addressFlags.noPrefixRoute : 0)
  return request(op, type, flags, addressMessage, {
    family: afOf(family),
    prefixLength: length,
    flags: 0,
    scope: scopes[spec.scope ?? (loopback ? 'host' : 'global')],
    index: spec.index,
    attrs: {
      local: address,
      address,
      broadcast: spec.broadcast,
      flags: bits || undefined,
      cacheinfo: spec.deprecated ? { preferred: 0, valid: forever, created: 0, updated: 0 } : undefined,
    },
  })
}

/** `ip address add 10.30.0.2/24 dev INDEX [broadcast A] [preferred_lft 0] [nodad]`. EEXIST when it is there. */
export const addressAdd = (spec: AddressSpec): Request =>
  addressRequest('add', rtm.newAddress, nlm.create | nlm.exclusive, spec)

/** `ip address replace 10.30.0.2/24 dev INDEX` */
export const addressReplace = (spec: AddressSpec): Request =>
  addressRequest('replace', rtm.newAddress, nlm.create | nlm.replace, spec)

/** `ip address delete 10.30.0.2/24 dev INDEX`. EADDRNOTAVAIL when absent. */
export const addressDelete = ({ index, address }: { index: number; address: string }): Request =>
  addressRequest('delete', rtm.deleteAddress, 0, { index, address })

export interface RouteSpec {
  /** CIDR without host bits; `0.0.0.0/0` and `::/0` are the default routes */
  destination: string
  via?: string
  index?: number
  /** preferred source address */
  source?: string
  /** `unicast` unless given */
  type?: RouteType
  /** as `ip` chooses unless given: `global` with a gateway, `link` without, `host` for local routes */
  scope?: Scope
  /** who made the route; RTPROT_BOOT (3) unless given, as `ip` has it */
  protocol?: number
  metric?: number
  /** RT_TABLE_MAIN (254) unless given */
  table?: number
  /** `via` is on the link, whatever the addresses say */
  onlink?: boolean
  /** bytes */
  mtu?: number
}

/** RTNH_F_ONLINK, RTPROT_BOOT, RT_TABLE_MAIN of linux/rtnetlink.h */
const routeOnlink = 4
const protocolBoot = 3
const tableMain = 254

function routeRequest(verb: string, type: number, flags: number, spec: RouteSpec, defaults: RouteDefaults): Request {
  const { family, address, length } = parsePrefix(spec.destination)
  if (spec.via !== undefined && familyOf(spec.via) !== family)
    throw invalid(`route to ${spec.destination} cannot go via ${spec.via}: they are of different families`)
  const table = spec.table ?? tableMain
  const op = words(`ip route ${verb} ${spec.type ? `${spec.type} ` : ''}${spec.destination}`, {
    via: spec.via,
    dev: spec.index,
    src: spec.source,
    scope: spec.scope,
    proto: spec.protocol,
    metric: spec.metric,
    table: spec.table,
    onlink: spec.onlink,
    mtu: spec.mtu,
  })
  const value: ValueOf<typeof routeMessage> = {
    family: afOf(family),
    destinationLength: length,
    sourceLength: 0,
    tos: 0,
    // The header has eight bits for it; the attribute has them all.
    table: table < 256 ? table : 0,
    protocol: spec.protocol ?? defaults.protocol,
    scope: scopes[spec.scope ?? defaults.scope],
    type: routeTypes[spec.type ?? defaults.type],
    flags: spec.onlink ? routeOnlink : 0,
    attrs: {
      dst: length === 0 ? undefined : address,
      gateway: spec.via,
      oif: spec.index === undefined ? undefined : checkIndex(spec.index),
      prefsrc: spec.source,
      priority: spec.metric,
      table: table < 256 ? undefined : table,
      metrics: spec.mtu === undefined ? undefined : { mtu: spec.mtu },
    },
  }
  return request(op, type, flags, routeMessage, value)
}

interface RouteDefaults {
  protocol: number
  scope: Scope
  type: RouteType
}

/** The defaults of `ip route add` (iproute_modify in ip/iproute.c). */
function newRouteDefaults(spec: RouteSpec): RouteDefaults {
  const type = spec.type ?? 'unicast'
  const onLink = type === 'unicast' && spec.via === undefined && !spec.destination.includes(':')
  return { protocol: protocolBoot, type, scope: type === 'local' ? 'host' : onLink ? 'link' : 'global' }
}

/** What is not said matches any route. */
const anyRoute: RouteDefaults = { protocol: 0, type: 'unspec', scope: 'nowhere' }

/** `ip route add DESTINATION [via A] dev INDEX [scope S] [proto N] [metric N] [table N] [onlink]`. EEXIST when it is there. */
export const routeAdd = (spec: RouteSpec): Request =>
  routeRequest('add', rtm.newRoute, nlm.create | nlm.exclusive, spec, newRouteDefaults(spec))

/** `ip route replace DESTINATION ...` */
export const routeReplace = (spec: RouteSpec): Request =>
  routeRequest('replace', rtm.newRoute, nlm.create | nlm.replace, spec, newRouteDefaults(spec))

/** `ip route delete DESTINATION ...`. ESRCH when no route is like that. */
export const routeDelete = (spec: RouteSpec): Request => routeRequest('delete', rtm.deleteRoute, 0, spec, anyRoute)

export interface NeighbourSpec {
  index: number
  address: string
  /** not for a proxy entry */
  mac?: string
  /** `permanent` unless given */
  state?: NeighbourState
  /** this host answers for the address */
  proxy?: boolean
  router?: boolean
  /** kept by us, not by the kernel: not aged, not counted as garbage */
  externLearned?: boolean
  /** who makes it; RTPROT_UNSPEC (0) unless given */
  protocol?: number
}

function neighbourRequest(verb: string, type: number, flags: number, spec: NeighbourSpec): Request {
  const op = words(`ip neighbour ${verb} ${spec.proxy ? 'proxy ' : ''}${spec.address}`, {
    lladdr: spec.mac,
    dev: checkIndex(spec.index),
    nud: spec.state,
    router: spec.router,
    extern_learn: spec.externLearned,
    protocol: spec.protocol,
  })
  return request(op, type, flags, neighbourMessage, {
    family: afOf(familyOf(spec.address)),
    index: spec.index,
    state: neighbourStates[spec.state ?? (spec.proxy ? 'none' : 'permanent')],
    flags:
      (spec.proxy ? neighbourFlags.proxy : 0) |
      (spec.router ? neighbourFlags.router : 0) |
      (spec.externLearned ? neighbourFlags.externLearned : 0),
    type: 0,
    attrs: {
      dst: spec.address,
      lladdr: spec.mac === undefined ? undefined : checkMac(spec.mac),
      protocol: spec.protocol,
    },
  })
}

/** `ip neighbour replace ADDRESS lladdr MAC dev INDEX nud permanent`; with `proxy`, `ip neighbour add proxy ADDRESS dev INDEX` */
export const neighbourReplace = (spec: NeighbourSpec): Request =>
  neighbourRequest('replace', rtm.newNeighbour, nlm.create | nlm.replace, spec)

/** `ip neighbour delete ADDRESS dev INDEX`. ENOENT when absent. */
export const neighbourDelete = (spec: { index: number; address: string; proxy?: boolean }): Request =>
  neighbourRequest('delete', rtm.deleteNeighbour, 0, { ...spec, state: 'none' })

export interface FdbSpec {
  /** a vxlan, or a bridge port */
  index: number
  mac: string
  /** true: the link's own table (a vxlan's remotes). false: the table of the bridge that the link is a port of */
  self: boolean
  /** beside `self`: the table of the bridge too, in one request. Only where it adds: a deletion stops at the first absence. */
  andMaster?: boolean
  /** vxlan: address of the remote vtep */
  dst?: string
  /** vxlan: UDP port at the remote vtep, when not the device's own */
  port?: number
  /** vxlan: network id at the remote vtep, when not the device's own */
  vni?: number
  /** vxlan: index of the link that leads to the remote vtep */
  via?: number
  vlan?: number
  /** `permanent` unless given */
  state?: FdbEntry['state']
  externLearned?: boolean
}

/** As `bridge fdb` fills ndm_state (fdb_modify in bridge/fdb.c of iproute2). */
const fdbStates: Record<FdbEntry['state'], number> = {
  permanent: neighbourStates.permanent | neighbourStates.noarp,
  static: neighbourStates.reachable | neighbourStates.noarp,
  dynamic: neighbourStates.reachable,
}

function fdbRequest(verb: string, type: number, flags: number, spec: FdbSpec): Request {
  const toMaster = spec.andMaster ?? !spec.self
  const op = words(`bridge fdb ${verb} ${spec.mac}`, {
    dev: checkIndex(spec.index),
    dst: spec.dst,
    port: spec.port,
    vni: spec.vni,
    via: spec.via,
    vlan: spec.vlan,
    [spec.state ?? 'permanent']: true,
    self: spec.self,
    master: toMaster,
  })
  const { dst, port, vni, vlan, via } = spec
  return request(op, type, flags, neighbourMessage, {
    family: afBridge,
    index: spec.index,
    state: fdbStates[spec.state ?? 'permanent'],
    flags:
      (spec.self ? neighbourFlags.self : 0) |
      (toMaster ? neighbourFlags.master : 0) |
      (spec.externLearned ? neighbourFlags.externLearned : 0),
    type: 0,
    attrs: { dst, lladdr: checkMac(spec.mac), vlan, port, vni, ifindex: via },
  })
}

/** `bridge fdb replace MAC dev INDEX [dst A] [self | master] [permanent | static | dynamic]`: the one destination of MAC */
export const fdbReplace = (spec: FdbSpec): Request =>
  fdbRequest('replace', rtm.newNeighbour, nlm.create | nlm.replace, spec)

/** `bridge fdb append MAC dev INDEX dst A self`: one more destination of MAC, on a vxlan; one that is there stays. */
export const fdbAppend = (spec: FdbSpec): Request =>
  fdbRequest('append', rtm.newNeighbour, nlm.create | nlm.append, spec)

/** `bridge fdb delete MAC dev INDEX [dst A] [self | master]`. ENOENT when absent. */
export const fdbDelete = (spec: FdbSpec): Request => fdbRequest('delete', rtm.deleteNeighbour, 0, spec)
