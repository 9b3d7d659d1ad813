// biome-ignore-all lint/suspicious/noExplicitAny: tables are walked by key here; what callers see is inferred

// Typed netlink codecs: one description of each value encodes and decodes it. All arithmetic on byte positions is in this file.

/** The bytes are not what the table says. Decoding throws nothing else, whatever the bytes. */
export class DecodeError extends Error {
  override readonly name = 'DecodeError'
}

/** A buffer that grows while a message is written; one serves all messages, so encoding allocates only its result. */
class Writer {
  bytes = Buffer.alloc(32_768)
  end = 0

  /** Take `size` zeroed bytes at the end; returns where they start. */
  take(size: number): number {
    const start = this.end
    this.end += size
    if (this.end > this.bytes.length) {
      const larger = Buffer.alloc(Math.max(this.end, this.bytes.length * 2))
      this.bytes.copy(larger, 0, 0, start)
      this.bytes = larger
    } else this.bytes.fill(0, start, this.end)
    return start
  }
}

/** `get` reads `bytes[start, end)`. */
export interface Codec<T> {
  put(to: Writer, value: T): void
  get(bytes: Buffer, start: number, end: number): T
}

/** A codec of known size, what C structs are made of. `write` and `read` trust their caller that `size` bytes are there. */
export interface Fixed<T> extends Codec<T> {
  readonly size: number
  write(bytes: Buffer, at: number, value: T): void
  read(bytes: Buffer, at: number): T
}

export type ValueOf<C> = C extends Codec<infer T> ? T : never

const writer = new Writer()

/** The bytes of one value. Throws RangeError for a value that does not fit. */
export function encode<T>(codec: Codec<T>, value: T): Buffer {
  writer.end = 0
  codec.put(writer, value)
  return Buffer.from(writer.bytes.subarray(0, writer.end))
}

/** The value that `bytes` hold, or DecodeError. */
export const decode = <T>(codec: Codec<T>, bytes: Buffer, start = 0, end = bytes.length): T =>
  codec.get(bytes, start, end)

function fixed<T>(size: number, write: Fixed<T>['write'], read: Fixed<T>['read']): Fixed<T> {
  return {
    size,
    write,
    read,
    put(to, value) {
      const at = to.take(size)
      write(to.bytes, at, value)
    },
    get(bytes, start, end) {
      if (end - start < size) throw new DecodeError(`${end - start} bytes where ${size} are needed`)
      return read(bytes, start)
    },
  }
}

type Put<T> = (this: Buffer, value: T, at: number) => unknown
type Get<T> = (this: Buffer, at: number) => T
const number = <T>(size: number, put: Put<T>, get: Get<T>): Fixed<T> =>
  fixed(
    size,
    (bytes, at, value) => put.call(bytes, value, at),
    (bytes, at) => get.call(bytes, at),
  )

// Netlink speaks the machine's byte order, and Node for Linux is built for little endian machines (s390x apart, which tsnet is not for).
const { prototype: b } = Buffer
export const u8 = number<number>(1, b.writeUInt8, b.readUInt8)
export const u16 = number<number>(2, b.writeUInt16LE, b.readUInt16LE)
export const u32 = number<number>(4, b.writeUInt32LE, b.readUInt32LE)
export const i32 = number<number>(4, b.writeInt32LE, b.readInt32LE)
export const u64 = number<bigint>(8, b.writeBigUInt64LE, b.readBigUInt64LE)
export const be16 = number<number>(2, b.writeUInt16BE, b.readUInt16BE)
export const be32 = number<number>(4, b.writeUInt32BE, b.readUInt32BE)
export const be64 = number<bigint>(8, b.writeBigUInt64BE, b.readBigUInt64BE)

