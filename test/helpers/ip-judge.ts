import type { Address, FdbEntry, Link, Neighbour, Route } from '../../src/netlink/objects.js'

// What we read from the kernel, said in the words of `ip -j -d` and `bridge -j -d`, so that the two can be compared whole.
// Each `want...` takes from the judge's object the keys that we have an opinion on, each `got...` says ours in the same keys.

export type Json = Record<string, unknown>

/** Names of links by index, from `ip -j link`. */
export const namesOf = (ipLinks: Json[]): Map<number, string> =>
  new Map(ipLinks.map(link => [link.ifindex as number, link.ifname as string]))

const pick = (from: Json, keys: readonly string[]): Json =>
  Object.fromEntries(keys.filter(key => from[key] !== undefined).map(key => [key, from[key]]))

/** Without what `ip` leaves out: it says nothing where there is nothing to say. */
const said = (object: Json): Json =>
  Object.fromEntries(
    Object.entries(object).filter(([, value]) => value !== undefined && value !== false && value !== 0),
  )

const saidDeep = (value: unknown): unknown =>
  value !== null && typeof value === 'object' && !Array.isArray(value)
    ? said(Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, saidDeep(inner)])))
    : value

const hundredths = (seconds: number | undefined): number | undefined =>
  seconds === undefined ? undefined : Math.round(seconds * 100)
const zeroOne = (on: boolean | undefined): number | undefined => (on === undefined ? undefined : on ? 1 : 0)

const bridgeInfo = ({ bridge: b }: Link): Json => ({
  forward_delay: hundredths(b?.forwardDelay),
  hello_time: hundredths(b?.helloTime),
  max_age: hundredths(b?.maxAge),
  ageing_time: hundredths(b?.ageingTime),
  stp_state: zeroOne(b?.stpState),
  priority: b?.priority,
  vlan_filtering: zeroOne(b?.vlanFiltering),
  group_fwd_mask: b?.groupFwdMask ? `0x${b.groupFwdMask.toString(16)}` : undefined,
  mcast_snooping: zeroOne(b?.mcastSnooping),
  mcast_router: b?.mcastRouter,
  mcast_querier: zeroOne(b?.mcastQuerier),
  nf_call_iptables: zeroOne(b?.nfCallIptables),
  nf_call_ip6tables: zeroOne(b?.nfCallIp6tables),
  nf_call_arptables: zeroOne(b?.nfCallArptables),
})

const vxlanInfo = ({ vxlan: v }: Link, names: Map<number, string>): Json => ({
  id: v?.id,
  [v?.local?.includes(':') ? 'local6' : 'local']: v?.local,
  [v?.group?.includes(':') ? 'group6' : 'group']: v?.group,
  link: v?.parent ? names.get(v.parent) : undefined,
  port: v?.port,
  learning: v?.learning,
  ttl: v?.ttl,
  tos: v?.tos ? `0x${v.tos.toString(16)}` : undefined,
  ageing: v?.ageing,
  limit: v?.limit,
  proxy: v?.proxy,
  rsc: v?.rsc,
  l2miss: v?.l2miss,
  l3miss: v?.l3miss,
  udp_csum: v?.udpCsum,
  udp_zero_csum6_tx: v?.udpZeroCsum6Tx,
  udp_zero_csum6_rx: v?.udpZeroCsum6Rx,
  gbp: v?.gbp,
})

const macvlanInfo = ({ macvlan: m }: Link): Json => ({
  mode: m?.mode,
  nopromisc: ((m?.flags ?? 0) & 1) !== 0,
  bcqueuelen: m?.bcQueueLen,
})

const portInfo = ({ port: p }: Link): Json => ({
  state: p?.state,
  priority: p?.priority,
  cost: p?.cost,
  hairpin: p?.hairpin,
  guard: p?.guard,
  root_block: p?.rootBlock,
  fastleave: p?.fastLeave,
  learning: p?.learning,
  flood: p?.unicastFlood,
  proxy_arp: p?.proxyarp,
  proxy_arp_wifi: p?.proxyarpWifi,
  mcast_flood: p?.mcastFlood,
  bcast_flood: p?.bcastFlood,
  mcast_to_unicast: p?.mcastToUcast,
  neigh_suppress: p?.neighSuppress,
  vlan_tunnel: p?.vlanTunnel,
  isolated: p?.isolated,
  locked: p?.locked,
})

const kindInfo = (link: Link, names: Map<number, string>): Json => {
  if (link.kind === 'bridge') return bridgeInfo(link)
  if (link.kind === 'vxlan') return vxlanInfo(link, names)
  return link.kind === 'macvlan' ? macvlanInfo(link) : {}
}

export function gotLink(link: Link, names: Map<number, string>): unknown {
  const here = link.peerNetnsid === undefined
  return saidDeep({
    ifindex: link.index,
    ifname: link.name,
    up: link.up,
    running: link.running,
    mtu: link.mtu,
    address: link.mac,
    master: link.master && names.get(link.master),
    ifalias: link.alias,
    group: link.group === 0 ? 'default' : String(link.group),
    link: here && link.peerIndex ? names.get(link.peerIndex) : undefined,
    link_index: here ? undefined : link.peerIndex,
    // Zero is an id like any other.
    link_netnsid: link.peerNetnsid === undefined ? undefined : `id ${link.peerNetnsid}`,
    info_kind: link.kind,
    info_data: kindInfo(link, names),
    info_slave_data: portInfo(link),
    inet6_addr_gen_mode: link.addrGenMode,
  })
}

