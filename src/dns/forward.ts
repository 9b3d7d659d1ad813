import { randomInt } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { isIPv6, Socket } from 'node:net'
import type { InetSocketSpec } from '../netlink/inet-socket.js'
import { frame, type Query, type Reply, rcodes, readReply, Unframer, withId } from './message.js'

/** Asks other servers what is not ours to know. */

export interface ForwardOptions {
  /** where to ask, in order; read anew for every question */
  servers: () => readonly string[]
  /** a socket's descriptor in the namespace from which to ask */
  open: (spec: InetSocketSpec) => number
  /** how long one server may take; a client waits 5 s for all of them (RES_TIMEOUT in resolv.h) */
  timeoutMs?: number
  port?: number
}

/** Questions under way; more are refused, so that a flood costs no memory and no descriptors. */
const mostAtOnce = 1024
/** How long a server that gave no answer is asked last. */
const restMs = 30_000

const moveOn: readonly number[] = [rcodes.SERVFAIL, rcodes.NOTIMP, rcodes.REFUSED]

export class Forwarder {
  readonly #options: Required<ForwardOptions>
  readonly #silentSince = new Map<string, number>()
  #underWay = 0

  constructor(options: ForwardOptions) {
    this.#options = { timeoutMs: 2_000, port: 53, ...options }
  }

  /** The reply, under the question's own id; undefined when no server has one. Never throws. */
  async ask(query: Query): Promise<Buffer | undefined> {
    if (this.#underWay >= mostAtOnce) return undefined
    this.#underWay++
    try {
      for (const server of this.#inOrder()) {
        const reply = await this.#askOne(server, query)
        if (reply !== undefined) return withId(reply, query.id)
      }
      return undefined
    } finally {
      this.#underWay--
    }
  }

  /** As configured, but those that did not answer a moment ago come last. */
  #inOrder(): string[] {
    const now = performance.now()
    const rests = (server: string): number => (now - (this.#silentSince.get(server) ?? -restMs) < restMs ? 1 : 0)
    return [...this.#options.servers()].sort((a, b) => rests(a) - rests(b))
  }

  async #askOne(server: string, query: Query): Promise<Buffer | undefined> {
    try {
      const byUdp = await this.#exchange('udp', server, query)
      // what did not fit is asked again by TCP; if that fails, the part that came is better than nothing
      const { bytes, reply } = byUdp.reply.truncated
        ? await this.#exchange('tcp', server, query).catch(() => byUdp)
        : byUdp
      this.#silentSince.delete(server)
      return moveOn.includes(reply.rcode) ? undefined : bytes
    } catch {
      this.#silentSince.set(server, performance.now())
      return undefined
    }
  }

  /** One question to one server: from a port of the kernel's choice, under a random id, so that nobody can guess the reply. */
  #exchange(protocol: 'udp' | 'tcp', server: string, query: Query): Promise<{ bytes: Buffer; reply: Reply }> {
    const id = randomInt(0x10000)
    const message = withId(query.bytes, id)
    return new Promise((resolve, reject) => {
      const ended = (error: Error | null, bytes?: Buffer): void => {
        const reply = bytes === undefined ? undefined : readReply(bytes, id, query)
        // anything else that arrives is not the reply: wait on
        if (error === null && (bytes === undefined || reply === undefined)) return
        clearTimeout(timer)
        close()
        if (bytes !== undefined && reply !== undefined) resolve({ bytes, reply })
        else reject(error ?? new Error(`no reply from ${server}`))
      }
      const timer = setTimeout(() => ended(new Error(`${server} gave no reply`)), this.#options.timeoutMs)
      let close = (): void => {}
      try {
        const fd = this.#options.open({ protocol, family: isIPv6(server) ? 6 : 4 })
        const exchange = protocol === 'udp' ? overUdp : overTcp
        close = exchange(fd, { address: server, port: this.#options.port }, message, ended)
      } catch (error) {
        ended(error as Error)
      }
    })
  }
}

type Ended = (error: Error | null, bytes?: Buffer) => void
type Exchange = (fd: number, server: { address: string; port: number }, message: Buffer, ended: Ended) => () => void

/** Connected: the kernel passes on only what the server itself sends, and says at once when nobody listens there. */
const overUdp: Exchange = (fd, { address, port }, message, ended) => {
  const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4')
  let open = true
  socket.on('error', ended)
  socket.on('message', bytes => ended(null, bytes))
  socket.bind({ fd }, () => {
    // a callback of connect() would be given its errors too; without one they are events like all others
    if (open) socket.connect(port, address)
  })
  socket.once('connect', () => {
    if (open) socket.send(message)
  })
  return () => {
    if (open) socket.close()
    open = false
  }
}

const overTcp: Exchange = (fd, { address, port }, message, ended) => {
  // not read from before it is connected: that would be an error
  const socket = new Socket({ fd, manualStart: true, readable: true, writable: true } as { fd: number })
  const unframer = new Unframer()
  socket.on('error', ended)
  socket.on('data', chunk => {
    for (const bytes of unframer.add(chunk)) ended(null, bytes)
  })
  socket.on('close', () => ended(new Error(`${address} closed the connection`)))
  socket.connect(port, address, () => socket.write(frame(message)))
  return () => socket.destroy()
}