/** The Internet checksum of RFC 1071, over an even number of bytes. */
export function checksumOf(bytes: Buffer): number {
  let sum = 0
  for (let at = 0; at < bytes.length; at += be16.size) sum += be16.read(bytes, at)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

/** A number under another type: `map(u8, v => (v ? 1 : 0), n => n !== 0)`. */
export const map = <N, T>(as: Fixed<N>, to: (value: T) => N, from: (raw: N) => T): Fixed<T> =>
  fixed(
    as.size,
    (bytes, at, value) => as.write(bytes, at, to(value)),
    (bytes, at) => from(as.read(bytes, at)),
  )
export const bool8 = map(u8, (on: boolean) => (on ? 1 : 0), Boolean)
export const bool32 = map(u32, (on: boolean) => (on ? 1 : 0), Boolean)

/** A number of the kernel by its word; a number without a word decodes to `other`. */
export function choice<const W extends Record<string, number>>(as: Fixed<number>, words: W, other: keyof W & string) {
  type Word = keyof W & string
  const byNumber = new Map(Object.entries(words).map(([word, n]) => [n, word as Word]))
  const numberOf = (word: Word): number => {
    if (Object.hasOwn(words, word)) return words[word] as number
    throw new RangeError(`"${word}" is not one of ${Object.keys(words).join(', ')}`)
  }
  return map<number, Word>(as, numberOf, n => byNumber.get(n) ?? other)
}

/** Bytes of a C struct that mean nothing. */
export const pad = (size: number): Fixed<undefined> =>
  fixed(
    size,
    () => undefined,
    () => undefined,
  )

/** So many bytes as they are. */
export const octets = (size: number): Fixed<Uint8Array> =>
  fixed(
    size,
    (to, at, value) => to.set(value.subarray(0, size), at),
    (from, at) => from.subarray(at, at + size),
  )

/** Bytes up to the end of the attribute, copied. */
export const bytes: Codec<Buffer> = {
  put(to, value) {
    const at = to.take(value.length)
    value.copy(to.bytes, at)
  },
  get: (from, start, end) => Buffer.from(from.subarray(start, end)),
}

/** An attribute that says yes by being there (NLA_FLAG). */
export const flag: Codec<true> = { put: () => undefined, get: () => true }

/** A NUL terminated string: bytes to the kernel, UTF-8 to us. */
export const asciiz: Codec<string> = {
  put(to, value) {
    if (value.includes('\0')) throw new RangeError('a string with a NUL byte ends early')
    const at = to.take(Buffer.byteLength(value) + 1)
    to.bytes.write(value, at)
  },
  get(from, start, end) {
    let stop = start
    while (stop < end && from[stop] !== 0) stop++
    return from.toString('utf8', start, stop)
  },
}

/** A string in so many bytes, the rest of them zeros. */
export const text = (size: number): Fixed<string> =>
  map(
    octets(size),
    value => {
      const whole = Buffer.alloc(size)
      if (whole.write(value) < Buffer.byteLength(value)) throw new RangeError(`"${value}" is over ${size} bytes`)
      return whole
    },
    raw => asciiz.get(Buffer.from(raw), 0, size),
  )

type Fields = readonly (readonly [string, Fixed<any>])[]
type StructOf<F extends Fields> = {
  [E in F[number] as E[0] extends `_${string}` ? never : E[0]]: ValueOf<E[1]>
}

/** A C struct: fields in declaration order, padding explicit under names that start with `_`. */
export function struct<const F extends Fields>(fields: F): Fixed<StructOf<F>> {
  let size = 0
  const placed: { name: string; at: number; codec: Fixed<any> }[] = []
  for (const [name, codec] of fields) {
    if (!name.startsWith('_')) placed.push({ name, at: size, codec })
    size += codec.size
  }
  return fixed<any>(
    size,
    (to, at, value) => {
      for (const field of placed) field.codec.write(to, at + field.at, value[field.name])
    },
    (from, at) => {
      const value: Record<string, unknown> = {}
      for (const field of placed) value[field.name] = field.codec.read(from, at + field.at)
      return value
    },
  )
}

/** One row of an attribute table. */
export interface Attr<T> {
  readonly type: number
  readonly codec: Codec<T>
  readonly nested: boolean
}
export const attr = <T>(type: number, codec: Codec<T>): Attr<T> => ({ type, codec, nested: false })
/** An attribute that holds attributes; marked NLA_F_NESTED when sent. */
export const nest = <T>(type: number, codec: Codec<T>): Attr<T> => ({ type, codec, nested: true })

export type Rows = Readonly<Record<string, Attr<any>>>
export type AttrsOf<R extends Rows> = { [K in keyof R]?: (R[K] extends Attr<infer T> ? T : never) | undefined }

const nlaNested = 0x8000
const nlaTypeMask = 0x3fff
const nlaHeaderSize = 4
const align4 = (n: number): number => (n + 3) & ~3

function putAttr(to: Writer, type: number, codec: Codec<any>, value: unknown): void {
  const start = to.take(nlaHeaderSize)
  codec.put(to, value)
  const length = to.end - start
  if (length > 0xffff) throw new RangeError(`attribute ${type & nlaTypeMask} is over 65535 bytes`)
  u16.write(to.bytes, start, length)
  u16.write(to.bytes, start + 2, type)
  to.take(align4(length) - length)
}

function eachAttr(from: Buffer, start: number, end: number, see: (type: number, start: number, end: number) => void) {
  for (let at = start; end - at >= nlaHeaderSize; ) {
    const length = u16.read(from, at)
    if (length < nlaHeaderSize || length > end - at)
      throw new DecodeError(`an attribute of ${length} bytes in ${end - at}`)
    see(u16.read(from, at + 2) & nlaTypeMask, at + nlaHeaderSize, at + length)
    at += align4(length)
  }
}

/** Attributes by name. Those without a row are passed over: a newer kernel has more of them. */
export function table<const R extends Rows>(name: string, rows: R): Codec<AttrsOf<R>> {
  const byType = new Map<number, { key: string; codec: Codec<any> }>()
  for (const [key, { type, codec }] of Object.entries(rows)) {
    if (byType.has(type)) throw new Error(`table ${name}: attribute ${type} stands twice`)
    byType.set(type, { key, codec })
  }
  return {
    put(to, value: any) {
      for (const key in value) {
        const row = rows[key]
        if (value[key] === undefined) continue
        if (!row) throw new RangeError(`table ${name} has no attribute "${key}"`)
        putAttr(to, row.nested ? row.type | nlaNested : row.type, row.codec, value[key])
      }
    },
    get(from, start, end) {
      const value: any = {}
      eachAttr(from, start, end, (type, valueStart, valueEnd) => {
        const row = byType.get(type)
        if (row) value[row.key] = row.codec.get(from, valueStart, valueEnd)
      })
      return value
    },
  }
}

/** Nested attributes of one type and meaning, numbered or all alike (RTA_METRICS values, IFLA_PROP_LIST names). */
export const list = <T>(type: number, element: Codec<T>): Codec<T[]> => ({
  put(to, values) {
    for (const value of values) putAttr(to, type, element, value)
  },
  get(from, start, end) {
    const values: T[] = []
    eachAttr(from, start, end, (seen, valueStart, valueEnd) => {
      if (seen === type) values.push(element.get(from, valueStart, valueEnd))
    })
    return values
  },
})

/** A message body: a fixed header, then attributes. */
export const message = <H extends object, A>(header: Fixed<H>, attrs: Codec<A>): Codec<H & { attrs: A }> => ({
  put(to, value) {
    header.put(to, value)
    to.take(align4(header.size) - header.size)
    attrs.put(to, value.attrs)
  },
  get(from, start, end) {
    const value = header.get(from, start, end)
    return { ...value, attrs: attrs.get(from, Math.min(start + align4(header.size), end), end) }
  },
})

type Kinds = Readonly<Record<string, Codec<any>>>
type OneOf<K extends Kinds, Kind extends string, Data extends string> = {
  [N in keyof K & string]: { [P in Kind]: N } & { [P in Data]?: ValueOf<K[N]> | undefined }
}[keyof K & string]
type MaybeOneOf<K extends Kinds, Kind extends string, Data extends string> =
  | OneOf<K, Kind, Data>
  | { [P in Kind | Data]?: undefined }

/** IFLA_LINKINFO of linux/if_link.h: the kind chooses the table of the data, the master's kind that of the slave data. */
export function linkInfo<const K extends Kinds, const S extends Kinds>(kinds: K, slaveKinds: S) {
  type Info = MaybeOneOf<K, 'kind', 'data'> & MaybeOneOf<S, 'slaveKind', 'slaveData'>
  const words = { kind: attr(1, asciiz), slaveKind: attr(4, asciiz) }
  const kindsOnly = table('linkInfo', words)
  const dataRow = (number: number, tables: Kinds, kind: string | undefined) =>
    kind !== undefined && Object.hasOwn(tables, kind) ? nest(number, tables[kind]!) : undefined
  const tables = new Map<string, Codec<any>>()
  const tableOf = ({ kind, slaveKind }: { kind?: string | undefined; slaveKind?: string | undefined }): Codec<any> => {
    const data = dataRow(2, kinds, kind)
    const slaveData = dataRow(5, slaveKinds, slaveKind)
    const key = `${data ? kind : ''} ${slaveData ? slaveKind : ''}`
    const known = tables.get(key)
    if (known) return known
    const made = table(`linkInfo ${key}`, { ...words, ...(data && { data }), ...(slaveData && { slaveData }) })
    tables.set(key, made)
    return made
  }
  const codec: Codec<Info> = {
    put: (to, value) => tableOf(value).put(to, value),
    get: (from, start, end) => tableOf(kindsOnly.get(from, start, end)).get(from, start, end),
  }
  return codec
}
