import { invalid } from '../errors.js'
import { linkGroup } from '../marks.js'
import { checkLinkName } from '../names.js'
import type { ValueOf } from './codec.js'
import type { BridgePortData, VxlanData } from './kinds.js'
import type { LinkAttributes, LinkChange, LinkRef, LinkSpec, PeerSpec } from './link-specs.js'
import { checkIndex, checkMac, nlm, type Request, request, rtm, words } from './request.js'
import { afBridge, afUnspec, bridgePortMessage, linkMessage } from './tables.js'

export type { LinkAttributes, LinkChange, LinkRef, LinkSpec, PeerSpec }

type LinkMessage = ValueOf<typeof linkMessage>
type LinkAttrs = LinkMessage['attrs']

/** IFF_UP, linux/if.h */
const iffUp = 1
/** RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h: counters are half of a link's message */
export const skipStats = 8
/** IFALIASZ, linux/if.h, less the NUL */
const aliasBytes = 255

const header = (index: number, up: boolean | undefined) => ({
  family: afUnspec,
  type: 0,
  index,
  flags: up ? iffUp : 0,
  change: up === undefined ? 0 : iffUp,
})

const kindInfo = (spec: LinkSpec): NonNullable<LinkAttrs['info']> => {
  switch (spec.kind) {
    case 'bridge':
      return { kind: 'bridge', data: spec.bridge }
    case 'veth':
      return { kind: 'veth', data: { peer: peerMessage(spec.peer) } }
    case 'vxlan':
      return { kind: 'vxlan', data: vxlanByFamily(spec.vxlan) }
    case 'macvlan':
      return { kind: 'macvlan', data: spec.macvlan }
    case 'vlan':
      return { kind: 'vlan', data: spec.vlan }
  }
}

const peerMessage = (peer: PeerSpec) => ({
  ...header(peer.index ?? 0, undefined),
  attrs: {
    ifname: checkLinkName(peer.name),
    mtu: peer.mtu,
    address: peer.mac === undefined ? undefined : checkMac(peer.mac),
    netNsFd: peer.netns?.fd,
  },
})

/** IFLA_VXLAN_LOCAL and _GROUP are IPv4, LOCAL6 and GROUP6 IPv6. */
function vxlanByFamily({ local, group, ...rest }: VxlanData) {
  return {
    ...rest,
    ...(local?.includes(':') ? { local6: local } : { local }),
    ...(group?.includes(':') ? { group6: group } : { group }),
  }
}

/** The attributes that the kernel takes at any time. */
const anyTime = (link: LinkAttributes): LinkAttrs => ({
  mtu: link.mtu,
  address: link.mac === undefined ? undefined : checkMac(link.mac),
  master: link.master,
  group: link.group,
})

/** The attributes that the kernel ignores in a creation. */
function afterCreation(link: LinkAttributes & Pick<LinkChange, 'arpNotify'>): LinkAttrs {
  if (link.alias !== undefined && Buffer.byteLength(link.alias) > aliasBytes)
    throw invalid(`link alias "${link.alias}" is over ${aliasBytes} bytes`)
  return {
    ifalias: link.alias,
    afSpec: afSpecOf(link),
    info: link.port && { slaveKind: 'bridge', slaveData: link.port },
  }
}

const afSpecOf = ({ addrGenMode, arpNotify }: Pick<LinkChange, 'addrGenMode' | 'arpNotify'>): LinkAttrs['afSpec'] =>
  addrGenMode === undefined && arpNotify === undefined
    ? undefined
    : {
        ...(arpNotify !== undefined && { inet: { conf: { arpNotify: arpNotify ? 1 : 0 } } }),
        ...(addrGenMode && { inet6: { addrGenMode } }),
      }

const isEmpty = (attrs: LinkAttrs): boolean => Object.values(attrs).every(value => value === undefined)

/** How `ip` would say it, as far as a reader of an error needs. */
const anyTimeWords = (link: LinkAttributes & { netns?: { label: string } }) => ({
  mtu: link.mtu,
  address: link.mac,
  master: link.master,
  group: link.group,
  netns: link.netns?.label,
  up: link.up === true,
  down: link.up === false,
})

const portWords = (port: BridgePortData): Record<string, string | number | undefined> => {
  const onOff = (value: string | number | boolean | undefined) =>
    typeof value === 'boolean' ? (value ? 'on' : 'off') : value
  return Object.fromEntries(Object.entries(port).map(([key, value]) => [key, onOff(value)]))
}

/**
 * Create a link: `ip link add name NAME [link PARENT] [index N] [mtu N] [address MAC] [master M] [up] type KIND ...`.
 * EEXIST when the name is taken. A second request sets what the kernel ignores in a creation: alias, address
 * generation, port settings.
 */
