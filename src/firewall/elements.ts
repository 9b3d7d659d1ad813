import { isIPv4 } from 'node:net'
import type { PortRange, Protocol } from '../cnm/types.js'
import { invalid } from '../errors.js'
import { formatAddress, parseHostCidr } from '../net/cidr.js'
import { canonicalAddress, familyOf } from '../ports/address.js'

/**
 * Every set and map of ruleset.nft and spoof-guard.nft, once: the type of its elements, nft's text for them, the reading of
 * `nft -j list` and their identity all come from this table. Only strings that passed a part's `format` reach nft.
 */
export const tableName = 'tsnet'

interface Part<T> {
  /** as nft names the type */
  type: string
  /** nft's text of a value; throws InvalidParameter on anything that is none */
  format(value: T): string
  /** from the JSON that nft lists; undefined for anything else */
  parse(json: unknown): T | undefined
}

const part = <T>(row: Part<T>): Part<T> => row
const refuse = (value: unknown, rule: string) => invalid(`firewall: ${JSON.stringify(value)} is no ${rule}`)

/** IP protocol numbers (/etc/protocols, which nft asks for names and a small host may lack). */
export const protocolNumbers: Record<Protocol, number> = { tcp: 6, udp: 17, sctp: 132 }
const protocols = Object.keys(protocolNumbers) as Protocol[]

const isPort = (value: unknown): value is number =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 65535

const address = (family: 4 | 6): Part<string> => ({
  type: `ipv${family}_addr`,
  format(value) {
    if (canonicalAddress(value) !== value || familyOf(value) !== family)
      throw refuse(value, `IPv${family} address in its usual spelling`)
    return value
  },
  parse: json => (typeof json === 'string' && isIPv4(json) === (family === 4) ? json : undefined),
})

const prefix = (family: 4 | 6): Part<string> => ({
  type: `ipv${family}_addr`,
  format(value) {
    const [, base = '', length = ''] = /^([^/]+)\/(\d{1,3})$/.exec(value) ?? []
    if (canonicalAddress(base) !== base || familyOf(base) !== family || Number(length) > (family === 4 ? 32 : 128))
      throw refuse(value, `IPv${family} subnet`)
    return value
  },
  parse(json) {
    if (typeof json === 'string') return `${json}/${family === 4 ? 32 : 128}`
    const { addr, len } = fieldsOf(fieldsOf(json).prefix)
    return typeof addr === 'string' && typeof len === 'number' ? `${addr}/${len}` : undefined
  },
})

/** An address in a message, which nft knows as a number only: 32 hex digits, fewer than 17 of them as a JSON number. */
const hex = (value: bigint): string => `0x${value.toString(16).padStart(32, '0')}`
const isNumber = (json: unknown): json is string | number =>
  Number.isSafeInteger(json) || (typeof json === 'string' && /^0x[0-9a-f]{1,32}$/i.test(json))
const raw6: Part<string> = {
  type: 'integer',
  format: value => hex(parseHostCidr(address(6).format(value)).first),
  parse: json => (isNumber(json) ? formatAddress(6, BigInt(json)) : undefined),
}
/** A subnet of those: first and last. */
const rawSubnet6: Part<string> = {
  type: 'integer',
  format(value) {
    const { first, last } = parseHostCidr(prefix(6).format(value))
    return first === last ? hex(first) : `${hex(first)}-${hex(last)}`
  },
  parse(json) {
    const [first, last] = isNumber(json) ? [json, json] : listOf(fieldsOf(json).range)
    if (!isNumber(first) || !isNumber(last)) return undefined
    const size = BigInt(last) - BigInt(first) + 1n
    return `${formatAddress(6, BigInt(first))}/${129 - size.toString(2).length}`
  },
}

const parts = {
  protocol: part<Protocol>({
    type: 'inet_proto',
    format(value) {
      if (!protocols.includes(value)) throw refuse(value, 'protocol')
      return String(protocolNumbers[value])
    },
    parse: json => protocols.find(name => json === name || json === protocolNumbers[name]),
  }),
  address4: part<string>(address(4)),
  address6: part<string>(address(6)),
  subnet4: part<string>(prefix(4)),
  subnet6: part<string>(prefix(6)),
  port: part<number>({
    type: 'inet_service',
    format(value) {
      if (!isPort(value)) throw refuse(value, 'port')
      return String(value)
    },
    parse: json => (isPort(json) ? json : undefined),
  }),
  ports: part<PortRange>({
    type: 'inet_service',
    format(value) {
      const { first, last } = value
      if (!isPort(first) || !isPort(last) || last < first) throw refuse(value, 'range of ports')
      return first === last ? String(first) : `${first}-${last}`
    },
    parse(json) {
      if (isPort(json)) return { first: json, last: json }
      const [first, last] = listOf(fieldsOf(json).range)
      return isPort(first) && isPort(last) ? { first, last } : undefined
    },
  }),
  link: part<string>({
    type: 'ifname',
    format(value) {
      // A trailing * would match every name that begins so; quotes and blanks would end the word.
      if (!/^[\w.@+-]{1,15}$/.test(value)) throw refuse(value, 'name of a link that a firewall rule can hold')
      return `"${value}"`
    },
    parse: json => (typeof json === 'string' ? json : undefined),
  }),
  mac: part<string>({
    type: 'ether_addr',
    format(value) {
      if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(value)) throw refuse(value, 'MAC address in lower case with colons')
      return value
    },
    parse: json => (typeof json === 'string' ? json : undefined),
  }),
  raw6: part<string>(raw6),
  rawSubnet6: part<string>(rawSubnet6),
}

