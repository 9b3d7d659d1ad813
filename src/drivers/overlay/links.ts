import { isDeepStrictEqual } from 'node:util'
import type { OtherHosts, Step } from '../../cnm/driver.js'
import type { HostDoor, Network } from '../../cnm/types.js'
import { kindOf } from '../../errors.js'
import { linkGroup } from '../../marks.js'
import { gatewayMacOf, hostMacOf, shortId } from '../../names.js'
import { familyOf, holds, withPrefixLength } from '../../net/subnets.js'
import type { Kernel } from '../../netlink/kernel.js'
import type { BridgePortData } from '../../netlink/kinds.js'
import type { Link } from '../../netlink/objects.js'
import { linkAdd, linkSet } from '../../netlink/requests.js'
import { type BridgeAddress, type BridgeShape, bridgeIndexOf, refuseForeign } from '../bridged/links.js'
import { isMarkOf, markOf } from '../mark.js'
import type { OverlayOptions } from './options.js'

export type OverlayNetwork = Network<OverlayOptions>

export const bridgeNameOf = ({ id }: OverlayNetwork): string => `br-${shortId(id)}`
export const vxlanNameOf = ({ id }: OverlayNetwork): string => `vx-${shortId(id)}`

/** The same gateway on every host: address and MAC. What leaves the network leaves it on the host where it is. */
export const bridgeShapeOf = (network: OverlayNetwork): BridgeShape => ({
  name: bridgeNameOf(network),
  mac: gatewayMacOf(network.id),
  addresses: network.subnets.flatMap(({ gateway, hostAddress, subnet, family }): BridgeAddress[] => {
    const own = hostAddress === undefined ? [] : [{ address: withPrefixLength(hostAddress, subnet) }]
    if (gateway === undefined) return own
    // it has no subnet, and is deprecated, so that the host itself speaks from the address to which answers find the way
    const alone = { address: `${gateway}/${family === 4 ? 32 : 128}`, deprecated: family === 6 }
    return own.length > 0 ? [...own, alone] : [{ address: withPrefixLength(gateway, subnet) }]
  }),
  // no VLANs: with one, the kernel keeps every forwarding entry twice
  settings: { vlanDefaultPvid: 0 },
})

/** What VXLAN puts around a frame (RFC 7348 5): Ethernet 14, VXLAN 8, UDP 8, and IP. */
const encapsulationBytes = (vtep: string): number => 30 + (familyOf(vtep) === 4 ? 20 : 40)

/** What fits into a packet between hosts: the MTU of the link, or of the routes by which most of the others are reached. */
export function usualMtu(kernel: Kernel, { vtep, link }: { vtep: string; link: string }): number {
  const underlay = kernel.link(link)
  if (underlay === undefined) throw new Error(`link ${link}, which has ${vtep}, vanished`)
  const routes = kernel.routes({ index: underlay.index, family: familyOf(vtep) })
  const limits = routes
    .filter(({ destination }) => destination.endsWith('/0') || holds(destination, vtep))
    .flatMap(({ mtu }) => mtu ?? [])
  return Math.min(underlay.mtu, ...limits) - encapsulationBytes(vtep)
}

/** What other hosts send; nothing where they cannot reach this one now anyhow. */
export function vxlanDoors({ options }: OverlayNetwork, others: OtherHosts): HostDoor[] {
  try {
    const { vtep, link } = others.underlay()
    return [{ what: 'VXLAN from other hosts', family: familyOf(vtep), protocol: 'udp', port: options.port, link }]
  } catch (error) {
    if (kindOf(error) === 'Unavailable') return []
    throw error
  }
}

/** Nothing is learnt and nothing asked: who is where is told by the cluster (remotes.ts). */
const portOf = ({ options }: OverlayNetwork): BridgePortData => ({
  learning: false,
  neighSuppress: true,
  unicastFlood: options.flood,
  mcastFlood: options.flood,
  bcastFlood: options.flood,
  isolated: !options.icc,
})

