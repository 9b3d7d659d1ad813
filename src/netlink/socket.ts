import { unavailable } from '../errors.js'
import { batches, bytesAtOnce } from './batches.js'
import { debugRequest } from './debug.js'
import { frameSize, type Incoming, type Notification, readFrames, socketAddress, writeFrames } from './framing.js'
import {
  bind,
  close,
  closeAsync,
  ErrnoError,
  eagain,
  enobufs,
  hasCode,
  ioctl,
  msgDontWait,
  recvAsync,
  recvNow,
  send,
  sendAsync,
  setsockopt,
  socket,
} from './libc.js'
import { Listing, type Parse } from './listing.js'
import { NetlinkError } from './netlink-error.js'
import { inNetns, Netns } from './netns.js'
import { nlmAck, nlmDump, nlmRequest, type Request } from './request.js'

// sys/socket.h, linux/netlink.h
const afNetlink = 16
const sockRaw = 3
const sockCloexec = 0o2000000
const netlinkRoute = 0
const solNetlink = 270
const solSocket = 1
const soRcvbufForce = 33
const soSndbufForce = 32
const capAck = 10
const extAck = 11
const getStrictCheck = 12
const msgTrunc = 0x20
/** linux/sockios.h: a descriptor of the namespace that a socket is in */
const siocgskns = 0x894c

const dumpTries = 10

/**
 * What is sent, and what is answered: one buffer each for all sockets, since nothing happens between the two. Own ones would be 128 KiB
 * of garbage for every look into a namespace. The kernel makes no datagram larger than 32 KiB of a list (netlink_dump).
 */
const sent = Buffer.allocUnsafe(bytesAtOnce)
let received = Buffer.allocUnsafe(65_536)

export interface SocketOptions {
  /** NETLINK_*; rtnetlink's unless given */
  protocol?: number
  /** what may wait to be received; of a socket that hears from groups some 300 links, of others the kernel's own, unless given */
  receiveBytes?: number
}

type Told = (request: Request, bytes: Buffer, start: number, end: number) => void

/**
 * One rtnetlink socket. It stays in the namespace that it was opened in, so its use needs no namespace change.
 * The kernel works a request off inside `send`, so its answers are there when `send` returns: no receive ever waits.
 */
export class NetlinkSocket {
  /** how often a list had to be read again */
  rereads = 0
  #sequence = 1
  #tail: Promise<unknown> = Promise.resolve()
  #closed = false

  private constructor(
    readonly fd: number,
    readonly protocol: number,
  ) {}

  /** Open in a namespace; `groups` are those of the protocol to hear from: RTNLGRP_*, unless another protocol is given. */
  static open(netns: Netns, groups: readonly number[] = [], how: SocketOptions = {}): NetlinkSocket {
    const { protocol = netlinkRoute, receiveBytes = groups.length > 0 ? 1 << 20 : 0 } = how
    const fd = inNetns(netns, () => socket(afNetlink, sockRaw | sockCloexec, protocol))
    try {
      const set = (name: number, value: number) => setsockopt(fd, solNetlink, name, [value], 4)
      for (const option of [extAck, capAck, getStrictCheck]) set(option, 1)
      if (receiveBytes > 0) setsockopt(fd, solSocket, soRcvbufForce, [receiveBytes], 4)
      // All groups at once: for each time that somebody joins one, the kernel goes through all who did, of all namespaces.
      const address = socketAddress(afNetlink, groups)
      bind(fd, address, address.length)
      return new NetlinkSocket(fd, protocol)
    } catch (error) {
      close(fd)
      throw error
    }
  }

  /** Another socket of any kind in the same namespace. */
  another<T>(open: (netns: Netns) => T): T {
    const netns = new Netns(ioctl(this.fd, siocgskns), 'of a socket')
    try {
      return open(netns)
    } finally {
      netns.close()
    }
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    close(this.fd)
  }

