import type { Touches } from '../cnm/types.js'
import type { Log } from '../log.js'
import { routeProtocol } from '../marks.js'
import { type EventGroup, type KernelEvent, watchKernel } from '../netlink/events.js'
import { currentNetns } from '../netlink/netns.js'
import type { Link } from '../netlink/objects.js'
import { everySeconds } from '../ticks.js'
import { InsideWatch, type Seen } from './inside.js'
import { addressWords, linkWords } from './words.js'

/** What others did comes in bursts; so does what we do, which is in order again before anybody looks. */
const collectMs = 40
/** Where one burst follows the other, as while many containers start, a look costs more than it is worth. */
const betweenMs = 250
/** Sandboxes and networks come in bursts too, and nobody waits for their being followed. */
const followMs = 100
const lookSeconds = 1
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

/**
 * Collects the kernel's news of what is ours: in the host's namespace (news), of entries and routes where a network has some, and
 * inside sandboxes. Decides nothing: whether something is wrong shows only when it is compared with what should be.
 */
export class DriftWatch {
  readonly #of: Drifting
  readonly #seen: Seen = new Map()
  readonly #inside: InsideWatch
  readonly #extra = new Map<'entries' | 'routes', AbortController>()
  readonly #stopLooking: () => void
  #news = nothing()
  #collecting: NodeJS.Timeout | undefined
  #toldAt = Number.NEGATIVE_INFINITY
  #following: NodeJS.Timeout | undefined

  constructor(of: Drifting) {
    this.#of = of
    for (const link of of.links()) if (of.isOurs(link)) this.#seen.set(link.index, link)
    this.#inside = new InsideWatch({
      sandboxes: of.sandboxes,
      told: (id, words) => {
        add(this.#news.sandboxes, id, words)
        this.#collect()
      },
      log: of.log,
    })
    // before anybody compares: what is changed after that is told
    this.#inside.follow()
    this.#stopLooking = everySeconds(lookSeconds, () => this.#tick())
    this.followSoon()
  }

  stop(): void {
    this.#stopLooking()
    clearTimeout(this.#collecting)
    clearTimeout(this.#following)
    this.#inside.stop()
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
      this.#inside.follow()
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
    this.#inside.look()
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