export type PartName = keyof typeof parts
type ValueOf<P extends PartName> = (typeof parts)[P] extends Part<infer T> ? T : never
interface SetShape {
  /** the table that it is in, by its family: absent, inet */
  family?: 'bridge'
  /** what identifies an element */
  key: Record<string, PartName>
  /** what a map gives for it; absent for a set */
  value?: Record<string, PartName>
}

const at4 = { protocol: 'protocol', hostIp: 'address4' } as const
const at6 = { protocol: 'protocol', hostIp: 'address6' } as const
const anywhere = { protocol: 'protocol' } as const
const to4 = { containerIp: 'address4' } as const
const to6 = { containerIp: 'address6' } as const
const port = { containerPort: 'port' } as const

export const sets = {
  publish4: { key: { ...at4, hostPort: 'port' }, value: { ...to4, ...port } },
  publish4_any: { key: { ...anywhere, hostPort: 'port' }, value: { ...to4, ...port } },
  publish4_range: { key: { ...at4, ports: 'ports' }, value: to4 },
  publish4_any_range: { key: { ...anywhere, ports: 'ports' }, value: to4 },
  publish6: { key: { ...at6, hostPort: 'port' }, value: { ...to6, ...port } },
  publish6_any: { key: { ...anywhere, hostPort: 'port' }, value: { ...to6, ...port } },
  publish6_range: { key: { ...at6, ports: 'ports' }, value: to6 },
  publish6_any_range: { key: { ...anywhere, ports: 'ports' }, value: to6 },
  limited4: { key: { protocol: 'protocol', hosts: 'subnet4', ports: 'ports' } },
  limited6: { key: { protocol: 'protocol', hosts: 'subnet6', ports: 'ports' } },
  from4: { key: { protocol: 'protocol', hosts: 'subnet4', ports: 'ports', sources: 'subnet4' } },
  from6: { key: { protocol: 'protocol', hosts: 'subnet6', ports: 'ports', sources: 'subnet6' } },
  lo_only: { key: { ...at4, hostPort: 'port' } },
  lo_only_range: { key: { ...at4, ports: 'ports' } },
  bridges: { key: { link: 'link' } },
  internal: { key: { link: 'link' } },
  others: { key: { link: 'link' } },
  clamped: { key: { link: 'link' } },
  intra: { key: { from: 'link', to: 'link' } },
  masquerade4: { key: { link: 'link' } },
  masquerade6: { key: { link: 'link' } },
  own_net4: { key: { link: 'link', subnet: 'subnet4' } },
  own_net6: { key: { link: 'link', subnet: 'subnet6' } },
  apart: { key: { from: 'link', to: 'link' } },
  routed4: { key: { link: 'link' } },
  routed6: { key: { link: 'link' } },
  unprotected4: { key: { link: 'link' } },
  unprotected6: { key: { link: 'link' } },
  isolated4: { key: { link: 'link' } },
  isolated6: { key: { link: 'link' } },
  trusted: { key: { from: 'link', to: 'link' } },
  open4: { key: { protocol: 'protocol', ...to4, ...port } },
  open6: { key: { protocol: 'protocol', ...to6, ...port } },
  open4_from: { key: { protocol: 'protocol', ...to4, ports: 'ports', sources: 'subnet4' } },
  open6_from: { key: { protocol: 'protocol', ...to6, ports: 'ports', sources: 'subnet6' } },
  snat4: { key: { subnet: 'subnet4' }, value: { hostIp: 'address4' } },
  snat6: { key: { subnet: 'subnet6' }, value: { hostIp: 'address6' } },
  guarded: { family: 'bridge', key: { link: 'link' } },
  sender_macs: { family: 'bridge', key: { link: 'link', mac: 'mac' } },
  senders4: { family: 'bridge', key: { link: 'link', mac: 'mac', address: 'address4' } },
  senders6: { family: 'bridge', key: { link: 'link', mac: 'mac', address: 'address6' } },
  targets6: { family: 'bridge', key: { link: 'link', address: 'raw6' } },
  also4: { family: 'bridge', key: { link: 'link', subnet: 'subnet4' } },
  also6: { family: 'bridge', key: { link: 'link', subnet: 'subnet6' } },
  also_targets6: { family: 'bridge', key: { link: 'link', subnet: 'rawSubnet6' } },
} as const satisfies Record<string, SetShape>