export function wantLink(ip: Json): unknown {
  const flags = ip.flags as string[]
  const info = (ip.linkinfo ?? {}) as { info_kind?: string; info_data?: Json; info_slave_data?: Json }
  const nothing: Link = { index: 0, name: '', up: false, running: false, mtu: 0, group: 0, flags: 0 }
  const kind = info.info_kind === undefined ? nothing : { ...nothing, kind: info.info_kind }
  const infoKeys = [...Object.keys(kindInfo(kind, new Map())), ...(kind.kind === 'vxlan' ? ['local6', 'group6'] : [])]
  return saidDeep({
    ...pick(ip, ['ifindex', 'ifname', 'mtu', 'address', 'master', 'ifalias', 'group', 'link', 'link_index']),
    link_netnsid: ip.link_netnsid === undefined ? undefined : `id ${ip.link_netnsid}`,
    up: flags.includes('UP'),
    running: flags.includes('LOWER_UP'),
    info_kind: info.info_kind,
    info_data: pick(info.info_data ?? {}, infoKeys),
    info_slave_data: pick(info.info_slave_data ?? {}, Object.keys(portInfo(nothing))),
    inet6_addr_gen_mode: ip.inet6_addr_gen_mode,
  })
}

const addressKeys = ['family', 'local', 'address', 'prefixlen', 'broadcast', 'scope', 'label', 'tentative', 'nodad']

export const gotAddress = (address: Address, names: Map<number, string>): unknown => {
  const [local, length] = address.address.split('/')
  return said({
    ifname: names.get(address.index),
    family: address.family === 4 ? 'inet' : 'inet6',
    local,
    address: address.peer,
    prefixlen: Number(length),
    broadcast: address.broadcast,
    scope: address.scope,
    label: address.label,
    tentative: address.tentative,
    nodad: (address.flags & 2) !== 0,
    forever: address.permanent,
  })
}

/** `ip -j -d address show` lists links with their addresses. */
export const wantAddresses = (ip: Json[]): unknown[] =>
  ip.flatMap(link =>
    (link.addr_info as Json[]).map(info =>
      said({ ifname: link.ifname, ...pick(info, addressKeys), forever: info.valid_life_time === 0xffff_ffff }),
    ),
  )

const routeKeys = [
  'type',
  'dst',
  'gateway',
  'dev',
  'table',
  'protocol',
  'scope',
  'prefsrc',
  'metric',
  'flags',
  'metrics',
]

export const gotRoute = (route: Route, names: Map<number, string>): unknown => {
  const whole = route.family === 4 ? '/32' : '/128'
  const isDefault = route.destination === '0.0.0.0/0' || route.destination === '::/0'
  return said({
    type: route.type,
    dst: isDefault ? 'default' : route.destination.replace(new RegExp(`${whole}$`), ''),
    gateway: route.via,
    dev: route.index && names.get(route.index),
    table: String(route.table),
    protocol: route.protocol,
    scope: route.scope,
    prefsrc: route.source,
    metric: route.metric,
    onlink: route.onlink,
    mtu: route.mtu,
  })
}

/** `ip -N -j -d route show`: with numbers where a name depends on a file of the machine. */
export const wantRoute = (ip: Json): unknown => {
  const { flags, metrics, ...rest } = pick(ip, routeKeys)
  const mtu = (metrics as Json[] | undefined)?.[0]?.mtu
  return said({
    ...rest,
    table: String(ip.table),
    protocol: Number(ip.protocol),
    type: typeWords[Number(ip.type)] ?? ip.type,
    scope: scopeWords[Number(ip.scope)] ?? ip.scope,
    onlink: (flags as string[]).includes('onlink'),
    mtu,
  })
}
const typeWords = 'unspec unicast local broadcast anycast multicast blackhole unreachable prohibit throw nat'.split(' ')
const scopeWords: Record<number, string> = { 0: 'global', 200: 'site', 253: 'link', 254: 'host', 255: 'nowhere' }

export const gotNeighbour = (neighbour: Neighbour, names: Map<number, string>): unknown =>
  said({
    dst: neighbour.address,
    dev: names.get(neighbour.index),
    lladdr: neighbour.mac,
    state: neighbour.proxy ? undefined : neighbour.state.toUpperCase(),
    router: neighbour.router,
    proxy: neighbour.proxy,
    extern_learn: neighbour.externLearned,
  })

export const wantNeighbour = (ip: Json): unknown =>
  said({
    ...pick(ip, ['dst', 'dev', 'lladdr']),
    state: (ip.state as string[] | undefined)?.[0],
    // `ip` says yes by a key with null.
    router: 'router' in ip,
    proxy: 'proxy' in ip,
    extern_learn: 'extern_learn' in ip,
  })

export const gotFdb = (entry: FdbEntry, names: Map<number, string>): unknown =>
  said({
    mac: entry.mac,
    ifname: names.get(entry.index),
    master: entry.master && names.get(entry.master),
    self: entry.self,
    dst: entry.dst,
    port: entry.port,
    vni: entry.vni,
    viaIf: entry.via && names.get(entry.via),
    vlan: entry.vlan,
    state: entry.state === 'dynamic' ? '' : entry.state,
    extern_learn: entry.externLearned,
  })

export const wantFdb = (bridge: Json): unknown => {
  const flags = bridge.flags as string[]
  return said({
    ...pick(bridge, ['mac', 'ifname', 'master', 'dst', 'port', 'vni', 'viaIf', 'vlan', 'state']),
    self: flags.includes('self'),
    extern_learn: flags.includes('extern_learn'),
  })
}
