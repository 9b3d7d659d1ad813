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
  /** the same as lists: at each of them, with one port */
  hosts?: Readonly<Record<Family, readonly string[]>>
  /** CIDRs of the clients of specs that name none; none: everybody */
  from?: readonly string[]
  /** families in which the endpoint is reached at its own address: no port of the host is used */
  direct?: ReadonlySet<Family>
  /** name of the network, for messages */
  network?: string
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
      const from = parseSources(spec.from ?? target.from ?? [])
      const asked = { spec: formatPortSpec(spec), ...(from && { from }) }
      const bindingsAt = (hostPort: number): PortBinding[] =>
        pairs.map(pair => ({
          ...{ protocol, ...pair, hostPort: pair.direct ? containerPort.first : hostPort },
          ...{ containerPort: containerPort.first, size, ...asked },
        }))
      const exact = byNumber(spec)
      const hostIps = pairs.filter(({ direct }) => !direct).map(pair => pair.hostIp)
      if (exact || hostIps.length === 0) {
        bindings.push(...bindingsAt(exact?.first ?? containerPort.first))
        continue
      }
      const avoid = new Set(specs.filter(s => s.protocol === protocol).flatMap(s => numbersOf(byNumber(s))))
      const range = spec.hostPort
      const first = await held.choose({ protocol, hostIps, size, avoid, owner, ...(range && { range }) })
      const chosen = bindingsAt(first)
      undo.add(`choose port ${first}`, () => held.release(chosen))
      bindings.push(...chosen)
    }
    return bindings
  })
}

const numbersOf = (range: { first: number; last: number } | undefined): number[] =>
  range ? Array.from({ length: sizeOf(range) }, (_, i) => range.first + i) : []

type Pair = Pick<PortBinding, 'hostIp' | 'containerIp' | 'direct'>

/** From which host addresses to which address of the endpoint. */
function addressPairs(spec: PortSpec, target: PublishTarget): Pair[] {
  const own = (family: Family) => target.addresses.map(a => a.split('/')[0] ?? a).find(a => familyOf(a) === family)
  const four = own(4)
  const six = own(6)
  const isDirect = (family: Family): boolean => target.direct?.has(family) === true
  // From IPv6 to IPv4 the daemon carries what comes: datagrams only by a single address, which is then the one that answers.
  const behind6 = (hostIp: string) =>
    six ?? (spec.protocol === 'tcp' || (spec.protocol === 'udp' && !isUnspecified(hostIp)) ? four : undefined)
  if (spec.hostIp !== undefined) {
    const itself = own(familyOf(spec.hostIp))
    if (itself !== undefined && isDirect(familyOf(itself))) return [directPair(itself, spec, target)]
    const containerIp = familyOf(spec.hostIp) === 4 ? four : behind6(spec.hostIp)
    if (containerIp !== undefined) return [{ hostIp: spec.hostIp, containerIp }]
    const lacks = familyOf(spec.hostIp) === 4 ? 'IPv4' : 'IPv6'
    throw invalid(
      `port ${formatPortSpec(spec)}: endpoint ${target.owner} has no ${lacks} address to publish at ${spec.hostIp}`,
    )
  }
  const hosts = target.hosts ?? defaultHostIps(target)
  const via = (hostIps: readonly string[], containerIp: string | undefined): Pair[] => {
    if (containerIp === undefined) return []
    if (isDirect(familyOf(containerIp))) return [directPair(containerIp, spec, target)]
    return hostIps.map(hostIp => ({ hostIp, containerIp }))
  }
  const hosts6 = hostHasIpv6() ? hosts[6] : []
  // without a port of the host in IPv4, there is none for a carrier either
  const carried = six === undefined && !isDirect(4) ? hosts6.flatMap(host => via([host], behind6(host))) : []
  const pairs = [...via(hosts[4], four), ...via(hosts6, six), ...carried]
  if (pairs.length === 0)
    throw invalid(
      `port ${formatPortSpec(spec)}: endpoint ${target.owner} has no address that a host address can lead to`,
    )
  return pairs
}

/** The port is reached at the endpoint's own address: whoever names one of the host's means that the port is nowhere else. */
function directPair(address: string, spec: PortSpec, { network }: PublishTarget): Pair {
  if (spec.hostIp !== undefined && !isUnspecified(spec.hostIp))
    throw invalid(
      `port ${formatPortSpec(spec)}: network ${network} routes IPv${familyOf(address)}, so the port would be open at ${address} instead of ${spec.hostIp}: leave the host's address out`,
    )
  return { hostIp: address, containerIp: address, direct: true }
}

/** A network that names a host address means that one alone; none, or `0.0.0.0` as Docker's default says it, means every address. */
function defaultHostIps({ hostBinding4, hostBinding6 }: PublishTarget): Record<Family, string[]> {
  if (hostBinding6 === undefined && (hostBinding4 === undefined || isUnspecified(hostBinding4)))
    return { 4: ['0.0.0.0'], 6: ['::'] }
  return { 4: hostBinding4 === undefined ? [] : [hostBinding4], 6: hostBinding6 === undefined ? [] : [hostBinding6] }
}
