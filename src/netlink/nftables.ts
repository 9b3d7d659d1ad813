import { asciiz, attr, be16, be32, bytes, decode, message, struct, table, u8 } from './codec.js'
import { hasCode, watchReadable } from './libc.js'
import { currentNetns, type Netns } from './netns.js'
import { request } from './request.js'
import { NetlinkSocket } from './socket.js'

// What nfnetlink tells of nftables: linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h.

/** NETLINK_NETFILTER; NFNLGRP_NFTABLES; NFNL_SUBSYS_NFTABLES in the high byte of a message's type */
export const netlinkNetfilter = 12
const groupNftables = 7
export const subsystem = 10 << 8

/** NFT_MSG_*: what a transaction can do to a table and what is in it */
const messages: Readonly<Record<number, string>> = {
  0: 'added the table',
  2: 'deleted the table',
  3: 'added chains',
  5: 'deleted chains',
  6: 'added rules',
  8: 'deleted rules',
  9: 'added sets',
  11: 'deleted sets',
  12: 'added elements',
  14: 'deleted elements',
}
const newGeneration = 15
const getGeneration = 16

/** struct nfgenmsg, linux/netfilter/nfnetlink.h: what every message of NETLINK_NETFILTER begins with */
export const nfgenmsg = struct([
  ['family', u8],
  ['version', u8],
  ['_resource', be16],
])
/** NFTA_DATA_VALUE: a key, a value, what a register is compared with */
export const nftData = table('nftables data', { value: attr(1, bytes) })
/** NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE, ...: number 1 in every message, first of all */
const objectMessage = message(nfgenmsg, table('nftables object', { table: attr(1, asciiz) }))
/** NFTA_GEN_* */
const generationMessage = message(
  nfgenmsg,
  table('nftables generation', { id: attr(1, be32), pid: attr(2, be32), name: attr(3, asciiz) }),
)
export const families: Readonly<Record<number, string>> = {
  1: 'inet',
  2: 'ip',
  3: 'arp',
  5: 'netdev',
  7: 'bridge',
  10: 'ip6',
}

/** One transaction of nftables, whoever made it, told when it is done. */
export interface NftTransaction {
  /** name of the process, and its number as the first pid namespace counts */
  process: string
  pid: number
  /** of its netlink socket: its number as its own pid namespace counts, if it has one such socket and no wish for another port */
  port: number
  /** what was done, by table: `inet tsnet` -> `deleted the table` */
  tables: Map<string, Set<string>>
}

/** `overrun`: there was more to tell than the socket could hold, so look. */
export type NftEvent = { what: 'overrun' } | ({ what: 'transaction' } & NftTransaction)

/** Datagrams handled before the event loop gets its turn again. */
const datagramsAtOnce = 64
/** What we do ourselves is told too: whoever asked for it is answered first. */
const gatherMs = 5
/** The kernel tells of every element. Room for 10,000 of them at once, which one of our own transactions may have. */
const receiveBytes = 16 << 20

/**
 * Hear every transaction of a namespace's nftables, as `nft monitor` does, until `signal` aborts. `handler` is called from
 * the event loop; listening neither blocks nor keeps the process alive. `netns` may be closed meanwhile.
 */
export function watchNftables(netns: Netns, handler: (event: NftEvent) => void, signal: AbortSignal): void {
  if (signal.aborted) return
  const socket = NetlinkSocket.open(netns, [groupNftables], {
    protocol: netlinkNetfilter,
    receiveBytes,
  })
  let tables: NftTransaction['tables'] = new Map()
  const tell = (): void => {
    try {
      for (const { type, port, bytes, start, end } of socket.notifications(datagramsAtOnce)) {
        const ended = see(tables, type, bytes, start, end)
        if (ended === undefined) continue
        tables = new Map()
        handler({ what: 'transaction', ...ended, port })
        if (signal.aborted) return
      }
    } catch (error) {
      if (!hasCode(error, 'ENOBUFS')) throw error
      socket.drain()
      tables = new Map()
      handler({ what: 'overrun' })
    }
  }
  const watch = watchReadable(socket.fd, tell, gatherMs)
  const stop = () => {
    watch.close()
    socket.close()
  }
  signal.addEventListener('abort', stop, { once: true })
}

/** Note what one message says. The last one of a transaction says who made it. */
function see(
  tables: NftTransaction['tables'],
  type: number,
  bytes: Buffer,
  start: number,
  end: number,
): Omit<NftTransaction, 'port'> | undefined {
  const number = type - subsystem
  if (number === newGeneration) {
    const { attrs } = decode(generationMessage, bytes, start, end)
    return { process: attrs.name ?? '', pid: attrs.pid ?? 0, tables }
  }
  const words = messages[number]
  if (words === undefined) return undefined
  const { family, attrs } = decode(objectMessage, bytes, start, end)
  const name = `${families[family] ?? family} ${attrs.table}`
  const seen = tables.get(name)
  if (seen === undefined) tables.set(name, new Set([words]))
  else seen.add(words)
  return undefined
}

/** How many transactions there have been in this thread's namespace, and the number of this process as `NftTransaction.pid` has it. */
export function nftGeneration(): { id: number; pid: number } {
  const netns = currentNetns()
  const socket = NetlinkSocket.open(netns, [], { protocol: netlinkNetfilter })
  try {
    const ask = request('nft list generation', subsystem + getGeneration, 0, nfgenmsg, noFamily)
    const got = socket.get(ask, (bytes, start, end) => decode(generationMessage, bytes, start, end))
    return { id: got?.attrs.id ?? 0, pid: got?.attrs.pid ?? 0 }
  } finally {
    socket.close()
    netns.close()
  }
}

const noFamily = { family: 0, version: 0 }
