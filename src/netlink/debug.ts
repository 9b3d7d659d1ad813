import { decode } from './codec.js'
import type { NetlinkError } from './netlink-error.js'
import { type Request, rtm } from './request.js'
import { addressMessage, linkMessage, neighbourMessage, routeMessage } from './tables.js'

const enabled = (process.env.TSNET_DEBUG ?? '').split(',').includes('netlink')

/** RTM_* come in fours, one four for each kind of object. */
const codecs = new Map(
  [
    [rtm.newLink, linkMessage],
    [rtm.newAddress, addressMessage],
    [rtm.newRoute, routeMessage],
    [rtm.newNeighbour, neighbourMessage],
  ].map(([type, codec]) => [(type as number) >> 2, codec as typeof linkMessage]),
)

/** With TSNET_DEBUG=netlink, one line on stderr for each request: its command, its message, how it ended. */
export function debugRequest(request: Request, error?: NetlinkError): void {
  if (!enabled) return
  const codec = codecs.get(request.type >> 2)
  const message = codec ? JSON.stringify(decode(codec, request.body)) : ''
  process.stderr.write(`netlink: ${error ? error.message : `${request.op}: ok`} ${message}\n`)
}
