import { createSocket, type Socket as DatagramSocket } from 'node:dgram'
import { type AddressInfo, createServer, isIPv6, type Server, type Socket } from 'node:net'
import type { Ports } from '../firewall/redirect.js'
import { type InetAddress, openInetSocket } from '../netlink/inet-socket.js'
import { close as closeFd } from '../netlink/libc.js'
import type { Netns } from '../netlink/netns.js'
import { fitUdp, frame, type Query, readQuery, Unframer } from './message.js'

/** Answers a question of somebody at this address; undefined: not at all. At once where it can. */
export type Answerer = (query: Query, from: string) => Buffer | undefined | Promise<Buffer | undefined>

/** Room for a second of questions while this process does something else; the kernel takes the memory only when they come. */
const receiveBytes = 4 << 20
const idleMs = 10_000
const mostConnections = 128
/** Replies waiting on one connection that its client does not read. */
const mostUnreadBytes = 1 << 20

/** One address at which questions are answered, by UDP and TCP. */
export class Listener {
  readonly #udp: DatagramSocket
  readonly #tcp: Server
  readonly #connections = new Set<Socket>()
  #open = true

  /**
   * Both sockets are bound when this returns. @param at one port for both, or each its own; 0: the kernel chooses
   * @param ns where; absent: in the namespace of this process
   * @throws {ErrnoError} EADDRINUSE, EADDRNOTAVAIL
   */
  constructor(
    at: { address: string; port: number | Ports },
    readonly answer: Answerer,
    ns?: Netns,
  ) {
    const { address, port } = at
    const ports = typeof port === 'number' ? { udp: port, tcp: port } : port
    const family = isIPv6(address) ? 6 : 4
    const udp = openInetSocket({ protocol: 'udp', family, at: { address, port: ports.udp }, receiveBytes }, ns)
    const tcp = openTcp(udp, family, { address, port: ports.tcp }, ns)
    this.#udp = createSocket({
      type: family === 6 ? 'udp6' : 'udp4',
      // replies go to addresses, not names: nothing to look up
      lookup: (address, _options, found) => found(null, address, family),
    })
    this.#udp.on('message', (bytes, { address, port }) => this.#received(bytes, address, port))
    // an error of one datagram, such as a client that is gone, is no reason to stop
    this.#udp.on('error', () => {})
    this.#udp.bind({ fd: udp })
    this.#tcp = createServer({ noDelay: true }, socket => this.#accepted(socket))
    this.#tcp.maxConnections = mostConnections
    this.#tcp.on('error', () => {})
    this.#tcp.listen({ fd: tcp })
    this.#udp.unref()
    this.#tcp.unref()
  }

  /** The ports that it has, where the kernel was to choose them (port 0). */
  get ports(): Ports {
    return { udp: this.#udp.address().port, tcp: (this.#tcp.address() as AddressInfo).port }
  }

  /** At once: the namespace is free when this returns. */
  close(): void {
    if (!this.#open) return
    this.#open = false
    this.#udp.close()
    this.#tcp.close()
    for (const socket of this.#connections) socket.destroy()
  }

  #received(bytes: Buffer, address: string, port: number): void {
    // port 0 cannot be sent to, but anybody can write it into a packet
    if (port === 0) return
    this.#handle(bytes, address, (reply, query) => {
      if (this.#open) this.#udp.send(query === undefined ? reply : fitUdp(reply, query), port, address, () => {})
    })
  }

  #accepted(socket: Socket): void {
    const unframer = new Unframer()
    const from = socket.remoteAddress ?? ''
    this.#connections.add(socket)
    socket.setTimeout(idleMs, () => socket.destroy())
    socket.on('error', () => {})
    socket.on('close', () => this.#connections.delete(socket))
    socket.on('data', chunk => {
      for (const bytes of unframer.add(chunk))
        this.#handle(bytes, from, reply => {
          if (socket.writableLength > mostUnreadBytes) socket.destroy()
          else if (socket.writable) socket.write(frame(reply))
        })
    })
  }

  #handle(bytes: Buffer, from: string, send: (reply: Buffer, query?: Query) => void): void {
    const query = readQuery(bytes)
    if (query === undefined) return
    if (Buffer.isBuffer(query)) {
      send(query)
      return
    }
    const reply = this.answer(query, from)
    if (!(reply instanceof Promise)) {
      if (reply !== undefined) send(reply, query)
      return
    }
    // answerers do not fail; if one does, its client asks again
    reply.then(
      late => {
        if (late !== undefined) send(late, query)
      },
      () => {},
    )
  }
}

function openTcp(udp: number, family: 4 | 6, at: InetAddress, ns?: Netns): number {
  try {
    return openInetSocket({ protocol: 'tcp', family, at }, ns)
  } catch (error) {
    closeFd(udp)
    throw error
  }
}
