import { isIPv6 } from 'node:net'
import { ip4, ip6 } from './address-codecs.js'
import { be16, be32, encode, pad, struct, u16, u32 } from './codec.js'
import { bind, close, hasCode, listen, setsockopt, socket } from './libc.js'
import { inNetns, type Netns } from './netns.js'

// UDP and TCP sockets that belong to a namespace, for Node to take over by their descriptor. Made here because Node makes
// its own later, on whichever thread and in whichever namespace that is. The socket keeps its namespace alive.

// asm-generic/socket.h, linux/in.h, bits/socket.h
export const afInet = 2
export const afInet6 = 10
export const sockStream = 1
export const sockDgram = 2
export const sockNonblock = 0o4000
export const sockCloexec = 0o2000000
const solSocket = 1
const soReuseaddr = 2
const soRcvbuf = 8
const soRcvbufforce = 33

/** struct sockaddr_in of linux/in.h, sockaddr_in6 of linux/in6.h, and what both begin with */
const sockaddrStart = struct([
  ['family', u16],
  ['port', be16],
])
const sockaddrIn = struct([
  ['family', u16],
  ['port', be16],
  ['address', ip4],
  ['_pad', pad(8)],
])
const sockaddrIn6 = struct([
  ['family', u16],
  ['port', be16],
  ['flow', be32],
  ['address', ip6],
  ['scope', u32],
])

export interface InetAddress {
  /** plain, without prefix length or zone */
  address: string
  port: number
}

export const sockaddrOf = ({ address, port }: InetAddress): Buffer =>
  isIPv6(address)
    ? encode(sockaddrIn6, { family: afInet6, port, flow: 0, address, scope: 0 })
    : encode(sockaddrIn, { family: afInet, port, address })

/** For thousands of ports of one address, which is made into bytes once. A result is good until the next is asked for. */
export function sockaddrsOf(address: string): (port: number) => Buffer {
  const bytes = sockaddrOf({ address, port: 0 })
  const { family } = sockaddrStart.read(bytes, 0)
  return port => {
    sockaddrStart.write(bytes, 0, { family, port })
    return bytes
  }
}

export interface InetSocketSpec {
  protocol: 'udp' | 'tcp'
  family: 4 | 6
  /** where to receive; absent: the kernel chooses when the socket is first used */
  at?: InetAddress
  /** of the receive buffer; the kernel's own (212992) when absent */
  receiveBytes?: number
}

/**
 * The descriptor of a non-blocking socket in a namespace, or in this process's own; a TCP socket with an address listens.
 * The caller closes it. @throws {ErrnoError} EADDRINUSE, EADDRNOTAVAIL (no such address there, or its link is down)
 */
export function openInetSocket(spec: InetSocketSpec, ns?: Netns): number {
  return ns === undefined ? open(spec) : inNetns(ns, () => open(spec))
}

function open({ protocol, family, at, receiveBytes }: InetSocketSpec): number {
  const type = (protocol === 'udp' ? sockDgram : sockStream) | sockNonblock | sockCloexec
  const fd = socket(family === 4 ? afInet : afInet6, type, 0)
  try {
    if (receiveBytes !== undefined) setReceiveBuffer(fd, receiveBytes)
    if (at === undefined) return fd
    // a listener that was closed a moment ago may leave connections behind, which must not keep its successor out
    if (protocol === 'tcp') setsockopt(fd, solSocket, soReuseaddr, [1], 4)
    const address = sockaddrOf(at)
    bind(fd, address, address.length)
    if (protocol === 'tcp') listen(fd, 128)
    return fd
  } catch (error) {
    close(fd)
    throw error
  }
}

/** Past net.core.rmem_max where we may, up to it where we may not (a container without CAP_NET_ADMIN). */
function setReceiveBuffer(fd: number, size: number): void {
  try {
    setsockopt(fd, solSocket, soRcvbufforce, [size], 4)
  } catch (error) {
    if (!hasCode(error, 'EPERM')) throw error
    setsockopt(fd, solSocket, soRcvbuf, [size], 4)
  }
}
