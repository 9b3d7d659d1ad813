import { invalid } from '../errors.js'
import { type Codec, encode } from './codec.js'

/** RTM_*, linux/rtnetlink.h */
export const rtm = {
  newLink: 16,
  deleteLink: 17,
  getLink: 18,
  setLink: 19,
  newAddress: 20,
  deleteAddress: 21,
  getAddress: 22,
  newRoute: 24,
  deleteRoute: 25,
  getRoute: 26,
  newNeighbour: 28,
  deleteNeighbour: 29,
  getNeighbour: 30,
  newSettings: 80,
} as const

/** NLM_F_*, linux/netlink.h: what a request that changes something does when the thing exists, or does not */
export const nlm = { replace: 0x100, exclusive: 0x200, create: 0x400, append: 0x800 } as const

/** NLM_F_*: of every request, and of one that lists */
export const nlmRequest = 1
export const nlmAck = 4
export const nlmDump = 0x300

/** One message to the kernel, ready but for its sequence number. A plain value: nothing happens until it is applied. */
export interface Request {
  /** the command that does the same, for errors and logs: `ip link add name web type bridge` */
  readonly op: string
  /** RTM_* */
  readonly type: number
  /** NLM_F_* beside REQUEST and ACK */
  readonly flags: number
  readonly body: Buffer
  /** names of errors that count as success, such as EEXIST */
  readonly tolerate: readonly string[]
  /**
   * It finds its link by name, so it is sent only after the requests before it in the same call have succeeded: where
   * a creation failed because the name is taken, the name means somebody else's link.
   */
  readonly byName: boolean
}

/** What a verb returns: one request, or several in order. */
export type Requests = Request | readonly Request[]

const isList = (requests: Requests): requests is readonly Request[] => Array.isArray(requests)
export const listOf = (requests: Requests): readonly Request[] => (isList(requests) ? requests : [requests])

/** The same requests, for which these errors count as success: `tolerant(linkAdd(spec), 'EEXIST')`. */
export const tolerant = (requests: Requests, ...codes: string[]): readonly Request[] =>
  listOf(requests).map(request => ({ ...request, tolerate: [...request.tolerate, ...codes] }))

/** Encode a request. A value that does not fit its field is InvalidParameter, before the kernel sees anything. */
export function request<T>(
  op: string,
  type: number,
  flags: number,
  codec: Codec<T>,
  value: T,
  byName = false,
): Request {
  try {
    return { op, type, flags, body: encode(codec, value), tolerate: [], byName }
  } catch (error) {
    if (error instanceof RangeError) throw invalid(`${op}: ${error.message}`, { cause: error })
    throw error
  }
}

/** `words('ip link set', { dev: 'web', mtu: 1400, up: undefined })` is `ip link set dev web mtu 1400`; true is the word alone. */
export function words(command: string, options: Record<string, string | number | boolean | undefined>): string {
  let text = command
  for (const [word, value] of Object.entries(options)) {
    if (value === undefined || value === false) continue
    text += value === true ? ` ${word}` : ` ${word} ${value}`
  }
  return text
}

export function checkMac(mac: string): string {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(mac))
    throw invalid(`MAC address "${mac}" is not six pairs of hexadecimal digits, such as 02:42:ac:11:00:02`)
  return mac
}

export function checkIndex(index: number): number {
  if (!Number.isSafeInteger(index) || index < 1 || index > 0x7fff_ffff)
    throw invalid(`link index ${index} is not a positive whole number`)
  return index
}
