import { createHash } from 'node:crypto'
import type { Family } from '../cnm/types.js'
import { formatRange } from '../ports/spec.js'
import { type Element, fieldNames, formatElement, type GuardSetName, type SetName, sets, tableOf } from './elements.js'

/**
 * ruleset.nft in the words of iptables: every set is a chain of ours, every element one rule or a few in it. What is said
 * there of the rules' meaning holds here. The price: rules are tried one after the other, where nftables looks up once.
 */
export type TableName = 'raw' | 'mangle' | 'nat' | 'filter'

export interface Rule {
  family: Family
  table: TableName
  chain: string
  /** as iptables takes it, without comment */
  spec: string
  /** before what is in the chain already, rather than after it */
  first?: boolean
}

/** Bit of the packet mark for what leaves a masqueraded network: POSTROUTING does not know by which link a packet came. */
const masqueradeBit = '0x1000000'
const acceptBit = '0x800000'

const families = [4, 6] as const
const loopback = '127.0.0.0/8'
const both = (table: TableName, chain: string, spec: string, first = false): Rule[] =>
  families.map(family => ({ family, table, chain, spec, first }))
const one = (family: Family, table: TableName, chain: string, spec: string, first = false): Rule => ({
  family,
  table,
  chain,
  spec,
  first,
})

/** The spoof guard has no rows: iptables sees no frames (backend.ts). */
type RuleSetName = Exclude<SetName, GuardSetName>
type Rows = { [S in RuleSetName]: (element: Extract<Element, { set: S }>) => Rule[] }

interface At {
  protocol: string
  hostIp?: string
  hostPort?: number
  ports?: { first: number; last: number }
}
const at = ({ protocol, hostIp, hostPort, ports }: At): string =>
  `-p ${protocol}${hostIp === undefined ? '' : ` -d ${hostIp}`} -m ${protocol} --dport ${portText(hostPort, ports)}`
const portText = (hostPort: number | undefined, ports: At['ports']): string =>
  ports === undefined ? String(hostPort) : formatRange(ports).replace('-', ':')

type To = { containerIp: string; containerPort?: number }
const to = ({ containerIp, containerPort }: To): string => {
  if (containerPort === undefined) return `-j DNAT --to-destination ${containerIp}`
  return `-j DNAT --to-destination ${containerIp.includes(':') ? `[${containerIp}]` : containerIp}:${containerPort}`
}
const publish =
  (family: Family, chain: string) =>
  (element: At & To): Rule[] => [one(family, 'nat', chain, `${at(element)} ${to(element)}`)]

interface Clients {
  protocol: string
  hosts: string
  ports: { first: number; last: number }
}
const limited =
  (family: Family) =>
  ({ hosts, ...element }: Clients): Rule[] => [
    one(family, 'mangle', 'TSNET-CLIENTS', `${at({ ...element, hostIp: hosts })} -j DROP`),
  ]
/** Before those that drop the others: iptables has no "in this set, but not in that". */
const from =
  (family: Family) =>
  ({ hosts, sources, ...element }: Clients & { sources: string }): Rule[] => [
    one(family, 'mangle', 'TSNET-CLIENTS', `-s ${sources} ${at({ ...element, hostIp: hosts })} -j RETURN`, true),
  ]
const loopbackOnly = (element: At): Rule[] => [one(4, 'raw', 'TSNET-LOCAL', `! -i lo ${at(element)} -j DROP`)]
const ownNet =
  (family: Family) =>
  ({ link, subnet }: { link: string; subnet: string }): Rule[] => [
    one(family, 'nat', 'TSNET-HAIRPIN', `-s ${subnet} -o ${link} -m conntrack --ctstate DNAT -j MASQUERADE`),
  ]
const masquerade =
  (family: Family) =>
  ({ link }: { link: string }): Rule[] => [
    one(family, 'mangle', 'TSNET-MASQ', `-i ${link} -j MARK --set-xmark ${masqueradeBit}/${masqueradeBit}`),
  ]
const routed =
  (family: Family) =>
  ({ link }: { link: string }): Rule[] => [
    one(family, 'filter', 'TSNET-DIRECT', `-p ${family === 4 ? 'icmp' : 'ipv6-icmp'} -o ${link} -j TSNET-OURS`),
    one(family, 'filter', 'TSNET-DIRECT', `-o ${link} -j TSNET-OPEN`),
  ]
const unprotected =
  (family: Family) =>
  ({ link }: { link: string }): Rule[] => [one(family, 'filter', 'TSNET-DIRECT', `-o ${link} -j TSNET-OURS`)]
const isolated =
  (family: Family) =>
  ({ link }: { link: string }): Rule[] => [
    one(family, 'raw', 'TSNET-LOCAL', `-i ${link} -m addrtype --dst-type LOCAL -j DROP`),
  ]

