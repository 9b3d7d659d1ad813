import { messageOf, NetError, unavailable } from '../errors.js'
import { linkGroup } from '../marks.js'
import { announcement } from './announcement.js'
import { type Codec, decode, type ValueOf } from './codec.js'
import { ifinfomsg } from './kinds.js'
import { ErrnoError } from './libc.js'
import { LinkDeletions, type LinkMark } from './link-deletions.js'
import { kernelError, NetlinkError } from './netlink-error.js'
import type { Netns } from './netns.js'
import type { Address, Family, FdbEntry, Link, Neighbour, Route } from './objects.js'
import { PacketSocket } from './packet-socket.js'
import { parseAddress, parseFdb, parseLink, parseNeighbour, parseRoute } from './parse.js'
import { afOf, familyOf } from './prefix.js'
import { listOf, type Requests, request, rtm, words } from './request.js'
import { linkSet, linkShow, skipStats, tolerant } from './requests.js'
import { NetlinkSocket } from './socket.js'
import {
  addressMessage,
  afBridge,
  afUnspec,
  linkMessage,
  neighbourFlags,
  neighbourMessage,
  routeMessage,
} from './tables.js'

export type { Address, FdbEntry, Link, LinkKind, Neighbour, Route } from './objects.js'

const tableMain = 254
/** The first datagram of a list has some 3,700 bytes, an address at most 100. */
const addressesInOnePiece = 30

/** The links, addresses, routes and neighbours of one network namespace: what there is, and how to change it. */
export class Kernel {
  /** opened at the first use */
  #deletions: LinkDeletions | undefined
  /** opened at the first use */
  #packets: PacketSocket | undefined

  private constructor(readonly socket: NetlinkSocket) {}

  /** The kernel as a namespace sees it, for as long as this is open; `netns` may be closed. */
  static open(netns: Netns): Kernel {
    return new Kernel(translated(() => NetlinkSocket.open(netns)))
  }

  /** The same for as long as `work` takes. */
  static inside<T>(netns: Netns, work: (kernel: Kernel) => T): T {
    const kernel = Kernel.open(netns)
    try {
      return work(kernel)
    } finally {
      kernel.close()
    }
  }

  /** Give back the sockets, after what is under way. */
  close(): void {
    this.socket.close()
    this.#packets?.close()
    this.#deletions?.close()
  }

  /**
   * Do what the requests say, now, in one send where no request depends on the one before. Every request is attempted;
   * the first that failed is thrown as NetError: EEXIST is Conflict, ENODEV NotFound, EINVAL InvalidParameter, EPERM
   * Forbidden, with the NetlinkError as cause.
   */
  apply(...requests: readonly Requests[]): void {
    throwFirst(translated(() => this.socket.exchange(requests.flatMap(listOf))))
  }

  /**
   * Look up links and delete those that are ours, both off the main thread; absent ones are fine. They are gone when this resolves
   * (link-deletions.ts). Calls of one moment share what the kernel waits for.
   */
  async deleteLinks(names: readonly string[], isOurs: (link: LinkMark) => boolean): Promise<void> {
    if (names.length === 0) return
    this.#deletions ??= new LinkDeletions(this.socket, (left, group) => this.#giveBackGroup(left, group))
    throwFirst(await this.#deletions.delete(names, isOurs).catch(toNetError))
  }

  /** Links that could not be deleted bear their mark again: the group, where there is no alias. */
  #giveBackGroup(indexes: readonly number[], group: number): void {
    const left = indexes.flatMap(index => this.link(index) ?? []).filter(link => link.group === group)
    const marks = left.flatMap(({ index, alias }) => linkSet({ index, group: alias === undefined ? linkGroup : 0 }))
    this.apply(tolerant(marks, 'ENODEV'))
  }

