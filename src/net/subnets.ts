import type { Family } from '../cnm/types.js'
import {
  formatCidr,
  hasAddress,
  contains as includes,
  overlaps,
  parseAddress,
  parseCidr,
  parseHostCidr,
} from './cidr.js'

// Subnets and addresses as the objects hold them, which is as text.

/** The one way to write this subnet. @throws {NetError} InvalidParameter: not a CIDR, or host bits are set */
export const parseSubnet = (text: string, what = 'subnet'): string => formatCidr(parseCidr(text, what))

/** Of an address or a CIDR. */
export const familyOf = (text: string): Family => parseHostCidr(text).family

/** `10.30.0.0/24` -> 24 */
export const prefixLengthOf = (cidr: string): number => parseHostCidr(cidr).prefixLength

/** `10.30.0.2/24` -> `10.30.0.2` */
export const addressOf = (cidr: string): string => cidr.replace(/\/\d+$/, '')

/** `10.30.0.2` in 10.30.0.0/24 -> `10.30.0.2/24` */
export const withPrefixLength = (address: string, subnet: string): string => `${address}/${prefixLengthOf(subnet)}`

/** Whether a subnet holds an address, or the whole of another subnet. */
export function holds(subnet: string, inner: string): boolean {
  const outer = parseHostCidr(subnet)
  return inner.includes('/') ? includes(outer, parseHostCidr(inner)) : hasAddress(outer, parseAddress(inner))
}

/** The first of the host's own subnets (the default route aside) that `subnet` overlaps. */
export function hostOverlap(subnet: string, hostSubnets: readonly string[]): string | undefined {
  const cidr = parseCidr(subnet)
  const found = hostSubnets
    .map(text => parseHostCidr(text, 'host subnet'))
    .find(host => host.prefixLength > 0 && overlaps(host, cidr))
  return found && formatCidr(found)
}
