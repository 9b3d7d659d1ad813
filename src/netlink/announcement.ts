import { ip4, ip6, mac6 } from './address-codecs.js'
import { be16, be32, checksumOf, encode, struct, u8 } from './codec.js'

// What tells everybody on a segment, unasked, at which MAC address an IP address is: whoever remembers another one takes it.

const everybody = 'ff:ff:ff:ff:ff:ff'
/** ff02::1, all nodes of the link, and the MAC address that it has (RFC 2464 7) */
const allNodes = 'ff02::1'
const allNodesMac = '33:33:00:00:00:01'

/** struct ethhdr, linux/if_ether.h */
const ethernet = [
  ['to', mac6],
  ['from', mac6],
  ['type', be16],
] as const
export const typeArp = 0x0806
const typeIp6 = 0x86dd

/** struct arphdr and what follows on Ethernet, linux/if_arp.h (RFC 826) */
export const arp = struct([
  ...ethernet,
  ['hardware', be16],
  ['protocol', be16],
  ['hardwareLength', u8],
  ['protocolLength', u8],
  ['operation', be16],
  ['senderMac', mac6],
  ['sender', ip4],
  ['targetMac', mac6],
  ['target', ip4],
])

/** struct ipv6hdr, linux/ipv6.h */
const ipv6 = [
  ['versionAndFlow', be32],
  ['length', be16],
  ['nextHeader', u8],
  ['hopLimit', u8],
  ['source', ip6],
  ['destination', ip6],
] as const

/** A neighbour advertisement with its one option, the target's link-layer address (RFC 4861 4.4 and 4.6.1) */
const advertisement = [
  ['icmpType', u8],
  ['code', u8],
  ['checksum', be16],
  ['flags', be32],
  ['target', ip6],
  ['option', u8],
  ['optionLength', u8],
  ['targetMac', mac6],
] as const
const frame6 = struct([...ethernet, ...ipv6, ...advertisement])
const body = struct(advertisement)
/** What the checksum is over (RFC 8200 8.1) */
const summed = struct([['source', ip6], ['destination', ip6], ['size', be32], ['next', be32], ...advertisement])
const icmp6 = 58
const flagOverride = 0x2000_0000

/** The Ethernet frame that says so: a gratuitous ARP request (RFC 5227 3) or an unsolicited neighbour advertisement (RFC 4861 7.2.6). */
export const announcement = (address: string, owner: string): Buffer =>
  address.includes(':') ? advertisement6(address, owner) : gratuitousArp(address, owner)

const gratuitousArp = (address: string, owner: string): Buffer => request(owner, address, address)

/** The question who has an address, of one who has none himself (RFC 5227 2.1.1). */
export const arpRequest = (address: string, asker: string): Buffer => request(asker, '0.0.0.0', address)

const request = (from: string, sender: string, target: string): Buffer =>
  encode(arp, {
    to: everybody,
    from,
    type: typeArp,
    hardware: 1,
    protocol: 0x0800,
    hardwareLength: mac6.size,
    protocolLength: ip4.size,
    operation: 1,
    senderMac: from,
    sender,
    targetMac: '00:00:00:00:00:00',
    target,
  })

function advertisement6(address: string, owner: string): Buffer {
  const message = {
    icmpType: 136,
    code: 0,
    checksum: 0,
    flags: flagOverride,
    target: address,
    option: 2,
    optionLength: 1,
    targetMac: owner,
  }
  const path = { source: address, destination: allNodes }
  const checksum = checksumOf(encode(summed, { ...path, size: body.size, next: icmp6, ...message }))
  return encode(frame6, {
    to: allNodesMac,
    from: owner,
    type: typeIp6,
    versionAndFlow: 0x6000_0000,
    length: body.size,
    nextHeader: icmp6,
    hopLimit: 255,
    ...path,
    ...message,
    checksum,
  })
}
