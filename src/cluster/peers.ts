import type { Remote } from '../cnm/driver.js'
import type { Member, Peer } from '../cnm/types.js'
import { addressOf } from '../net/subnets.js'
import type { Change, Entry } from '../store/store.js'
import { isMember, isPeer, type OnNetwork } from './keys.js'

/** What a peer, or another host by its own addresses, has of the segment. */
interface Source {
  host: string
  mac: string
  /** plain */
  addresses: string[]
  revision: number
}

export interface PeersDeps {
  /** this host's name: what it has itself is not kept here */
  host: string
  vtepOf: (host: string) => string | undefined
  /** Remotes that have changed, and only those: none where something else has, such as a name. */
  changed: (before: Remote[], after: Remote[]) => void
  /** a record of this host was deleted */
  ownDeleted: (key: string) => void
}

/**
 * What the other hosts have of one network, as the store tells it. A change costs what it concerns and not what is there:
 * remotes are compared one by one, and changes that come together are told together.
 */
export class NetworkPeers {
  readonly #deps: PeersDeps
  readonly #records = new Map<string, OnNetwork>()
  readonly #sources = new Map<string, Source>()
  readonly #byHost = new Map<string, Set<Source>>()
  /** who says to have an address or a MAC address: mostly one, and two while a container moves between hosts */
  readonly #claimants = new Map<string, Source[]>()
  /** what was last told of sources that have changed since */
  readonly #told = new Map<Source, Remote | undefined>()
  #flush: NodeJS.Immediate | undefined
  #remotes: Remote[] | undefined
  #known = false

  constructor(deps: PeersDeps) {
    this.#deps = deps
  }

  /** The store has been listed once at least. */
  get known(): boolean {
    return this.#known
  }

