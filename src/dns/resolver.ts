import { isIPv6 } from 'node:net'
import type { Zone } from './zone.js'

/** Who asks, as far as the answer depends on it. */
export interface Asker {
  /** the networks it is on */
  zones: readonly Zone[]
  /** it may reach the outside by name: one of its networks is not internal, or it brought servers of its own */
  external: boolean
}

export interface Question {
  name: string
  /** `A`, or `UNKNOWN_65` */
  type: string
  class: string
}

export type Decision =
  | { kind: 'answer'; type: 'A' | 'AAAA' | 'PTR'; data: readonly string[] }
  /** the name is known and has nothing of the asked type: NOERROR without records, so that nobody looks elsewhere for it */
  | { kind: 'empty' }
  | { kind: 'forward' }
  /** there is no such name, as far as this asker may know */
  | { kind: 'nxdomain' }

/** What becomes of a question. Pure but for the order of several addresses, which is another one each time. */
export function decide({ name, type, class: world }: Question, { zones, external }: Asker): Decision {
  const elsewhere: Decision = { kind: external ? 'forward' : 'nxdomain' }
  if (world !== 'IN' && world !== 'ANY') return elsewhere
  if (type === 'PTR') {
    const found = zones.flatMap(zone => zone.nameOf(name) ?? [])
    if (found.length > 0) return { kind: 'answer', type, data: found }
  }
  const known = zones.flatMap(zone => zone.addressesOf(name) ?? [])
  if (known.length === 0)
    return zones.some(zone => zone.addressesOf(name) !== undefined) ? { kind: 'empty' } : elsewhere
  if (type !== 'A' && type !== 'AAAA') return { kind: 'empty' }
  const data = [...new Set(known)].filter(address => isIPv6(address) === (type === 'AAAA'))
  return data.length === 0 ? { kind: 'empty' } : { kind: 'answer', type, data: shuffled(data) }
}

/** Fisher and Yates: clients that take the first address spread over all of them. */
function shuffled(list: string[]): string[] {
  for (let last = list.length - 1; last > 0; last--) {
    const other = Math.floor(Math.random() * (last + 1))
    const taken = list[last] as string
    list[last] = list[other] as string
    list[other] = taken
  }
  return list
}
