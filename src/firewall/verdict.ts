import { holds } from '../net/subnets.js'
import { fieldsOf, listOf } from './elements.js'

/** A chain of another program as `nft -j` lists it: its rules' expressions, in order. */
export interface Chain {
  /** what happens at its end; absent for a chain that is jumped to */
  policy?: string
  rules: readonly (readonly unknown[])[]
}

/** What is known of the packets in question; whatever else a rule asks is unknown. */
export interface Packets {
  iifname?: string
  oifname?: string
  mark: number
  state: string
  status: string
  nfproto: string
  /** plain addresses */
  saddr?: string
  daddr?: string
  /** `tcp` */
  l4proto?: string
  sport?: number
  dport?: number
}

export type Verdict = { what: 'drop'; rule: string } | { what: 'accept' | 'end' | 'unknown' }

/**
 * What another program's chain does with packets, as far as it can be told: a rule that asks what we do not know may
 * have decided otherwise, so after one, nothing is certain. Pure.
 */
export function verdictOf(chain: Chain, packets: Packets, chains: ReadonlyMap<string, Chain>, depth = 0): Verdict {
  let uncertain = false
  for (const rule of chain.rules) {
    const decided = ruleVerdict(rule, packets, chains, depth)
    if ('returns' in decided) break
    if (decided.what === 'unknown') uncertain = true
    else if (decided.what !== 'end') return uncertain ? { what: 'unknown' } : decided
  }
  return atEnd(chain, uncertain)
}

function atEnd({ policy }: Chain, uncertain: boolean): Verdict {
  if (policy === undefined) return { what: uncertain ? 'unknown' : 'end' }
  if (policy !== 'drop') return { what: 'accept' }
  return uncertain ? { what: 'unknown' } : { what: 'drop', rule: 'policy drop' }
}

type Decided = Verdict | { what: 'end'; returns: true }

function ruleVerdict(
  rule: readonly unknown[],
  packets: Packets,
  chains: ReadonlyMap<string, Chain>,
  depth: number,
): Decided {
  let certain = true
  for (const expression of rule) {
    const [[kind = '', body] = []] = Object.entries(fieldsOf(expression))
    const matched = kind === 'match' ? matches(fieldsOf(body), packets) : true
    if (matched === false) return { what: 'end' }
    if (matched === undefined) certain = false
    if (kind === 'xt' && fieldsOf(body).type === 'match') certain = false
    const decided = statement(kind, body, rule, packets, chains, depth)
    if (decided === undefined) continue
    if (certain || decided.what === 'end') return 'returns' in decided && !certain ? { what: 'unknown' } : decided
    // a drop that depends on what we do not know is somebody's wish; an accept that does may be the way out
    return decided.what === 'drop' ? { what: 'end' } : { what: 'unknown' }
  }
  return { what: 'end' }
}

/** undefined: it decides nothing, as a counter does. */
function statement(
  kind: string,
  body: unknown,
  rule: readonly unknown[],
  packets: Packets,
  chains: ReadonlyMap<string, Chain>,
  depth: number,
): Decided | undefined {
  const target = fieldsOf(body)
  if (kind === 'accept') return { what: 'accept' }
  if (kind === 'return') return { what: 'end', returns: true }
  if (kind === 'drop' || kind === 'reject') return { what: 'drop', rule: textOf(rule) }
  if (kind === 'xt' && target.type === 'target')
    return target.name === 'REJECT' ? { what: 'drop', rule: textOf(rule) } : undefined
  if (kind === 'vmap') return vmap(target, rule, packets, chains, depth)
  if (kind !== 'jump' && kind !== 'goto') return undefined
  const next = chains.get(String(target.target))
  if (next === undefined || depth > 16) return { what: 'unknown' }
  const below = verdictOf(next, packets, chains, depth + 1)
  return kind === 'goto' && below.what === 'end' ? { what: 'end', returns: true } : below
}

/** `ct state vmap { established : accept, invalid : drop }` */
function vmap(
  { key, data }: Record<string, unknown>,
  rule: readonly unknown[],
  packets: Packets,
  chains: ReadonlyMap<string, Chain>,
  depth: number,
): Decided | undefined {
  const known = knownValue(key, packets)
  if (known === undefined) return { what: 'unknown' }
  for (const entry of listOf(fieldsOf(data).set)) {
    const [value, verdict] = listOf(entry)
    if (value !== known) continue
    const [[kind = '', body] = []] = Object.entries(fieldsOf(verdict))
    return statement(kind, body, rule, packets, chains, depth)
  }
  return undefined
}

