import type { PortBinding, Protocol } from '../cnm/types.js'
import { familyOf } from '../ports/address.js'
import { parseSources } from '../ports/sources.js'
import { rangeOf } from '../ports/spec.js'
import type { Element } from './elements.js'

/**
 * What the firewall must hold for an endpoint's ports to be reached at the endpoint's own address: of all of its bindings together,
 * since several may lead to one port (8080:80 and 8081:80), and a set takes no two ranges that share one. Pure.
 */
export function openElements(bindings: readonly PortBinding[]): Element[] {
  const places = new Map<string, PortBinding[]>()
  for (const binding of bindings) {
    const key = `${binding.protocol} ${binding.containerIp}`
    places.set(key, [...(places.get(key) ?? []), binding])
  }
  return [...places.values()].flatMap(openAt)
}

/** All of one protocol and address. */
function openAt(bindings: readonly PortBinding[]): Element[] {
  const [{ protocol, containerIp }] = bindings as [PortBinding]
  return segmentsOf(bindings).flatMap(({ first, end, from }) => {
    const ports = rangeOf(first, end - first)
    if (from !== undefined || end - first > 1)
      return (from ?? [undefined]).map(s => some(protocol, containerIp, ports, s))
    const one = { protocol, containerIp, containerPort: first }
    return [familyOf(containerIp) === 4 ? { set: 'open4', ...one } : { set: 'open6', ...one }]
  })
}

function some(
  protocol: Protocol,
  containerIp: string,
  ports: { first: number; last: number },
  source: string | undefined,
): Element {
  const at = { protocol, containerIp, ports }
  return familyOf(containerIp) === 4
    ? { set: 'open4_from', ...at, sources: source ?? '0.0.0.0/0' }
    : { set: 'open6_from', ...at, sources: source ?? '::/0' }
}

interface Segment {
  first: number
  /** the port behind the last */
  end: number
  /** absent: everybody */
  from: string[] | undefined
}

/** The ports cut wherever a binding begins or ends, each piece with all who may come by any binding. */
function segmentsOf(bindings: readonly PortBinding[]): Segment[] {
  const coming = [...bindings].sort((a, b) => a.containerPort - b.containerPort)
  const cuts = [...new Set(bindings.flatMap(({ containerPort, size }) => [containerPort, containerPort + size]))]
  cuts.sort((a, b) => a - b)
  const segments: Segment[] = []
  let next = 0
  let here: PortBinding[] = []
  for (const [i, first] of cuts.entries()) {
    here = here.filter(({ containerPort, size }) => first < containerPort + size)
    for (; coming[next]?.containerPort === first; next++) here.push(coming[next] as PortBinding)
    if (here.length > 0) segments.push({ first, end: cuts[i + 1] ?? first + 1, from: sourcesOf(here) })
  }
  return segments
}

function sourcesOf(bindings: readonly PortBinding[]): string[] | undefined {
  if (bindings.some(({ from }) => from === undefined)) return undefined
  const own = familyOf(bindings[0]?.containerIp ?? '')
  const sources = bindings.flatMap(({ from = [] }) => from).filter(source => familyOf(source) === own)
  return sources.length === 0 ? [] : parseSources(sources)
}
