import type { SandboxLink, WantedSandbox } from '../cnm/driver.js'
import type { Family } from '../cnm/types.js'
import { conflict } from '../errors.js'
import { linkGroup, routeProtocol } from '../marks.js'
import type { Kernel } from '../netlink/kernel.js'
import type { Netns } from '../netlink/netns.js'
import type { Link, Route } from '../netlink/objects.js'
import {
  addressAdd,
  linkDelete,
  linkSet,
  type Request,
  type Requests,
  routeDelete,
  routeReplace,
} from '../netlink/requests.js'
import { readSysctl } from '../netlink/sysctl.js'
import { diff } from '../reconcile.js'

/** What has to change inside a namespace, each change in words beside what carries it out. */
export interface InsidePlan {
  words: string[]
  /** written before the requests: a link must know whether it has IPv6 before it comes up */
  sysctls: { key: string; value: string }[]
  requests: Request[]
}

/** Compare what is wanted inside with what the namespace has. Everything that is not ours stays. */
export function planInside(kernel: Kernel, netns: Netns, wanted: WantedSandbox): InsidePlan {
  const plan: InsidePlan = { words: [], sysctls: [], requests: [] }
  const add = (words: string, requests: Requests): void => {
    plan.words.push(words)
    plan.requests.push(...(Array.isArray(requests) ? requests : [requests as Request]))
  }
  const links = new Map(kernel.links().map(link => [link.name, link]))
  const known = new Set(wanted.links.map(({ ifname }) => ifname))
  for (const { name, index, group } of links.values())
    if (group === linkGroup && !known.has(name))
      add(`remove link ${name}, which belongs to nothing`, linkDelete({ index }))
  for (const want of wanted.links) {
    const link = links.get(want.ifname)
    if (link === undefined) throw conflict(`interface ${want.ifname} is missing in sandbox ${wanted.sandbox.name}`)
    const key = `net.ipv6.conf.${want.ifname}.disable_ipv6`
    const value = want.addresses.some(address => address.includes(':')) ? '0' : '1'
    if (readSysctl(netns, key) !== value) {
      plan.words.push(`set ${key} to ${value}`)
      plan.sysctls.push({ key, value })
    }
    linkChanges(want, link, add)
    const have = kernel.addresses({ index: link.index })
    for (const address of want.addresses)
      if (!have.some(candidate => candidate.address === address))
        add(`add address ${address} to ${want.ifname}`, addressAdd({ index: link.index, address, noDad: true }))
  }
  routeChanges(kernel, wanted, links, add)
  return plan
}

type Add = (words: string, requests: Requests) => void

function linkChanges(want: SandboxLink, link: Link, add: Add): void {
  const { index } = link
  if (want.mtu !== undefined && link.mtu !== want.mtu)
    add(`set MTU ${want.mtu} on ${want.ifname}`, linkSet({ index, mtu: want.mtu }))
  if (link.mac !== want.mac) add(`set MAC address ${want.mac} on ${want.ifname}`, linkSet({ index, mac: want.mac }))
  if (!link.up) add(`bring ${want.ifname} up`, linkSet({ index, up: true }))
}

interface WantedRoute {
  family: Family
  destination: string
  via?: string
  index: number
  ifname: string
}

function routeChanges(kernel: Kernel, wanted: WantedSandbox, links: ReadonlyMap<string, Link>, add: Add): void {
  const have = kernel.routes()
  const ours = have.filter(route => route.protocol === routeProtocol)
  const want = wantedRoutes(wanted, links)
  for (const route of want) refuseForeign(wanted, route, have)
  const plan = diff(
    want,
    ours,
    { want: route => route.destination, have: route => route.destination },
    (w, h) => w.via === h.via && w.index === h.index,
  )
  for (const { destination, index } of plan.remove)
    add(
      `remove route ${destination}`,
      routeDelete({ destination, protocol: routeProtocol, ...(index === undefined ? {} : { index }) }),
    )
  // replaced in one message where it moves: there is never a moment without a default route
  for (const { destination, via, index, ifname } of [...plan.add, ...plan.change.map(change => change.want)])
    add(
      `route ${destination}${via === undefined ? '' : ` via ${via}`} by ${ifname}`,
      routeReplace({ destination, index, protocol: routeProtocol, ...(via === undefined ? {} : { via }) }),
    )
}

function wantedRoutes(wanted: WantedSandbox, links: ReadonlyMap<string, Link>): WantedRoute[] {
  const indexOf = (ifname: string): number => links.get(ifname)?.index ?? 0
  const routes = wanted.links.flatMap(({ ifname, routes }) =>
    routes.map((route): WantedRoute => {
      const family = route.destination.includes(':') ? 6 : 4
      return { ...route, family, index: indexOf(ifname), ifname }
    }),
  )
  for (const family of [4, 6] as const) {
    const gateway = wanted.gateways[family]
    if (gateway === undefined) continue
    const destination = family === 4 ? '0.0.0.0/0' : '::/0'
    routes.push({ family, destination, ...gateway, index: indexOf(gateway.ifname) })
  }
  return routes
}

/** A route that somebody else made to the same destination would be replaced: an adopted namespace must come back unharmed. */
function refuseForeign(wanted: WantedSandbox, route: WantedRoute, have: readonly Route[]): void {
  const foreign = have.find(
    other =>
      other.destination === route.destination && other.metric === metricOf(route) && other.protocol !== routeProtocol,
  )
  if (foreign === undefined) return
  const via = foreign.via === undefined ? '' : ` via ${foreign.via}`
  throw conflict(
    `sandbox ${wanted.sandbox.name} already has a route to ${route.destination}${via} that tsnet did not make; remove it first`,
  )
}

/** The kernel gives IPv6 routes without a metric this one (IP6_RT_PRIO_USER in net/ipv6_route.h). */
const metricOf = (route: WantedRoute): number => (route.family === 6 ? 1024 : 0)
