import type { Endpoint, Family, Network, Route } from '../cnm/types.js'
import { invalid } from '../errors.js'
import { canonicalAddress } from '../net/cidr.js'
import { addressOf, familyOf, holds, parseSubnet } from '../net/subnets.js'
import { option } from '../options.js'

/** Of every driver whose endpoints have addresses: routes that all of a network's sandboxes and containers get. */
export const routesOption = option<Route[]>({
  default: [],
  parse: parseRoutes,
  help: 'routes of everything attached: CIDR,NEXTHOP, or a CIDR alone for what is on the link; several with semicolons in between',
})

function parseRoutes(text: string): Route[] {
  return text
    .split(';')
    .filter(Boolean)
    .map(part => {
      const [cidr = '', via, ...rest] = part.split(',').map(word => word.trim())
      if (rest.length > 0 || via === '') throw new Error('must be CIDR or CIDR,NEXTHOP, with semicolons in between')
      const destination = parseSubnet(cidr, 'route')
      if (destination.endsWith('/0')) throw new Error(`cannot have ${cidr}: the default route is the gateway's`)
      if (via === undefined) return { destination }
      const next = canonicalAddress(via, 'next hop')
      if (familyOf(next) !== familyOf(destination))
        throw new Error(`cannot send ${destination} by ${next}, which is of the other family`)
      return { destination, via: next }
    })
}

/** @throws {NetError} InvalidParameter: a next hop that nothing on the network could reach */
export function checkNetworkRoutes({ name, subnets }: Network, routes: readonly Route[]): void {
  for (const { destination, via } of routes) {
    const family = familyOf(destination)
    if (via === undefined ? !subnets.some(s => s.family === family) : !subnets.some(({ subnet }) => holds(subnet, via)))
      throw invalid(
        via === undefined
          ? `option routes: network ${name} has no IPv${family} subnet, which ${destination} needs`
          : `option routes: next hop ${via} is in no subnet of network ${name} (${subnets.map(({ subnet }) => subnet).join(', ')})`,
      )
  }
}

/** Those that an endpoint can use with the addresses that it has: not those that lead to itself. */
export function networkRoutes(network: Network, { addresses }: Endpoint, routes: readonly Route[]): Route[] {
  const own = network.subnets.filter(({ subnet }) => addresses.some(cidr => holds(subnet, addressOf(cidr))))
  const families = new Set<Family>(own.map(({ family }) => family))
  const isRouter = (via: string) => addresses.some(cidr => addressOf(cidr) === via)
  return routes.filter(({ destination, via }) =>
    via === undefined
      ? families.has(familyOf(destination))
      : !isRouter(via) && own.some(({ subnet }) => holds(subnet, via)),
  )
}
