import {
  type Answer,
  AUTHORITATIVE_ANSWER,
  type DecodedPacket,
  decode,
  encode,
  type Packet,
  RECURSION_AVAILABLE,
  RECURSION_DESIRED,
  TRUNCATED_RESPONSE,
} from 'dns-packet'
import { be16, struct } from '../netlink/codec.js'
import type { Question } from './resolver.js'

// DNS messages (RFC 1035 4.1, RFC 6891). What is forwarded stays the bytes it was, but for its id: options and record types
// that nobody here knows pass through.

const header = struct([
  ['id', be16],
  ['flags', be16],
  ['questions', be16],
  ['answers', be16],
  ['authorities', be16],
  ['additionals', be16],
])

/** Response codes of RFC 1035 4.1.1 */
export const rcodes = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5 } as const
export type Rcode = keyof typeof rcodes

const responseBit = 0x8000
const opcodeMask = 0x7800
const rcodeMask = 0xf

/** RFC 1035 4.2.1: what every client takes by UDP. */
const plainUdpBytes = 512
/** What we say that we take: fits every path without fragments (the DNS flag day of 2020). */
const ednsUdpBytes = 1232
/** Longer than any question is; a longer one is refused unread, since reading names costs time. */
const longestQuery = 4096

/** How long our own answers may be kept. Addresses change hands within seconds of each other. */
const ttlSeconds = 5

export interface Query {
  bytes: Buffer
  id: number
  recursionDesired: boolean
  question: Question
  /** what the client takes by UDP */
  udpBytes: number
  edns: boolean
}

/** A question, or the reply to what is none, or undefined for what deserves no reply: noise, and answers that nobody asked for. */
export function readQuery(bytes: Buffer): Query | Buffer | undefined {
  if (bytes.length < header.size) return undefined
  const { id, flags, questions } = header.read(bytes, 0)
  if (flags & responseBit) return undefined
  if (flags & opcodeMask) return bare(id, flags, 'NOTIMP')
  if (questions !== 1 || bytes.length > longestQuery) return bare(id, flags, 'FORMERR')
  const packet = read(bytes)
  const asked = packet?.questions?.[0]
  if (packet === undefined || asked === undefined) return bare(id, flags, 'FORMERR')
  const opt = packet.additionals?.find(record => record.type === 'OPT')
  return {
    bytes,
    id,
    recursionDesired: (flags & RECURSION_DESIRED) !== 0,
    question: { name: asked.name, type: asked.type, class: asked.class ?? 'IN' },
    udpBytes: opt === undefined ? plainUdpBytes : Math.max(plainUdpBytes, opt.udpPayloadSize),
    edns: opt !== undefined,
  }
}

/** Garbage is what comes over a network, not an exception. */
function read(bytes: Buffer): DecodedPacket | undefined {
  try {
    return decode(bytes)
  } catch {
    return undefined
  }
}

const bare = (id: number, flags: number, rcode: Rcode): Buffer => {
  const reply = Buffer.alloc(header.size)
  const answered = responseBit | (flags & (opcodeMask | RECURSION_DESIRED)) | rcodes[rcode]
  header.write(reply, 0, { id, flags: answered, questions: 0, answers: 0, authorities: 0, additionals: 0 })
  return reply
}

/** Our own reply. */
export function formatReply(
  query: Query,
  rcode: Rcode,
  records: { type: 'A' | 'AAAA' | 'PTR'; data: string }[] = [],
): Buffer {
  const { name, type, class: world } = query.question
  const packet: Packet = {
    id: query.id,
    type: 'response',
    flags:
      rcodes[rcode] |
      RECURSION_AVAILABLE |
      (query.recursionDesired ? RECURSION_DESIRED : 0) |
      (rcode === 'NOERROR' || rcode === 'NXDOMAIN' ? AUTHORITATIVE_ANSWER : 0),
    // the library's types know fewer record types and classes than its code
    questions: [{ name, type, class: world } as NonNullable<Packet['questions']>[number]],
    answers: records.map((record): Answer => ({ ...record, name, class: 'IN', ttl: ttlSeconds })),
    additionals: query.edns ? [optRecord] : [],
  }
  return encode(packet)
}

