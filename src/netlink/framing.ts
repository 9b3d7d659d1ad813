import { asciiz, attr, DecodeError, decode, encode, i32, pad, struct, table, u16, u32 } from './codec.js'

// What is around a message: struct nlmsghdr, acknowledgements and the ends of lists; linux/netlink.h, netlink(7).

const nlmsghdr = struct([
  ['length', u32],
  ['type', u16],
  ['flags', u16],
  ['sequence', u32],
  ['port', u32],
])
const headerSize = nlmsghdr.size

/** NLMSG_ERROR, NLMSG_DONE */
const typeError = 2
const typeDone = 3

/** NLM_F_DUMP_INTR, and of acknowledgements NLM_F_CAPPED and NLM_F_ACK_TLVS */
const flagInterrupted = 0x10
const flagCapped = 0x100
const flagTlvs = 0x200

/** struct sockaddr_nl: port 0 lets the kernel choose one; `groups` is a mask of RTNLGRP_* */
const sockaddr = struct([
  ['family', u16],
  ['_pad', pad(2)],
  ['port', u32],
  ['groups', u32],
])
export const socketAddress = (family: number, groups: readonly number[]): Buffer =>
  encode(sockaddr, { family, port: 0, groups: groups.reduce((mask, group) => mask | (1 << (group - 1)), 0) })

/** One message to send. Its body has been encoded already. */
export interface Outgoing {
  type: number
  flags: number
  body: Buffer
}

const padded = (size: number): number => (size + 3) & ~3
export const frameSize = (body: Buffer): number => padded(headerSize + body.length)

/** Write messages one after the other, numbered from `sequence` on; returns where they end. `to` must be large enough. */
export function writeFrames(to: Buffer, messages: readonly Outgoing[], sequence: number): number {
  let at = 0
  for (const [i, { type, flags, body }] of messages.entries()) {
    const length = headerSize + body.length
    nlmsghdr.write(to, at, { length, type, flags, sequence: (sequence + i) >>> 0, port: 0 })
    body.copy(to, at + headerSize)
    to.fill(0, at + length, at + padded(length))
    at += padded(length)
  }
  return at
}

/** Why a request failed. */
export interface Failure {
  errno: number
  /** the kernel's own words (extended acknowledgement), where it has any */
  text?: string
  /** where in the request the offending attribute stands */
  offset?: number
}

/** One received message. `port` of what is told: of the socket that asked for it, 0 for the kernel's own doing. */
export type Incoming = { sequence: number; interrupted: boolean } & (
  | { what: 'message'; type: number; port: number; start: number; end: number }
  /** an acknowledgement, or the end of a list; `failure` when the request failed */
  | { what: 'ack' | 'done'; failure?: Failure }
)

/** A message that nobody asked for: its body is from `start` to `end`. */
export interface Notification {
  type: number
  port: number
  bytes: Buffer
  start: number
  end: number
}

const nlmsgerr = struct([
  ['error', i32],
  ['requestLength', u32],
  ['_request', pad(headerSize - u32.size)],
])
const errorSize = nlmsgerr.size

/** NLMSGERR_ATTR_* */
const extendedAck = table('extended ack', {
  text: attr(1, asciiz),
  offset: attr(2, u32),
  missingType: attr(5, u32),
})

/** Split what one receive returned into its messages. Throws DecodeError. */
export function readFrames(bytes: Buffer, size: number): Incoming[] {
  const messages: Incoming[] = []
  for (let at = 0; at < size; ) {
    const { length, type, flags, sequence, port } = decode(nlmsghdr, bytes, at, size)
    if (length < headerSize || length > size - at)
      throw new DecodeError(`a message of ${length} bytes in ${size - at} received`)
    const start = at + headerSize
    const end = at + length
    const interrupted = (flags & flagInterrupted) !== 0
    if (type === typeError)
      messages.push({ sequence, interrupted, what: 'ack', ...failureOfAck(bytes, start, end, flags) })
    else if (type === typeDone)
      messages.push({ sequence, interrupted, what: 'done', ...failureOfDone(bytes, start, end, flags) })
    else messages.push({ sequence, interrupted, what: 'message', type, port, start, end })
    at += padded(length)
  }
  return messages
}

function failureOfAck(bytes: Buffer, start: number, end: number, flags: number): { failure?: Failure } {
  const { error, requestLength } = decode(nlmsgerr, bytes, start, end)
  if (error === 0) return {}
  // Unless capped, the whole request is repeated before the attributes.
  const repeated = flags & flagCapped ? headerSize : requestLength
  return { failure: failure(error, bytes, start + errorSize - headerSize + padded(repeated), end, flags) }
}

function failureOfDone(bytes: Buffer, start: number, end: number, flags: number): { failure?: Failure } {
  if (start === end) return {}
  const error = decode<number>(i32, bytes, start, end)
  return error < 0 ? { failure: failure(error, bytes, start + i32.size, end, flags) } : {}
}

function failure(error: number, bytes: Buffer, start: number, end: number, flags: number): Failure {
  const details = flags & flagTlvs && start < end ? decode<ExtendedAck>(extendedAck, bytes, start, end) : {}
  const { text, offset, missingType } = details
  const said = text ?? (missingType === undefined ? undefined : `attribute ${missingType} is missing`)
  return { errno: -error, ...(said && { text: said }), ...(offset !== undefined && { offset }) }
}

type ExtendedAck = { text?: string | undefined; offset?: number | undefined; missingType?: number | undefined }
