import type { Remote } from '../cnm/driver.js'
import type { Peer } from '../cnm/types.js'
import type { Store } from '../store/store.js'
import { follow, type Listing } from './follow.js'
import { keys, type OnNetwork } from './keys.js'
import { NetworkPeers } from './peers.js'
import type { Attempt } from './session.js'

export interface FollowedDeps {
  shared: Store
  /** this host's name */
  host: string
  vtepOf: (host: string) => string | undefined
  isMember: (networkId: string) => boolean
  /** List what is on a network, with what this host has there brought up to date. */
  mend: (networkId: string) => Promise<Listing<OnNetwork>>
  /** the store should have this key of this host, and somebody has deleted it */
  lost: () => void
  isWanted: (networkId: string, key: string) => boolean
  changed: (networkId: string, before: Remote[], after: Remote[]) => void
}

/** What other hosts have of the networks that this host is a member of; as last heard, while the store does not answer. */
export class FollowedNetworks {
  readonly #deps: FollowedDeps
  readonly #peers = new Map<string, NetworkPeers>()
  readonly #watches = new Map<string, AbortController>()

  constructor(deps: FollowedDeps) {
    this.#deps = deps
  }

  peers(): Peer[] {
    return [...this.#peers.values()].flatMap(peers => peers.peers())
  }

  remotes(networkId: string): readonly Remote[] | undefined {
    const peers = this.#peers.get(networkId)
    return peers?.known ? peers.remotes() : undefined
  }

  vteps(networkId: string): string[] {
    return this.#peers.get(networkId)?.vteps() ?? []
  }

  /** To be called before the host's VTEP changes. */
  touchHost(host: string): void {
    for (const peers of this.#peers.values()) peers.touchHost(host)
  }

  /** Nothing is watched any more, with the session that it was watched in; memberships may have ended since. */
  begin(): void {
    this.#watches.clear()
    for (const id of this.#peers.keys()) if (!this.#deps.isMember(id)) this.delete(id)
  }

  /** Fine if it is followed already. @throws {NetError} Unavailable */
  async ensure(networkId: string, attempt: Attempt): Promise<void> {
    if (this.#watches.has(networkId)) return
    const stop = new AbortController()
    this.#watches.set(networkId, stop)
    const peers = this.#peersOf(networkId)
    await follow<OnNetwork>({
      store: this.#deps.shared,
      prefix: keys.on(networkId),
      list: () => this.#deps.mend(networkId),
      signal: AbortSignal.any([stop.signal, attempt.signal]),
      failed: attempt.failed,
      reset: entries => peers.reset(entries),
      apply: changes => peers.apply(changes),
    })
    // the caller looks at all of it next
    peers.settle()
    if (!this.#deps.isMember(networkId)) this.delete(networkId)
  }

  /** Absent is fine. */
  delete(networkId: string): void {
    this.#watches.get(networkId)?.abort()
    this.#watches.delete(networkId)
    this.#peers.get(networkId)?.close()
    this.#peers.delete(networkId)
  }

  close(): void {
    for (const id of this.#peers.keys()) this.delete(id)
  }

  #peersOf(networkId: string): NetworkPeers {
    const { host, vtepOf, changed, isWanted, lost } = this.#deps
    const known = this.#peers.get(networkId)
    if (known !== undefined) return known
    const peers = new NetworkPeers({
      host,
      vtepOf,
      changed: (before, after) => changed(networkId, before, after),
      ownDeleted: key => {
        if (isWanted(networkId, key)) lost()
      },
    })
    this.#peers.set(networkId, peers)
    return peers
  }
}
