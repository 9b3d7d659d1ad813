import { Damper } from './damper.js'
import { messageOf } from './errors.js'
import type { Log } from './log.js'
import { type KernelEvent, watchKernel } from './netlink/events.js'
import { currentNetns } from './netlink/netns.js'
import { type NftTransaction, nftGeneration, watchNftables } from './netlink/nftables.js'
import type { Link } from './netlink/objects.js'
import { everySeconds } from './ticks.js'

/** How often we look at firewalls that tell nobody what is done to them. */
const lookSeconds = 1
/** What we do ourselves is told too: whoever asked for it is answered first. */
const gatherMs = 10
/** Other programs' changes come in bursts, and a look costs a millisecond. */
const pauseMs = 50
const againMs = 1_000
/** Without our rules nothing works, so whoever fights for them does not get far. */
const longestPauseMs = 4_000
/** repairs within ten seconds */
const fightBurst = 60

export interface Watched {
  /** another program's bridge or firewall may have changed */
  look: () => Promise<unknown>
  /** a link is one of ours: whatever happens to it, nobody else did it */
  isOurs: (link: Link) => boolean
  /** a firewall is in use of which the kernel tells no news */
  mustLook: () => boolean
  /** nftables tables that have rules of ours: `inet tsnet` */
  tables: ReadonlySet<string>
  /** other programs have rules in these tables too */
  shared: boolean
  /** the process of this number is one that we started to change the firewall */
  isOurProgram: (pid: number) => boolean
  /** another program has changed our table, or may have; in words. Says whether anything had to be repaired. */
  firewallChanged: (cause: string) => Promise<boolean>
  /** what was changed and repaired so often that it is left alone for a while */
  fought: (what: string, pauseMs: number) => void
  /** links, addresses and sysctls, whoever's: what of ours they concern is for others to say */
  news: (event: KernelEvent) => void
  /** a veth has gone, perhaps a container's */
  linkGone: () => Promise<unknown>
  /** a veth carries: its other end, perhaps a container's, is in its place and up */
  linkCarries: (name: string) => Promise<unknown>
  log: Log
}

/** Follow what happens to the host beside our own work: in the kernel's events, and by the clock where those say nothing. */
export function watchHost(watched: Watched): { lookSoon: () => void; stop: () => void } {
  const { look, log } = watched
  const stop = new AbortController()
  const lookSoon = coalesced(
    () => look().finally(() => pause(stop.signal)),
    error => log.error({ err: error }, `could not look at other programs: ${messageOf(error)}`),
  )
  watchLinks(watched, lookSoon, stop.signal)
  watchFirewall(watched, lookSoon, stop.signal)
  const stopLooking = everySeconds(lookSeconds, () => {
    if (watched.mustLook()) lookSoon()
  })
  return {
    lookSoon,
    stop() {
      stopLooking()
      stop.abort()
    },
  }
}

function watchLinks(watched: Watched, lookSoon: () => void, signal: AbortSignal): void {
  const { isOurs, linkGone, linkCarries, news, log } = watched
  const goneSoon = coalesced(linkGone, error =>
    log.error({ err: error }, `could not clean up a container: ${messageOf(error)}`),
  )
  const carries = (name: string): void => {
    linkCarries(name).catch(error =>
      log.warn({ link: name, err: error }, `could not finish a container: ${messageOf(error)}`),
    )
  }
  const bridges = new BridgeNews(isOurs)
  const netns = currentNetns()
  try {
    watchKernel(
      netns,
      ['link', 'address4', 'address6', 'settings4', 'settings6'],
      event => {
        news(event)
        if (event.what === 'overrun') {
          lookSoon()
          goneSoon()
        }
        if (event.what !== 'link') return
        const { kind, name, running } = event.link
        if (bridges.isNews(event)) lookSoon()
        if (kind === 'veth' && event.change === 'deleted') goneSoon()
        if (kind === 'veth' && event.change === 'new' && running) carries(name)
      },
      signal,
      { gatherMs },
    )
  } finally {
    netns.close()
  }
}

/**
 * What may make a bridge another program's, or lead it out of the host. The kernel tells of a bridge with every port that comes
 * or goes, which changes nothing about that.
 */
class BridgeNews {
  /** by index: bridges, and links that could be their way out */
  readonly #known = new Map<number, string>()

  constructor(readonly isOurs: (link: Link) => boolean) {}

  isNews({ change, link }: { change: 'new' | 'deleted'; link: Link }): boolean {
    const { index, kind, name, master, up } = link
    if (kind !== 'bridge' && kind !== undefined) return false
    if (change === 'deleted') return this.#known.delete(index) || kind === 'bridge'
    if (this.isOurs(link)) return false
    const now = `${name} ${master} ${up}`
    if (this.#known.get(index) === now) return false
    this.#known.set(index, now)
    return true
  }
}

/** Our own transactions are told apart by who made them, so they cause no work. */
function watchFirewall(watched: Watched, lookSoon: () => void, signal: AbortSignal): void {
  const { tables, shared, isOurProgram, firewallChanged, fought, log } = watched
  const damper = new Damper({ burst: fightBurst, longestMs: longestPauseMs })
  const causes = new Set<string>()
  const repairSoon = coalesced(
    async () => {
      const words = [...causes].join('; ')
      causes.clear()
      const pauseMs = (await firewallChanged(words)) ? damper.repaired('firewall') : 0
      if (pauseMs === 0) return
      fought('the firewall', pauseMs)
      await pause(signal, pauseMs)
    },
    error => {
      log.error({ err: error }, `could not repair the firewall: ${messageOf(error)}`)
      setTimeout(() => changed('the last repair failed'), againMs).unref()
    },
  )
  const changed = (cause: string): void => {
    causes.add(cause)
    repairSoon()
  }
  // In a pid namespace of its own this process knows its children by other numbers; their sockets have ours.
  const self = nftGeneration().pid
  const isOurs = ({ pid, port }: NftTransaction): boolean =>
    pid === self || isOurProgram(self === process.pid ? pid : port)
  const netns = currentNetns()
  try {
    watchNftables(
      netns,
      event => {
        if (event.what === 'overrun') {
          changed('more was changed than could be followed')
          lookSoon()
        } else if (!signal.aborted && !isOurs(event)) {
          for (const [table, done] of event.tables) {
            if (tables.has(table)) changed(inWords(event, table, done))
            if (tables.has(table) ? shared : ![...done].every(isAboutElements)) lookSoon()
          }
        }
      },
      signal,
    )
  } finally {
    netns.close()
  }
}

/** What other programs' sets hold, no look at their rules can tell. */
const isAboutElements = (what: string): boolean => what === 'added elements' || what === 'deleted elements'

/** Deleting a table deletes all that is in it, one by one. */
function inWords({ process, pid }: NftTransaction, table: string, done: ReadonlySet<string>): string {
  const all = 'deleted the table'
  return `${process} (process ${pid}) ${done.has(all) ? all : `${[...done].join(', ')} of table`} ${table}`
}

const pause = (signal: AbortSignal, ms = pauseMs): Promise<void> =>
  new Promise(resolve => {
    if (signal.aborted) resolve()
    else setTimeout(resolve, ms).unref()
  })

/** Events come in bursts: while the work runs, any number of calls ask for one more run. */
function coalesced(work: () => Promise<unknown>, failed: (error: unknown) => void): () => void {
  let running = false
  let again = false
  const run = async (): Promise<void> => {
    running = true
    do {
      again = false
      await work().catch(failed)
    } while (again)
    running = false
  }
  return () => {
    if (running) again = true
    else void run()
  }
}