export function linkAdd(spec: LinkSpec): Request[] {
  const name = checkLinkName(spec.name)
  const late = afterCreation(spec)
  if (spec.netns && (spec.master !== undefined || !isEmpty(late)))
    throw invalid(`link ${name}: master, alias, address generation and port are set from inside its network namespace`)
  if (spec.kind === 'veth' && spec.peer.index !== undefined && spec.index === undefined)
    throw invalid(`link ${name}: the index of its peer can be chosen only together with its own`)
  // Whoever fails or dies before the alias is there leaves a link that bears our mark all the same.
  const birth = spec.alias === undefined ? spec : { ...spec, group: linkGroup }
  // Up makes IPv6 choose a link-local address at once, so the choice of how comes first.
  const upLate = spec.addrGenMode !== undefined && spec.up === true
  const parent = 'parent' in spec ? spec.parent : undefined
  const op = words('ip link add', {
    name,
    link: parent,
    index: spec.index,
    ...anyTimeWords(spec),
    ...(upLate && { up: false }),
    type: spec.kind,
    ...(spec.kind === 'veth' && { peer: spec.peer.name }),
    ...(spec.kind === 'vxlan' && { id: spec.vxlan.id }),
    ...(spec.kind === 'vlan' && { id: spec.vlan.id }),
  })
  const value: LinkMessage = {
    ...header(spec.index === undefined ? 0 : checkIndex(spec.index), upLate ? undefined : spec.up),
    attrs: {
      ifname: name,
      ...anyTime(birth),
      link: parent,
      netNsFd: spec.netns?.fd,
      info: kindInfo(spec),
    },
  }
  const create = request(op, rtm.newLink, nlm.create | nlm.exclusive, linkMessage, value)
  if (isEmpty(late)) return [create]
  const { alias, addrGenMode, port } = spec
  return [
    create,
    ...linkSet({
      name,
      ...(alias !== undefined && { alias, group: spec.group ?? 0 }),
      ...(addrGenMode && { addrGenMode }),
      ...(port && { port }),
      ...(upLate && { up: true }),
    }),
  ]
}

/**
 * Change a link: `ip link set dev NAME [name NEW] [up | down] [mtu N] [address MAC] [master M | nomaster] [netns NS]
 * [alias TEXT] [group N] [addrgenmode MODE]`, its port settings: `ip link set dev NAME type bridge_slave ...`, and of a
 * vxlan what may change in its life (local within the family, ttl, learning, ageing): `ip link set dev NAME type vxlan ...`.
 */
export function linkSet(change: LinkChange): Request[] {
  const ref: LinkRef = change.name === undefined ? { index: change.index } : { name: change.name }
  const { up, ...rest } = change
  // Within one message the kernel does port settings before it sets the master, and address generation after up.
  const first = change.port && change.master !== undefined ? [setOnce({ ...ref, master: change.master })] : []
  if (change.addrGenMode && up) return [...first, setOnce(rest), setOnce({ ...ref, up })]
  return [...first, setOnce(change)]
}

function setOnce(change: LinkChange): Request {
  const op = words('ip link set', {
    dev: change.name ?? change.index,
    name: change.newName,
    ...anyTimeWords(change),
    alias: change.alias,
    addrgenmode: change.addrGenMode,
    arp_notify: change.arpNotify === undefined ? undefined : Number(change.arpNotify),
    ...(change.port && { type: 'bridge_slave', ...portWords(change.port) }),
    ...(change.vxlan && { type: 'vxlan', local: change.vxlan.local, ttl: change.vxlan.ttl }),
  })
  const late = afterCreation(change)
  const attrs: LinkAttrs = {
    ...refAttrs(change),
    ...(change.newName !== undefined && { ifname: checkLinkName(change.newName) }),
    ...anyTime(change),
    ...late,
    ...(change.vxlan && { info: { ...late.info, kind: 'vxlan', data: vxlanByFamily(change.vxlan) } }),
    netNsFd: change.netns?.fd,
  }
  // RTM_NEWLINK without CREATE does all that RTM_SETLINK does, and port settings besides.
  const value: LinkMessage = { ...header(change.index ?? 0, change.up), attrs }
  return request(op, rtm.newLink, 0, linkMessage, value, change.name !== undefined)
}

function refAttrs(ref: { name?: string | undefined; index?: number | undefined }): LinkAttrs {
  if (ref.name !== undefined) return { ifname: checkLinkName(ref.name) }
  checkIndex(ref.index ?? 0)
  return {}
}

/** Delete a link, and a veth's other end with it: `ip link delete dev NAME`. Waits for an RCU grace period, about 20 ms. ENODEV when absent. */
export function linkDelete(ref: LinkRef): Request {
  const op = words('ip link delete', { dev: ref.name ?? ref.index })
  const value: LinkMessage = { ...header(ref.index ?? 0, undefined), attrs: refAttrs(ref) }
  return request(op, rtm.deleteLink, 0, linkMessage, value, ref.name !== undefined)
}

/** `ip -d link show dev NAME`, without its counters. ENODEV when absent. */
export function linkShow(ref: LinkRef): Request {
  const op = words('ip link show', { dev: ref.name ?? ref.index })
  const value: LinkMessage = { ...header(ref.index ?? 0, undefined), attrs: { ...refAttrs(ref), extMask: skipStats } }
  return request(op, rtm.getLink, 0, linkMessage, value, ref.name !== undefined)
}

/** Delete every link of a group within one grace period: `ip link delete group N`. ENODEV when the group is empty. */
export function linkDeleteGroup(group: number): Request {
  if (group === 0) throw invalid('group 0 has every link in it that was never given a group')
  const value: LinkMessage = { ...header(0, undefined), attrs: { group } }
  return request(words('ip link delete', { group }), rtm.deleteLink, 0, linkMessage, value)
}

/** Change a bridge port: `bridge link set dev INDEX hairpin on isolated on ...`. Fails when the link is not a port. */
export function bridgePortSet({ index, ...port }: BridgePortData & { index: number }): Request {
  const value = { ...header(checkIndex(index), undefined), family: afBridge, attrs: { protinfo: port } }
  return request(words('bridge link set', { dev: index, ...portWords(port) }), rtm.setLink, 0, bridgePortMessage, value)
}
