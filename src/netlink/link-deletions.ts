import { randomInt } from 'node:crypto'
import { setImmediate as turn } from 'node:timers/promises'
import { Turns } from '../locks.js'
import { decode } from './codec.js'
import { ifinfomsg } from './kinds.js'
import { hasCode, watchReadable } from './libc.js'
import type { NetlinkError } from './netlink-error.js'
import type { Netns } from './netns.js'
import { rtm } from './request.js'
import { linkDelete, linkDeleteGroup, linkSet, linkShow, tolerant } from './requests.js'
import { NetlinkSocket } from './socket.js'
import { admit } from './socket-filter.js'
import { linkMarkMessage } from './tables.js'

/** RTNLGRP_LINK of linux/rtnetlink.h */
const linkEvents = 1
/** Each holds a thread of the pool while the kernel waits, and the pool has four, one of which the store needs. */
const groupsAtOnce = 3
const datagramsAtOnce = 64

/** What says whose a link is. */
export interface LinkMark {
  alias?: string | undefined
  group: number
}

/** A link that somebody wants to be gone, if it is his. */
interface Doomed {
  name: string
  isOurs: (link: LinkMark) => boolean
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
  /** those that the kernel deletes now, by index */
  readonly #going = new Map<number, readonly Doomed[]>()
  #next: { doomed: Doomed[]; failures: Promise<readonly NetlinkError[]> } | undefined
  /** until the links of the group before are gone */
  #before: Promise<unknown> = Promise.resolve()
  #running = 0
  #closed = false
  #listener: { socket: NetlinkSocket; close(): void } | undefined
  /** of a group that is done, for the next one */
  #idle: NetlinkSocket | undefined

  /** In the namespace of the socket. `giveBack` has links that could not be deleted leave this group again. */
  constructor(
    socket: NetlinkSocket,
    readonly giveBack: (indexes: readonly number[], group: number) => void,
  ) {
    this.#origin = socket
  }

  /** Returns what could not be done. Absent links are fine. Throws ErrnoError. */
  async delete(names: readonly string[], isOurs: Doomed['isOurs']): Promise<readonly NetlinkError[]> {
    this.#listener ??= this.#listen()
    this.#next ??= this.#begin(this.#listener.socket)
    const doomed = names.map(name => doom(name, isOurs))
    this.#next.doomed.push(...doomed)
    return await Promise.race([allGone(doomed).then(() => []), this.#next.failures])
  }

  /** Give back the sockets, after what is under way. */
  close(): void {
    this.#closed = true
    if (this.#running > 0) return
    this.#idle?.close()
    this.#listener?.close()
  }

  /** `listener`: open as long as anything is under way, as the socket that we were made of may not be. */
  #begin(listener: NetlinkSocket) {
    const doomed: Doomed[] = []
    this.#running++
    const failures = this.#turns
      .take(async () => {
        // what changes links holds one lock of the kernel: beside the group before, this one would wait there, and nobody could join it
        await this.#before
        // whoever has his turn in this round of the event loop comes along
        await turn()
        this.#next = undefined
        const failures = this.#deleteGroup(listener, doomed)
        this.#before = Promise.race([allGone(doomed), failures.catch(() => undefined)])
        return await failures
      })
      .finally(() => {
        this.#running--
        if (this.#closed) this.close()
      })
    // told to all who still wait
    failures.catch(() => undefined)
    return { doomed, failures }
  }

  /** `ip link show dev NAME` for each, then `ip link delete`; of several, `ip link set dev N group G` and `ip link delete group G`. */
  async #deleteGroup(listener: NetlinkSocket, doomed: readonly Doomed[]): Promise<readonly NetlinkError[]> {
    const socket = this.#idle ?? listener.another(openRoomy)
    this.#idle = undefined
    const going = new Map<number, Doomed[]>()
    try {
      const failures = await find(socket, doomed, going)
      const [first, ...others] = going.keys()
      if (failures.length > 0 || first === undefined) return failures
      for (const [index, ones] of going) this.#going.set(index, ones)
      if (others.length > 0) return await this.#deleteTogether(socket, [first, ...others])
      return await socket.exchangeAsync(tolerant(linkDelete({ index: first }), 'ENODEV'))
    } finally {
      for (const index of going.keys()) this.#going.delete(index)
      this.#keep(socket)
    }
  }

  #keep(socket: NetlinkSocket): void {
    this.#idle?.close()
    this.#idle = socket
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

  /** What is lost of these events, the deletion's own answer makes up for. */
  #listen() {
    const socket = this.#origin.another(netns => NetlinkSocket.open(netns, [linkEvents]))
    // a link that goes makes half a dozen other news, which would wake us before it has gone
    admit(socket.fd, 'deletedLinks')
    const watch = watchReadable(socket.fd, () => {
      try {
        for (const { type, bytes, start } of socket.notifications(datagramsAtOnce)) {
          const { index } = ifinfomsg.get(bytes, start, start + ifinfomsg.size)
          if (type === rtm.deleteLink) for (const { gone } of this.#going.get(index) ?? []) gone()
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

function doom(name: string, isOurs: Doomed['isOurs']): Doomed {
  let gone = (): void => undefined
  const promise = new Promise<void>(resolve => {
    gone = resolve
  })
  return { name, isOurs, promise, gone }
}

const allGone = (doomed: readonly Doomed[]): Promise<unknown> => Promise.all(doomed.map(({ promise }) => promise))

/** With room for what is told of as many links as are asked for in one send. */
const openRoomy = (netns: Netns): NetlinkSocket => NetlinkSocket.open(netns, [], { receiveBytes: 1 << 20 })

/** Note in `going` which are there and ours, by index; of the others there is nothing to wait for. Returns what could not be asked. */
async function find(
  socket: NetlinkSocket,
  doomed: readonly Doomed[],
  going: Map<number, Doomed[]>,
): Promise<readonly NetlinkError[]> {
  const byRequest = new Map(doomed.flatMap(one => tolerant(linkShow(one), 'ENODEV').map(request => [request, one])))
  const failures = await socket.exchangeAsync([...byRequest.keys()], (request, bytes, start, end) => {
    const one = byRequest.get(request)
    const { index, attrs } = decode(linkMarkMessage, bytes, start, end)
    if (one?.isOurs({ alias: attrs.ifalias, group: attrs.group ?? 0 }))
      going.set(index, [...(going.get(index) ?? []), one])
  })
  if (failures.length > 0) return failures
  const found = new Set([...going.values()].flat())
  for (const one of doomed) if (!found.has(one)) one.gone()
  return []
}
