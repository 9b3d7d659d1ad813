import { randomInt } from 'node:crypto'
import { setImmediate as turn } from 'node:timers/promises'
import { Turns } from '../locks.js'
import { ifinfomsg } from './kinds.js'
import { hasCode, watchReadable } from './libc.js'
import type { NetlinkError } from './netlink-error.js'
import { rtm } from './request.js'
import { linkDelete, linkDeleteGroup, linkSet, tolerant } from './requests.js'
import { NetlinkSocket } from './socket.js'
import { admit } from './socket-filter.js'

/** RTNLGRP_LINK of linux/rtnetlink.h */
const linkEvents = 1
/** Each holds a thread of the pool while the kernel waits, and the pool has four, one of which the store needs. */
const groupsAtOnce = 3
const datagramsAtOnce = 64

interface Doomed {
  promise: Promise<void>
  gone: () => void
}

/**
 * Deleting links of one namespace. The kernel answers a deletion after a grace period of RCU, about 20 ms, which is when nobody
 * has any memory of the link. Before that, within a millisecond or so, it takes the link from the bridge and off every list, in the
 * namespace of its peer too, and says so to whoever listens: from then on there is no such link, and that is what is waited for.
 */
export class LinkDeletions {
  readonly #origin: NetlinkSocket
  readonly #turns = new Turns(groupsAtOnce)
  readonly #doomed = new Map<number, Doomed>()
  #next: { indexes: Set<number>; failures: Promise<readonly NetlinkError[]> } | undefined
  /** until the links of the group before are gone */
  #before: Promise<unknown> = Promise.resolve()
  #running = 0
  #closed = false
  #listener: { socket: NetlinkSocket; close(): void } | undefined

  /** In the namespace of the socket. `giveBack` has links that could not be deleted leave this group again. */
  constructor(
    socket: NetlinkSocket,
    readonly giveBack: (indexes: readonly number[], group: number) => void,
  ) {
    this.#origin = socket
  }

  /** Returns what could not be done. Absent links are fine. Throws ErrnoError. */
  async delete(indexes: readonly number[]): Promise<readonly NetlinkError[]> {
    this.#listener ??= this.#listen()
    this.#next ??= this.#begin(this.#listener.socket)
    const { failures } = this.#next
    for (const index of indexes) this.#next.indexes.add(index)
    const gone = Promise.all(indexes.map(index => this.#doom(index).promise))
    return await Promise.race([gone.then(() => []), failures])
  }

  /** Give back the socket, after what is under way. */
  close(): void {
    this.#closed = true
    if (this.#running === 0) this.#listener?.close()
  }

  /** `listener`: open as long as anything is under way, as the socket that we were made of may not be. */
  #begin(listener: NetlinkSocket) {
    const indexes = new Set<number>()
    this.#running++
    const failures = this.#turns
      .take(async () => {
        // what changes links holds one lock of the kernel: beside the group before, this one would wait there, and nobody could join it
        await this.#before
        // whoever has his turn in this round of the event loop comes along
        await turn()
        this.#next = undefined
        const gone = Promise.all([...indexes].map(index => this.#doom(index).promise))
        const failures = this.#deleteGroup(listener, [...indexes])
        this.#before = Promise.race([gone, failures.catch(() => undefined)])
        return await failures
      })
      .finally(() => {
        for (const index of indexes) this.#doomed.delete(index)
        this.#running--
        if (this.#closed) this.close()
      })
    // told to all who still wait
    failures.catch(() => undefined)
    return { indexes, failures }
  }

  /** `ip link delete`; of several, `ip link set dev N group G` for each, then `ip link delete group G`. */
  async #deleteGroup(listener: NetlinkSocket, indexes: readonly number[]): Promise<readonly NetlinkError[]> {
    const socket = listener.another(NetlinkSocket.open)
    try {
      const [first = 0, ...others] = indexes
      if (others.length === 0) return await socket.exchangeAsync(tolerant(linkDelete({ index: first }), 'ENODEV'))
      return await this.#deleteTogether(socket, indexes)
    } finally {
      socket.close()
    }
  }

  async #deleteTogether(socket: NetlinkSocket, indexes: readonly number[]): Promise<readonly NetlinkError[]> {
    // Any number that nobody else uses; the group is there for a moment.
    const group = randomInt(0x4000_0000, 0x7fff_ffff)
    const marks = indexes.flatMap(index => linkSet({ index, group }))
    let done = false
    try {
      const requests = [...tolerant(marks, 'ENODEV'), ...tolerant(linkDeleteGroup(group), 'ENODEV')]
      const failures = await socket.exchangeAsync(requests)
      done = failures.length === 0
      return failures
    } finally {
      if (!done) this.#giveBack(indexes, group)
    }
  }

  #giveBack(indexes: readonly number[], group: number): void {
    try {
      this.giveBack(indexes, group)
    } catch {
      // what is to be told is the first failure
    }
  }

  #doom(index: number): Doomed {
    const known = this.#doomed.get(index)
    if (known !== undefined) return known
    let gone = (): void => undefined
    const promise = new Promise<void>(resolve => {
      gone = resolve
    })
    const doomed = { promise, gone }
    this.#doomed.set(index, doomed)
    return doomed
  }

  /** What is lost of these events, the deletion's own answer makes up for. */
  #listen() {
    const socket = this.#origin.another(netns => NetlinkSocket.open(netns, [linkEvents]))
    // a link that goes makes half a dozen other news, which would wake us before it has gone
    admit(socket.fd, 'deletedLinks')
    const watch = watchReadable(socket.fd, () => {
      try {
        for (const { type, bytes, start } of socket.notifications(datagramsAtOnce)) {
          const { index } = ifinfomsg.get(bytes, start, start + ifinfomsg.size)
          if (type === rtm.deleteLink) this.#doomed.get(index)?.gone()
        }
      } catch (error) {
        if (!hasCode(error, 'ENOBUFS')) throw error
        socket.drain()
      }
    })
    return {
      socket,
      close() {
        watch.close()
        socket.close()
      },
    }
  }
}