  /**
   * Tell everybody on a link's segment at which MAC addresses these IP addresses are: `arping -U -I LINK ADDRESS`, but for any
   * owner. A link that is gone or down tells nobody.
   */
  announce(index: number, owners: ReadonlyMap<string, string>): void {
    if (owners.size === 0) return
    this.#packets ??= translated(() => this.socket.another(PacketSocket.open))
    this.#packets.send(
      index,
      [...owners].map(([address, mac]) => announcement(address, mac)),
    )
  }

  /** `ip -d link show [type KIND] [master INDEX]` */
  links(filter: { kind?: string; master?: number } = {}): Link[] {
    const { kind, master } = filter
    const attrs = { extMask: skipStats, master, info: kind === undefined ? undefined : { kind: kind as 'bridge' } }
    const op = words('ip link show', { type: kind, master })
    const ask = request(op, rtm.getLink, 0, linkMessage, { ...linkHeader, attrs })
    const all = this.#dump(ask, linkMessage, parseLink)
    // The kernel does not filter by a kind whose module is not loaded.
    return all.filter(
      link => (kind === undefined || link.kind === kind) && (master === undefined || link.master === master),
    )
  }

  /** `ip -d link show dev NAME`; undefined when there is no such link. */
  link(nameOrIndex: string | number): Link | undefined {
    return this.#link(nameOrIndex, (bytes, start, end) => parseLink(decode(linkMessage, bytes, start, end)))
  }

  /** Of it the index alone, or that it is there: all else that there is of a link takes longer to decode than the kernel takes to tell it. */
  linkIndex(name: string): number | undefined {
    return this.#link(name, (bytes, start, end) => decode(ifinfomsg, bytes, start, end).index)
  }

  #link<T>(nameOrIndex: string | number, parse: (bytes: Buffer, start: number, end: number) => T): T | undefined {
    const ask = linkShow(typeof nameOrIndex === 'string' ? { name: nameOrIndex } : { index: nameOrIndex })
    return absentIs(undefined, ['ENODEV'], () => this.socket.get(ask, parse))
  }

  /** `ip address show [dev INDEX]`; an absent link has none. */
  addresses(filter: { index?: number; family?: Family } = {}): Address[] {
    const { index = 0, family } = filter
    const read = (ofIndex: number): Address[] => {
      const header = { family: afOf(family), prefixLength: 0, flags: 0, scope: 0, index: ofIndex }
      const op = words('ip address show', { dev: ofIndex || undefined })
      const ask = request(op, rtm.getAddress, 0, addressMessage, { ...header, attrs: {} })
      return absentIs([], ['ENODEV'], () => this.#dump(ask, addressMessage, parseAddress))
    }
    const ofLink = read(index)
    // The kernel does not mark an interrupted list of one link (inet_dump_ifaddr), and it may then lack addresses. One
    // that came in several pieces is therefore taken out of the list of all links.
    const found = index !== 0 && ofLink.length > addressesInOnePiece ? read(0) : ofLink
    return found.filter(a => (index === 0 || a.index === index) && (family === undefined || a.family === family))
  }

  /** `ip route show table N [dev INDEX] [proto N]`; the main table unless said otherwise. */
  routes(filter: { family?: Family; table?: number; index?: number; protocol?: number } = {}): Route[] {
    const { family, table = tableMain, index, protocol } = filter
    const op = words('ip route show', { table, dev: index, proto: protocol })
    const ask = request(op, rtm.getRoute, 0, routeMessage, {
      ...{ family: afOf(family), destinationLength: 0, sourceLength: 0, tos: 0, table: 0 },
      ...{ protocol: protocol ?? 0, scope: 0, type: 0, flags: 0 },
      attrs: { table, oif: index },
    })
    // A table is made with its first route; ENODEV is a link that is gone.
    const all = absentIs([], ['ENOENT', 'ENODEV'], () => this.#dump(ask, routeMessage, parseRoute))
    return all.filter(
      route =>
        route.table === table &&
        (family === undefined || route.family === family) &&
        (index === undefined || route.index === index) &&
        (protocol === undefined || route.protocol === protocol),
    )
  }

  /** `ip route get ADDRESS`: how the kernel would send a packet there; undefined where it would not. */
  routeTo(address: string): Route | undefined {
    const family = familyOf(address)
    const ask = request(words('ip route get', { to: address }), rtm.getRoute, 0, routeMessage, {
      ...{ family: afOf(family), destinationLength: family === 4 ? 32 : 128, sourceLength: 0, tos: 0, table: 0 },
      ...{ protocol: 0, scope: 0, type: 0, flags: 0 },
      attrs: { dst: address },
    })
    // no route, and routes of the types unreachable, prohibit and blackhole
    return absentIs(undefined, ['ENETUNREACH', 'EHOSTUNREACH', 'EACCES', 'EINVAL'], () =>
      this.socket.get(ask, (bytes, start, end) => parseRoute(decode(routeMessage, bytes, start, end))),
    )
  }

  /** `ip neighbour show nud all [dev INDEX]`; with `proxy`, `ip neighbour show proxy` instead. */
  neighbours(filter: { index?: number; family?: Family; proxy?: boolean } = {}): Neighbour[] {
    const { index, family } = filter
    const all = this.#dump(neighboursRequest(filter), neighbourMessage, parseNeighbour)
    return all.filter(n => (index === undefined || n.index === index) && (family === undefined || n.family === family))
  }

  /** Those of one link off the main thread: of an overlay there may be a hundred thousand. */
  async neighboursAsync(index: number): Promise<Neighbour[]> {
    const all = await this.#dumpAsync(neighboursRequest({ index }), parseNeighbour)
    return all.filter(neighbour => neighbour.index === index)
  }

  /** `bridge fdb show [dev INDEX] [br MASTER]` */
  fdb(filter: { index?: number; master?: number } = {}): FdbEntry[] {
    const { index } = filter
    const all = absentIs([], ['ENODEV'], () => this.#dump(fdbRequest(filter), neighbourMessage, parseFdb))
    return all.filter(entry => index === undefined || entry.index === index)
  }

  /** Those of one link off the main thread: for each piece of the list, the kernel goes through all those before it again. */
  async fdbAsync(index: number): Promise<FdbEntry[]> {
    const all = await this.#dumpAsync(fdbRequest({ index }), parseFdb)
    return all.filter(entry => entry.index === index)
  }

  /** `bridge fdb get MAC dev INDEX [self | master]`: of several destinations the first; undefined when there is none. */
  fdbEntry(index: number, mac: string, { self }: { self: boolean }): FdbEntry | undefined {
    const flags = self ? neighbourFlags.self : neighbourFlags.master
    const op = words(`bridge fdb get ${mac}`, { dev: index, self, master: !self })
    return this.#one(neighbourList(op, afBridge, index, flags, { lladdr: mac }), parseFdb)
  }

  /** `ip neighbour get ADDRESS dev INDEX`; undefined when there is none. */
  neighbour(index: number, address: string): Neighbour | undefined {
    const op = words(`ip neighbour get ${address}`, { dev: index })
    const family = afOf(address.includes(':') ? 6 : 4)
    return this.#one(neighbourList(op, family, index, 0, { dst: address }), parseNeighbour)
  }

  #one<T>(
    ask: ReturnType<typeof request>,
    parse: (message: ValueOf<typeof neighbourMessage>) => T | undefined,
  ): T | undefined {
    return absentIs(undefined, ['ENOENT', 'ENODEV'], () =>
      this.socket.get(ask, (bytes, start, end) => parse(decode(neighbourMessage, bytes, start, end))),
    )
  }

  /** An absent link has none. */
  async #dumpAsync<T>(
    ask: ReturnType<typeof request>,
    parse: (message: ValueOf<typeof neighbourMessage>) => T | undefined,
  ): Promise<T[]> {
    try {
      return await this.socket.dumpAsync(ask, (bytes, start, end) => parse(neighbourMessage.get(bytes, start, end)))
    } catch (error) {
      if (error instanceof NetlinkError && error.code === 'ENODEV') return []
      return toNetError(error)
    }
  }

  #dump<M, T>(ask: ReturnType<typeof request>, codec: Codec<M>, parse: (message: M) => T | undefined): T[] {
    return translated(() => this.socket.dump(ask, (bytes, start, end) => parse(codec.get(bytes, start, end))))
  }
}

