import type { Family } from '../cnm/types.js'
import { ip } from './address-codecs.js'
import { attr, be16, be32, decode, message, nest, table, u8, u32, type ValueOf } from './codec.js'
import { kernelError } from './netlink-error.js'
import type { Netns } from './netns.js'
import { netlinkNetfilter, nfgenmsg } from './nftables.js'
import { afOf, familyOf } from './prefix.js'
import { type Request, request, tolerant, words } from './request.js'
import { NetlinkSocket } from './socket.js'

// Connection tracking: linux/netfilter/nfnetlink_conntrack.h. An entry is a flow: its packets as they come (`original`), and
// as the answers come (`reply`), which is not the mirror image where the kernel replaces addresses.

/** NFNL_SUBSYS_CTNETLINK in the high byte, then IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE */
const getFlow = 0x101
const deleteFlow = 0x102

/** CTA_TUPLE_*, CTA_IP_*, CTA_PROTO_* */
const tuple = table('conntrack tuple', {
  ip: nest(
    1,
    table('conntrack addresses', {
      source4: attr(1, ip),
      target4: attr(2, ip),
      source6: attr(3, ip),
      target6: attr(4, ip),
    }),
  ),
  proto: nest(2, table('conntrack ports', { number: attr(1, u8), source: attr(2, be16), target: attr(3, be16) })),
})

/** CTA_*; CTA_FILTER_* */
const flowMessage = message(
  nfgenmsg,
  table('conntrack flow', {
    original: nest(1, tuple),
    reply: nest(2, tuple),
    status: attr(3, be32),
    id: attr(12, be32),
    zone: attr(18, be16),
    filter: nest(25, table('conntrack filter', { original: attr(1, u32), reply: attr(2, u32) })),
    statusMask: attr(26, be32),
  }),
)

/** IPS_SEEN_REPLY of linux/netfilter/nf_conntrack_common.h */
const seenReply = 0x02

/** CTA_FILTER_F_* of net/netfilter/nf_internals.h: what of a tuple a flow must share to be listed; since Linux 5.8 */
const bySource = 0x01
const byProtocol = 0x08
const byTargetPort = 0x20

/** IP protocol numbers */
export const trackedProtocols = { tcp: 6, udp: 17, sctp: 132 } as const

export interface FlowEnds {
  source: string
  target: string
  /** 0 for protocols without */
  sourcePort: number
  targetPort: number
}

export interface Flow {
  /** number */
  protocol: number
  original: FlowEnds
  reply: FlowEnds
}

/**
 * Which flows the kernel should list: those that begin at, or are answered by, an address, or are for a port of whatever
 * address, or have had no answer yet, or all of a family.
 */
export type FlowFilter =
  | { unanswered: Family }
  | { beginsAt: string }
  | { answeredBy: string }
  | { family: Family; protocol: number; targetPort?: number }
  | { family: Family }

/** The flows that a namespace's kernel has in mind. It looks at every one to list some, which takes it 10 ms or so, off the main thread. */
export class Conntrack {
  #closed = false

  private constructor(readonly socket: NetlinkSocket) {}

  /** `netns` may be closed meanwhile. */
  static open(netns: Netns): Conntrack {
    return new Conntrack(NetlinkSocket.open(netns, [], { protocol: netlinkNetfilter }))
  }

  close(): void {
    this.#closed = true
    this.socket.close()
  }

  /** `conntrack -L` */
  async list(filter: FlowFilter): Promise<Flow[]> {
    return (await this.#dump(filter)).map(({ flow }) => flow)
  }

  /** Forget flows: `conntrack -D`. The next packet of one is a first packet again. Returns how many. */
  async delete(filter: FlowFilter, which: (flow: Flow) => boolean = () => true): Promise<number> {
    // what was to be done later: the descriptor may be another's by now
    if (this.#closed) return 0
    const found = (await this.#dump(filter)).filter(({ flow }) => which(flow))
    // it may have ended meanwhile
    const failures = this.socket.exchange(found.flatMap(({ deletion }) => tolerant(deletion, 'ENOENT')))
    const [first, ...rest] = failures
    if (first !== undefined) throw kernelError([first, ...rest])
    return found.length
  }

  #dump(filter: FlowFilter): Promise<{ flow: Flow; deletion: Request }[]> {
    return this.socket.dumpAsync(listRequest(filter), (bytes, start, end) => {
      const { family, attrs } = decode(flowMessage, bytes, start, end)
      const { original, reply, id, zone, status = 0 } = attrs
      if (original === undefined || reply === undefined) return undefined
      // a kernel before 5.15 lists the others too
      if ('unanswered' in filter && (status & seenReply) !== 0) return undefined
      const flow = { protocol: original.proto?.number ?? 0, original: endsOf(original), reply: endsOf(reply) }
      const op = words('conntrack -D', { '--orig-src': flow.original.source, '--orig-dst': flow.original.target })
      const header = { family, version: 0, attrs: { original, id, zone } }
      return { flow, deletion: request(op, deleteFlow, 0, flowMessage, header) }
    })
  }
}

const endsOf = ({ ip, proto }: ValueOf<typeof tuple>): FlowEnds => ({
  source: ip?.source4 ?? ip?.source6 ?? '',
  target: ip?.target4 ?? ip?.target6 ?? '',
  sourcePort: proto?.source ?? 0,
  targetPort: proto?.target ?? 0,
})

function listRequest(filter: FlowFilter): Request {
  const ask = (family: Family, op: Record<string, string | number | undefined>, attrs: object): Request =>
    request(words('conntrack -L', op), getFlow, 0, flowMessage, { family: afOf(family), version: 0, attrs })
  if ('unanswered' in filter) return ask(filter.unanswered, { '-u': 'UNREPLIED' }, { status: 0, statusMask: seenReply })
  if ('protocol' in filter) {
    const { family, protocol, targetPort } = filter
    const flags = byProtocol | (targetPort === undefined ? 0 : byTargetPort)
    const original = { proto: { number: protocol, target: targetPort } }
    return ask(family, { '-p': protocol, '--dport': targetPort }, { original, filter: { original: flags } })
  }
  if ('family' in filter) return ask(filter.family, {}, {})
  const address = 'beginsAt' in filter ? filter.beginsAt : filter.answeredBy
  const family = familyOf(address)
  const end = { ip: family === 4 ? { source4: address } : { source6: address } }
  return 'beginsAt' in filter
    ? ask(family, { '-s': address }, { original: end, filter: { original: bySource } })
    : ask(family, { '-r': address }, { reply: end, filter: { reply: bySource } })
}
