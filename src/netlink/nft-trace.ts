import { ip4, ip6 } from './address-codecs.js'
import { asciiz, attr, be16, be32, be64, bytes, decode, message, nest, pad, struct, table, u8 } from './codec.js'
import { hasCode, watchReadable } from './libc.js'
import type { Netns } from './netns.js'
import { families, netlinkNetfilter, nfgenmsg, subsystem } from './nftables.js'
import { NetlinkSocket } from './socket.js'

// What the kernel tells of packets for which a rule has said `meta nftrace set 1`: linux/netfilter/nf_tables.h. `nft monitor trace`.

/** NFNLGRP_NFTRACE, NFT_MSG_TRACE */
const groupTrace = 9
const traceNumber = 17

/** NFTA_TRACE_*; NFTA_VERDICT_*. Exported for tests, which make what the kernel says. */
export const traceMessage = message(
  nfgenmsg,
  table('nftables trace', {
    table: attr(1, asciiz),
    chain: attr(2, asciiz),
    handle: attr(3, be64),
    type: attr(4, be32),
    verdict: nest(5, table('nftables verdict', { code: attr(1, be32), chain: attr(2, asciiz) })),
    network: attr(8, bytes),
    transport: attr(9, bytes),
    iif: attr(10, be32),
    oif: attr(12, be32),
    policy: attr(16, be32),
  }),
)

/** NFT_TRACETYPE_* */
const typeWords: Readonly<Record<number, TraceEvent['type']>> = { 1: 'policy', 2: 'return', 3: 'rule' }
/** NF_* and NFT_*, the latter negative numbers */
const verdictWords: Readonly<Record<number, string>> = {
  0: 'drop',
  1: 'accept',
  2: 'stolen',
  3: 'queue',
  4294967295: 'continue',
  4294967294: 'break',
  4294967293: 'jump',
  4294967292: 'goto',
  4294967291: 'return',
}

/** A packet met a rule, or the end of a chain. */
export interface TraceEvent {
  /** `inet tsnet` */
  table: string
  chain: string
  /** policy: the base chain's end; return: the end of another one */
  type: 'policy' | 'return' | 'rule'
  /** of the rule, as `nft -a` shows it */
  handle?: string
  /** `accept`, `drop`, `continue`, `jump ours` */
  verdict: string
  /** indexes of links */
  iif?: number
  oif?: number
  /** as it is there; told once a base chain */
  packet?: PacketEnds
}

export interface PacketEnds {
  source: string
  target: string
  /** number */
  protocol: number
  /** of TCP, UDP and SCTP */
  sourcePort: number
  targetPort: number
}

/** struct iphdr, linux/ip.h; struct ipv6hdr, linux/ipv6.h; the ports begin the headers of TCP, UDP and SCTP alike */
const header4 = struct([
  ['_toProtocol', pad(9)],
  ['protocol', u8],
  ['_checksum', pad(2)],
  ['source', ip4],
  ['target', ip4],
])
const header6 = struct([
  ['_toNext', pad(6)],
  ['protocol', u8],
  ['_hopLimit', pad(1)],
  ['source', ip6],
  ['target', ip6],
])
const ports = struct([
  ['sourcePort', be16],
  ['targetPort', be16],
])
const version = struct([['first', u8]])

function endsOf(network: Buffer, transport: Buffer | undefined): PacketEnds | undefined {
  const six = network.length > 0 && decode(version, network).first >> 4 === 6
  if (network.length < (six ? header6 : header4).size) return undefined
  const header = decode(six ? header6 : header4, network)
  const behind =
    transport !== undefined && transport.length >= ports.size
      ? decode(ports, transport)
      : { sourcePort: 0, targetPort: 0 }
  return { ...header, ...behind }
}

/** The bytes behind the netlink header. @throws {DecodeError} */
export function parseTrace(from: Buffer, start = 0, end = from.length): TraceEvent {
  const { family, attrs } = decode(traceMessage, from, start, end)
  const type = typeWords[attrs.type ?? 0] ?? 'rule'
  const code = type === 'policy' ? attrs.policy : attrs.verdict?.code
  const word = verdictWords[code ?? 0xffff_ffff] ?? String(code)
  const event: TraceEvent = {
    table: `${families[family] ?? family} ${attrs.table}`,
    chain: attrs.chain ?? '',
    type,
    verdict: attrs.verdict?.chain === undefined ? word : `${word} ${attrs.verdict.chain}`,
  }
  if (attrs.handle !== undefined) event.handle = String(attrs.handle)
  if (attrs.iif) event.iif = attrs.iif
  if (attrs.oif) event.oif = attrs.oif
  const packet = attrs.network && endsOf(attrs.network, attrs.transport)
  if (packet) event.packet = packet
  return event
}

/** Datagrams handled before the event loop gets its turn again. */
const datagramsAtOnce = 64

/** Hear of traced packets in a namespace until `close`, which may be called twice. More than the socket can hold are lost, which a probe never has. */
export function watchTraces(netns: Netns, handler: (event: TraceEvent) => void): { close(): void } {
  const socket = NetlinkSocket.open(netns, [groupTrace], { protocol: netlinkNetfilter })
  const read = (): void => {
    try {
      for (const { type, bytes: from, start, end } of socket.notifications(datagramsAtOnce))
        if (type === subsystem + traceNumber) handler(parseTrace(from, start, end))
    } catch (error) {
      if (!hasCode(error, 'ENOBUFS')) throw error
      socket.drain()
    }
  }
  const watch = watchReadable(socket.fd, read)
  let open = true
  return {
    close() {
      if (!open) return
      open = false
      watch.close()
      // what the kernel has told already
      read()
      socket.close()
    },
  }
}
