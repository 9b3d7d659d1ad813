import { fail, ok } from '../cnm/diagnosis.js'
import type { PortBinding } from '../cnm/types.js'
import { modeOf } from '../drivers/bridged/modes.js'
import { holds } from '../net/subnets.js'
import { familyOf } from '../ports/address.js'
import { type End, familyOfEnd, type Wanted } from './ends.js'
import type { Hop } from './hops.js'

// Endpoints that are reached at their own addresses from elsewhere: gateway modes, and links of the host that are trusted.

type Options = Parameters<typeof modeOf>[0]['options'] & { trusted_interfaces?: readonly string[] }

/**
 * What the gateway mode of an end's network says of packets from another network or another machine; undefined where it says
 * nothing of them, and endpoints are reached by ports of the host only.
 * @param comesBy the link by which they come to this host, of those from another machine
 */
export function directHop(from: End, to: End, wanted: Wanted, comesBy: string | undefined): Hop | undefined {
  const network = to.on?.network
  if (network === undefined || network.internal) return undefined
  const options = network.options as Options
  const mode = modeOf({ options }, familyOfEnd(to))
  const what = `network ${network.name}`
  if (mode === 'nat-unprotected') return ok(what, `its gateway mode is ${mode}: all ports of ${to.name} are reached`)
  const trusted = comesBy !== undefined && options.trusted_interfaces?.includes(comesBy)
  if (mode !== 'routed' && !trusted) return undefined
  const because = mode === 'routed' ? 'its gateway mode is routed' : `it trusts link ${comesBy}`
  if (wanted.port === undefined && mode === 'routed') return ok(what, `${because}: ${to.name} answers pings`)
  const binding = publishedBy(to.on?.endpoint.bindings ?? [], wanted)
  const port = wanted.port === undefined ? 'ping' : `port ${wanted.port}/${wanted.protocol}`
  if (binding === undefined)
    return fail(
      'ports',
      `${because}, so ${to.name} is reached at its own address, but ${port} of it is not published`,
      `tsnet publish add ${to.name} ${wanted.port ?? 'PORT'}`,
    )
  if (isClient(binding, from))
    return ok(what, `${because}: ${port} of ${to.name} is published, and reached at its own address`)
  return fail('clients', clientWords(`${port} of ${to.name}`, binding, from), `tsnet publish ls ${to.name}`)
}

/** The binding that makes an endpoint's port reachable. */
export const publishedBy = (
  bindings: readonly PortBinding[],
  { port = 0, protocol }: Wanted,
): PortBinding | undefined =>
  bindings.find(
    each => each.protocol === protocol && port >= each.containerPort && port < each.containerPort + each.size,
  )

/** It is published for everybody, or for this one. */
export const isClient = ({ from: clients }: PortBinding, { address }: End): boolean =>
  clients === undefined || clients.some(cidr => familyOf(cidr) === familyOf(address) && holds(cidr, address))

export const clientWords = (what: string, { from: clients = [] }: PortBinding, { address }: End): string =>
  `${what} is published for ${clients.join(', ')} only, and ${address} is not in there`
