import type { Step } from '../../cnm/driver.js'
import type { Network } from '../../cnm/types.js'
import { conflict, invalid, notFound, notImplemented } from '../../errors.js'
import { derivedMac, shortId } from '../../names.js'
import { suggestion } from '../../nearest.js'
import type { Kernel } from '../../netlink/kernel.js'
import { NetlinkError } from '../../netlink/netlink-error.js'
import type { Link } from '../../netlink/objects.js'
import { linkAdd, linkSet } from '../../netlink/requests.js'
import { readSysctl, writeSysctl } from '../../netlink/sysctl.js'
import { isMarked, markOf, markOfVlans } from '../mark.js'
import type { MacvlanOptions } from './options.js'

export type MacvlanNetwork = Network<MacvlanOptions>

/** IFF_LOOPBACK, linux/if.h */
const iffLoopback = 8

/** The link that the network's macvlans stand on, by name: a user's, a VLAN of it, or without a parent one of our own. */
export const parentNameOf = ({ id, options }: MacvlanNetwork): string => options.parent || `mvl${shortId(id)}`

/** The names of the links that carry an isolated network. */
export const ownLinkNames = (network: MacvlanNetwork): string[] =>
  network.options.parent === '' ? [parentNameOf(network), farEndOf(network)] : []

const farEndOf = ({ id }: MacvlanNetwork): string => `mvp${shortId(id)}`

export const isIsolated = ({ options }: MacvlanNetwork): boolean => options.parent === ''

/** `eth0.20`: link eth0 and VLAN 20. */
function vlanOf(name: string): { base: string; id: number } | undefined {
  const [, base, digits] = /^(.+)\.(\d{1,4})$/.exec(name) ?? []
  const id = Number(digits)
  return base !== undefined && id >= 1 && id <= 4094 ? { base, id } : undefined
}

/** Refuse a parent that macvlans cannot stand on, or that another network wants for itself. */
export function checkParent(kernel: Kernel, network: MacvlanNetwork, others: readonly MacvlanNetwork[]): void {
  if (isIsolated(network)) return
  const name = network.options.parent
  const vlan = vlanOf(name)
  const link = kernel.link(name) ?? (vlan && kernel.link(vlan.base))
  if (link === undefined) {
    const known = kernel.links().map(other => other.name)
    throw invalid(`parent ${name} does not exist on this host${suggestion(name, known)}`)
  }
  if (link.flags & iffLoopback) throw invalid(`parent ${name} is the loopback link, which has no LAN`)
  if (link.mac === undefined) throw invalid(`parent ${name} is no Ethernet link, and macvlan needs one`)
  if (link.master !== undefined && link.name === name) {
    const master = kernel.link(link.master)?.name ?? `link ${link.master}`
    throw conflict(`parent ${name} is a port of ${master}; choose ${master} as the parent`)
  }
  checkMtu(network, link)
  for (const other of others) {
    if (other.options.parent !== name) continue
    if (network.options.mode === 'passthru')
      throw conflict(`mode passthru needs parent ${name} for itself, and network ${other.name} uses it`)
    if (other.options.mode === 'passthru')
      throw conflict(`parent ${name} is used by network ${other.name} in mode passthru, which needs it for itself`)
  }
}

function checkMtu({ options, subnets }: MacvlanNetwork, parent: Link): void {
  if (options.mtu > parent.mtu)
    throw invalid(`option mtu=${options.mtu} is more than parent ${parent.name} has (${parent.mtu})`)
  const mtu = options.mtu || parent.mtu
  if (mtu < 1280 && subnets.some(({ family }) => family === 6))
    throw invalid(`MTU ${mtu} is too small for IPv6, which needs 1280`)
}

/** What to do so that the network's parent is there. A user's link is only looked for: making it is not ours. */
export function parentSteps(kernel: Kernel, network: MacvlanNetwork): Step[] {
  if (isIsolated(network)) return isolatedSteps(kernel, network)
  const name = network.options.parent
  const link = kernel.link(name)
  if (link !== undefined) return link.alias === markOfVlans && !link.up ? [upStep(kernel, link)] : []
  const vlan = vlanOf(name)
  const base = vlan && kernel.link(vlan.base)
  if (vlan && base) return [{ words: `create VLAN link ${name}`, apply: () => createVlan(kernel, name, base, vlan.id) }]
  return [
    complaint(
      `parent ${name} of network ${network.name} is missing`,
      'endpoints may be cut off, and new ones are refused, until a link of that name is back and tsnet reconcile has run',
    ),
  ]
}

/** What is wrong with a parent that is there and that somebody else has to put right. */
export function parentComplaints(kernel: Kernel, network: MacvlanNetwork): Step[] {
  const { parent } = network.options
  if (parent === '' || kernel.link(parent)?.up !== false) return []
  return [complaint(`parent ${parent} of network ${network.name} is down`, `its endpoints reach nobody until it is up`)]
}

