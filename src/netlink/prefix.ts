import { isIPv4, isIPv6 } from 'node:net'
import { invalid } from '../errors.js'
import type { Family } from './objects.js'
import { afInet, afInet6, afUnspec } from './tables.js'

/** `10.30.0.2/24` in its parts. */
export interface Prefix {
  family: Family
  address: string
  length: number
}

/** Throws InvalidParameter when `text` is no address. */
export function familyOf(text: string): Family {
  if (isIPv4(text)) return 4
  if (isIPv6(text) && !text.includes('%')) return 6
  throw invalid(`"${text}" is not an IP address`)
}

/** `10.30.0.2/24`; throws InvalidParameter. */
export function parsePrefix(text: string): Prefix {
  const [, address, digits] = /^([^/]+)\/(\d{1,3})$/.exec(text) ?? []
  if (address === undefined) throw invalid(`"${text}" is not an address with a prefix length, such as 10.30.0.2/24`)
  const family = familyOf(address)
  const length = Number(digits)
  const most = family === 4 ? 32 : 128
  if (length > most) throw invalid(`"${text}" has a prefix length over ${most}`)
  return { family, address, length }
}

/** AF_* of a family; both families when there is none. */
export const afOf = (family: Family | undefined): number =>
  family === undefined ? afUnspec : family === 4 ? afInet : afInet6
