import { fail, ok } from '../cnm/diagnosis.js'
import type { Network } from '../cnm/types.js'
import type { End } from './ends.js'
import type { Hop } from './hops.js'

// Endpoints that are machines of a LAN (macvlan): the host's rules are not on their way, and the host itself is no neighbour.

interface Options {
  parent?: string
  mode?: string
  host_access?: boolean
}

/** A network on whose LAN a link of the host is. */
export const isLan = (network: Network | undefined): boolean => network?.driver === 'macvlan'

const optionsOf = ({ options }: Network): Options => (options ?? {}) as Options

/** What macvlan itself says of a way; undefined where one end is neither on its LAN nor beyond it, and the usual rules hold. */
export function lanHop(from: End, to: End): Hop | undefined {
  const [a, b] = [from.on?.network, to.on?.network]
  if (a !== undefined && b !== undefined) return isLan(a) && isLan(b) ? together(from, to, a, b) : undefined
  const [inside, other, network] = a === undefined ? [to, from, b] : [from, to, a]
  if (network === undefined || !isLan(network)) return undefined
  if (other.kind === 'host') return besideHost(inside, other, network)
  if (other.kind !== 'outside' || network.internal) return undefined
  return ok('policy', `${inside.name} is a machine of the LAN that ${placeOf(network)} is on`)
}

function together(from: End, to: End, a: Network, b: Network): Hop | undefined {
  const own = from.on?.endpoint.id === to.on?.endpoint.id
  const isolated = [a, b].find(network => optionsOf(network).mode === 'private')
  const same = a.id === b.id || (optionsOf(a).parent !== '' && optionsOf(a).parent === optionsOf(b).parent)
  if (!same) return undefined
  if (isolated === undefined || own) return ok('policy', `both are on the LAN of ${placeOf(a)}`)
  return fail(
    'network',
    `network ${isolated.name} has mode=private: its endpoints reach nobody who is on ${placeOf(isolated)} as well`,
    'tsnet network create ... --driver macvlan -o mode=bridge    # and attach both to that',
  )
}

/** The kernel hands no frame from a link to the macvlans that stand on it (drivers/net/macvlan.c, macvlan_queue_xmit). */
function besideHost({ name }: End, { address }: End, network: Network): Hop | undefined {
  if (optionsOf(network).host_access) return undefined
  return fail(
    'network',
    `${name} is on network ${network.name}, and the host, ${address}, and the macvlans on a link of its own do not reach each other`,
    'tsnet network create ... --driver macvlan -o host_access=true    # and attach it to that',
  )
}

const placeOf = (network: Network): string => optionsOf(network).parent || network.name
