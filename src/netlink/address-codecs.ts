import { isIPv6 } from 'node:net'
import { be32, bytes, type Codec, map, octets } from './codec.js'

// Addresses as their usual text.

function numberOfIp4(text: string): number {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1).map(Number)
  if (!parts || parts.some(part => part > 255)) throw new RangeError(`"${text}" is not an IPv4 address`)
  return parts.reduce((sum, part) => sum * 256 + part, 0)
}

export const ip4 = map(be32, numberOfIp4, n => `${n >>> 24}.${(n >>> 16) & 255}.${(n >>> 8) & 255}.${n & 255}`)

const ip6Size = 16
const groupsOf = (part: string): number[] =>
  part.split(':').flatMap(group => {
    if (!group.includes('.')) return group === '' ? [] : Number.parseInt(group, 16)
    const last = numberOfIp4(group)
    return [last >>> 16, last & 0xffff]
  })

function octetsOfIp6(text: string): Uint8Array {
  if (!isIPv6(text) || text.includes('%')) throw new RangeError(`"${text}" is not an IPv6 address`)
  // what :: stands for is between the two; without it there is no second
  const [before = '', after = ''] = text.split('::')
  const [first, last] = [groupsOf(before), groupsOf(after)]
  const whole = new Uint8Array(ip6Size)
  for (const [at, groups] of [[0, first] as const, [ip6Size / 2 - last.length, last] as const])
    for (const [i, group] of groups.entries()) whole.set([group >>> 8, group & 0xff], 2 * (at + i))
  return whole
}

/** RFC 5952: the longest run of zeros, of several the first, is ::, unless it is one group alone. */
function textOfIp6(raw: Uint8Array): string {
  const groups = Array.from({ length: ip6Size / 2 }, (_, i) => ((raw[2 * i] ?? 0) << 8) | (raw[2 * i + 1] ?? 0))
  let [start, length] = [0, 1]
  for (let at = 0; at < groups.length; at++) {
    let end = at
    while (groups[end] === 0) end++
    if (end - at > length) [start, length] = [at, end - at]
  }
  const texts = groups.map(group => group.toString(16))
  if (length === 1) return texts.join(':')
  return `${texts.slice(0, start).join(':')}::${texts.slice(start + length).join(':')}`
}

/** Decodes to the form of RFC 5952: `fd00:20::2`. The kernel tells of many, so this is our own. */
export const ip6 = map(octets(ip6Size), octetsOfIp6, textOfIp6)

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