export type SetName = keyof typeof sets
export const setNames = Object.keys(sets) as SetName[]
/** Of our tables by the families that nftables has: the rules, and the spoof guard. */
export type TableFamily = 'inet' | 'bridge'
export const shapeOf = (name: SetName): SetShape => sets[name]
/** Sets that only the spoof guard has. */
export type GuardSetName = { [S in SetName]: (typeof sets)[S] extends { family: 'bridge' } ? S : never }[SetName]
export const tableOf = (name: SetName): TableFamily => shapeOf(name).family ?? 'inet'

type Row<F> = { [K in keyof F]: F[K] extends PartName ? ValueOf<F[K]> : never }
type KeyRow<S extends SetName> = Row<(typeof sets)[S]['key']>
type ValueRow<S extends SetName> = (typeof sets)[S] extends { value: infer V } ? Row<V> : unknown
/** One row of one set or map: `{ set: 'publish4_any', protocol: 'tcp', hostPort: 8080, containerIp: '10.30.0.2', containerPort: 80 }`. */
export type Element = { [S in SetName]: { set: S } & KeyRow<S> & ValueRow<S> }[SetName]

/** Of a set's elements, those that identify one first. */
export const fieldNames = (name: SetName): string[] => {
  const { key, value } = shapeOf(name)
  return [...Object.keys(key), ...Object.keys(value ?? {})]
}

function formatFields(element: Element, fields: Record<string, PartName>): string {
  const row = element as unknown as Record<string, unknown>
  return Object.entries(fields)
    .map(([field, name]) => (parts[name] as Part<unknown>).format(row[field]))
    .join(' . ')
}

/** nft's text of an element's key: `6 . 8080`. */
export const formatKey = (element: Element): string => formatFields(element, shapeOf(element.set).key)

/** nft's text of a whole element: `6 . 8080 : 10.30.0.2 . 80`. */
export function formatElement(element: Element): string {
  const { value } = shapeOf(element.set)
  return value ? `${formatKey(element)} : ${formatFields(element, value)}` : formatKey(element)
}

/** Two elements with the same key are the same row; the rows of a map may differ in their values. */
export const keyOf = (element: Element): string => `${element.set} ${formatKey(element)}`
export const sameElement = (a: Element, b: Element): boolean => a.set === b.set && formatElement(a) === formatElement(b)

/** What `nft -j list` says about a set or map, and the type it must have. */
export const nftTypeOf = (name: SetName): { key: string; value: string | undefined } => {
  const { key, value } = shapeOf(name)
  const types = (fields: Record<string, PartName>) =>
    Object.values(fields)
      .map(p => parts[p].type)
      .join(' . ')
  return { key: types(key), value: value && types(value) }
}

/** An element as nft lists it: `["key"]` or, in a map, `["key", "value"]`. Undefined for what our rules cannot have made. */
export function parseElement(name: SetName, json: unknown): Element | undefined {
  const { key, value } = shapeOf(name)
  const [keyJson, valueJson] = value ? listOf(json) : [json]
  const row: Record<string, unknown> = { set: name }
  const whole = parseFields(row, key, keyJson) && (!value || parseFields(row, value, valueJson))
  return whole ? (row as unknown as Element) : undefined
}

function parseFields(row: Record<string, unknown>, fields: Record<string, PartName>, json: unknown): boolean {
  // An element that somebody gave a comment or counter stands one level deeper.
  const plain = fieldsOf(json).elem === undefined ? json : fieldsOf(fieldsOf(json).elem).val
  const entries = Object.entries(fields)
  const values = entries.length === 1 ? [plain] : listOf(fieldsOf(plain).concat)
  if (values.length !== entries.length) return false
  return entries.every(([field, name], i) => {
    row[field] = parts[name].parse(values[i])
    return row[field] !== undefined
  })
}

export const fieldsOf = (json: unknown): Record<string, unknown> =>
  typeof json === 'object' && json !== null && !Array.isArray(json) ? (json as Record<string, unknown>) : {}
export const listOf = (json: unknown): unknown[] => (Array.isArray(json) ? json : [])

/** The same but for the ports, which have some in common: no set takes both. */
export function overlaps(a: Element, b: Element): boolean {
  if (a.set !== b.set || !('ports' in a) || !('ports' in b)) return false
  const [x, y] = [{ ...a, ports: b.ports }, b] as [Element, Element]
  return keyOf(x) === keyOf(y) && a.ports.first <= b.ports.last && b.ports.first <= a.ports.last
}
