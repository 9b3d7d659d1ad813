import { contains, formatAddress, formatCidr, parseCidr, parseHostCidr } from '../net/cidr.js'
import { familyOf } from '../ports/address.js'
import type { Element } from './elements.js'

/** What an endpoint may send as. */
export interface Sender {
  /** name of the link on the host's side, a port of the bridge */
  link: string
  mac: string
  /** plain addresses of its own */
  addresses: readonly string[]
  /** MAC addresses besides its own */
  macs: readonly string[]
  /** subnets, or single addresses as such, besides its own */
  subnets: readonly string[]
}

/** What the spoof guard must hold for an endpoint: nothing else passes its port; pure. */
export function senderElements({ link, mac, addresses, macs, subnets }: Sender): Element[] {
  const elements: Element[] = [{ set: 'guarded', link }]
  for (const own of new Set([mac, ...macs])) {
    elements.push({ set: 'sender_macs', link, mac: own })
    for (const address of addresses)
      elements.push({ set: familyOf(address) === 4 ? 'senders4' : 'senders6', link, mac: own, address })
    const address = linkLocalOf(own)
    elements.push({ set: 'senders6', link, mac: own, address }, { set: 'targets6', link, address })
  }
  for (const address of addresses) if (familyOf(address) === 6) elements.push({ set: 'targets6', link, address })
  for (const subnet of withoutInner(subnets))
    if (familyOf(subnet) === 4) elements.push({ set: 'also4', link, subnet })
    else elements.push({ set: 'also6', link, subnet }, { set: 'also_targets6', link, subnet })
  return elements
}

/** No interval set takes a subnet beside one that holds it. */
function withoutInner(subnets: readonly string[]): string[] {
  const all = [...new Set(subnets)].map(text => parseCidr(text))
  return all.filter(inner => !all.some(outer => outer !== inner && contains(outer, inner))).map(formatCidr)
}

/** The address that a link gives itself: fe80::/64 and the modified EUI-64 of its MAC address (RFC 4291 2.5.1, 2.5.6). */
export function linkLocalOf(mac: string): string {
  const [a = 0, b = 0, c = 0, ...rest] = mac.split(':').map(part => Number.parseInt(part, 16))
  const bytes = [a ^ 2, b, c, 0xff, 0xfe, ...rest]
  const id = bytes.reduce((number, byte) => number * 256n + BigInt(byte), 0n)
  return formatAddress(6, linkLocal.first + id)
}

const linkLocal = parseHostCidr('fe80::/64')
