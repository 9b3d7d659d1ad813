import { setTimeout as sleep } from 'node:timers/promises'
import { arp, arpRequest, typeArp } from './announcement.js'
import { decode, encode } from './codec.js'
import { bind, close, hasCode, recv, send, socket } from './libc.js'
import { inNetns, type Netns } from './netns.js'
import { afPacket, sockaddrLl, sockCloexec, sockRaw } from './packet-socket.js'

// sys/socket.h
const sockNonblock = 0o4000

const operationReply = 2

/**
 * Who has an IPv4 address on a link's segment: the MAC addresses that answer within the time, which are more than one where it is
 * taken twice. `arping -D -I LINK ADDRESS` (RFC 5227 2.1.1: nobody's tables change by it). Empty for a link that is gone or down.
 */
export async function arpProbe(
  netns: Netns,
  { index, mac }: { index: number; mac: string },
  address: string,
  timeoutMs: number,
): Promise<Set<string>> {
  const found = new Set<string>()
  // for its own protocol only: opened with one, it would hear every frame of every link until it is bound
  const fd = inNetns(netns, () => socket(afPacket, sockRaw | sockNonblock | sockCloexec, 0))
  try {
    const where = encode(sockaddrLl, { family: afPacket, protocol: typeArp, index })
    bind(fd, where, where.length)
    const request = arpRequest(address, mac)
    send(fd, request, request.length, 0)
    const end = performance.now() + timeoutMs
    while (performance.now() < end) {
      await sleep(lookEveryMs)
      for (const frame of frames(fd)) {
        const { operation, sender, senderMac } = frame
        if (operation === operationReply && sender === address) found.add(senderMac)
      }
    }
    return found
  } catch (error) {
    if (hasCode(error, 'ENODEV', 'ENXIO', 'ENETDOWN')) return found
    throw error
  } finally {
    close(fd)
  }
}

const lookEveryMs = 20

function* frames(fd: number) {
  const bytes = Buffer.alloc(256)
  for (;;) {
    try {
      const length = recv(fd, bytes, bytes.length, 0)
      if (length >= arp.size) yield decode(arp, bytes, 0, length)
    } catch (error) {
      if (hasCode(error, 'EAGAIN')) return
      throw error
    }
  }
}
