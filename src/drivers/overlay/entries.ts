import { isIPv6 } from 'node:net'
import type { Remote } from '../../cnm/driver.js'
import { routeProtocol } from '../../marks.js'
import type { KernelEvent } from '../../netlink/events.js'
import type { Kernel } from '../../netlink/kernel.js'
import type { FdbEntry, Link, Neighbour } from '../../netlink/objects.js'
import {
  fdbAppend,
  fdbDelete,
  fdbReplace,
  neighbourDelete,
  neighbourReplace,
  type Request,
  tolerant,
} from '../../netlink/requests.js'
import { type Change, type Entries, Remotes } from './remotes.js'

/** The entry for every MAC address that has none, and for what goes to all: one destination a host (vxlan_core.c, all_zeros_mac). */
export const everybody = '00:00:00:00:00:00'

/** How the kernel is told of one remote: three kinds of entry, in the links of one network. */
export const setVtep = (vxlan: number, mac: string, vtep: string): Request =>
  fdbReplace({ index: vxlan, mac, self: true, andMaster: true, dst: vtep, state: 'static' })
export const deleteVtep = (vxlan: number, mac: string): Request[] => [
  fdbDelete({ index: vxlan, mac, self: true }),
  fdbDelete({ index: vxlan, mac, self: false }),
]
export const setMac = (bridge: number, address: string, mac: string): Request =>
  neighbourReplace({ index: bridge, address, mac, protocol: routeProtocol })
const deleteMac = (bridge: number, address: string): Request => neighbourDelete({ index: bridge, address })
export const addFlood = (vxlan: number, vtep: string): Request =>
  fdbAppend({ index: vxlan, mac: everybody, self: true, dst: vtep })
export const deleteFlood = (vxlan: number, vtep: string): Request =>
  fdbDelete({ index: vxlan, mac: everybody, self: true, dst: vtep })

/** What differs between what is wanted and what the kernel has. */
export interface Difference {
  set: number
  removed: number
  /** each made when it is asked for: all at once, ten thousand remotes' are more than the memory of short-lived objects holds */
  requests: Iterable<Request>[]
  moved: Moved
}

function* lazily<T>(items: Iterable<T>, make: (item: T) => Iterable<Request>): Generator<Request> {
  for (const item of items) yield* make(item)
}

/** So many new addresses are still announced, one by one. */
const newAtOnce = 1_000

/** Addresses that have another MAC address from now on than their neighbours may remember. */
export class Moved {
  readonly #changed = new Map<string, string>()
  readonly #new = new Map<string, string>()

  add(address: string, before: string | undefined, mac: string): void {
    ;(before === undefined ? this.#new : this.#changed).set(address, mac)
  }

  /**
   * What to announce. An address that is new now may have been there a while ago, so it is too; but not where so many come at
   * once that nobody can have talked to them: every frame goes to every endpoint.
   */
  owners(): ReadonlyMap<string, string> {
    return this.#new.size > newAtOnce ? this.#changed : new Map([...this.#changed, ...this.#new])
  }
}

/** Everything that the links of one network should know of the other hosts. */
export interface WantedEntries extends Entries {
  /** VTEPs for what goes to everybody; none without `flood` */
  floods: ReadonlySet<string>
}

/** What the kernel has of it. */
export interface ListedEntries {
  fdb: readonly FdbEntry[]
  neighbours: readonly Neighbour[]
}

/** `bridge fdb show dev VXLAN`, `ip neighbour show dev BRIDGE nud permanent`: of a hundred thousand remotes that takes seconds. */
export const listEntries = async (kernel: Kernel, vxlan: number, bridge: number): Promise<ListedEntries> => ({
  fdb: await kernel.fdbAsync(vxlan),
  neighbours: await kernel.neighboursAsync(bridge),
})

/** Compare all of it. */
export function compareEntries(listed: ListedEntries, vxlan: Link, bridge: number, want: WantedEntries): Difference {
  const difference: Difference = { set: 0, removed: 0, requests: [], moved: new Moved() }
  compareForwarding(listed.fdb, vxlan, want, difference)
  const have = new Map<string, string | undefined>()
  const stale: string[] = []
  for (const { address, mac, state, protocol } of listed.neighbours) {
    if (state !== 'permanent' || protocol !== routeProtocol) continue
    have.set(address, mac)
    if (!want.macs.has(address)) stale.push(address)
  }
  const missing = [...want.macs].filter(([address, mac]) => have.get(address) !== mac)
  for (const [address, mac] of missing) difference.moved.add(address, have.get(address), mac)
  remove(difference, stale, address => deleteMac(bridge, address))
  set(difference, missing, ([address, mac]) => setMac(bridge, address, mac))
  return difference
}

function compareForwarding(fdb: readonly FdbEntry[], vxlan: Link, want: WantedEntries, difference: Difference): void {
  const { index } = vxlan
  const remotes = new Set<string>()
  const ports = new Set<string>()
  const floods = new Set<string>()
  const stale: FdbEntry[] = []
  for (const entry of fdb) {
    const { mac, self, dst = '', state, port, vni, via } = entry
    if (mac === vxlan.mac) continue
    const isPlain = port === undefined && vni === undefined && via === undefined
    if (self && mac === everybody && isPlain && want.floods.has(dst)) floods.add(dst)
    else if (self && state === 'static' && isPlain && want.vteps.get(mac) === dst) remotes.add(mac)
    else if (!self && state === 'static' && want.vteps.has(mac)) ports.add(mac)
    else stale.push(entry)
  }
  const missing = [...want.vteps].filter(([mac]) => !remotes.has(mac) || !ports.has(mac))
  const quiet = [...want.floods].filter(vtep => !floods.has(vtep))
  // removed first: what is there in another shape may be in the way
  remove(difference, stale, ({ mac, self, dst, port, vni, via }) => {
    const to = { ...(dst && { dst }), ...(port && { port }), ...(vni && { vni }), ...(via && { via }) }
    return fdbDelete({ index, mac, self, ...to })
  })
  set(difference, missing, ([mac, vtep]) => setVtep(index, mac, vtep))
  set(difference, quiet, vtep => addFlood(index, vtep))
}

function set<T>(difference: Difference, items: readonly T[], make: (item: T) => Request): void {
  difference.set += items.length
  difference.requests.push(lazily(items, item => [make(item)]))
}

function remove<T>(difference: Difference, items: readonly T[], make: (item: T) => Request): void {
  difference.removed += items.length
  difference.requests.push(lazily(items, item => tolerant(make(item), 'ENOENT')))
}

/** What we have told the kernel of one network's other hosts, so that a change costs no look at all the rest. */
export class KnownEntries {
  readonly #remotes: Remotes
  #floods: ReadonlySet<string>