/** `ip link add vx-ID type vxlan id VNI local VTEP dstport PORT ttl TTL nolearning`, as a port of the network's bridge. */
function create(kernel: Kernel, network: OverlayNetwork, others: OtherHosts): void {
  const { vni, mtu, port, ttl } = network.options
  const { vtep } = others.underlay()
  kernel.apply(
    linkAdd({
      kind: 'vxlan',
      name: vxlanNameOf(network),
      mtu,
      // the bridge takes its ports' addresses as its own: by this one the other hosts reach this host's own addresses
      mac: hostMacOf(network.id, others.host),
      master: bridgeIndexOf(kernel, network, bridgeNameOf(network)),
      alias: markOf(network),
      // it has no address and sends nothing of its own
      addrGenMode: 'none',
      up: true,
      port: portOf(network),
      vxlan: { id: vni, local: vtep, port, ttl, learning: false },
    }),
  )
}

/** What there is of a network on this host, when all of it is there. */
export interface Links {
  vxlan: Link
  bridge: Link
}

/**
 * What differs between a network and its vxlan link. `bridge` is absent while a step before makes it. New links know nobody:
 * `fill` writes their entries.
 */
export function vxlanSteps(
  kernel: Kernel,
  network: OverlayNetwork,
  others: OtherHosts,
  link: Link | undefined,
  bridge: Link | undefined,
  fill: () => unknown,
): Step[] {
  const name = vxlanNameOf(network)
  const make = (): unknown => {
    create(kernel, network, others)
    return fill()
  }
  if (link === undefined) return [{ words: `create vxlan ${name} of network ${network.name}`, apply: make }]
  refuseForeign(network, link)
  const vtep = vtepNow(others)
  const unlike = fixedDifference(network, link, vtep)
  if (unlike !== undefined)
    return [
      {
        words: `create vxlan ${name} of network ${network.name} anew: its ${unlike} differs`,
        apply: async () => {
          await kernel.deleteLinks([name], there => isMarkOf(network, there))
          await make()
        },
      },
    ]
  const { change, what } = changeOf(network, others, link, bridge, vtep)
  if (what.length === 0) return []
  const apply = (): unknown => {
    if (change.master === 0) change.master = bridgeIndexOf(kernel, network, bridgeNameOf(network))
    kernel.apply(linkSet(change))
    return bridge === undefined ? fill() : undefined
  }
  return [{ words: `set ${what.join(', ')} of ${name}, the way of network ${network.name} to other hosts`, apply }]
}

/** What the kernel changes only by making the link anew, if anything. */
function fixedDifference({ options }: OverlayNetwork, { vxlan }: Link, vtep: string | undefined): string | undefined {
  if (vxlan?.id !== options.vni) return 'VNI'
  if (vxlan.port !== options.port) return 'port'
  if (vxlan.learning !== false || vxlan.collectMetadata || vxlan.group !== undefined) return 'way of finding others'
  if (vxlan.local === undefined || (vtep !== undefined && familyOf(vxlan.local) !== familyOf(vtep))) return 'family'
  return undefined
}

function changeOf(
  network: OverlayNetwork,
  others: OtherHosts,
  link: Link,
  bridge: Link | undefined,
  vtep: string | undefined,
): { change: Parameters<typeof linkSet>[0]; what: string[] } {
  const { mtu, ttl } = network.options
  const change: Parameters<typeof linkSet>[0] = { index: link.index }
  const mac = hostMacOf(network.id, others.host)
  if (bridge === undefined || link.master !== bridge.index) change.master = bridge?.index ?? 0
  if (link.mtu !== mtu) change.mtu = mtu
  if (link.mac !== mac) change.mac = mac
  if (link.alias !== markOf(network)) change.alias = markOf(network)
  if (link.group === linkGroup) change.group = 0
  if (!link.up) change.up = true
  const port = portOf(network)
  const keys = Object.keys(port) as (keyof BridgePortData)[]
  if (change.master !== undefined || keys.some(key => link.port?.[key] !== port[key])) change.port = port
  const vxlan = { ...(vtep !== undefined && { local: vtep }), ttl }
  const have = { ...(vtep !== undefined && { local: link.vxlan?.local }), ttl: link.vxlan?.ttl }
  if (!isDeepStrictEqual(vxlan, have)) change.vxlan = vxlan
  return { change, what: Object.keys(change).filter(key => key !== 'index') }
}

/** undefined: this host has no address for the others now, which is no reason to take down what it had. */
function vtepNow(others: OtherHosts): string | undefined {
  try {
    return others.underlay().vtep
  } catch (error) {
    if (kindOf(error) === 'Unavailable') return undefined
    throw error
  }
}
