import { formatAddress, parseAddress } from '../../src/net/cidr.js'

// Ethernet frames by hand, for senders that lie.

const hex = (number: number | bigint, bytes: number): string => number.toString(16).padStart(bytes * 2, '0')
const addressHex = (address: string): string => {
  const { family, value } = parseAddress(address)
  return hex(value, family === 4 ? 4 : 16)
}
const macHex = (mac: string): string => mac.replaceAll(':', '')

export interface Ethernet {
  /** MAC addresses */
  to: string
  from: string
  type: number
  /** tags before the type: 0x8100 and the VLAN's number */
  vlans?: [type: number, id: number][]
}

/** Its bytes: `body` is hex digits. */
export function frame({ to, from, type, vlans = [] }: Ethernet, body: string): Buffer {
  const tags = vlans.map(([tag, id]) => hex(tag, 2) + hex(id, 2)).join('')
  return Buffer.from(macHex(to) + macHex(from) + tags + hex(type, 2) + body, 'hex')
}

export const types = { ip4: 0x0800, arp: 0x0806, ip6: 0x86dd } as const

/** Bodies, given the hex digits of what they carry. */
export type Body = (payload: string) => string
const bytesIn = (digits: string): number => digits.length / 2

const udp: (to: number) => Body = to => payload =>
  `${hex(5000, 2)}${hex(to, 2)}${hex(8 + bytesIn(payload), 2)}0000${payload}`

/** Of an IPv4 header, which br_netfilter looks at; what is inside nobody checks on the way. */
function checksum(header: string): string {
  const sum = header.match(/.{4}/g)!.reduce((total, word) => total + Number.parseInt(word, 16), 0)
  return hex(0xffff - ((sum % 0x10000) + Math.floor(sum / 0x10000)), 2)
}

/** IPv4 with UDP to a port, or another protocol's number. */
export const ip4 =
  (from: string, to: string, { port = 5001, protocol = 17 } = {}): Body =>
  payload => {
    const inside = udp(port)(payload)
    const start = `4500${hex(20 + bytesIn(inside), 2)}0000000040${hex(protocol, 1)}`
    const addresses = addressHex(from) + addressHex(to)
    return start + checksum(start + addresses) + addresses + inside
  }

/** An ARP message: the sender says that it has the address. */
export const arp =
  (senderMac: string, sender: string, target: string, operation: 1 | 2 = 1): Body =>
  payload =>
    `000108000604${hex(operation, 2)}${macHex(senderMac)}${addressHex(sender)}000000000000${addressHex(target)}${payload}`

const ip6 = (from: string, to: string, next: number, inside: string): string =>
  `60000000${hex(bytesIn(inside), 2)}${hex(next, 1)}ff${addressHex(from)}${addressHex(to)}${inside}`

export const udp6 =
  (from: string, to: string): Body =>
  payload =>
    ip6(from, to, 17, udp(5001)(payload))

/** ICMPv6 of a type; solicitations and advertisements have a target. With a hop-by-hop header before it, as reports have. */
export const icmp6 =
  (from: string, to: string, type: number, target = '::', { hopByHop = false } = {}): Body =>
  payload => {
    const message = `${hex(type, 1)}00000000000000${addressHex(target)}${payload}`
    return hopByHop ? ip6(from, to, 0, `3a00050200000100${message}`) : ip6(from, to, 58, message)
  }

/** The link-local address of a MAC address, in the words of RFC 4291 2.5.1. */
export function linkLocal(mac: string): string {
  const bytes = macHex(mac).match(/../g)!
  bytes[0] = hex(Number.parseInt(bytes[0]!, 16) ^ 2, 1)
  const id = [...bytes.slice(0, 3), 'ff', 'fe', ...bytes.slice(3)].join('')
  return formatAddress(6, BigInt(`0xfe80${'0'.repeat(12)}${id}`))
}