  constructor(
    readonly vxlan: number,
    readonly bridge: number,
    /** of this host: the kernel takes only destinations of the same family */
    readonly vtep: string,
    remotes: readonly Remote[],
    floods: readonly string[],
  ) {
    this.#remotes = new Remotes(remotes.filter(remote => this.#isReachable(remote.vtep)))
    this.#floods = new Set(floods.filter(other => this.#isReachable(other)))
  }

  vtepOf(mac: string): string | undefined {
    return this.#remotes.vtepOf(mac)
  }

  macOf(address: string): string | undefined {
    return this.#remotes.macOf(address)
  }

  isFlooded(vtep: string): boolean {
    return this.#floods.has(vtep)
  }

  /** Of an entry that has come or gone in these links: what may be wrong about it. Most are as they were told, and cost no look at the kernel. */
  doubt(event: KernelEvent): { entry: string; words: string } | undefined {
    const came = 'change' in event && event.change === 'new'
    if (event.what === 'fdb' && event.entry.index === this.vxlan) {
      const { mac, dst = '', self, state } = event.entry
      if (state === 'permanent') return undefined
      const words = `forwarding entry of ${mac}${dst && ` to ${dst}`} was ${came ? 'set' : 'deleted'}`
      if (mac === everybody) return this.isFlooded(dst) === came ? undefined : { entry: `${mac} ${dst}`, words }
      const want = this.vtepOf(mac)
      const isRight = came ? want !== undefined && state === 'static' && (!self || dst === want) : want === undefined
      return isRight ? undefined : { entry: mac, words }
    }
    if (event.what !== 'neighbour' || event.neighbour.index !== this.bridge) return undefined
    const { address, mac, state } = event.neighbour
    const want = this.macOf(address)
    if (want === undefined || (came && mac === want && state === 'permanent')) return undefined
    return { entry: address, words: `neighbour ${address} was ${came ? `set to ${mac}` : 'deleted'}` }
  }

  /** `own`: MAC and IP addresses of this host's endpoints. */
  wanted(own: ReadonlySet<string>): WantedEntries {
    return { ...this.#remotes.entries(own), floods: this.#floods }
  }

  /** Take note of what has changed. Links that are gone meanwhile are none to tell. */
  update(
    before: readonly Remote[],
    after: readonly Remote[],
    floods: readonly string[],
  ): Pick<Difference, 'requests' | 'moved'> {
    const { vxlan, bridge } = this
    const here = (remotes: readonly Remote[]) => remotes.filter(remote => this.#isReachable(remote.vtep))
    const changes = this.#remotes.update(here(before), here(after))
    const moved = new Moved()
    for (const { what, key, before: then, after: now } of changes)
      if (what === 'mac' && now !== undefined) moved.add(key, then, now)
    const requestsOf = ({ what, key, after: now }: Change): Request[] => {
      if (what === 'vtep') return now === undefined ? deleteVtep(vxlan, key) : [setVtep(vxlan, key, now)]
      return [now === undefined ? deleteMac(bridge, key) : setMac(bridge, key, now)]
    }
    const tell = (change: Change) => tolerant(requestsOf(change), 'ENOENT', 'ENODEV')
    return { requests: [lazily(changes, tell), this.#updateFloods(floods)], moved }
  }

  #updateFloods(floods: readonly string[]): readonly Request[] {
    const wanted = new Set(floods.filter(other => this.#isReachable(other)))
    const gone = [...this.#floods].filter(vtep => !wanted.has(vtep))
    const come = [...wanted].filter(vtep => !this.#floods.has(vtep))
    this.#floods = wanted
    const requests = [
      ...gone.map(vtep => deleteFlood(this.vxlan, vtep)),
      ...come.map(vtep => addFlood(this.vxlan, vtep)),
    ]
    return tolerant(requests, 'ENOENT', 'ENODEV')
  }

  #isReachable(vtep: string): boolean {
    return isIPv6(vtep) === isIPv6(this.vtep)
  }
}

/** The MAC and the addresses of an endpoint of this host are nobody else's, whatever was said of them before. */
export const letGo = (vxlan: number, bridge: number, mac: string, addresses: readonly string[]): readonly Request[] =>
  tolerant([...deleteVtep(vxlan, mac), ...addresses.map(address => deleteMac(bridge, address))], 'ENOENT')
