import { messageOf } from '../errors.js'
import type { Log } from '../log.js'
import { routeProtocol } from '../marks.js'
import { type KernelEvent, watchKernel } from '../netlink/events.js'
import { Kernel } from '../netlink/kernel.js'
import { type Netns, openNetns } from '../netlink/netns.js'
import type { Link } from '../netlink/objects.js'
import { addressWords, linkWords } from './words.js'

/** namespaces whose paths are looked at in one turn */
const pathsAtOnce = 50
/** What is done inside of a sandbox is mostly a few things at a time. */
const gatherMs = 10
const groups = ['link', 'address4', 'address6', 'route4', 'route6'] as const
/** The links of so many sandboxes are listed in one turn; nobody waits for them. */
const listedAtOnce = 10
const listMs = 30

interface Place {
  id: string
  netns: string
}

export interface FollowedSandboxes {
  sandboxes: () => readonly Place[]
  told: (id: string, words: string) => void
  log: Log
}

interface Inside {
  id: string
  path: string
  identity: string
  stop: AbortController
  /** absent: not listed yet */
  seen?: Seen | undefined
}

/** What is known of links, by index: what an event changes is told by what was there before. */
export type Seen = Map<number, Link>

/** The kernel's news of what happens inside of sandboxes. */
export class InsideWatch {
  readonly #of: FollowedSandboxes
  readonly #inside = new Map<string, Inside>()
  #toList: Inside[] = []
  #listing: NodeJS.Timeout | undefined
  #nextPath = 0
  /** sandboxes whose namespace was not there */
  readonly #missing = new Set<string>()

  constructor(of: FollowedSandboxes) {
    this.#of = of
  }

  stop(): void {
    clearTimeout(this.#listing)
    for (const { stop } of this.#inside.values()) stop.abort()
  }

  /** Follow those that there are now, and no others: whatever is changed in there after this is told. */
  follow(): void {
    const wanted = this.#of.sandboxes()
    const ids = new Set(wanted.map(({ id }) => id))
    for (const id of [...this.#inside.keys()]) if (!ids.has(id)) this.#leave(id)
    for (const id of [...this.#missing]) if (!ids.has(id)) this.#missing.delete(id)
    for (const place of wanted) {
      if (this.#inside.has(place.id)) continue
      let netns: Netns
      try {
        netns = openNetns(place.netns)
      } catch {
        this.#missing.add(place.id) // its process has ended, or reconcile is about to make it
        continue
      }
      try {
        this.#enter(place, netns)
      } catch (error) {
        const words = `cannot follow what happens in ${place.netns}: ${messageOf(error)}`
        this.#of.log.warn({ netns: place.netns, err: error }, words)
      } finally {
        netns.close()
      }
    }
    if (this.#toList.length > 0) this.#listSoon()
  }

  /** A namespace may have gone, or come, without anybody telling. */
  look(): void {
    if (this.#missing.size > 0) this.follow()
    const ids = [...this.#inside.keys()]
    for (let i = 0; i < Math.min(pathsAtOnce, ids.length); i++) {
      const id = ids[this.#nextPath++ % ids.length] ?? ''
      const inside = this.#inside.get(id)
      if (inside === undefined || identityOf(inside.path) === inside.identity) continue
      this.#leave(id)
      this.#missing.add(id)
    }
  }

  /** The socket keeps the namespace alive, so it is closed when the sandbox is forgotten or its path leads elsewhere. */
  #enter({ id, netns: path }: Place, netns: Netns): void {
    const inside: Inside = { id, path, identity: netns.identity(), stop: new AbortController() }
    const handler = (event: KernelEvent): void => this.#news(inside, event)
    watchKernel(netns, groups, handler, inside.stop.signal, { gatherMs })
    this.#inside.set(id, inside)
    this.#toList.push(inside)
  }

  #leave(id: string): void {
    this.#inside.get(id)?.stop.abort()
    this.#inside.delete(id)
  }

  #listSoon(): void {
    this.#listing ??= setTimeout(() => {
      this.#listing = undefined
      for (const inside of this.#toList.splice(0, listedAtOnce)) {
        inside.seen = linksIn(inside)
        // what was done to it before it was followed, nobody has told
        if (this.#missing.delete(inside.id)) this.#of.told(inside.id, `namespace ${inside.path} was made`)
      }
      if (this.#toList.length > 0) this.#listSoon()
    }, listMs).unref()
  }

  #news(inside: Inside, event: KernelEvent): void {
    const words = inside.seen === undefined ? unlistedWords(event) : insideWords(event, inside.seen)
    for (const each of words) this.#of.told(inside.id, each)
    if (event.what === 'link' && event.change === 'new') inside.seen?.set(event.link.index, event.link)
  }
}

/** undefined: the path leads elsewhere by now, which the next look at it finds. */
function linksIn({ path, identity }: Inside): Seen | undefined {
  try {
    const netns = openNetns(path)
    try {
      if (netns.identity() !== identity) return undefined
      return new Map(Kernel.inside(netns, kernel => kernel.links()).map(link => [link.index, link]))
    } finally {
      netns.close()
    }
  } catch {
    return undefined
  }
}

function identityOf(path: string): string | undefined {
  try {
    const netns = openNetns(path)
    try {
      return netns.identity()
    } finally {
      netns.close()
    }
  } catch {
    return undefined
  }
}

/** A link that nobody has listed may have been changed in any way. */
const unlistedWords = (event: KernelEvent): string[] =>
  event.what === 'link' ? linkWords(event.change, event.link, undefined) : insideWords(event, new Map())

/** Inside a sandbox only what takes something away is news: what we add there is no reason to look again. */
function insideWords(event: KernelEvent, seen: Seen): string[] {
  const nameOf = (index = 0): string => seen.get(index)?.name ?? `link ${index}`
  if (event.what === 'overrun') return ['more was changed than could be followed']
  if (event.what === 'link') {
    const before = seen.get(event.link.index)
    if (event.change === 'new' && before === undefined) return []
    return linkWords(event.change, event.link, before).filter(words => !words.endsWith(' up'))
  }
  if (event.what === 'address' && event.change === 'deleted' && event.address.scope === 'global')
    return [addressWords(event, nameOf(event.address.index))]
  if (event.what !== 'route' || event.route.table !== mainTable) return []
  const { protocol, destination, index } = event.route
  // where somebody else's default route stands is for him to say: ours comes to terms with it at the next look
  const isLost = event.change === 'deleted' && protocol === routeProtocol
  return isLost ? [`route ${destination} by ${nameOf(index)} was deleted`] : []
}

const mainTable = 254