interface Open {
  protocol: string
  containerIp: string
  containerPort?: number
  ports?: { first: number; last: number }
  sources?: string
}
const open =
  (family: Family) =>
  ({ containerIp, containerPort, sources, ...element }: Open): Rule[] => {
    const from = sources === undefined || sources.endsWith('/0') ? '' : `-s ${sources} `
    const place = at({
      ...element,
      hostIp: containerIp,
      ...(containerPort !== undefined && { hostPort: containerPort }),
    })
    return [one(family, 'filter', 'TSNET-OPEN', `${from}${place} -j TSNET-OURS`)]
  }
/** Before the masquerading of everything else. */
const snat =
  (family: Family) =>
  ({ subnet, hostIp }: { subnet: string; hostIp: string }): Rule[] => [
    one(family, 'nat', 'TSNET-SNAT', `-s ${subnet} -j SNAT --to-source ${hostIp}`),
  ]

/** One row for each set: a new kind of element is a line here. */
const rows: Rows = {
  publish4: publish(4, 'TSNET-PORT'),
  publish4_range: publish(4, 'TSNET-RANGE'),
  publish4_any: publish(4, 'TSNET-ANYPORT'),
  publish4_any_range: publish(4, 'TSNET-ANYRANGE'),
  publish6: publish(6, 'TSNET-PORT'),
  publish6_range: publish(6, 'TSNET-RANGE'),
  publish6_any: publish(6, 'TSNET-ANYPORT'),
  publish6_any_range: publish(6, 'TSNET-ANYRANGE'),
  limited4: limited(4),
  limited6: limited(6),
  from4: from(4),
  from6: from(6),
  lo_only: loopbackOnly,
  lo_only_range: loopbackOnly,
  bridges: ({ link }) => [
    one(4, 'raw', 'TSNET-LOCAL', `-d ${loopback} -i ${link} -j DROP`),
    one(4, 'raw', 'TSNET-LOCAL', `-s ${loopback} -i ${link} -j DROP`),
    one(4, 'nat', 'TSNET-HAIRPIN', `-s ${loopback} -o ${link} -m conntrack --ctstate DNAT -j MASQUERADE`),
    ...both('nat', 'TSNET-OUT', `-o ${link} -j RETURN`, true),
    ...both('filter', 'TSNET-FORWARD', `-i ${link} -j TSNET-GATE`),
    ...both('filter', 'TSNET-FORWARD', `-o ${link} -j TSNET-GATE`),
    ...both('filter', 'TSNET-TO', `-o ${link} -j TSNET-OURS`),
    ...both('filter', 'TSNET-CLOSED', `-o ${link} -j DROP`),
  ],
  internal: ({ link }) => [
    ...both('filter', 'TSNET-INTERNAL', `-i ${link} -j DROP`),
    ...both('filter', 'TSNET-INTERNAL', `-o ${link} -j DROP`),
  ],
  others: ({ link }) => both('filter', 'TSNET-OTHERS', `-o ${link} -j RETURN`, true),
  intra: ({ from, to: link }) => both('filter', 'TSNET-INTRA', `-i ${from} -o ${link} -j TSNET-OURS`),
  clamped: ({ link }) =>
    ['-i', '-o'].flatMap(way =>
      both('mangle', 'TSNET-CLAMP', `${way} ${link} -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu`),
    ),
  masquerade4: masquerade(4),
  masquerade6: masquerade(6),
  own_net4: ownNet(4),
  own_net6: ownNet(6),
  apart: ({ from, to: link }) => both('filter', 'TSNET-APART', `-i ${from} -o ${link} -j DROP`),
  routed4: routed(4),
  routed6: routed(6),
  unprotected4: unprotected(4),
  unprotected6: unprotected(6),
  isolated4: isolated(4),
  isolated6: isolated(6),
  trusted: ({ from, to: link }) => both('filter', 'TSNET-DIRECT', `-i ${from} -o ${link} -j TSNET-OPEN`),
  open4: open(4),
  open6: open(6),
  open4_from: open(4),
  open6_from: open(6),
  snat4: snat(4),
  snat6: snat(6),
}

/** What an element is in the kernel. Throws InvalidParameter on a value that is none. */
export function elementRules(element: Element): Rule[] {
  formatElement(element)
  if (tableOf(element.set) !== 'inet') throw new Error(`iptables has no rules for ${element.set}`)
  return (rows[element.set as RuleSetName] as (element: Element) => Rule[])(element)
}

const jumps = (table: TableName, chain: string, ...targets: string[]): Rule[] =>
  targets.flatMap(target => both(table, chain, `-j ${target}`))

