import type { Family, PortBinding, PortSpec } from '../cnm/types.js'
import { invalid } from '../errors.js'
import { familyOf, isUnspecified } from '../ports/address.js'
import { parseSources } from '../ports/sources.js'
import { formatPortSpec, sizeOf } from '../ports/spec.js'
import { withUndo } from '../undo.js'
import { type HostPorts, hostHasIpv6 } from './host-ports.js'

export interface PublishTarget {
  /** CIDRs of the endpoint */
  addresses: readonly string[]
  /** host addresses for a `-p` without one; both absent: every address of the host */
  hostBinding4?: string
  hostBinding6?: string
  held: HostPorts
  /** endpoint name, for messages */
  owner: string
}

/**
 * Which host address and port each spec becomes. Ports that we choose are bound already, the others are not: hold every
 * binding that is returned, or release it.
 */
export function resolveBindings(specs: readonly PortSpec[], target: PublishTarget): Promise<PortBinding[]> {
  const { held, owner } = target
  const byNumber = (spec: PortSpec) =>
    spec.hostPort && sizeOf(spec.hostPort) === sizeOf(spec.containerPort) ? spec.hostPort : undefined
  return withUndo(async undo => {
    const bindings: PortBinding[] = []
    for (const spec of specs) {
      const { protocol, containerPort } = spec
      const size = sizeOf(containerPort)
      const pairs = addressPairs(spec, target)
      const from = parseSources(spec.from ?? [])
      const asked = { spec: formatPortSpec(spec), ...(from && { from }) }
      const bindingsAt = (hostPort: number) =>
        pairs.map(pair => ({ protocol, ...pair, hostPort, containerPort: containerPort.first, size, ...asked }))
      const exact = byNumber(spec)
      if (exact) {
        bindings.push(...bindingsAt(exact.first))
        continue
      }
      const avoid = new Set(specs.filter(s => s.protocol === protocol).flatMap(s => numbersOf(byNumber(s))))
      const hostIps = pairs.map(pair => pair.hostIp)
      const range = spec.hostPort
      const first = await held.choose({ protocol, hostIps, size, avoid, owner, ...(range && { range }) })
      for (const binding of bindingsAt(first)) {
        undo.add(`choose port ${first}`, () => held.release(binding))
        bindings.push(binding)
      }
    }
    return bindings
  })
}

const numbersOf = (range: { first: number; last: number } | undefined): number[] =>
  range ? Array.from({ length: sizeOf(range) }, (_, i) => range.first + i) : []

/** From which host addresses to which address of the endpoint. */
function addressPairs(spec: PortSpec, target: PublishTarget): { hostIp: string; containerIp: string }[] {
  const own = (family: Family) => target.addresses.map(a => a.split('/')[0] ?? a).find(a => familyOf(a) === family)
  const four = own(4)
  const six = own(6)
  // Only TCP can pass from a v6 host address to a v4 container: the daemon's listener is a proxy for it.
  const behind6 = six ?? (spec.protocol === 'tcp' ? four : undefined)
  if (spec.hostIp !== undefined) {
    const containerIp = familyOf(spec.hostIp) === 4 ? four : behind6
    if (containerIp !== undefined) return [{ hostIp: spec.hostIp, containerIp }]
    const lacks = familyOf(spec.hostIp) === 4 ? 'IPv4' : 'IPv6'
    throw invalid(
      `port ${formatPortSpec(spec)}: endpoint ${target.owner} has no ${lacks} address to publish at ${spec.hostIp}`,
    )
  }
  const { host4, host6 } = defaultHostIps(target)
  const pairs = [
    ...(four !== undefined && host4 !== undefined ? [{ hostIp: host4, containerIp: four }] : []),
    ...(behind6 !== undefined && host6 !== undefined ? [{ hostIp: host6, containerIp: behind6 }] : []),
  ]
  if (pairs.length === 0)
    throw invalid(
      `port ${formatPortSpec(spec)}: endpoint ${target.owner} has no address that a host address can lead to`,
    )
  return pairs
}

/** A network that names a host address means that one alone; none, or `0.0.0.0` as Docker's default says it, means every address. */
function defaultHostIps({ hostBinding4, hostBinding6 }: PublishTarget): { host4?: string; host6?: string } {
  if (hostBinding6 === undefined && (hostBinding4 === undefined || isUnspecified(hostBinding4)))
    return { host4: '0.0.0.0', ...(hostHasIpv6() && { host6: '::' }) }
  return {
    ...(hostBinding4 !== undefined && { host4: hostBinding4 }),
    ...(hostBinding6 !== undefined && { host6: hostBinding6 }),
  }
}
