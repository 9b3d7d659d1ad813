import type { Family, PortBinding, PortRange } from '../cnm/types.js'
import { familyOf, isLinkLocal6, isLoopback, isUnspecified } from '../ports/address.js'
import { rangeOf } from '../ports/spec.js'
import type { Element } from './elements.js'

/**
 * How a network's endpoints meet the world, for each family. nat: at the host's address, by published ports. nat-unprotected:
 * also at their own addresses, at every port. routed: at their own addresses, at published ports, and they leave with those.
 * isolated: not even the host is on the network.
 */
export const gatewayModes = ['nat', 'nat-unprotected', 'routed', 'isolated'] as const
export type GatewayMode = (typeof gatewayModes)[number]

/** What the firewall must know of a network. */
export interface FilteredNetwork {
  /** name of the bridge link */
  bridge: string
  subnets: readonly { family: Family; subnet: string }[]
  /** nothing goes out, nobody outside comes in */
  internal: boolean
  /** source addresses are replaced by the host's on the way out */
  masquerade: boolean
  /** endpoints of the network may talk to each other; off, the bridge ports must be `isolated` as well */
  icc: boolean
  /** packets have less room here than elsewhere: TCP is told so in both directions */
  clampMss?: boolean
  /** absent: nat */
  modes?: Partial<Record<Family, GatewayMode>>
  /** the host's address that traffic leaves with; absent: that of the link by which it leaves */
  hostAddresses?: Partial<Record<Family, string>>
  /** links of the host from which published ports are also reached at the endpoints' own addresses */
  trusted?: readonly string[]
}

/** What the firewall must hold for a network; pure. */
export function networkElements(network: FilteredNetwork): Element[] {
  const { bridge: link, subnets, internal, masquerade, icc, clampMss = false } = network
  const { modes = {}, hostAddresses = {}, trusted = [] } = network
  const families = new Set(subnets.map(s => s.family))
  const elements: Element[] = [{ set: 'bridges', link }]
  if (internal) elements.push({ set: 'internal', link })
  if (clampMss) elements.push({ set: 'clamped', link })
  elements.push({ set: icc ? 'intra' : 'apart', from: link, to: link })
  for (const family of families) {
    const mode = modes[family] ?? 'nat'
    if (masquerade && !internal && mode !== 'routed')
      elements.push({ set: family === 4 ? 'masquerade4' : 'masquerade6', link })
    if (mode === 'isolated') elements.push({ set: family === 4 ? 'isolated4' : 'isolated6', link })
    if (mode === 'routed') elements.push({ set: family === 4 ? 'routed4' : 'routed6', link })
    if (mode === 'nat-unprotected') elements.push({ set: family === 4 ? 'unprotected4' : 'unprotected6', link })
  }
  for (const from of trusted) elements.push({ set: 'trusted', from, to: link })
  for (const { family, subnet } of subnets) {
    elements.push({ set: family === 4 ? 'own_net4' : 'own_net6', link, subnet })
    const hostIp = hostAddresses[family]
    if (hostIp !== undefined) elements.push({ set: family === 4 ? 'snat4' : 'snat6', subnet, hostIp })
  }
  return elements
}

/**
 * Whether the kernel carries the binding. Not from ::1 or a link-local address, which cannot be routed to a container, and
 * not from one family to the other: there the daemon carries what comes to the host port it holds (listener.ts).
 */
export const isRouted = ({ hostIp, containerIp }: Pick<PortBinding, 'hostIp' | 'containerIp'>): boolean =>
  familyOf(hostIp) === familyOf(containerIp) && hostIp !== '::1' && !isLinkLocal6(hostIp)

/** What the firewall must hold for a published port; pure. */
export const bindingElements = (binding: PortBinding): Element[] => [
  ...redirectElements(binding),
  ...clientElements(binding),
]

/** None for a binding that is not `isRouted`, and none for one that needs no redirection (open-ports.ts). */
function redirectElements(binding: PortBinding): Element[] {
  if (!isRouted(binding) || binding.direct) return []
  const published = isOntoItself(binding) ? [rangeElement(binding)] : portElements(binding)
  return familyOf(binding.hostIp) === 4 && isLoopback(binding.hostIp)
    ? [...published, loopbackElement(binding)]
    : published
}

/** Several ports to the same numbers: one interval, however many they are. */
const isOntoItself = (b: PortBinding): boolean => b.size > 1 && b.hostPort === b.containerPort

function rangeElement({ protocol, hostIp, hostPort, containerIp, size }: PortBinding): Element {
  const ports: PortRange = rangeOf(hostPort, size)
  const four = familyOf(hostIp) === 4
  if (isUnspecified(hostIp))
    return { set: four ? 'publish4_any_range' : 'publish6_any_range', protocol, ports, containerIp }
  return { set: four ? 'publish4_range' : 'publish6_range', protocol, hostIp, ports, containerIp }
}

function portElements({ protocol, hostIp, hostPort, containerIp, containerPort, size }: PortBinding): Element[] {
  const four = familyOf(hostIp) === 4
  return Array.from({ length: size }, (_, i): Element => {
    const ports = { protocol, hostPort: hostPort + i, containerIp, containerPort: containerPort + i }
    if (isUnspecified(hostIp)) return { set: four ? 'publish4_any' : 'publish6_any', ...ports }
    return { set: four ? 'publish4' : 'publish6', hostIp, ...ports }
  })
}

/** Who may use the port, where not everybody may: whichever way it is carried. */
function clientElements({ protocol, hostIp, hostPort, size, from, direct }: PortBinding): Element[] {
  if (from === undefined || direct) return []
  const family = familyOf(hostIp)
  const at = {
    protocol,
    hosts: isUnspecified(hostIp) ? `${hostIp}/0` : hostCidr(hostIp),
    ports: rangeOf(hostPort, size),
  }
  const sources = from.filter(source => familyOf(source) === family)
  return family === 4
    ? [{ set: 'limited4', ...at }, ...sources.map((s): Element => ({ set: 'from4', ...at, sources: s }))]
    : [{ set: 'limited6', ...at }, ...sources.map((s): Element => ({ set: 'from6', ...at, sources: s }))]
}

const hostCidr = (address: string): string => `${address}/${familyOf(address) === 4 ? 32 : 128}`

function loopbackElement({ protocol, hostIp, hostPort, size }: PortBinding): Element {
  return size > 1
    ? { set: 'lo_only_range', protocol, hostIp, ports: rangeOf(hostPort, size) }
    : { set: 'lo_only', protocol, hostIp, hostPort }
}
