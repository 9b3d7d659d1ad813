import type { Step } from '../../cnm/driver.js'
import type { Endpoint, Network } from '../../cnm/types.js'
import { conflict } from '../../errors.js'
import { linkGroup } from '../../marks.js'
import { derivedMac, shortId } from '../../names.js'
import type { Kernel } from '../../netlink/kernel.js'
import type { BridgeData } from '../../netlink/kinds.js'
import type { Address, Link } from '../../netlink/objects.js'
import { addressAdd, addressDelete, linkAdd, linkSet, type Requests } from '../../netlink/requests.js'
import { readSysctl, writeSysctl } from '../../netlink/sysctl.js'
import { diff } from '../../reconcile.js'
import { isMarked, isMarkOf, markOf } from '../mark.js'
import { modeOf } from './modes.js'
import type { BridgedOptions } from './options.js'

export type BridgedNetwork = Network<BridgedOptions>

/** What the bridge of a network should be. */
export interface BridgeShape {
  name: string
  /** absent: one that follows from the network's id */
  mac?: string
  addresses: BridgeAddress[]
  /** of a new one */
  settings: BridgeData
}

export interface BridgeAddress {
  /** `10.30.0.1/24` */
  address: string
  /** IPv6: packets of the host itself go by another one */
  deprecated?: boolean
}

/** What differs between a network and its bridge. Making the bridge is one step: the rest needs its index. */
export function bridgeSteps(
  kernel: Kernel,
  network: BridgedNetwork,
  shape: BridgeShape,
  link: Link | undefined,
  addresses: readonly Address[],
): Step[] {
  const { name } = shape
  if (link !== undefined) {
    refuseForeign(network, link)
    return differences(kernel, network, shape, link, addresses)
  }
  const create = (): void => {
    kernel.apply(
      linkAdd({
        kind: 'bridge',
        name,
        mac: macOf(network, shape),
        alias: markOf(network),
        // No snooping: nobody asks who listens to which group, so all multicast goes everywhere anyhow, and with it the kernel
        // starts timers of all ports whenever one comes or goes.
        bridge: { forwardDelay: 0, stpState: false, mcastSnooping: false, ...shape.settings },
      }),
    )
    const made = kernel.link(name)
    if (made === undefined) throw new Error(`bridge ${name} vanished while it was being made`)
    // forced: an MTU that was set stays when the last port goes, one that equals the default by chance would not
    kernel.apply(linkSet({ index: made.index, mtu: network.options.mtu }))
    const own = kernel.addresses({ index: made.index })
    for (const step of differences(kernel, network, shape, made, own)) step.apply()
  }
  return [{ words: `create bridge ${name} of network ${network.name}`, apply: create }]
}

/** A link that is not ours must not become our network's, whatever its name. */
export function refuseForeign(network: BridgedNetwork, link: Link): void {
  if (!isMarked(link)) {
    const instead = 'bridge' in network.options ? '; choose another name with -o bridge=NAME' : ''
    throw conflict(`a link ${link.name} that is not tsnet's exists already${instead}`)
  }
  if (!isMarkOf(network, link)) throw conflict(`link ${link.name} belongs to ${link.alias}`)
}

function differences(
  kernel: Kernel,
  network: BridgedNetwork,
  shape: BridgeShape,
  link: Link,
  addresses: readonly Address[],
): Step[] {
  const { name, index } = link
  const { mtu } = network.options
  const steps: Step[] = []
  const request = (words: string, requests: Requests): void => {
    steps.push({ words, apply: () => kernel.apply(requests) })
  }
  if (link.alias !== markOf(network))
    request(`set the alias of bridge ${name}`, linkSet({ index, alias: markOf(network) }))
  const mac = macOf(network, shape)
  if (link.mac !== mac) request(`set MAC address ${mac} on bridge ${name}`, linkSet({ index, mac }))
  if (link.mtu !== mtu) request(`set MTU ${mtu} on bridge ${name}`, linkSet({ index, mtu }))
  for (const [key, value] of Object.entries(bridgeSettings(network, name)))
    if (readSysctl(undefined, key) !== value)
      steps.push({ words: `set ${key} to ${value}`, apply: () => void writeSysctl(undefined, key, value) })
  // before the addresses: their routes need it
  if (!link.up) request(`bring bridge ${name} up`, linkSet({ index, up: true }))
  const plan = diff(
    shape.addresses,
    addresses.filter(address => address.scope === 'global'),
    { want: keyOf, have: keyOf },
    () => true,
  )
  // removed first: an address that moved to another prefix length may not be there twice
  for (const { address } of plan.remove)
    request(`remove address ${address} from bridge ${name}`, addressDelete({ index, address }))
  for (const { address, deprecated = false } of plan.add)
    request(`add address ${address} to bridge ${name}`, addressAdd({ index, address, deprecated, noDad: true }))
  return steps
}

