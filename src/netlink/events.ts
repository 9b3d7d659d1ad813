import { decode } from './codec.js'
import type { Notification } from './framing.js'
import { ifinfomsg } from './kinds.js'
import { hasCode, watchReadable } from './libc.js'
import type { Netns } from './netns.js'
import type { Address, FdbEntry, Link, Neighbour, Route } from './objects.js'
import { parseAddress, parseFdb, parseLink, parseNeighbour, parseRoute } from './parse.js'
import { rtm } from './request.js'
import { NetlinkSocket } from './socket.js'
import {
  addressMessage,
  afBridge,
  bridgePortMessage,
  linkMessage,
  neighbourMessage,
  routeMessage,
  settingsMessage,
} from './tables.js'

/** RTNLGRP_*, linux/rtnetlink.h. `neighbour` carries forwarding entries too, `settings` the few sysctls of which the kernel tells (forwarding, rp_filter). */
const groupNumbers = {
  ...{ link: 1, neighbour: 3, address4: 5, route4: 7, address6: 9, route6: 11 },
  ...{ settings4: 24, settings6: 25 },
} as const
export type EventGroup = keyof typeof groupNumbers

/** What the kernel says has changed; `overrun` says that it had more to say than the socket could hold, so list again. */
export type KernelEvent =
  | { what: 'overrun' }
  | ({ change: 'new' | 'deleted' } & (
      | { what: 'link'; link: Link }
      /** what a bridge keeps about one of its ports has changed; `port` is what it is now, absent when it is none any more */
      | { what: 'port'; index: number; port?: Link['port'] }
      /** sysctls of a link; `index` is below 0 for those of all links */
      | { what: 'settings'; index: number }
      | { what: 'address'; address: Address }
      | { what: 'route'; route: Route }
      | { what: 'neighbour'; neighbour: Neighbour }
      | { what: 'fdb'; entry: FdbEntry }
    ))

/** Datagrams handled before the event loop gets its turn again. */
const datagramsAtOnce = 64
const gatheredAtOnce = 256

/** When whoever listens hears of it. */
export interface Hearing {
  /**
   * So long after it began to happen, and of a link that has changed several times meanwhile only what it is now: one that is made
   * and set up is a dozen events, whose decoding takes as long as making it.
   */
  gatherMs?: number
}

/**
 * Hear what changes in a namespace, as `ip monitor` does, until `signal` aborts. `handler` is called from the event
 * loop; listening neither blocks nor keeps the process alive. `netns` may be closed meanwhile.
 */
export function watchKernel(
  netns: Netns,
  groups: readonly EventGroup[],
  handler: (event: KernelEvent) => void,
  signal: AbortSignal,
  { gatherMs = 0 }: Hearing = {},
): void {
  if (signal.aborted) return
  const numbers = groups.map(group => groupNumbers[group])
  const socket = NetlinkSocket.open(netns, numbers)
  const hear = (): Iterable<Notification> =>
    gatherMs === 0 ? socket.notifications(datagramsAtOnce) : lastOfEachLink([...socket.notifications(gatheredAtOnce)])
  const tell = (): void => {
    try {
      for (const { type, bytes, start, end } of hear()) {
        const event = parseEvent(type, bytes, start, end)
        if (event) handler(event)
        if (signal.aborted) return
      }
    } catch (error) {
      if (!hasCode(error, 'ENOBUFS')) throw error
      // The kernel adds nothing more, and says so only once, until the socket is empty: whoever lists before loses news.
      socket.drain()
      handler({ what: 'overrun' })
    }
  }
  const watch = watchReadable(socket.fd, tell, gatherMs)
  const stop = () => {
    watch.close()
    socket.close()
  }
  signal.addEventListener('abort', stop, { once: true })
}

/** Without what a link was meanwhile, and what its bridge had to say of it meanwhile. */
function lastOfEachLink(messages: readonly Notification[]): Notification[] {
  const later = new Set<string>()
  const kept: Notification[] = []
  for (const message of messages.toReversed()) {
    if (message.type === rtm.newLink || message.type === rtm.deleteLink) {
      const { family, index } = decode(ifinfomsg, message.bytes, message.start, message.end)
      const of = `${family} ${index}`
      // its number may be another link's by then
      if (message.type === rtm.deleteLink) later.delete(of)
      else if (later.has(of)) continue
      else later.add(of)
    }
    kept.push(message)
  }
  return kept.reverse()
}

function parseEvent(type: number, bytes: Buffer, start: number, end: number): KernelEvent | undefined {
  const isNew = type === rtm.newLink || type === rtm.newAddress || type === rtm.newRoute || type === rtm.newNeighbour
  const change = isNew ? 'new' : 'deleted'
  switch (type) {
    case rtm.newLink:
    case rtm.deleteLink:
      // AF_BRIDGE: the link is a port and its port settings changed; or it is one no longer, which is no end of the link.
      if (decode(ifinfomsg, bytes, start, end).family === afBridge) {
        const { index, attrs } = decode(bridgePortMessage, bytes, start, end)
        return { what: 'port', change, index, ...(isNew && { port: attrs.protinfo }) }
      }
      return { what: 'link', change, link: parseLink(decode(linkMessage, bytes, start, end)) }
    case rtm.newAddress:
    case rtm.deleteAddress: {
      const address = parseAddress(decode(addressMessage, bytes, start, end))
      return address && { what: 'address', change, address }
    }
    case rtm.newRoute:
    case rtm.deleteRoute: {
      const route = parseRoute(decode(routeMessage, bytes, start, end))
      return route && { what: 'route', change, route }
    }
    case rtm.newNeighbour:
    case rtm.deleteNeighbour: {
      const message = decode(neighbourMessage, bytes, start, end)
      if (message.family === afBridge) {
        const entry = parseFdb(message)
        return entry && { what: 'fdb', change, entry }
      }
      const neighbour = parseNeighbour(message)
      return neighbour && { what: 'neighbour', change, neighbour }
    }
    case rtm.newSettings: {
      const { attrs } = decode(settingsMessage, bytes, start, end)
      return { what: 'settings', change: 'new', index: attrs.index ?? 0 }
    }
    default:
      return undefined
  }
}
