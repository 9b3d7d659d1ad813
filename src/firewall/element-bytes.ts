import type { PortRange, Protocol } from '../cnm/types.js'
import { formatAddress, parseHostCidr } from '../net/cidr.js'
import { ip4, ip6, mac6 } from '../netlink/address-codecs.js'
import { be16, encode, type Fixed, map, pad, struct, text, u8 } from '../netlink/codec.js'
import type { ElementBytes } from '../netlink/nft-elements.js'
import { type Element, type PartName, protocolNumbers, type SetName, shapeOf } from './elements.js'

// Elements as the kernel has them, where elements.ts has them as nft writes them: registers of four bytes one after the other.

/** Of what stands for several values: the first and the last. */
type Ends<T> = readonly [first: T, last: T]

interface Form {
  // biome-ignore lint/suspicious/noExplicitAny: tables are walked by key here; elements.ts has checked the values
  codec: Fixed<any>
  // biome-ignore lint/suspicious/noExplicitAny: as above
  ends?: (value: any) => Ends<unknown>
}

const endsOfSubnet = (cidr: string): Ends<string> => {
  const { family, first, last } = parseHostCidr(cidr)
  return [formatAddress(family, first), formatAddress(family, last)]
}
const endsOfPorts = ({ first, last }: PortRange): Ends<number> => [first, last]

/** IFNAMSIZ of linux/if.h */
const linkNameSize = 16

const forms: Record<PartName, Form> = {
  protocol: {
    codec: map<number, Protocol>(
      u8,
      name => protocolNumbers[name],
      () => 'tcp',
    ),
  },
  address4: { codec: ip4 },
  address6: { codec: ip6 },
  subnet4: { codec: ip4, ends: endsOfSubnet },
  subnet6: { codec: ip6, ends: endsOfSubnet },
  port: { codec: be16 },
  ports: { codec: be16, ends: endsOfPorts },
  link: { codec: text(linkNameSize) },
  mac: { codec: mac6 },
  raw6: { codec: ip6 },
  rawSubnet6: { codec: ip6, ends: endsOfSubnet },
}

/** NFT_REG32_SIZE: each part of several has whole registers */
const registerSize = 4

type Row = Record<string, unknown>

interface Layout {
  fields: [name: string, form: Form][]
  // biome-ignore lint/suspicious/noExplicitAny: the fields' own types are those of elements.ts
  codec: Fixed<any>
}

function layoutOf(parts: Record<string, PartName>): Layout {
  const fields = Object.entries(parts).map(([name, part]): [string, Form] => [name, forms[part]])
  const padded = fields.flatMap(([name, { codec }]): (readonly [string, Fixed<unknown>])[] => [
    [name, codec],
    [`_after ${name}`, pad(fields.length > 1 ? -codec.size & (registerSize - 1) : 0) as Fixed<unknown>],
  ])
  return { fields, codec: struct(padded) }
}

interface SetLayout {
  key: Layout
  value?: Layout
  /** an element is two of the kernel's: where it begins, and the first key that is behind it */
  isTree: boolean
}

const layouts = new Map<SetName, SetLayout>()

function layoutOfSet(name: SetName): SetLayout {
  const known = layouts.get(name)
  if (known) return known
  const { key, value } = shapeOf(name)
  const keyLayout = layoutOf(key)
  const [only] = keyLayout.fields.length === 1 ? keyLayout.fields : []
  const made = { key: keyLayout, ...(value && { value: layoutOf(value) }), isTree: only?.[1].ends !== undefined }
  layouts.set(name, made)
  return made
}

const bytesOf = ({ codec }: Layout, row: Row): Buffer => encode(codec, row)

/** A key with the first or the last of all that each part stands for. */
const keyAt = (layout: Layout, row: Row, end: 0 | 1): Buffer =>
  bytesOf(
    layout,
    Object.fromEntries(layout.fields.map(([name, { ends }]) => [name, ends ? ends(row[name])[end] : row[name]])),
  )

/** The next number, most significant byte first; undefined behind the last. */
function behind(key: Buffer): Buffer | undefined {
  const next = Buffer.from(key)
  for (let i = next.length - 1; i >= 0; i--) {
    next[i] = ((next[i] ?? 0) + 1) & 0xff
    if (next[i] !== 0) return next
  }
  return undefined
}

/** What the kernel is to be told of an element that elements.ts has found right. */
export function elementBytes(element: Element): ElementBytes[] {
  const layout = layoutOfSet(element.set)
  const row = element as unknown as Row
  const value = layout.value && { value: bytesOf(layout.value, row) }
  if (!layout.key.fields.some(([, { ends }]) => ends)) return [{ key: bytesOf(layout.key, row), ...value }]
  const [first, last] = [keyAt(layout.key, row, 0), keyAt(layout.key, row, 1)]
  if (!layout.isTree) return [{ key: first, last, ...value }]
  const end = behind(last)
  return [{ key: first, ...value }, ...(end === undefined ? [] : [{ key: end, isEnd: true }])]
}
