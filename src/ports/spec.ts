import type { PortBinding, PortRange, PortSpec, Protocol } from '../cnm/types.js'
import { invalid } from '../errors.js'
import { canonicalAddress, familyOf, formatHostPort, isUnspecified } from './address.js'

export const protocols: readonly Protocol[] = ['tcp', 'udp', 'sctp']

/**
 * `-p` as Docker writes it: `[ip:][hostPort[-end]:]containerPort[-end][/tcp|udp|sctp]`, where an empty host port asks for a free one
 * and an IPv6 address stands in brackets. Throws InvalidParameter. (docs: `docker run --publish`; moby: vendor/github.com/docker/go-connections/nat)
 */
export function parsePortSpec(text: string): PortSpec {
  const fail = (why: string) => invalid(`port ${JSON.stringify(text)}: ${why}`)
  const [ports = '', protocol = 'tcp', ...rest] = text.split('/')
  if (rest.length > 0 || !isProtocol(protocol))
    throw fail(`the protocol is one of ${protocols.join(', ')}, after one slash: 80/udp`)

  const fields = /^(?:\[([^\]]*)\]:|([^:[\]]*):(?=[^:]*:))?(?:([^:[\]]*):)?([^:[\]]+)$/.exec(ports)
  if (!fields) throw fail('write [ip:][hostPort:]containerPort[/protocol], with an IPv6 address in brackets')
  const [, ip6, ip4, host, container = ''] = fields
  // `[v6]:80` alone would be an address without a host port: Docker wants `[v6]::80`.
  if (ip6 !== undefined && host === undefined)
    throw fail(`write [${ip6}]::${container} for a free port of that address`)

  const containerPort = parseRange(container, fail)
  const spec: PortSpec = { protocol, containerPort }
  const address = ip6 ?? ip4
  if (address !== undefined && address !== '') spec.hostIp = parseHostIp(address, ip6 === undefined ? 4 : 6, fail)
  if (host !== undefined && host !== '') spec.hostPort = parseRange(host, fail)
  checkSizes(spec, fail)
  return spec
}

/** The shortest text that parses to the same spec. */
export function formatPortSpec(spec: PortSpec): string {
  const host = spec.hostPort ? formatRange(spec.hostPort) : ''
  const container = formatRange(spec.containerPort)
  const ports =
    spec.hostIp !== undefined
      ? `${formatHostPort(spec.hostIp, host)}:${container}`
      : host === ''
        ? container
        : `${host}:${container}`
  return spec.protocol === 'tcp' ? ports : `${ports}/${spec.protocol}`
}

/** What asked for a binding, as `formatPortSpec` writes it; for records of 0.1, which do not say, as good as can be. */
export const specOf = ({ spec, protocol, hostIp, hostPort, containerPort, size }: PortBinding): string =>
  spec ??
  formatPortSpec({
    protocol,
    ...(isUnspecified(hostIp) ? {} : { hostIp }),
    hostPort: rangeOf(hostPort, size),
    containerPort: rangeOf(containerPort, size),
  })

/**
 * Whether two bindings cannot be there at the same time: they have a host port in common, at one address or at every one. What
 * needs no port of the host is in nobody's way.
 */
export const clash = (a: PortBinding, b: PortBinding): boolean =>
  !a.direct &&
  !b.direct &&
  a.protocol === b.protocol &&
  a.hostPort < b.hostPort + b.size &&
  b.hostPort < a.hostPort + a.size &&
  familyOf(a.hostIp) === familyOf(b.hostIp) &&
  (a.hostIp === b.hostIp || isUnspecified(a.hostIp) || isUnspecified(b.hostIp))

/** As `docker ps` shows it: `0.0.0.0:8080->80/tcp`, `[::]:9000-9002->9000-9002/tcp`. */
export function formatBinding(binding: PortBinding): string {
  const { protocol, hostIp, hostPort, containerPort, size } = binding
  const host = formatHostPort(hostIp, formatRange(rangeOf(hostPort, size)))
  return `${host}->${formatRange(rangeOf(containerPort, size))}/${protocol}`
}

export const rangeOf = (first: number, size: number): PortRange => ({ first, last: first + size - 1 })
export const sizeOf = (range: PortRange): number => range.last - range.first + 1

/** `80`, `9000-9002` */
export const formatRange = (range: PortRange): string =>
  range.first === range.last ? String(range.first) : `${range.first}-${range.last}`

type Fail = (why: string) => Error

const isProtocol = (word: string): word is Protocol => (protocols as readonly string[]).includes(word)

function parseRange(text: string, fail: Fail): PortRange {
  const [, first = '', last = first] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text) ?? []
  const range = { first: Number(first), last: Number(last) }
  if (first === '' || range.first < 1 || range.last > 65535)
    throw fail(`${JSON.stringify(text)} is no port: a number from 1 to 65535, or a range FIRST-LAST of them`)
  if (range.last < range.first) throw fail(`the range ${text} ends before it begins`)
  return range
}

function parseHostIp(text: string, family: 4 | 6, fail: Fail): string {
  const address = canonicalAddress(text)
  if (address === undefined || familyOf(address) !== family)
    throw fail(`${JSON.stringify(text)} is no address of the host (IPv4, or IPv6 in brackets)`)
  return address
}

/** A host range beside one container port means "one of these"; beside a container range they go in pairs. */
export const arePairs = (hostPort: PortRange | undefined, containerPort: PortRange): boolean =>
  hostPort === undefined || sizeOf(containerPort) === 1 || sizeOf(hostPort) === sizeOf(containerPort)

function checkSizes({ hostPort, containerPort }: PortSpec, fail: Fail): void {
  if (hostPort !== undefined && !arePairs(hostPort, containerPort))
    throw fail(
      `${sizeOf(hostPort)} host ports for ${sizeOf(containerPort)} container ports: ranges must be equally long`,
    )
}
