import { fail, ok, warn } from '../cnm/diagnosis.js'
import { messageOf } from '../errors.js'
import { addressOf } from '../net/subnets.js'
import { Kernel } from '../netlink/kernel.js'
import { currentNetns, type Netns, openNetns } from '../netlink/netns.js'
import type { Address, Link, Route } from '../netlink/objects.js'
import { type End, insideOf } from './ends.js'
import { type Hop, lasting, orWell } from './hops.js'
import { mtuOf } from './network-checks.js'

// What is in the namespace of an end: link, address, routes, neighbours.

/** The namespace that an end's packets begin in. The caller closes it. @throws {NetError} it is gone */
export const netnsOf = ({ netns }: End): Netns => (netns === undefined ? currentNetns() : openNetns(netns))

/** Look into the namespace of an end. */
export function within<T>(end: End, work: (kernel: Kernel) => T): T {
  const netns = netnsOf(end)
  try {
    return Kernel.inside(netns, work)
  } finally {
    netns.close()
  }
}

/** The end's own link: there, up, with the recorded addresses and MTU. */
export function linkHops(end: End): Hop[] {
  const { on, name } = end
  if (on === undefined) return []
  const { endpoint, network } = on
  if (end.netns === undefined) return [fail(name, 'it has no namespace: it is not running', 'start it')]
  const repair = endpoint.createdBy === 'docker' ? `docker restart ${endpoint.name}` : 'tsnet reconcile'
  try {
    return within(end, kernel => {
      const links = kernel.links()
      const link = links.find(({ mac }) => mac === endpoint.mac) ?? links.find(each => each.name === endpoint.ifname)
      if (link === undefined) return [fail(name, `it has no link of network ${network.name}`, repair)]
      return ofLink(end, { endpoint, network }, link, kernel.addresses({ index: link.index }), repair)
    })
  } catch (error) {
    return [fail(name, `its namespace is gone: ${messageOf(error)}`, repair)]
  }
}

function ofLink(
  end: End,
  { endpoint, network }: NonNullable<End['on']>,
  link: Link,
  addresses: readonly Address[],
  repair: string,
): Hop[] {
  const { name, address } = end
  const inside = insideOf(end)
  const wrong: Hop[] = []
  const mtu = mtuOf(network)
  // the routes that went with it come back too
  const raise = endpoint.createdBy === 'docker' ? `${inside}ip link set ${link.name} up` : repair
  if (!link.up) wrong.push(fail(name, `its link ${link.name} is down`, raise))
  if (link.mac !== endpoint.mac)
    wrong.push(
      fail(
        name,
        `its link ${link.name} has MAC address ${link.mac} instead of ${endpoint.mac}: what others send it goes astray`,
        `${inside}ip link set ${link.name} address ${endpoint.mac}`,
      ),
    )
  const own = addresses.find(each => addressOf(each.address) === address)
  if (own === undefined) wrong.push(fail(name, `its link ${link.name} does not have ${address}`, repair))
  if (own?.dadFailed)
    wrong.push(
      lasting(
        fail(
          name,
          `${address} is used by somebody else too: the kernel refuses it here`,
          `${inside}ip address show ${link.name}`,
        ),
      ),
    )
  if (mtu !== undefined && link.mtu !== mtu && mtu > 0)
    wrong.push(
      lasting(
        fail(
          name,
          `its link ${link.name} has MTU ${link.mtu} instead of ${mtu}, which the network has: packets that are larger for one side than for the other vanish`,
          `${inside}ip link set ${link.name} mtu ${mtu}`,
        ),
      ),
    )
  return orWell(wrong, name, `${link.name} is up, with ${own?.address}, MTU ${link.mtu}`)
}

/** Which way packets for an address leave an end. */
export interface Leaving {
  hops: Hop[]
  route?: Route
  link?: Link
}

export function routeHops(end: End, to: string, direct: boolean): Leaving {
  const what = end.name
  return within(end, kernel => {
    const route = kernel.routeTo(to)
    if (route === undefined || ['unreachable', 'prohibit', 'blackhole'].includes(route.type))
      return { hops: [fail(what, `it has no route to ${to}`, lostRoute(end))] }
    const link = route.index === undefined ? undefined : kernel.link(route.index)
    const by = `${to} is ${route.via === undefined ? `on its link ${link?.name}` : `behind ${route.via}, by ${link?.name}`}`
    if (direct && route.via !== undefined)
      return {
        hops: [
          warn('route', `from ${what}, ${by}, although both are on one network`, `${insideOf(end)}ip route get ${to}`),
        ],
        route,
        ...(link && { link }),
      }
    return { hops: [ok('route', `from ${what}, ${by}`)], route, ...(link && { link }) }
  })
}

const lostRoute = (end: End): string =>
  end.on?.endpoint.createdBy === 'docker'
    ? `docker restart ${end.on.endpoint.name}`
    : end.kind === 'host'
      ? 'ip route'
      : 'tsnet reconcile'

/** The answer finds its way. */
export function backHops(end: End, to: string): Hop[] {
  const way = routeHops(end, to, false)
  if (way.route === undefined)
    return [fail(end.name, `it has no route back to ${to}, so no answer leaves it`, lostRoute(end))]
  return []
}

/**
 * What an end remembers of the MAC address of its next hop, where it remembers something.
 * @param expected where that really is
 */
export function neighbourHops(end: End, { route, link }: Leaving, to: string, expected: string | undefined): Hop[] {
  if (link === undefined || expected === undefined) return []
  const next = route?.via ?? to
  const found = within(end, kernel => kernel.neighbours({ index: link.index })).find(({ address }) => address === next)
  if (found?.mac === undefined || found.mac === expected) return []
  return [
    lasting(
      fail(
        'neighbour',
        `${end.name} remembers ${next} at MAC address ${found.mac}, and it is at ${expected}`,
        `${insideOf(end)}ip neighbour delete ${next} dev ${link.name}`,
      ),
    ),
  ]
}
