import { type ErrorKind, NetError } from '../errors.js'
import type { Failure } from './framing.js'
import { errnoName, strerror } from './libc.js'

/** A request that the kernel refused. */
export class NetlinkError extends Error {
  override readonly name = 'NetlinkError'
  /** `EEXIST` */
  readonly code: string
  readonly errno: number
  /** the kernel's own words, where it has any (extended acknowledgement) */
  readonly text: string | undefined
  /** where in the request the offending attribute stands */
  readonly offset: number | undefined
  /** the message without the command */
  readonly reason: string
  constructor(
    /** the command that does the same: `ip link add name web type bridge` */
    readonly op: string,
    { errno, text, offset }: Failure,
  ) {
    const code = errnoName(errno)
    const words = ourWords[code] ?? strerror(errno)
    const reason = text ? `${text} (${words})` : words
    super(`${op}: ${reason}`)
    this.reason = reason
    this.code = code
    this.errno = errno
    this.text = text
    this.offset = offset
  }
}

/** Where the C library's words would leave the user guessing. */
const ourWords: Record<string, string> = {
  // br_add_if in net/bridge/br_if.c: BR_MAX_PORTS
  EXFULL: 'the bridge has 1023 ports, as many as the kernel allows',
  ENODEV: 'no such link',
}

const kinds: Record<string, ErrorKind> = {
  EEXIST: 'Conflict',
  EBUSY: 'Conflict',
  EADDRINUSE: 'Conflict',
  EXFULL: 'Conflict',
  ENODEV: 'NotFound',
  ENOENT: 'NotFound',
  ESRCH: 'NotFound',
  ENXIO: 'NotFound',
  EADDRNOTAVAIL: 'NotFound',
  EINVAL: 'InvalidParameter',
  ERANGE: 'InvalidParameter',
  ELOOP: 'InvalidParameter',
  ENETUNREACH: 'InvalidParameter',
  EHOSTUNREACH: 'InvalidParameter',
  EPERM: 'Forbidden',
  EACCES: 'Forbidden',
  EOPNOTSUPP: 'NotImplemented',
  EAFNOSUPPORT: 'NotImplemented',
  ENOBUFS: 'Unavailable',
  ENOMEM: 'Unavailable',
  EAGAIN: 'Unavailable',
}

/** The only place where errno becomes a kind. The first failure is the cause; the message counts the others. */
export function kernelError(failures: readonly [NetlinkError, ...NetlinkError[]]): NetError {
  const [first, ...others] = failures
  const more = others.length > 0 ? ` (and ${others.length} more failed)` : ''
  return new NetError(kinds[first.code] ?? 'Internal', first.message + more, { cause: first })
}