/**
 * Chosen by us: otherwise it would follow the lowest of the ports and change as they come and go. Always the same: when somebody
 * has deleted the bridge and it is made again, sandboxes still know their gateway's address.
 */
const macOf = (network: BridgedNetwork, { mac }: BridgeShape): string => mac ?? derivedMac(network.id, 'gateway')

const keyOf = ({ address, deprecated = false }: BridgeAddress): string => `${address} ${deprecated}`

export function bridgeSettings(network: BridgedNetwork, name: string): Record<string, string> {
  const ipv6 = network.subnets.some(({ family }) => family === 6) && modeOf(network, 6) !== 'isolated'
  return {
    // lets the host reach ports published on 127.0.0.1; the ruleset drops such packets from anywhere else
    [`net.ipv4.conf.${name}.route_localnet`]: '1',
    [`net.ipv6.conf.${name}.disable_ipv6`]: ipv6 ? '0' : '1',
    // a container must not be able to give the host routes
    [`net.ipv6.conf.${name}.accept_ra`]: '0',
    [`net.ipv6.conf.${name}.accept_redirects`]: '0',
    [`net.ipv4.conf.${name}.accept_redirects`]: '0',
    // nor has the host anybody go round it, from one subnet of a bridge to another, past what it decides
    [`net.ipv4.conf.${name}.send_redirects`]: '0',
  }
}

/** The host's end of an endpoint: what it should be, for a link that is there. `bridge` is absent while a step before makes it. */
export function hostLinkSteps(
  kernel: Kernel,
  network: BridgedNetwork,
  endpoint: Endpoint,
  link: Link,
  bridge: string,
  bridgeIndex: number | undefined,
): Step[] {
  const { index, name } = link
  const change: Parameters<typeof linkSet>[0] = { index }
  if (bridgeIndex === undefined || link.master !== bridgeIndex) change.master = bridgeIndex ?? 0
  if (link.mtu !== network.options.mtu) change.mtu = network.options.mtu
  if (link.alias !== markOf(network, endpoint)) change.alias = markOf(network, endpoint)
  // its making was cut short, by the end of its bridge perhaps
  if (link.group === linkGroup) change.group = 0
  if (!link.up) change.up = true
  const port = portOf(network)
  if (link.port?.hairpin !== port.hairpin || link.port?.isolated !== port.isolated) change.port = port
  const what = Object.keys(change).filter(key => key !== 'index')
  if (what.length === 0) return []
  const words = `set ${what.join(', ')} of ${name}, the host's end of endpoint ${endpoint.name} on network ${network.name}`
  return [
    {
      words,
      apply: () => {
        if (change.master === 0) change.master = bridgeIndexOf(kernel, network, bridge)
        kernel.apply(linkSet(change))
      },
    },
  ]
}

export function bridgeIndexOf(kernel: Kernel, network: Network, name: string): number {
  const index = kernel.linkIndex(name)
  if (index !== undefined) return index
  throw conflict(`bridge ${name} of network ${network.name} is missing; run tsnet reconcile`)
}

/** hairpin: a sandbox reaches its own published port through the host. isolated: ports that are, do not hear each other (`icc=false`). */
export const portOf = (network: BridgedNetwork) => ({ hairpin: true, isolated: !network.options.icc })

/** The container's end while it waits in the host's namespace for dockerd to fetch it. */
export const peerLinkName = (endpoint: Endpoint): string => `tsp${shortId(endpoint.id)}`
