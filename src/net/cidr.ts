/** Address arithmetic on whole numbers: one code for IPv4 and IPv6. Texts are read and written by `ip-address`. */

import { isIPv4 } from 'node:net'
import { Address4, Address6 } from 'ip-address'
import type { Family } from '../cnm/types.js'
import { invalid } from '../errors.js'

export interface Address {
  family: Family
  value: bigint
}

/** Both ends included. */
export interface Span {
  first: bigint
  last: bigint
}

export interface Cidr extends Span {
  family: Family
  prefixLength: number
}

export const bitsOf = (family: Family): number => (family === 4 ? 32 : 128)

/** @throws {NetError} InvalidParameter. `what` begins the message: `gateway "10.0.0" is not an IP address` */
export function parseAddress(text: string, what = 'address'): Address {
  // A zone (fe80::1%eth0) names a link of one host, and a prefix length is not part of an address.
  if (!/[/%]/.test(text)) {
    // what is none costs an exception, and whatever has a colon is no IPv4
    if (isIPv4(text)) return { family: 4, value: new Address4(text).bigInt() }
    if (text.includes(':') && Address6.isValid(text)) return { family: 6, value: new Address6(text).bigInt() }
  }
  throw invalid(`${what} "${text}" is not an IP address`)
}

/** IPv4 dotted, IPv6 as RFC 5952 writes it. */
export const formatAddress = (family: Family, value: bigint): string =>
  family === 4 ? Address4.fromBigInt(value).correctForm() : Address6.fromBigInt(value).correctForm()

/** The one way to write this address. */
export function canonicalAddress(text: string, what?: string): string {
  const { family, value } = parseAddress(text, what)
  return formatAddress(family, value)
}

/** The network of `prefixLength` that `value` is in. */
export function cidrAt(family: Family, value: bigint, prefixLength: number): Cidr {
  const size = 1n << BigInt(bitsOf(family) - prefixLength)
  const first = value - (value % size)
  return { family, prefixLength, first, last: first + size - 1n }
}

/**
 * A network: an address, a slash, a prefix length, and no bits set behind it.
 * @throws {NetError} InvalidParameter. `what` begins the message: `subnet 10.0.0.5/24 has host bits set; it should be 10.0.0.0/24`
 */
export function parseCidr(text: string, what = 'subnet'): Cidr {
  const cidr = parseHostCidr(text, what)
  const [address = '', length] = text.split('/')
  if (length === undefined)
    throw invalid(`${what} "${text}" has no prefix length, such as ${text}/${bitsOf(cidr.family)}`)
  if (parseAddress(address).value !== cidr.first)
    throw invalid(`${what} ${text} has host bits set; it should be ${formatCidr(cidr)}`)
  return cidr
}

/** The network around an address such as the kernel lists it, `10.0.0.5/24`; without a prefix length the address alone. */
export function parseHostCidr(text: string, what = 'subnet'): Cidr {
  const [address = '', length, ...rest] = text.split('/')
  const { family, value } = parseAddress(address, what)
  const bits = bitsOf(family)
  if (rest.length > 0 || (length !== undefined && (!/^\d{1,3}$/.test(length) || Number(length) > bits)))
    throw invalid(`${what} "${text}" needs a prefix length from 0 to ${bits}`)
  return cidrAt(family, value, length === undefined ? bits : Number(length))
}

export const formatCidr = (cidr: Cidr): string => `${formatAddress(cidr.family, cidr.first)}/${cidr.prefixLength}`

export const overlaps = (a: Cidr, b: Cidr): boolean => a.family === b.family && a.first <= b.last && b.first <= a.last

export const contains = (outer: Cidr, inner: Cidr): boolean =>
  outer.family === inner.family && outer.first <= inner.first && inner.last <= outer.last

export const hasAddress = (cidr: Cidr, address: Address): boolean =>
  cidr.family === address.family && cidr.first <= address.value && address.value <= cidr.last

/** What two overlapping spans have in common. */
export function intersect(a: Span, b: Span): Span {
  const later = a.first > b.first ? a : b
  const earlier = a.last < b.last ? a : b
  return { first: later.first, last: earlier.last }
}

/**
 * The addresses of a subnet that hosts may have. Kept back: IPv4's network and broadcast address, but not on
 * point-to-point links (/31, RFC 3021) and single hosts; IPv6's subnet-router anycast address (RFC 4291 2.6.1),
 * but not on /127 (RFC 6164) and /128.
 */
export function hostSpan({ family, prefixLength, first, last }: Cidr): Span {
  if (bitsOf(family) - prefixLength < 2) return { first, last }
  return { first: first + 1n, last: family === 4 ? last - 1n : last }
}
