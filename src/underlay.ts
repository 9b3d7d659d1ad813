import { isIP } from 'node:net'
import { messageOf, unavailable } from './errors.js'
import { type KernelEvent, watchKernel } from './netlink/events.js'
import type { Address, Kernel, Link, Route } from './netlink/kernel.js'
import type { Netns } from './netlink/netns.js'

// Where other hosts find this one: the network below the networks that span hosts.

export interface Underlay {
  /** plain address of this host at which others send it VXLAN packets: its VTEP */
  vtep: string
  /** the link that has it */
  link: string
  /** of that link, in bytes */
  mtu: number
}

/** What there is to choose from, in whichever order the kernel lists it. */
export interface Choices {
  links: readonly Link[]
  addresses: readonly Address[]
  /** of the main table */
  routes: readonly Route[]
}

/** IFA_F_* of linux/if_addr.h: an address that will not be there for long, or that must not be used for what is new */
const passing = { temporary: 0x01, deprecated: 0x20 }

/**
 * This host's address for the others.
 * @param advertise an address, or the link that has it; absent: the link of the default route, IPv4 before IPv6
 * @throws {NetError} Unavailable: there is none now, and why
 */
export function chooseUnderlay(choices: Choices, advertise?: string): Underlay {
  if (advertise === undefined) return byDefaultRoute(choices)
  return isIP(advertise) === 0 ? byLink(choices, advertise) : byAddress(choices, advertise)
}

function byAddress(choices: Choices, wanted: string): Underlay {
  const found = choices.addresses.find(({ address }) => plain(address) === wanted)
  const link = choices.links.find(({ index }) => index === found?.index)
  if (found === undefined || link === undefined)
    throw unavailable(`no link of this host has the advertised address ${wanted}`)
  if (found.scope === 'link')
    throw unavailable(`${wanted} means another host on every link: advertise an address of wider scope`)
  return underlayOf(link, found)
}

function byLink(choices: Choices, name: string): Underlay {
  const link = choices.links.find(each => each.name === name)
  if (link === undefined) throw unavailable(`there is no link ${name} to advertise`)
  const found = bestAddress(choices, link, 4, 'host') ?? bestAddress(choices, link, 6, 'host')
  if (found === undefined) throw unavailable(`the advertised link ${name} has no address that other hosts could use`)
  return underlayOf(link, found)
}

function byDefaultRoute(choices: Choices): Underlay {
  for (const family of [4, 6] as const) {
    const routes = choices.routes
      .filter(route => route.family === family && route.destination.endsWith('/0') && route.type === 'unicast')
      .sort((a, b) => a.metric - b.metric)
    for (const { index, source } of routes) {
      const link = choices.links.find(each => each.index === index)
      if (link === undefined) continue
      const found =
        choices.addresses.find(({ address }) => plain(address) === source) ??
        bestAddress(choices, link, family, 'global')
      if (found !== undefined) return underlayOf(link, found)
    }
  }
  throw unavailable('this host has no default route with an address to tell: name one with --advertise')
}

/** The kernel lists an address that was added first before others of its subnet, and chooses it as source. */
function bestAddress(
  { addresses }: Choices,
  { index }: Link,
  family: 4 | 6,
  widest: 'global' | 'host',
): Address | undefined {
  const usable = addresses.filter(
    each =>
      each.index === index &&
      each.family === family &&
      (each.scope === 'global' || each.scope === widest) &&
      !each.tentative &&
      !each.dadFailed,
  )
  const lasting = usable.filter(
    ({ family: of, flags }) => (flags & passing.deprecated) === 0 && !(of === 6 && flags & passing.temporary),
  )
  return lasting[0] ?? usable[0]
}

const underlayOf = ({ name, mtu }: Link, { address }: Address): Underlay => ({ vtep: plain(address), link: name, mtu })

const plain = (cidr: string): string => cidr.replace(/\/.*/, '')

/** What the kernel has now. @throws {NetError} Unavailable */
export const readUnderlay = (kernel: Kernel, advertise?: string): Underlay =>
  chooseUnderlay({ links: kernel.links(), addresses: kernel.addresses(), routes: kernel.routes() }, advertise)

/** Changes come in bursts, such as a link that comes up with its addresses and routes. */
const settleMs = 100

export interface UnderlayWatch {
  kernel: Kernel
  /** the same namespace as the kernel's; may be closed meanwhile */
  netns: Netns
  advertise: string | undefined
  /** undefined: there is none now, and `because` says why */
  changed: (underlay: Underlay | undefined, because: string) => void
  signal: AbortSignal
}

/** Tell of this host's address for the others whenever it becomes another one; what it is at first is not told. */
export function watchUnderlay({ kernel, netns, advertise, changed, signal }: UnderlayWatch): void {
  const look = (): { underlay?: Underlay; because: string } => {
    try {
      return { underlay: readUnderlay(kernel, advertise), because: '' }
    } catch (error) {
      return { because: messageOf(error) }
    }
  }
  let last = look()
  let waiting: NodeJS.Timeout | undefined
  const compare = (): void => {
    waiting = undefined
    const now = look()
    if (JSON.stringify(now) === JSON.stringify(last)) return
    last = now
    changed(now.underlay, now.because)
  }
  // endpoints come and go all day: their links and routes are not worth a look
  const concerns = (event: KernelEvent): boolean => {
    if (event.what === 'route') return event.route.destination.endsWith('/0')
    if (event.what === 'link') return last.underlay === undefined || event.link.name === last.underlay.link
    return true
  }
  watchKernel(
    netns,
    ['link', 'address4', 'address6', 'route4', 'route6'],
    event => {
      if (concerns(event)) waiting ??= setTimeout(compare, settleMs).unref()
    },
    signal,
  )
  signal.addEventListener('abort', () => clearTimeout(waiting), { once: true })
}
