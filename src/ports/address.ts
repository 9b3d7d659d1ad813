import { isIPv4, isIPv6, SocketAddress } from 'node:net'
import type { Family } from '../cnm/types.js'

/**
 * The one spelling of an address that the kernel and nft also use (RFC 5952 for IPv6), so that texts can be compared;
 * undefined for what is no plain address. Zones (`%eth0`) and IPv4-mapped addresses have no place in a firewall's map.
 */
export function canonicalAddress(text: string): string | undefined {
  if (isIPv4(text)) return text
  if (!isIPv6(text) || text.includes('%')) return undefined
  const { address } = new SocketAddress({ address: text, family: 'ipv6' })
  return address.startsWith('::ffff:') && address.includes('.') ? undefined : address
}

/** Of an address that is known to be one. */
export const familyOf = (address: string): Family => (address.includes(':') ? 6 : 4)

export const isUnspecified = (address: string): boolean => address === '0.0.0.0' || address === '::'
export const isLoopback = (address: string): boolean => address === '::1' || address.startsWith('127.')
/** fe80::/10 (RFC 4291, 2.5.6) */
export const isLinkLocal6 = (address: string): boolean => /^fe[89ab][0-9a-f]:/.test(address)
/** Addresses of private networks: 10/8, 172.16/12, 192.168/16 (RFC 1918), fc00::/7 (RFC 4193). */
export const isPrivate = (address: string): boolean =>
  /^(10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|f[cd][0-9a-f]{2}:)/.test(address)

/** `10.0.0.1:80`, `[fd00::1]:80` */
export const formatHostPort = (address: string, port: number | string): string =>
  familyOf(address) === 6 ? `[${address}]:${port}` : `${address}:${port}`