function matches({ op, left, right }: Record<string, unknown>, packets: Packets): boolean | undefined {
  if (isOfAnother(left, packets)) return false
  const known = knownValue(left, packets)
  if (known === undefined) return undefined
  const found = isIn(known, right)
  if (found === undefined) return undefined
  return op === '!=' ? !found : found
}

function isIn(known: string | number, right: unknown): boolean | undefined {
  const set = fieldsOf(right).set
  const values = set === undefined ? (Array.isArray(right) ? right : [right]) : listOf(set)
  // a set by name: what it holds is not in the chain
  if (values.some(value => typeof value === 'string' && value.startsWith('@'))) return undefined
  return values.some(value => isValue(known, value))
}

function isValue(known: string | number, value: unknown): boolean {
  if (typeof value === 'string' && value.endsWith('*')) return String(known).startsWith(value.slice(0, -1))
  const { prefix, range } = fieldsOf(value)
  const { addr, len } = fieldsOf(prefix)
  if (addr !== undefined) return holds(`${addr}/${len}`, String(known))
  const [first, last] = listOf(range)
  if (typeof first === 'number') return Number(known) >= first && Number(known) <= Number(last)
  return String(value) === String(known)
}

/** A question about a header that the packets do not have matches none of them, however it is asked. */
function isOfAnother(left: unknown, { nfproto, l4proto }: Packets): boolean {
  const { protocol } = fieldsOf(fieldsOf(left).payload)
  if (protocol === 'ip' || protocol === 'ip6') return (protocol === 'ip' ? 'ipv4' : 'ipv6') !== nfproto
  return typeof protocol === 'string' && l4proto !== undefined && protocol !== 'th' && protocol !== l4proto
}

const addressFields: readonly unknown[] = ['saddr', 'daddr'] satisfies (keyof Packets)[]
const portFields: readonly unknown[] = ['sport', 'dport'] satisfies (keyof Packets)[]

function knownValue(left: unknown, packets: Packets): string | number | undefined {
  const { meta, ct, payload, '&': masked } = fieldsOf(left)
  const [whole, mask] = listOf(masked)
  if (typeof mask === 'number') {
    const value = knownValue(whole, packets)
    return typeof value === 'number' ? value & mask : undefined
  }
  const { field } = fieldsOf(payload)
  if (addressFields.includes(field) || portFields.includes(field)) return packets[field as 'saddr' | 'dport']
  if (field === 'protocol' || field === 'nexthdr') return packets.l4proto
  const key = String(fieldsOf(meta ?? ct).key)
  if (meta !== undefined) {
    const { iifname, oifname, mark, nfproto, l4proto } = packets
    return { iifname, oifname, mark, nfproto, l4proto }[key]
  }
  if (ct !== undefined) return { state: packets.state, status: packets.status }[key]
  return undefined
}

/** A rule as iptables writes it, or in words near to nft's own; counters left out. */
function textOf(rule: readonly unknown[]): string {
  const { iptables } = fieldsOf(rule[0])
  if (typeof iptables === 'string') return iptables
  return rule
    .map(fieldsOf)
    .filter(expression => !('counter' in expression))
    .map(expression => {
      const [[kind = '', body] = []] = Object.entries(expression)
      if (kind === 'xt') return String(fieldsOf(body).name)
      if (kind !== 'match') return kind
      const { op, left, right } = fieldsOf(body)
      return [side(left), ...(op === '==' || op === 'in' ? [] : [op]), side(right)].join(' ')
    })
    .join(' ')
}

function side(value: unknown): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const { meta, ct, payload, set } = fieldsOf(value)
  if (meta !== undefined) return String(fieldsOf(meta).key)
  if (ct !== undefined) return `ct ${fieldsOf(ct).key}`
  if (payload !== undefined) return `${fieldsOf(payload).protocol} ${fieldsOf(payload).field}`
  return `{ ${listOf(set ?? value)
    .map(side)
    .join(', ')} }`
}