  peers(): Peer[] {
    return [...this.#records.values()].filter(isPeer)
  }

  members(): Member[] {
    return [...this.#records.values()].filter(isMember)
  }

  remotes(): readonly Remote[] {
    this.#remotes ??= [...this.#sources.values()].flatMap(source => this.#remoteOf(source) ?? [])
    return this.#remotes
  }

  vteps(): string[] {
    return [...new Set([...this.#byHost.keys()].flatMap(host => this.#deps.vtepOf(host) ?? []))]
  }

  reset(entries: readonly Entry<OnNetwork>[]): void {
    const listed = new Set(entries.map(({ key }) => key))
    for (const key of this.#records.keys()) if (!listed.has(key)) this.#delete(key)
    for (const { key, value, revision } of entries) this.#put(key, value, revision)
    this.#known = true
  }

  apply(changes: readonly Change<OnNetwork>[]): void {
    for (const change of changes) {
      if (change.type === 'put') this.#put(change.key, change.value, change.revision)
      else if (this.#records.has(change.key)) this.#delete(change.key)
      else this.#deps.ownDeleted(change.key)
    }
  }

  /** A host's VTEP is about to change: to be called before `vtepOf` says so. */
  touchHost(host: string): void {
    for (const source of this.#byHost.get(host) ?? []) this.#touch(source)
  }

  /** What has changed so far needs no telling: all of it is about to be asked for. */
  settle(): void {
    this.#told.clear()
  }

  close(): void {
    clearImmediate(this.#flush)
  }

  #put(key: string, record: OnNetwork, revision: number): void {
    if (record.host === this.#deps.host) return
    this.#records.set(key, record)
    const source = sourceOf(record, revision)
    if (!isSameSource(this.#sources.get(key), source)) this.#setSource(key, source)
  }

  #delete(key: string): void {
    this.#records.delete(key)
    this.#setSource(key, undefined)
  }

  #setSource(key: string, next: Source | undefined): void {
    const source = this.#sources.get(key)
    if (source !== undefined) {
      this.#touchClaimants(source)
      this.#sources.delete(key)
      this.#unlink(source)
    }
    if (next !== undefined) {
      this.#touchClaimants(next)
      this.#sources.set(key, next)
      this.#link(next)
    }
  }

  #link(source: Source): void {
    const ofHost = this.#byHost.get(source.host) ?? new Set()
    this.#byHost.set(source.host, ofHost.add(source))
    for (const claim of claimsOf(source)) {
      const claimants = this.#claimants.get(claim)
      if (claimants === undefined) this.#claimants.set(claim, [source])
      else claimants.push(source)
    }
  }

  #unlink(source: Source): void {
    const ofHost = this.#byHost.get(source.host)
    ofHost?.delete(source)
    if (ofHost?.size === 0) this.#byHost.delete(source.host)
    for (const claim of claimsOf(source)) {
      const left = this.#claimants.get(claim)?.filter(other => other !== source) ?? []
      if (left.length === 0) this.#claimants.delete(claim)
      else this.#claimants.set(claim, left)
    }
  }

  /** A source is about to come or to go, and others gain or lose by it. */
  #touchClaimants(source: Source): void {
    this.#touch(source)
    for (const claim of claimsOf(source))
      for (const other of this.#claimants.get(claim) ?? []) if (other !== source) this.#touch(other)
  }

  #touch(source: Source): void {
    if (!this.#told.has(source)) this.#told.set(source, this.#remoteOf(source))
    this.#remotes = undefined
    this.#flush ??= setImmediate(() => this.#tell())
  }

  #tell(): void {
    this.#flush = undefined
    const before: Remote[] = []
    const after: Remote[] = []
    for (const [source, told] of this.#told) {
      const now = this.#remoteOf(source)
      if (told !== undefined && now !== undefined && isSame(told, now)) continue
      if (told !== undefined) before.push(told)
      if (now !== undefined) after.push(now)
    }
    this.#told.clear()
    dropSame(before, after)
    this.#deps.changed(before, after)
  }

  /** What of a source counts: of two that say to have the same, the newer is right. */
  #remoteOf(source: Source): Remote | undefined {
    const vtep = this.#deps.vtepOf(source.host)
    if (vtep === undefined || !this.#wins(source, source.mac)) return undefined
    const addresses = source.addresses.filter(address => this.#wins(source, address))
    return addresses.length === 0 ? undefined : { mac: source.mac, addresses, vtep }
  }

  #wins(source: Source, claim: string): boolean {
    const claimants = this.#claimants.get(claim) ?? []
    return claimants.includes(source) && claimants.every(other => other.revision <= source.revision)
  }
}

/** What there is on a network, for whoever does not follow it: all records, and the remotes that those of other hosts make. */
export function onNetwork(
  entries: readonly Entry<OnNetwork>[],
  host: string,
  vtepOf: PeersDeps['vtepOf'],
): { peers: Peer[]; members: Member[]; remotes: Remote[] } {
  const others = new NetworkPeers({ host, vtepOf, changed: () => undefined, ownDeleted: () => undefined })
  others.reset(entries)
  others.close()
  const records = entries.map(({ value }) => value)
  return { peers: records.filter(isPeer), members: records.filter(isMember), remotes: [...others.remotes()] }
}

/** Endpoints that are not joined, and hosts without an address there, are not on the segment. */
function sourceOf(record: OnNetwork, revision: number): Source | undefined {
  if (record.addresses.length === 0 || (isPeer(record) && record.state !== 'joined')) return undefined
  return { host: record.host, mac: record.mac, addresses: record.addresses.map(addressOf), revision }
}

const claimsOf = ({ mac, addresses }: Source): string[] => [mac, ...addresses]

const isSame = (a: Remote, b: Remote): boolean =>
  a.mac === b.mac && a.vtep === b.vtep && a.addresses.join() === b.addresses.join()

const isSameSource = (a: Source | undefined, b: Source | undefined): boolean =>
  a?.revision === b?.revision && a?.host === b?.host && a?.mac === b?.mac && a?.addresses.join() === b?.addresses.join()

/** A record that was written again with what concerns the segment unchanged has another source, and the same remote. */
function dropSame(before: Remote[], after: Remote[]): void {
  const text = ({ mac, vtep, addresses }: Remote): string => `${mac} ${vtep} ${addresses.join()}`
  const later = new Set(after.map(text))
  const same = new Set(before.map(text).filter(line => later.has(line)))
  if (same.size === 0) return
  for (const list of [before, after]) list.splice(0, list.length, ...list.filter(remote => !same.has(text(remote))))
}
