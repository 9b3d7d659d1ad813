import { be16, struct, u8 } from './codec.js'
import { NetlinkError } from './netlink-error.js'
import { subsystem } from './nftables.js'
import { type Request, request } from './request.js'
import type { NetlinkSocket } from './socket.js'

// Transactions of nftables: linux/netfilter/nfnetlink.h.

/** NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END */
const batchBegin = 16
const batchEnd = 17

/** Where a batch begins and ends, the number of nftables stands where other messages have that of a resource. */
const batchHeader = struct([
  ['family', u8],
  ['version', u8],
  ['resource', be16],
])
const bracket = (type: number): Request =>
  request('nft batch', type, 0, batchHeader, { family: 0, version: 0, resource: subsystem >> 8 })

/** All of it or nothing, in this order. Throws the first NetlinkError; then nothing has changed. */
export function applyBatch(socket: NetlinkSocket, requests: readonly Request[]): void {
  const [failure] = socket.transact([bracket(batchBegin), ...requests, bracket(batchEnd)])
  if (failure instanceof NetlinkError) throw failure
}
