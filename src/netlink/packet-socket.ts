import { be16, encode, i32, pad, struct, u8, u16 } from './codec.js'
import { bind, close, hasCode, send, socket } from './libc.js'
import { inNetns, type Netns } from './netns.js'

// sys/socket.h
export const afPacket = 17
export const sockRaw = 3
export const sockCloexec = 0o2000000

/** struct sockaddr_ll, linux/if_packet.h */
export const sockaddrLl = struct([
  ['family', u16],
  ['protocol', be16],
  ['index', i32],
  ['_hardwareType', pad(2)],
  ['_packetType', u8],
  ['_addressLength', u8],
  ['_address', pad(8)],
])

/**
 * Sends whole Ethernet frames, packet(7), and receives none: its protocol is 0. It stays in the namespace that it was
 * opened in. To be kept: closing one makes the kernel wait for packets under way.
 */
export class PacketSocket {
  #bound = 0
  private constructor(readonly fd: number) {}

  static open(netns: Netns): PacketSocket {
    return new PacketSocket(inNetns(netns, () => socket(afPacket, sockRaw | sockCloexec, 0)))
  }

  /** Send frames out of a link. One that is gone or down sends none. */
  send(index: number, frames: readonly Buffer[]): void {
    try {
      if (this.#bound !== index) {
        const address = encode(sockaddrLl, { family: afPacket, protocol: 0, index })
        bind(this.fd, address, address.length)
        this.#bound = index
      }
      for (const frame of frames) send(this.fd, frame, frame.length, 0)
    } catch (error) {
      this.#bound = 0
      // ENOBUFS: the queue is full, and frames are lost as frames may be
      if (!hasCode(error, 'ENODEV', 'ENXIO', 'ENETDOWN', 'ENOBUFS')) throw error
    }
  }

  close(): void {
    close(this.fd)
  }
}
