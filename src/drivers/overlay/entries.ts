import type { Remote } from '../../cnm/driver.js'
import { routeProtocol } from '../../marks.js'
import { familyOf } from '../../net/subnets.js'
import type { Kernel } from '../../netlink/kernel.js'
import type { Link } from '../../netlink/objects.js'
import {
  fdbAppend,
  fdbDelete,
  fdbReplace,
  neighbourDelete,
  neighbourReplace,
  type Request,
  tolerant,
} from '../../netlink/requests.js'
import { type Entries, Remotes } from './remotes.js'

/** The entry for every MAC address that has none, and for what goes to all: one destination a host (vxlan_core.c, all_zeros_mac). */
const everybody = '00:00:00:00:00:00'

/** How the kernel is told of one remote: three kinds of entry, in the links of one network. */
const setVtep = (vxlan: number, mac: string, vtep: string): Request =>
  fdbReplace({ index: vxlan, mac, self: true, andMaster: true, dst: vtep, state: 'static' })
const deleteVtep = (vxlan: number, mac: string): Request[] => [
  fdbDelete({ index: vxlan, mac, self: true }),
  fdbDelete({ index: vxlan, mac, self: false }),
]
const setMac = (bridge: number, address: string, mac: string): Request =>
  neighbourReplace({ index: bridge, address, mac, protocol: routeProtocol })
const deleteMac = (bridge: number, address: string): Request => neighbourDelete({ index: bridge, address })
const addFlood = (vxlan: number, vtep: string): Request =>
  fdbAppend({ index: vxlan, mac: everybody, self: true, dst: vtep })
const deleteFlood = (vxlan: number, vtep: string): Request =>
  fdbDelete({ index: vxlan, mac: everybody, self: true, dst: vtep })

/** What differs between what is wanted and what the kernel has. */
export interface Difference {
  set: number
  removed: number
  requests: Request[]
  /** addresses that have another MAC address from now on */
  moved: Map<string, string>
}

/** Everything that the links of one network should know of the other hosts. */
export interface WantedEntries extends Entries {
  /** VTEPs for what goes to everybody; none without `flood` */
  floods: ReadonlySet<string>
}

/** Compare all of it: `bridge fdb show dev VXLAN`, `ip neighbour show dev BRIDGE nud permanent`. */
export function compareEntries(kernel: Kernel, vxlan: Link, bridge: number, want: WantedEntries): Difference {
  const difference: Difference = { set: 0, removed: 0, requests: [], moved: new Map() }
  compareForwarding(kernel, vxlan, want, difference)
  const have = new Map<string, string | undefined>()
  const stale: Request[] = []
  for (const { address, mac, state, protocol } of kernel.neighbours({ index: bridge })) {
    if (state !== 'permanent' || protocol !== routeProtocol) continue
    have.set(address, mac)
    if (!want.macs.has(address)) stale.push(deleteMac(bridge, address))
  }
  const missing = [...want.macs].filter(([address, mac]) => have.get(address) !== mac)
  for (const [address, mac] of missing) difference.moved.set(address, mac)
  add(
    difference,
    missing.map(([address, mac]) => setMac(bridge, address, mac)),
    stale,
  )
  return difference
}

function compareForwarding(kernel: Kernel, vxlan: Link, want: WantedEntries, difference: Difference): void {
  const { index } = vxlan
  const remotes = new Map<string, string | undefined>()
  const ports = new Set<string>()
  const floods = new Set<string>()
  const stale: Request[] = []
  for (const { mac, self, dst, state, port, vni, via } of kernel.fdb({ index })) {
    if (mac === vxlan.mac) continue
    const plain = state === 'static' && port === undefined && vni === undefined && via === undefined
    if (self && mac === everybody) {
      if (dst !== undefined && want.floods.has(dst)) floods.add(dst)
      else stale.push(fdbDelete({ index, mac, self, ...(dst === undefined ? {} : { dst }) }))
    } else if (!want.vteps.has(mac)) stale.push(fdbDelete({ index, mac, self }))
    else if (!plain) continue
    else if (self) remotes.set(mac, dst)
    else ports.add(mac)
  }
  const missing = [...want.vteps].filter(([mac, vtep]) => remotes.get(mac) !== vtep || !ports.has(mac))
  add(
    difference,
    missing.map(([mac, vtep]) => setVtep(index, mac, vtep)),
    stale,
  )
  const quiet = [...want.floods].filter(vtep => !floods.has(vtep))
  add(
    difference,
    quiet.map(vtep => addFlood(index, vtep)),
    [],
  )
}

function add(difference: Difference, set: readonly Request[], removed: readonly Request[]): void {
  difference.set += set.length
  difference.removed += removed.length
  // removed first: what is there in another shape may be in the way
  difference.requests.push(...tolerant(removed, 'ENOENT'), ...set)
}

/** What we have told the kernel of one network's other hosts, so that a change costs no look at all the rest. */
export class KnownEntries {
  readonly #remotes: Remotes
  readonly #floods: Set<string>

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

  wanted(): WantedEntries {
    return { ...this.#remotes.entries(), floods: this.#floods }
  }

  /** Take note of what has changed. Links that are gone meanwhile are none to tell. */
  update(
    before: readonly Remote[],
    after: readonly Remote[],
    floods: readonly string[],
  ): Pick<Difference, 'requests' | 'moved'> {
    const requests: Request[] = []
    const moved = new Map<string, string>()
    const here = (remotes: readonly Remote[]) => remotes.filter(remote => this.#isReachable(remote.vtep))
    for (const { what, key, after: now } of this.#remotes.update(here(before), here(after)))
      if (what === 'vtep')
        requests.push(...(now === undefined ? deleteVtep(this.vxlan, key) : [setVtep(this.vxlan, key, now)]))
      else if (now === undefined) requests.push(deleteMac(this.bridge, key))
      else {
        requests.push(setMac(this.bridge, key, now))
        moved.set(key, now)
      }
    const wanted = new Set(floods.filter(other => this.#isReachable(other)))
    for (const vtep of this.#floods)
      if (!wanted.has(vtep) && this.#floods.delete(vtep)) requests.push(deleteFlood(this.vxlan, vtep))
    for (const vtep of wanted)
      if (!this.#floods.has(vtep)) {
        this.#floods.add(vtep)
        requests.push(addFlood(this.vxlan, vtep))
      }
    return { requests: [...tolerant(requests, 'ENOENT', 'ENODEV')], moved }
  }

  #isReachable(vtep: string): boolean {
    return familyOf(vtep) === familyOf(this.vtep)
  }
}

/** The MAC and the addresses of an endpoint of this host are nobody else's, whatever was said of them before. */
export const letGo = (vxlan: number, bridge: number, mac: string, addresses: readonly string[]): readonly Request[] =>
  tolerant([...deleteVtep(vxlan, mac), ...addresses.map(address => deleteMac(bridge, address))], 'ENOENT')
