import type { WantedSandbox } from '../cnm/driver.js'
import type { Family } from '../cnm/types.js'
import { conflict } from '../errors.js'
import { routeProtocol } from '../marks.js'
import { formatCidr, parseHostCidr } from '../net/cidr.js'
import type { Kernel } from '../netlink/kernel.js'
import type { Address, Link, Route } from '../netlink/objects.js'
import { type Requests, routeDelete, routeReplace } from '../netlink/requests.js'
import { diff } from '../reconcile.js'

/** What a namespace has, besides its routes. */
export interface There {
  /** by name */
  links: ReadonlyMap<string, Link>
  addresses: readonly Address[]
}

interface WantedRoute {
  family: Family
  destination: string
  via?: string
  index: number
  ifname: string
  metric: number
}

/** What the kernel takes when no metric is given (IP6_RT_PRIO_USER in net/ipv6_route.h). */
const usualMetric = (family: Family): number => (family === 6 ? 1024 : 0)

/** Compare the routes that are wanted with those in the namespace that are ours; nobody else's are touched. */
export function routeChanges(
  kernel: Kernel,
  wanted: WantedSandbox,
  { links, addresses }: There,
  add: (words: string, requests: Requests) => void,
): void {
  const have = kernel.routes()
  const foreign = have.filter(route => route.protocol !== routeProtocol)
  refuseReachable(wanted, { links, addresses }, foreign)
  const want = wantedRoutes(wanted, links, foreign)
  for (const route of want) refuseForeign(wanted, route, foreign)
  const plan = diff(
    want,
    have.filter(route => route.protocol === routeProtocol),
    { want: keyOf, have: keyOf },
    (w, h) => w.via === h.via && w.index === h.index,
  )
  // first what is new, and what moves, in one message: there is never a moment without a default route
  for (const { destination, via, index, ifname, metric } of [...plan.add, ...plan.change.map(change => change.want)])
    add(
      `route ${destination}${via === undefined ? '' : ` via ${via}`} by ${ifname}`,
      routeReplace({ destination, index, metric, protocol: routeProtocol, ...(via === undefined ? {} : { via }) }),
    )
  for (const { destination, index, metric } of plan.remove)
    add(
      `remove route ${destination}`,
      routeDelete({ destination, metric, protocol: routeProtocol, ...(index === undefined ? {} : { index }) }),
    )
}

/** What the kernel has one of. */
const keyOf = ({ destination, metric }: { destination: string; metric: number }): string => `${destination} ${metric}`

function wantedRoutes(
  wanted: WantedSandbox,
  links: ReadonlyMap<string, Link>,
  foreign: readonly Route[],
): WantedRoute[] {
  const routeOf = (ifname: string, destination: string, via: string | undefined): WantedRoute => {
    const family = destination.includes(':') ? 6 : 4
    const asked = wanted.links.find(link => link.ifname === ifname)?.metric
    return {
      family,
      destination,
      ...(via === undefined ? {} : { via }),
      index: links.get(ifname)?.index ?? 0,
      ifname,
      metric: asked ?? usualMetric(family),
    }
  }
  const routes = wanted.links.flatMap(({ ifname, routes }) =>
    routes.map(({ destination, via }) => routeOf(ifname, destination, via)),
  )
  for (const family of [4, 6] as const) {
    const gateway = wanted.gateways[family]
    if (gateway === undefined) continue
    const route = routeOf(gateway.ifname, family === 4 ? '0.0.0.0/0' : '::/0', gateway.via)
    const asked = wanted.links.find(link => link.ifname === gateway.ifname)?.metric
    routes.push(asked === undefined ? behindForeign(route, foreign) : route)
  }
  return routes
}

/** A namespace that was adopted with a way out of its own keeps it: ours stands behind, and takes over when theirs goes. */
function behindForeign(route: WantedRoute, foreign: readonly Route[]): WantedRoute {
  const theirs = foreign.filter(({ destination }) => destination === route.destination).map(({ metric }) => metric)
  return theirs.length === 0 ? route : { ...route, metric: Math.max(route.metric, ...theirs) + 1 }
}

/** A route that somebody else made to the same destination would be replaced: an adopted namespace must come back unharmed. */
function refuseForeign(wanted: WantedSandbox, route: WantedRoute, foreign: readonly Route[]): void {
  const other = foreign.find(candidate => keyOf(candidate) === keyOf(route))
  if (other === undefined) return
  const via = other.via === undefined ? '' : ` via ${other.via}`
  throw conflict(
    `sandbox ${wanted.sandbox.name} already has a route to ${route.destination}${via} that tsnet did not make; remove it first`,
  )
}

/** A subnet that the namespace is connected to by a link of its own would be reached by one of the two, nobody knows which. */
function refuseReachable(wanted: WantedSandbox, { links, addresses }: There, foreign: readonly Route[]): void {
  if (foreign.length === 0) return
  const nameOf = new Map([...links.values()].map(({ index, name }) => [index, name]))
  const ours = new Set(wanted.links.map(({ ifname }) => ifname))
  const there = new Set(addresses.map(({ address }) => address))
  for (const address of wanted.links.flatMap(({ addresses }) => addresses).filter(address => !there.has(address))) {
    const subnet = formatCidr(parseHostCidr(address))
    const other = foreign.find(route => route.destination === subnet && !ours.has(nameOf.get(route.index ?? 0) ?? ''))
    if (other !== undefined)
      throw conflict(
        `sandbox ${wanted.sandbox.name} already reaches ${subnet} by ${nameOf.get(other.index ?? 0)}, which is not tsnet's`,
      )
  }
}
