import type { Touches } from './cnm/types.js'
import { messageOf } from './errors.js'
import type { Log } from './log.js'
import { routeProtocol } from './marks.js'
import { type EventGroup, type KernelEvent, watchKernel } from './netlink/events.js'
import { Kernel } from './netlink/kernel.js'
import { currentNetns, type Netns, openNetns } from './netlink/netns.js'
import type { Link } from './netlink/objects.js'
import { everySeconds } from './ticks.js'

/** What others did comes in bursts; so does what we do, which is in order again before anybody looks. */
const collectMs = 40
/** Where one burst follows the other, as while many containers start, a look costs more than it is worth. */
const betweenMs = 250
/** Sandboxes and networks come in bursts too, and nobody waits for their being followed. */
const followMs = 100
const lookSeconds = 1
/** namespaces whose paths are looked at in one turn */
const pathsAtOnce = 50
/** What is done inside of a sandbox is mostly a few things at a time. */
const gatherMs = 10
const insideGroups = ['link', 'address4', 'address6', 'route4', 'route6'] as const
/** of one thing in one burst */
const wordsAtMost = 5

type Words = Map<string, string[]>

export interface Drifting {
  /** a link of the host's namespace is ours, or something of ours stands on it */
  isOurs: (link: Link) => boolean
  /** all links that there are */
  links: () => readonly Link[]
  doubt: (event: KernelEvent) => { networkId: string; entry: string; words: string } | undefined
  needs: () => { entries: boolean; routes: boolean }
  sandboxes: () => readonly { id: string; netns: string }[]
  /** what the kernel has told of a link of ours is what it should be, so there is nothing to look at */
  isRight: (link: Link) => boolean
  touched: (touches: Touches) => void
  lookAtSettings: () => void
  log: Log
}

interface Inside {
  path: string
  identity: string
  stop: AbortController
  seen: Seen
}

/** What is known of links, by index: what an event changes is told by what was there before. */
type Seen = Map<number, Link>

/**
 * Collects the kernel's news of what is ours: in the host's namespace (news), of entries and routes where a network has some, and
 * inside sandboxes. Decides nothing: whether something is wrong shows only when it is compared with what should be.
 */
export class DriftWatch {
  readonly #of: Drifting
  readonly #seen: Seen = new Map()
  readonly #inside = new Map<string, Inside>()
  readonly #extra = new Map<'entries' | 'routes', AbortController>()
  readonly #stopLooking: () => void
  #news = nothing()
  #collecting: NodeJS.Timeout | undefined
  #toldAt = Number.NEGATIVE_INFINITY
  #following: NodeJS.Timeout | undefined
  #nextPath = 0

  constructor(of: Drifting) {
    this.#of = of
    for (const link of of.links()) if (of.isOurs(link)) this.#seen.set(link.index, link)
    this.#stopLooking = everySeconds(lookSeconds, () => this.#tick())
    this.followSoon()
  }