const linkHeader = { family: afUnspec, type: 0, index: 0, flags: 0, change: 0 }

type NeighbourAttrs = ValueOf<typeof neighbourMessage>['attrs']
const neighbourList = (op: string, family: number, index: number, flags: number, attrs: NeighbourAttrs) =>
  request(op, rtm.getNeighbour, 0, neighbourMessage, { family, index, state: 0, flags, type: 0, attrs })

function neighboursRequest({ index, family, proxy = false }: { index?: number; family?: Family; proxy?: boolean }) {
  const op = words('ip neighbour show', { proxy, dev: index })
  return neighbourList(op, afOf(family), 0, proxy ? neighbourFlags.proxy : 0, { ifindex: index })
}

const fdbRequest = ({ index, master }: { index?: number; master?: number }) =>
  neighbourList(words('bridge fdb show', { dev: index, br: master }), afBridge, index ?? 0, 0, { master })

function throwFirst([first, ...others]: readonly NetlinkError[]): void {
  if (first) throw kernelError([first, ...others])
}

function toNetError(error: unknown): never {
  if (error instanceof NetError) throw error
  if (error instanceof NetlinkError) throw kernelError([error])
  if (error instanceof ErrnoError) throw unavailable(`netlink socket: ${messageOf(error)}`, { cause: error })
  throw error
}

function translated<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    return toNetError(error)
  }
}

/** The errors that say "there is none" give `none`; any other is a NetError. */
function absentIs<T>(none: T, codes: readonly string[], work: () => T): T {
  try {
    return work()
  } catch (error) {
    const cause = error instanceof NetError ? error.cause : error
    if (cause instanceof NetlinkError && codes.includes(cause.code)) return none
    return toNetError(error)
  }
}
