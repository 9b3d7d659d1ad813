import { randomInt } from 'node:crypto'
import { isIPv6 } from 'node:net'
import { afInet, afInet6, sockaddrOf, sockCloexec, sockNonblock } from './inet-socket.js'
import { close, connect, ErrnoError, hasCode, recv, send, setsockopt, socket, watchReadable } from './libc.js'
import { inNetns, type Netns } from './netns.js'

// linux/in.h, linux/in6.h, linux/icmp.h, linux/icmpv6.h
const sockRaw = 3
const icmp = { protocol: 1, request: 8, reply: 0 }
const icmp6 = { protocol: 58, request: 128, reply: 129 }
const ipprotoIp = 0
const ipprotoIpv6 = 41
/** IP_MTU_DISCOVER and IPV6_MTU_DISCOVER with IP_PMTUDISC_PROBE: sent whole or not at all, whatever was learnt of the path */
const ipMtuDiscover = 10
const ipv6MtuDiscover = 23
const pmtudiscProbe = 3

const headerBytes = 8

/** `answered`; `silent`: nothing came back in time; `too big`: the packet does not fit the link that it leaves by. */
export type PingResult = 'answered' | 'silent' | 'too big'

/**
 * `ping -c 1 -M probe -s SIZE ADDRESS`, from a namespace or from that of this process: one echo request that no router may fragment.
 * @param packetBytes of the whole IP packet
 * @param identifier of the request, by which rules can know it
 * @throws {ErrnoError} it cannot even be sent: no route, no permission
 */
export async function ping(
  address: string,
  packetBytes: number,
  timeoutMs: number,
  { netns, identifier = randomInt(0x10000) }: { netns?: Netns; identifier?: number } = {},
): Promise<PingResult> {
  const v6 = isIPv6(address)
  const { protocol, request, reply } = v6 ? icmp6 : icmp
  const open = () => socket(v6 ? afInet6 : afInet, sockRaw | sockNonblock | sockCloexec, protocol)
  const fd = netns === undefined ? open() : inNetns(netns, open)
  try {
    setsockopt(fd, v6 ? ipprotoIpv6 : ipprotoIp, v6 ? ipv6MtuDiscover : ipMtuDiscover, [pmtudiscProbe], 4)
    const to = sockaddrOf({ address, port: 0 })
    connect(fd, to, to.length)
    const id = [identifier >> 8, identifier & 0xff] as const
    const message = echo(request, id, packetBytes - (v6 ? 40 : 20))
    send(fd, message, message.length, 0)
    return (await isAnswered(fd, bytes => isReply(v6 ? bytes : withoutHeader(bytes), reply, id), timeoutMs))
      ? 'answered'
      : 'silent'
  } catch (error) {
    if (error instanceof ErrnoError && hasCode(error, 'EMSGSIZE')) return 'too big'
    throw error
  } finally {
    close(fd)
  }
}

/** RFC 792, RFC 4443 4.1: type, code, checksum, identifier, sequence number, and zeros. */
function echo(type: number, id: readonly [number, number], bytes: number): Buffer {
  const message = Buffer.alloc(Math.max(bytes, headerBytes))
  message.set([type, 0, 0, 0, ...id, 0, 1])
  // the kernel writes ICMPv6's, which covers addresses too
  if (type === icmp.request) message.set(checksum(message), 2)
  return message
}

/** RFC 1071: the complement of the sum of all 16 bit words, with the carries added. */
function checksum(bytes: Buffer): [number, number] {
  let sum = 0
  for (let i = 0; i < bytes.length; i++) sum += i % 2 === 0 ? (bytes[i] ?? 0) << 8 : (bytes[i] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16)
  return [(~sum >> 8) & 0xff, ~sum & 0xff]
}

/** Only of IPv4 do raw sockets show the IP header (raw(7)). */
const withoutHeader = (packet: Buffer): Buffer => packet.subarray(((packet[0] ?? 0) & 0x0f) * 4)

const isReply = (message: Buffer, type: number, id: readonly [number, number]): boolean =>
  message[0] === type && message[4] === id[0] && message[5] === id[1]

function isAnswered(fd: number, fits: (bytes: Buffer) => boolean, timeoutMs: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const bytes = Buffer.alloc(0x10000)
    const done = (end: () => void): void => {
      clearTimeout(timer)
      watch.close()
      end()
    }
    const timer = setTimeout(() => done(() => resolve(false)), timeoutMs)
    const watch = watchReadable(fd, () => {
      try {
        const length = recv(fd, bytes, bytes.length, 0)
        if (fits(bytes.subarray(0, length))) done(() => resolve(true))
      } catch (error) {
        if (!hasCode(error, 'EAGAIN')) done(() => reject(error))
      }
    })
  })
}
