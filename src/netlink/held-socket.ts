import { isIPv6 } from 'node:net'
import { decode, encode, pad, struct, u32 } from './codec.js'
import {
  afInet,
  afInet6,
  type InetAddress,
  sockaddrsOf,
  sockCloexec,
  sockDgram,
  sockNonblock,
  sockStream,
} from './inet-socket.js'
import {
  accept,
  bind,
  close,
  ErrnoError,
  emfile,
  getsockopt,
  hasCode,
  listen,
  recvfrom,
  sendto,
  setsockoptBytes,
  socket,
} from './libc.js'
import { openFilesLimit } from './open-files.js'
import { admit } from './socket-filter.js'

// Sockets that keep a port from other programs. Not Node's: ten thousand of those take seconds, and of most nothing is ever read.

const solSocket = 1
const soReuseaddr = 2
const soMeminfo = 55
/** linux/in6.h */
const ipprotoIpv6 = 41
const ipv6V6only = 26
/** connections that wait to be accepted, where any are admitted; net.core.somaxconn has the last word */
const backlog = 511

/** Descriptors that are left to everything else that the daemon does; of few, a quarter. */
const spare = 1024
let mostHeld: number | undefined
let held = 0

/** So that the daemon goes on working when all others are taken. @throws {ErrnoError} EMFILE */
function refuseTooMany(): void {
  if (mostHeld === undefined) {
    const limit = openFilesLimit()
    mostHeld = limit - Math.min(spare, limit / 4)
  }
  if (held >= mostHeld) throw new ErrnoError('socket', emfile)
}

const [off, on] = [encode(u32, 0), encode(u32, 1)]
/** of the address that was asked for last: a range's ports are all at one */
let last = { address: '', at: sockaddrsOf('::') }

/**
 * Bind a port of this process's namespace and listen where the protocol knows that. Nothing is admitted yet. `both` goes with
 * `::`: the port is held at every IPv4 address too, by the same socket. The caller closes it by `closeHeldSocket`.
 * @throws {ErrnoError} EADDRINUSE, EADDRNOTAVAIL, EINVAL, EAFNOSUPPORT, EMFILE
 */
export function openHeldSocket(protocol: 'tcp' | 'udp', { address, port }: InetAddress, both = false): number {
  refuseTooMany()
  const six = isIPv6(address)
  const tcp = protocol === 'tcp'
  const fd = socket(six ? afInet6 : afInet, (tcp ? sockStream : sockDgram) | sockNonblock | sockCloexec, 0)
  try {
    admit(fd, 'nothing')
    if (six) setsockoptBytes(fd, ipprotoIpv6, ipv6V6only, both ? off : on, u32.size)
    // connections that ended a moment ago do not keep the port; whoever listens is not shared with all the same
    if (tcp) setsockoptBytes(fd, solSocket, soReuseaddr, on, u32.size)
    if (last.address !== address) last = { address, at: sockaddrsOf(address) }
    const bytes = last.at(port)
    bind(fd, bytes, bytes.length)
    if (tcp) listen(fd, backlog)
    held++
    return fd
  } catch (error) {
    close(fd)
    throw error
  }
}

/** SK_MEMINFO_* of linux/sock_diag.h */
const memoryInfo = struct([
  ['_buffers', pad(8 * u32.size)],
  ['drops', u32],
])

/** How many packets came that were not admitted. */
export function droppedAt(fd: number): number {
  const value = Buffer.alloc(memoryInfo.size)
  getsockopt(fd, solSocket, soMeminfo, value, [value.length])
  return decode(memoryInfo, value).drops
}

export function closeHeldSocket(fd: number): void {
  held--
  close(fd)
}

/** The next connection that waits, as a descriptor for Node to take over; undefined: none. */
export function acceptConnection(fd: number): number | undefined {
  for (;;) {
    try {
      return accept(fd, null, null, sockNonblock | sockCloexec)
    } catch (error) {
      // without room for another descriptor it waits on
      if (hasCode(error, 'EAGAIN', 'EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM')) return undefined
      // man 2 accept: that connection has ended; the next may be well
      if (!hasCode(error, 'ECONNABORTED', 'EINTR', 'EPROTO')) throw error
    }
  }
}

/** A datagram and who sent it, in the kernel's own bytes. */
export interface Datagram {
  bytes: Buffer
  from: Buffer
}

const room = Buffer.alloc(65_536)
const addressRoom = Buffer.alloc(28)

/** The next datagram that waits; undefined: none. */
export function receiveDatagram(fd: number): Datagram | undefined {
  try {
    const length = [addressRoom.length]
    const size = recvfrom(fd, room, room.length, 0, addressRoom, length)
    return { bytes: Buffer.from(room.subarray(0, size)), from: Buffer.from(addressRoom.subarray(0, length[0])) }
  } catch (error) {
    if (hasCode(error, 'EAGAIN', 'EINTR')) return undefined
    throw error
  }
}

/** Answer whoever sent. What the network does not take is lost, as datagrams are. */
export function sendDatagram(fd: number, { bytes, from }: Datagram): void {
  try {
    sendto(fd, bytes, bytes.length, 0, from, from.length)
  } catch (error) {
    if (!hasCode(error, 'EAGAIN', 'ENOBUFS', 'EPERM', 'ECONNREFUSED', 'ENETUNREACH', 'EHOSTUNREACH')) throw error
  }
}
