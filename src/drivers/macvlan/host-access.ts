import type { Step } from '../../cnm/driver.js'
import type { Endpoint } from '../../cnm/types.js'
import { routeProtocol } from '../../marks.js'
import { shortId } from '../../names.js'
import { addressOf, holds } from '../../net/subnets.js'
import type { Kernel } from '../../netlink/kernel.js'
import type { Link } from '../../netlink/objects.js'
import {
  addressAdd,
  addressDelete,
  linkAdd,
  linkSet,
  neighbourDelete,
  type Requests,
  routeDelete,
  routeReplace,
  tolerant,
} from '../../netlink/requests.js'
import { readSysctl, writeSysctl } from '../../netlink/sysctl.js'
import { diff } from '../../reconcile.js'
import { markOf } from '../mark.js'
import { findParent, type MacvlanNetwork, refusal } from './parent.js'

// A link never talks to the macvlans on it: that is how macvlan_start_xmit works. Macvlans do talk to each other, so the
// host gets one of its own, with an address of the network that covers nothing but itself, and a route to each endpoint.

export const hostLinkOf = (network: MacvlanNetwork): string => `mvh${shortId(network.id)}`

/** The same whenever the link is made again, since sandboxes remember it: locally administered, then digits of the network's id. */
const macOf = ({ id }: MacvlanNetwork): string => ['02', ...(id.slice(0, 10).match(/../g) ?? [])].join(':')

interface HostRoute {
  /** one address: `10.30.0.2/32` */
  destination: string
  source: string
}

/** The way to each address of an endpoint, from the host's address in the same subnet. */
function routesTo(network: MacvlanNetwork, endpoint: Endpoint): HostRoute[] {
  return endpoint.addresses.map(addressOf).flatMap(address => {
    const source = network.subnets.find(({ subnet }) => holds(subnet, address))?.hostAddress
    return source === undefined ? [] : [{ destination: alone(address), source }]
  })
}

const alone = (address: string): string => `${address}/${address.includes(':') ? 128 : 32}`

/** What differs between what the host needs on the network and what it has; without `endpoints`, its routes left out. */
export function hostAccessSteps(kernel: Kernel, network: MacvlanNetwork, endpoints?: readonly Endpoint[]): Step[] {
  if (!network.options.host_access) return []
  const name = hostLinkOf(network)
  const link = kernel.link(name)
  if (link !== undefined) return differences(kernel, network, link, endpoints)
  const create = (): void => {
    const { index } = findParent(kernel, network)
    const { mtu } = network.options
    const macvlan = { mode: 'bridge' as const }
    const alias = markOf(network)
    try {
      kernel.apply(
        linkAdd({ kind: 'macvlan', name, mac: macOf(network), parent: index, alias, macvlan, ...(mtu > 0 && { mtu }) }),
      )
    } catch (error) {
      throw refusal(network, error)
    }
    const made = kernel.link(name)
    if (made === undefined) throw new Error(`link ${name} vanished while it was being made`)
    for (const step of differences(kernel, network, made, endpoints)) step.apply()
  }
  return [{ words: `create link ${name}, the host's own on network ${network.name}`, apply: create }]
}

function differences(kernel: Kernel, network: MacvlanNetwork, link: Link, endpoints?: readonly Endpoint[]): Step[] {
  const { name, index } = link
  const steps: Step[] = []
  const request = (words: string, requests: Requests): void => {
    steps.push({ words, apply: () => kernel.apply(requests) })
  }
  for (const [key, value] of Object.entries(hostAccessSettings(network, name)))
    if (readSysctl(undefined, key) !== value)
      steps.push({ words: `set ${key} to ${value}`, apply: () => void writeSysctl(undefined, key, value) })
  // before the addresses: their routes need it
  if (!link.up) request(`bring ${name} up`, linkSet({ index, up: true }))
  const addresses = diff(
    network.subnets.flatMap(({ hostAddress }) => (hostAddress === undefined ? [] : [alone(hostAddress)])),
    kernel.addresses({ index }).filter(({ scope }) => scope === 'global'),
    { want: address => address, have: ({ address }) => address },
    () => true,
  )
  for (const { address } of addresses.remove)
    request(`remove address ${address} from ${name}`, addressDelete({ index, address }))
  for (const address of addresses.add)
    request(`add address ${address} to ${name}`, addressAdd({ index, address, noDad: true }))
  return endpoints === undefined ? steps : [...steps, ...routeSteps(kernel, network, link, endpoints)]
}

function routeSteps(kernel: Kernel, network: MacvlanNetwork, link: Link, endpoints: readonly Endpoint[]): Step[] {
  const { name, index } = link
  const steps: Step[] = []
  const request = (words: string, requests: Requests): void => {
    steps.push({ words, apply: () => kernel.apply(requests) })
  }
  const plan = diff(
    endpoints.flatMap(endpoint => routesTo(network, endpoint)),
    kernel.routes({ index, protocol: routeProtocol }),
    { want: ({ destination }) => destination, have: ({ destination }) => destination },
    (want, have) => want.source === have.source,
  )
  for (const { destination } of plan.remove)
    request(`remove route ${destination} by ${name}`, routeDelete({ destination, index, protocol: routeProtocol }))
  for (const route of [...plan.add, ...plan.change.map(({ want }) => want)])
    request(`route ${route.destination} by ${name}`, routeReplace({ ...route, index, protocol: routeProtocol }))
  return steps
}

export function hostAccessSettings(network: MacvlanNetwork, name: string): Record<string, string> {
  const ipv6 = network.subnets.some(({ family }) => family === 6)
  return {
    // the host's other addresses are answered for where they are: the LAN must not find them at this link's MAC address
    [`net.ipv4.conf.${name}.arp_ignore`]: '1',
    // the LAN reaches this address here and is answered by the parent, which a strict check would take for spoofing
    [`net.ipv4.conf.${name}.rp_filter`]: '2',
    [`net.ipv6.conf.${name}.disable_ipv6`]: ipv6 ? '0' : '1',
    // the LAN's router advertisements are for the parent
    ...(ipv6 ? { [`net.ipv6.conf.${name}.accept_ra`]: '0' } : {}),
  }
}

/** Lead the host to an endpoint that has just come. */
export function addHostRoutes(kernel: Kernel, network: MacvlanNetwork, endpoint: Endpoint): void {
  const index = hostLinkIndex(kernel, network)
  if (index === undefined) return
  for (const route of routesTo(network, endpoint)) {
    // an address that was somebody else's a moment ago is looked for again
    const stale = neighbourDelete({ index, address: addressOf(route.destination) })
    kernel.apply(tolerant(stale, 'ENOENT'), routeReplace({ ...route, index, protocol: routeProtocol }))
  }
}

export function deleteHostRoutes(kernel: Kernel, network: MacvlanNetwork, endpoint: Endpoint): void {
  const index = hostLinkIndex(kernel, network)
  if (index === undefined) return
  for (const { destination } of routesTo(network, endpoint))
    kernel.apply(tolerant(routeDelete({ destination, index, protocol: routeProtocol }), 'ESRCH'))
}

const hostLinkIndex = (kernel: Kernel, network: MacvlanNetwork): number | undefined =>
  network.options.host_access ? kernel.link(hostLinkOf(network))?.index : undefined