const complaint = (words: string, consequence: string): Step => ({
  words,
  apply: () => {
    throw conflict(consequence)
  },
})

export function findParent(kernel: Kernel, network: MacvlanNetwork): Link {
  const name = parentNameOf(network)
  const link = kernel.link(name)
  if (link === undefined) throw notFound(`parent ${name} of network ${network.name} is missing`)
  return link
}

const upStep = (kernel: Kernel, { name, index }: Link): Step => ({
  words: `bring ${name} up`,
  apply: () => kernel.apply(linkSet({ index, up: true })),
})

function createVlan(kernel: Kernel, name: string, base: Link, id: number): void {
  try {
    kernel.apply(linkAdd({ kind: 'vlan', name, parent: base.index, vlan: { id }, alias: markOfVlans, up: true }))
  } catch (error) {
    if (codeOf(error) !== 'EOPNOTSUPP') throw error
    throw notImplemented(
      `VLAN link ${name} cannot be made: this kernel has no 802.1Q (module 8021q, CONFIG_VLAN_8021Q)`,
      { cause: error },
    )
  }
}

/**
 * A network without a parent stands on one end of a veth pair whose other end nobody uses. A dummy link would do, but not
 * every kernel has that kind, and veth we need anyway; a bridge without ports has no carrier, so macvlans on it send nothing.
 */
function isolatedSteps(kernel: Kernel, network: MacvlanNetwork): Step[] {
  const [name, peer] = [parentNameOf(network), farEndOf(network)]
  const links = [name, peer].map(end => kernel.link(end))
  const create = (): void => {
    const mtu = network.options.mtu || 1500
    const alias = markOf(network)
    const mac = (end: string) => derivedMac(network.id, end)
    // the same whenever it is made again
    kernel.apply(
      linkAdd({ kind: 'veth', name, mtu, alias, mac: mac('parent'), peer: { name: peer, mtu, mac: mac('far end') } }),
    )
    kernel.apply(linkSet({ name: peer, alias }))
    for (const step of [...deafSteps([name, peer]), ...ends(kernel, [name, peer])]) step.apply()
  }
  if (links.some(link => link === undefined))
    return [{ words: `create link ${name} of network ${network.name}`, apply: create }]
  return [...deafSteps([name, peer]), ...ends(kernel, [name, peer])]
}

const ends = (kernel: Kernel, names: readonly string[]): Step[] =>
  names.flatMap(name => {
    const link = kernel.link(name)
    return link === undefined || link.up ? [] : [upStep(kernel, link)]
  })

/** What the sandboxes broadcast arrives at the unused end: the host must not answer there, or the network was not isolated. */
const deafSteps = (names: readonly string[]): Step[] =>
  Object.entries(deafSettings(names))
    .filter(([key, value]) => readSysctl(undefined, key) !== value)
    .map(([key, value]) => ({ words: `set ${key} to ${value}`, apply: () => void writeSysctl(undefined, key, value) }))

export const deafSettings = (names: readonly string[]): Record<string, string> =>
  Object.fromEntries(
    names.flatMap(name => [
      [`net.ipv6.conf.${name}.disable_ipv6`, '1'],
      [`net.ipv4.conf.${name}.arp_ignore`, '8'],
      [`net.ipv4.conf.${name}.rp_filter`, '1'],
    ]),
  )

/** The links that were made for this network, to be deleted with it. A VLAN stays while another network is on it. */
export function doomedLinks(kernel: Kernel, network: MacvlanNetwork, others: readonly MacvlanNetwork[]): Link[] {
  const link = kernel.link(parentNameOf(network))
  if (link === undefined || !isMarked(link)) return []
  if (isIsolated(network)) return [link]
  const isLast = !others.some(other => other.options.parent === network.options.parent)
  return link.alias === markOfVlans && isLast ? [link] : []
}

/** The kernel's refusal of a macvlan, in words (macvlan_common_newlink and macvlan_port_create in drivers/net/macvlan.c). */
export function refusal(network: MacvlanNetwork, error: unknown): unknown {
  const parent = parentNameOf(network)
  const cause = { cause: error }
  if (codeOf(error) === 'EBUSY')
    return conflict(
      `parent ${parent} is taken: it is a port of a bridge or bond, or carries another kind of link`,
      cause,
    )
  if (codeOf(error) !== 'EINVAL') return error
  if (network.options.mode === 'passthru')
    return conflict(
      `mode passthru of network ${network.name} leaves room for one endpoint, and parent ${parent} has one`,
      cause,
    )
  return conflict(`the kernel refuses a macvlan on parent ${parent}: does one in mode passthru stand on it?`, cause)
}

export const codeOf = (error: unknown): string | undefined =>
  error instanceof Error && error.cause instanceof NetlinkError ? error.cause.code : undefined