/** The chains' own rules, in order: they never change. */
export const fixedRules: Rule[] = [
  one(6, 'nat', 'TSNET-PUBLISH', '-d ::1/128 -j RETURN'),
  one(6, 'nat', 'TSNET-PUBLISH', '-s fe80::/10 -j RETURN'),
  ...jumps('nat', 'TSNET-PUBLISH', 'TSNET-PORT', 'TSNET-RANGE', 'TSNET-ANYPORT', 'TSNET-ANYRANGE'),
  ...jumps('nat', 'TSNET-POST', 'TSNET-HAIRPIN'),
  ...both('nat', 'TSNET-POST', `-m mark --mark ${masqueradeBit}/${masqueradeBit} -j TSNET-OUT`),
  ...jumps('nat', 'TSNET-OUT', 'TSNET-SNAT'),
  ...both('nat', 'TSNET-OUT', '-j MASQUERADE'),
  ...both('filter', 'TSNET-GATE', '-m conntrack --ctstate RELATED,ESTABLISHED -j TSNET-OURS'),
  ...jumps('filter', 'TSNET-GATE', 'TSNET-INTRA', 'TSNET-INTERNAL'),
  ...both('filter', 'TSNET-GATE', '-m conntrack --ctstate DNAT -j TSNET-TO'),
  ...jumps('filter', 'TSNET-GATE', 'TSNET-APART', 'TSNET-DIRECT', 'TSNET-CLOSED', 'TSNET-OTHERS'),
  ...both('filter', 'TSNET-OTHERS', '-j TSNET-OURS'),
  ...both('filter', 'TSNET-OURS', `-j MARK --set-xmark ${acceptBit}/${acceptBit}`),
  ...both('filter', 'TSNET-OURS', '-j ACCEPT'),
]

/** How packets come to our chains: in the kernel's own chains, before all else, but for what dockerd leaves to the administrator. */
export const hooks: Rule[] = [
  ...jumps('raw', 'PREROUTING', 'TSNET-LOCAL'),
  // what nftables looks at in prerouting's nat: first packets alone, not those that the host sends to itself; nat may not drop here
  ...both('mangle', 'PREROUTING', '! -i lo -m addrtype --dst-type LOCAL -m conntrack --ctstate NEW -j TSNET-CLIENTS'),
  ...jumps('mangle', 'FORWARD', 'TSNET-MASQ', 'TSNET-CLAMP'),
  ...both('nat', 'PREROUTING', '-m addrtype --dst-type LOCAL -j TSNET-PUBLISH'),
  ...both('nat', 'OUTPUT', '-m addrtype --dst-type LOCAL -j TSNET-PUBLISH'),
  ...jumps('nat', 'POSTROUTING', 'TSNET-POST'),
  ...jumps('filter', 'FORWARD', 'TSNET-FORWARD'),
]

/** Every chain of ours, by table. */
export const ownChains: Record<TableName, string[]> = {
  raw: ['TSNET-LOCAL'],
  mangle: ['TSNET-CLIENTS', 'TSNET-MASQ', 'TSNET-CLAMP'],
  nat: [
    'TSNET-PUBLISH',
    'TSNET-PORT',
    'TSNET-RANGE',
    'TSNET-ANYPORT',
    'TSNET-ANYRANGE',
    'TSNET-POST',
    'TSNET-HAIRPIN',
    'TSNET-OUT',
    'TSNET-SNAT',
  ],
  filter: [
    'TSNET-FORWARD',
    'TSNET-GATE',
    'TSNET-INTRA',
    'TSNET-INTERNAL',
    'TSNET-TO',
    'TSNET-APART',
    'TSNET-DIRECT',
    'TSNET-OPEN',
    'TSNET-CLOSED',
    'TSNET-OTHERS',
    'TSNET-OURS',
  ],
}
export const tableNames = Object.keys(ownChains) as TableName[]

/** The comment of rules that are no element's: it says which text made them. */
export const fixedComment = `tsnet ${createHash('sha256')
  .update(JSON.stringify([fixedRules, hooks]))
  .digest('hex')
  .slice(0, 12)}`

/** The comment that says whose rule it is, for us to read back: `["bridges","br-web"]`. */
export function elementComment(element: Element): string {
  const row = element as unknown as Record<string, unknown>
  return JSON.stringify([element.set, ...fieldNames(element.set).map(field => row[field])])
}

/** Undefined for what we cannot have written. */
export function parseComment(comment: string): Element | undefined {
  try {
    const [set, ...values] = JSON.parse(comment) as [SetName, ...unknown[]]
    if (!Object.hasOwn(sets, set)) return undefined
    const element = Object.fromEntries([['set', set], ...fieldNames(set).map((field, i) => [field, values[i]])])
    formatElement(element)
    return element
  } catch {
    return undefined
  }
}