  stop(): void {
    this.#stopLooking()
    clearTimeout(this.#collecting)
    clearTimeout(this.#following)
    for (const { stop } of this.#inside.values()) stop.abort()
    for (const stop of this.#extra.values()) stop.abort()
  }

  /** Something happened in the host's namespace. */
  news(event: KernelEvent): void {
    if (event.what === 'overrun') {
      this.#news.lost = true
      this.#collect()
    } else if (event.what === 'link') this.#linkNews(event.change, event.link)
    // link-local ones are the kernel's own to add and remove
    else if (event.what === 'address' && event.address.scope === 'global')
      this.#about(event.address.index, name => addressWords(event, name))
    else if (event.what === 'port') this.#portNews(event.index, event.port)
    else if (event.what === 'route') {
      const { index, protocol, destination } = event.route
      if (protocol === routeProtocol && event.change === 'deleted')
        this.#about(index ?? 0, name => `route ${destination} by ${name} was deleted`)
    } else if (event.what === 'settings')
      for (const link of event.index < 0 ? this.#seen.values() : [this.#seen.get(event.index)])
        if (link !== undefined) this.#tell(link, `sysctls of ${link.name} were changed`)
  }

  /** Networks or sandboxes have come or gone. */
  followSoon(): void {
    this.#following ??= setTimeout(() => {
      this.#following = undefined
      this.#followExtra('entries', ['neighbour'], event => this.#entryNews(event))
      this.#followExtra('routes', ['route4', 'route6'], event => this.news(event))
      this.#followSandboxes()
    }, followMs)
    this.#following.unref()
  }

  #linkNews(change: 'new' | 'deleted', link: Link): void {
    const before = this.#seen.get(link.index)
    if (before === undefined && !this.#of.isOurs(link)) return
    for (const told of before === undefined || before.name === link.name ? [link] : [link, before])
      for (const words of linkWords(change, link, before)) this.#tell(told, words)
    // all that went before was the beginning of this
    if (change === 'deleted') {
      this.#news.links.set(link.name, linkWords(change, link, before))
      this.#news.gone.add(link.name)
      this.#seen.delete(link.index)
    } else {
      if (before !== undefined && before.name !== link.name) this.#news.gone.add(before.name)
      this.#news.gone.delete(link.name)
      this.#seen.set(link.index, link)
    }
  }

  #portNews(index: number, port: Link['port']): void {
    const link = this.#seen.get(index)
    if (link !== undefined) this.#seen.set(index, { ...link, port: { ...link.port, ...port } })
    this.#about(index, name => `settings of bridge port ${name} were changed`)
  }

  #about(index: number, words: (name: string) => string): void {
    const link = this.#seen.get(index)
    if (link !== undefined) this.#tell(link, words(link.name))
  }

  #tell({ name, index }: Link, words: string): void {
    add(this.#news.links, name, words)
    this.#news.told.set(name, index)
    this.#collect()
  }

  /** While many containers start nearly all news is of what we did ourselves. */
  #withoutRight({ links, told, gone }: ReturnType<typeof nothing>): void {
    for (const [name, index] of told) {
      const link = this.#seen.get(index)
      if (link?.name === name && !gone.has(name) && this.#of.isRight(link)) links.delete(name)
    }
  }

  #entryNews(event: KernelEvent): void {
    // so much that it cannot be followed is our own work, or a storm: `tsnet overlay verify` and reconcile compare all of it
    if (event.what === 'overrun') this.#of.log.warn({}, 'more entries for other hosts changed than could be followed')
    const found = this.#of.doubt(event)
    if (found === undefined) return
    const ofNetwork = this.#news.entries.get(found.networkId) ?? new Map()
    this.#news.entries.set(found.networkId, ofNetwork)
    add(ofNetwork, found.entry, found.words)
    this.#collect()
  }