  /** The same off the main thread, where the kernel lets who closes wait. */
  closeElsewhere(): void {
    if (this.#closed) return
    this.#closed = true
    // nobody can do anything about a failure, and the descriptor is gone all the same
    closeAsync(this.fd).catch(() => undefined)
  }

  /**
   * Send requests, all in one send as far as `byName` and the buffer allow; returns the failures that were not
   * tolerated. The kernel attempts every request of a send; a send after a failed one does not happen.
   */
  exchange(requests: readonly Request[]): NetlinkError[] {
    for (const batch of batches(requests)) {
      const sequence = this.#next(batch.length)
      const size = writeFrames(sent, batch.map(outgoing), sequence)
      send(this.fd, sent, size, 0)
      const failures = this.#failures(batch, sequence)
      if (failures.length > 0) return failures
    }
    return []
  }

  /** The same off the main thread, for requests that wait in the kernel; calls take turns. `told`: of those that ask something, the answer. */
  exchangeAsync(requests: readonly Request[], told: Told = () => undefined): Promise<NetlinkError[]> {
    const turn = this.#tail.then(async () => {
      for (const batch of batches(requests)) {
        const sequence = this.#next(batch.length)
        // Its own buffer: the pool thread reads it while this thread goes on.
        const bytes = Buffer.alloc(batch.reduce((sum, { body }) => sum + frameSize(body), 0))
        await sendAsync(this.fd, bytes, writeFrames(bytes, batch.map(outgoing), sequence), 0)
        const failures = this.#failures(batch, sequence, told)
        if (failures.length > 0) return failures
      }
      return []
    })
    this.#tail = turn.catch(() => undefined)
    return turn
  }

  /**
   * Send requests in one piece, of which the kernel does all or nothing, as nfnetlink does with a batch. Returns why it did not.
   * Those who cannot be answered because the answers have no room are ENOBUFS, thrown: what was done then is not known.
   */
  transact(requests: readonly Request[]): NetlinkError[] {
    const sequence = this.#next(requests.length)
    const size = requests.reduce((sum, { body }) => sum + frameSize(body), 0)
    const bytes = size <= sent.length ? sent : Buffer.alloc(size)
    if (size > sent.length) setsockopt(this.fd, solSocket, soSndbufForce, [size], 4)
    const frames = requests.map(({ type, flags, body }) => ({ type, flags: flags | nlmRequest, body }))
    send(this.fd, bytes, writeFrames(bytes, frames, sequence), 0)
    const failures: NetlinkError[] = []
    // without NLM_F_ACK only failures are told, and they have been when the send returns
    for (let size = this.#take(); size !== undefined; size = this.#take())
      for (const message of readFrames(received, size)) {
        const request = requests[message.sequence - sequence]
        if (request === undefined || message.what !== 'ack' || message.failure === undefined) continue
        failures.push(new NetlinkError(request.op, message.failure))
      }
    // the first and the last say only that it is one batch
    for (const request of requests.slice(1, -1)) debugRequest(request, failures[0])
    return failures
  }

  /** Resolves when every exchangeAsync so far has ended. */
  idle(): Promise<unknown> {
    return this.#tail
  }

  /** What one request answers: one message, parsed. Throws NetlinkError. */
  get<T>(request: Request, parse: (bytes: Buffer, start: number, end: number) => T): T | undefined {
    const sequence = this.#start(request, nlmRequest)
    for (const message of this.#receive()) {
      if (message.sequence !== sequence) continue
      if (message.what === 'message') return parse(received, message.start, message.end)
      if (message.failure) throw new NetlinkError(request.op, message.failure)
    }
    return undefined
  }

  /** The whole of a list. One that changed while it was read is read again. Throws NetlinkError, Unavailable. */
  dump<T>(request: Request, parse: Parse<T>): T[] {
    for (let tries = 0; tries < dumpTries; tries++) {
      const whole = this.#dumpOnce(request, parse)
      if (whole) return whole
      this.rereads++
    }
    throw changedTooOften(request)
  }

  #dumpOnce<T>(request: Request, parse: Parse<T>): T[] | undefined {
    const list = new Listing(request, this.#start(request, nlmRequest | nlmDump), parse)
    try {
      for (;;) if (list.add(received, this.#takeAnswer())) return list.found
    } catch (error) {
      // The next list cannot start before this one has been read to its end.
      this.drain()
      throw error
    }
  }

  /**
   * As `dump`, for lists that the kernel takes long for: it works them off outside of the main thread, which parses a piece in each turn
   * of the event loop. By a socket of its own, to which nobody else's answers come in between; calls take turns.
   */
  dumpAsync<T>(request: Request, parse: Parse<T>): Promise<T[]> {
    const turn = this.#tail.then(async () => {
      const socket = this.another(netns => NetlinkSocket.open(netns, [], { protocol: this.protocol }))
      try {
        for (let tries = 0; tries < dumpTries; tries++) {
          const whole = await socket.#dumpOnceAsync(request, parse)
          if (whole) return whole
          this.rereads++
        }
        throw changedTooOften(request)
      } finally {
        socket.close()
      }
    })
    this.#tail = turn.catch(() => undefined)
    return turn
  }

  async #dumpOnceAsync<T>(request: Request, parse: Parse<T>): Promise<T[] | undefined> {
    const sequence = this.#next(1)
    // its own buffers: the pool thread has them while this thread goes on
    const asked = Buffer.alloc(frameSize(request.body))
    const frame = { type: request.type, flags: nlmRequest | nlmDump, body: request.body }
    debugRequest(request)
    await sendAsync(this.fd, asked, writeFrames(asked, [frame], sequence), 0)
    const list = new Listing(request, sequence, parse)
    const bytes = Buffer.allocUnsafe(65_536)
    // With each piece that is taken the kernel makes the next: one is always there, and longer than this is none.
    for (;;) if (list.add(bytes, await recvAsync(this.fd, bytes, bytes.length, msgDontWait))) return list.found
  }

  /** What has happened, of the groups that the socket listens to; at most `most` datagrams. ENOBUFS: some were lost. */
  *notifications(most: number): Generator<Notification> {
    for (let i = 0; i < most; i++) {
      const size = this.#take()
      if (size === undefined) return
      // whoever is told may ask the kernel something, whose answer comes to the same buffer
      const bytes = Buffer.from(received.subarray(0, size))
      for (const message of readFrames(bytes, size)) if (message.what === 'message') yield { ...message, bytes }
    }
  }

  #start(request: Request, flags: number): number {
    const sequence = this.#next(1)
    const size = writeFrames(sent, [{ type: request.type, flags, body: request.body }], sequence)
    debugRequest(request)
    send(this.fd, sent, size, 0)
    return sequence
  }

  #next(count: number): number {
    // 0 is the sequence number of notifications.
    if (this.#sequence + count > 0xffff_ffff) this.#sequence = 1
    const first = this.#sequence
    this.#sequence += count
    return first
  }

  #failures(batch: readonly Request[], sequence: number, told?: Told): NetlinkError[] {
    const failures: NetlinkError[] = []
    try {
      for (let left = batch.length; left > 0; ) {
        for (const message of this.#receive()) {
          const request = batch[message.sequence - sequence]
          if (request && message.what === 'message') told?.(request, received, message.start, message.end)
          if (!request || message.what !== 'ack') continue
          left--
          const error = message.failure && new NetlinkError(request.op, message.failure)
          debugRequest(request, error)
          if (error && !request.tolerate.includes(error.code)) failures.push(error)
        }
      }
      return failures
    } catch (error) {
      this.drain()
      throw error
    }
  }

  /** The messages of the next datagram of an answer, which is there. */
  #receive(): Incoming[] {
    return readFrames(received, this.#takeAnswer())
  }

  #takeAnswer(): number {
    const size = this.#take()
    if (size === undefined) throw new ErrnoError('recv', eagain)
    return size
  }

  /** Receive a datagram; undefined: there is none. */
  #take(): number | undefined {
    const size = recvNow(this.fd, received, received.length, msgTrunc)
    if (size === undefined || size <= received.length) return size
    received = Buffer.allocUnsafe(size)
    throw new ErrnoError('recv', enobufs)
  }

  /** Forget all that waits to be received. */
  drain(): void {
    for (;;) {
      try {
        if (recvNow(this.fd, received, received.length, 0) === undefined) return
      } catch (error) {
        if (!hasCode(error, 'ENOBUFS')) return
      }
    }
  }
}

const outgoing = ({ type, flags, body }: Request) => ({ type, flags: flags | nlmRequest | nlmAck, body })

const changedTooOften = ({ op }: Request) =>
  unavailable(`${op}: the list changed during each of ${dumpTries} attempts to read it`)