const optRecord = {
  type: 'OPT',
  name: '.',
  udpPayloadSize: ednsUdpBytes,
  extendedRcode: 0,
  ednsVersion: 0,
  flags: 0,
  flag_do: false,
  options: [],
} satisfies Answer

/** A reply cut to what the client takes by UDP, and marked so that it asks again by TCP. Clients that cannot use what is left. */
export function fitUdp(reply: Buffer, query: Query): Buffer {
  const limit = query.udpBytes
  if (reply.length <= limit) return reply
  const packet = read(reply)
  if (packet === undefined) return truncatedBare(query)
  const answers = packet.answers ?? []
  const additionals = (packet.additionals ?? []).filter(record => record.type === 'OPT')
  let kept = answers.length
  for (;;) {
    const flags = (packet.flags ?? 0) | TRUNCATED_RESPONSE
    const cut = reencode({ ...packet, flags, answers: answers.slice(0, kept), authorities: [], additionals })
    if (cut === undefined) return truncatedBare(query)
    if (cut.length <= limit) return cut
    if (kept === 0) return truncatedBare(query)
    kept = Math.min(kept - 1, Math.floor((kept * limit) / cut.length))
  }
}

/** The library reads some records that it cannot write. */
function reencode(packet: Packet): Buffer | undefined {
  try {
    return encode(packet)
  } catch {
    return undefined
  }
}

const truncatedBare = (query: Query): Buffer => {
  const reply = formatReply(query, 'NOERROR')
  const had = header.read(reply, 0)
  header.write(reply, 0, { ...had, flags: (had.flags | TRUNCATED_RESPONSE) & ~AUTHORITATIVE_ANSWER })
  return reply
}

/** The same message under another id. */
export function withId(message: Buffer, id: number): Buffer {
  const copy = Buffer.from(message)
  be16.write(copy, 0, id)
  return copy
}

export interface Reply {
  truncated: boolean
  rcode: number
}

/** What a server says, if it is the reply to this question under this id; undefined for anything else. */
export function readReply(bytes: Buffer, id: number, { question }: Query): Reply | undefined {
  if (bytes.length < header.size) return undefined
  const { id: got, flags, questions } = header.read(bytes, 0)
  if (got !== id || !(flags & responseBit)) return undefined
  const reply = { truncated: (flags & TRUNCATED_RESPONSE) !== 0, rcode: flags & rcodeMask }
  // servers that cannot read the question may leave it out
  if (questions === 0 && reply.rcode !== rcodes.NOERROR) return reply
  // the header and the question are enough to know it by: the rest is for the client to read
  const asked = read(onlyQuestion(bytes))?.questions?.[0]
  const same =
    asked?.name.toLowerCase() === question.name.toLowerCase() &&
    asked.type === question.type &&
    (asked.class ?? 'IN') === question.class
  return same && questions === 1 ? reply : undefined
}

function onlyQuestion(message: Buffer): Buffer {
  const copy = Buffer.from(message.subarray(0, header.size + 256 + 4))
  const had = header.read(copy, 0)
  header.write(copy, 0, { ...had, answers: 0, authorities: 0, additionals: 0 })
  return copy
}

/** By TCP each message follows its length (RFC 1035 4.2.2). */
export function frame(message: Buffer): Buffer {
  const framed = Buffer.alloc(2 + message.length)
  be16.write(framed, 0, message.length)
  message.copy(framed, 2)
  return framed
}

/** Messages out of a TCP stream, in whatever pieces it comes. */
export class Unframer {
  #rest: Buffer = Buffer.alloc(0)

  /** Returns the messages that are now complete. */
  add(chunk: Buffer): Buffer[] {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    const messages: Buffer[] = []
    let at = 0
    while (this.#rest.length - at >= 2) {
      const end = at + 2 + be16.read(this.#rest, at)
      if (end > this.#rest.length) break
      messages.push(this.#rest.subarray(at + 2, end))
      at = end
    }
    this.#rest = this.#rest.subarray(at)
    return messages
  }
}