  #collect(): void {
    if (this.#collecting !== undefined) return
    const waitMs = Math.max(collectMs, this.#toldAt + betweenMs - performance.now())
    this.#collecting = setTimeout(() => {
      this.#collecting = undefined
      const news = this.#news
      this.#news = nothing()
      this.#withoutRight(news)
      this.#of.touched(news)
      this.#toldAt = performance.now()
    }, waitMs)
  }

  #tick(): void {
    this.#of.lookAtSettings()
    const ids = [...this.#inside.keys()]
    for (let i = 0; i < Math.min(pathsAtOnce, ids.length); i++) {
      const id = ids[this.#nextPath++ % ids.length] ?? ''
      const inside = this.#inside.get(id)
      if (inside !== undefined && identityOf(inside.path) !== inside.identity) this.#leave(id)
    }
  }

  #followExtra(what: 'entries' | 'routes', groups: readonly EventGroup[], handler: (event: KernelEvent) => void): void {
    const stop = this.#extra.get(what)
    if (this.#of.needs()[what] === (stop !== undefined)) return
    this.#extra.delete(what)
    stop?.abort()
    if (stop !== undefined) return
    const made = new AbortController()
    this.#extra.set(what, made)
    const netns = currentNetns()
    try {
      watchKernel(netns, groups, handler, made.signal)
    } finally {
      netns.close()
    }
  }

  #followSandboxes(): void {
    const wanted = this.#of.sandboxes()
    const ids = new Set(wanted.map(({ id }) => id))
    for (const id of [...this.#inside.keys()]) if (!ids.has(id)) this.#leave(id)
    for (const { id, netns: path } of wanted) {
      if (this.#inside.has(id)) continue
      let netns: Netns
      try {
        netns = openNetns(path)
      } catch {
        continue // its process has ended, or it comes with the next reconcile
      }
      try {
        this.#enter(id, path, netns)
      } catch (error) {
        this.#of.log.warn({ netns: path, err: error }, `cannot follow what happens in ${path}: ${messageOf(error)}`)
      } finally {
        netns.close()
      }
    }
  }

  /** The socket keeps the namespace alive, so it is closed when the sandbox is forgotten or its path leads elsewhere. */
  #enter(id: string, path: string, netns: Netns): void {
    const kernel = Kernel.open(netns)
    try {
      const seen = new Map(kernel.links().map(link => [link.index, link]))
      const inside: Inside = { path, identity: netns.identity(), stop: new AbortController(), seen }
      const handler = (event: KernelEvent): void => this.#insideNews(id, inside, event)
      watchKernel(kernel.socket, insideGroups, handler, inside.stop.signal, { gatherMs })
      this.#inside.set(id, inside)
    } catch (error) {
      kernel.close()
      throw error
    }
  }

  #leave(id: string): void {
    this.#inside.get(id)?.stop.abort()
    this.#inside.delete(id)
  }

  #insideNews(id: string, { seen }: Inside, event: KernelEvent): void {
    for (const words of insideWords(event, seen)) {
      add(this.#news.sandboxes, id, words)
      this.#collect()
    }
    if (event.what === 'link' && event.change === 'new') seen.set(event.link.index, event.link)
  }
}

const nothing = () => ({
  links: new Map<string, string[]>(),
  /** their indexes */
  told: new Map<string, number>(),
  gone: new Set<string>(),
  entries: new Map<string, Words>(),
  sandboxes: new Map<string, string[]>(),
  lost: false,
})

function add(to: Words, key: string, words: string): void {
  const said = to.get(key)
  if (said === undefined) to.set(key, [words])
  else if (said.length < wordsAtMost && !said.includes(words)) said.push(words)
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

const addressWords = (event: KernelEvent & { what: 'address' }, link: string): string =>
  `address ${event.address.address} was ${event.change === 'new' ? 'added to' : 'removed from'} ${link}`

/** What has become of a link. One that is new is our own work, or is told by what it is not. */
function linkWords(change: 'new' | 'deleted', link: Link, before: Link | undefined): string[] {
  const { name } = link
  if (change === 'deleted') return [`link ${name} was deleted`]
  if (before === undefined) return [`link ${name} was made or changed`]
  const said: string[] = []
  if (before.name !== name) said.push(`link ${before.name} was renamed ${name}`)
  if (before.up !== link.up) said.push(`link ${name} was set ${link.up ? 'up' : 'down'}`)
  if (before.mtu !== link.mtu) said.push(`MTU of ${name} was changed to ${link.mtu}`)
  if (before.mac !== link.mac) said.push(`MAC address of ${name} was changed to ${link.mac}`)
  if (before.master !== link.master)
    said.push(`${name} was ${link.master === undefined ? 'taken from its bridge' : 'given to another bridge'}`)
  if (before.alias !== link.alias) said.push(`alias of ${name} was changed`)
  if (JSON.stringify([before.port, before.vxlan]) !== JSON.stringify([link.port, link.vxlan]))
    said.push(`settings of ${name} were changed`)
  return said
}

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
