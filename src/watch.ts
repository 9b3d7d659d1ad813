import { messageOf } from './errors.js'
import type { Log } from './log.js'
import { watchKernel } from './netlink/events.js'
import { currentNetns } from './netlink/netns.js'

/** How often we look at other programs' firewalls: dockerd rebuilds its chains when it starts, and tells nobody. */
const lookMs = 5_000

export interface Watched {
  /** another program's bridge or firewall may have changed */
  look: () => Promise<unknown>
  /** a veth has gone, perhaps a container's */
  linkGone: () => Promise<unknown>
  /** a veth carries: its other end, perhaps a container's, is in its place and up */
  linkCarries: (name: string) => Promise<unknown>
  log: Log
}

/** Follow what happens to the host beside our own work, in its links' events and by the clock. Returns how to stop. */
export function watchHost({ look, linkGone, linkCarries, log }: Watched): () => void {
  const lookSoon = coalesced(look, error =>
    log.error({ err: error }, `could not look at other programs: ${messageOf(error)}`),
  )
  const goneSoon = coalesced(linkGone, error =>
    log.error({ err: error }, `could not clean up a container: ${messageOf(error)}`),
  )
  const carries = (name: string): void => {
    linkCarries(name).catch(error =>
      log.warn({ link: name, err: error }, `could not finish a container: ${messageOf(error)}`),
    )
  }
  const stop = new AbortController()
  const timer = setInterval(lookSoon, lookMs)
  const netns = currentNetns()
  try {
    watchKernel(
      netns,
      ['link'],
      event => {
        const overrun = event.what === 'overrun'
        if (overrun || (event.what === 'link' && event.link.kind === 'bridge')) lookSoon()
        if (overrun || (event.what === 'link' && event.change === 'deleted' && event.link.kind === 'veth')) goneSoon()
        if (event.what === 'link' && event.change === 'new' && event.link.kind === 'veth' && event.link.running)
          carries(event.link.name)
      },
      stop.signal,
    )
  } finally {
    netns.close()
  }
  return () => {
    clearInterval(timer)
    stop.abort()
  }
}

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
