import { isIPv6 } from 'node:net'
import { Address6 } from 'ip-address'
import { be32, bytes, type Codec, map, octets } from './codec.js'

// Addresses as their usual text.

function numberOfIp4(text: string): number {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1).map(Number)
  if (!parts || parts.some(part => part > 255)) throw new RangeError(`"${text}" is not an IPv4 address`)
  return parts.reduce((sum, part) => sum * 256 + part, 0)
}

export const ip4 = map(be32, numberOfIp4, n => `${n >>> 24}.${(n >>> 16) & 255}.${(n >>> 8) & 255}.${n & 255}`)

const ip6Size = 16

function octetsOfIp6(text: string): Uint8Array {
  if (!isIPv6(text) || text.includes('%')) throw new RangeError(`"${text}" is not an IPv6 address`)
  const found = new Address6(text).toUnsignedByteArray()
  const whole = new Uint8Array(ip6Size)
  whole.set(found, ip6Size - found.length)
  return whole
}

/** Decodes to the form of RFC 5952: `fd00:20::2` */
export const ip6 = map(octets(ip6Size), octetsOfIp6, raw => Address6.fromUnsignedByteArray([...raw]).correctForm())

/** An address whose family shows in its length. */
export const ip: Codec<string> = {
  put: (to, value) => (value.includes(':') ? ip6 : ip4).put(to, value),
  get: (from, start, end) => (end - start >= ip6Size ? ip6 : ip4).get(from, start, end),
}

const octetsOfMac = (text: string): Buffer => {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2})*$/i.test(text)) throw new RangeError(`"${text}" is not a MAC address`)
  return Buffer.from(text.replaceAll(':', ''), 'hex')
}

const textOfMac = (raw: Buffer): string => raw.toString('hex').replace(/..(?=.)/g, '$&:')

/** A MAC address where a struct has room for one. */
export const mac6 = map(octets(6), octetsOfMac, raw => textOfMac(Buffer.from(raw)))

/** A link-layer address: six bytes on Ethernet, but decoded whatever length a link has. */
export const mac: Codec<string> = {
  put(to, value) {
    bytes.put(to, octetsOfMac(value))
  },
  get: (from, start, end) => textOfMac(from.subarray(start, end)),
}
