import { isDeepStrictEqual } from 'node:util'
import type { Endpoint, Member, Peer } from '../cnm/types.js'
import { kindOf, type NetError, notFound } from '../errors.js'
import { KeyedLock } from '../locks.js'
import type { Log } from '../log.js'
import { addressOf, holds } from '../net/subnets.js'
import { diff } from '../reconcile.js'
import { del, type Entry, put, type Store, StoreConflict } from '../store/store.js'
import { chunks } from './chunks.js'
import type { Listing } from './follow.js'
import { keys, localKeys, type MemberRecord, type OnNetwork } from './keys.js'
import type { Networks } from './networks.js'

export interface OwnDeps {
  shared: Store
  local: Store
  /** this host's name */
  host: string
  networks: Networks
  log: Log
  /** joined endpoints of this host */
  endpointsOf: (networkId: string) => { endpoint: Endpoint; sandbox: string }[]
  /** why the shared store cannot be written to now */
  unreachable: () => NetError | undefined
  /** Give back an address that bears this host's name, unless somebody here has it. */
  releaseStray: (poolId: string, address: string) => Promise<void>
  /** It is not known what the shared store has got of this host: to be compared again. */
  doubt: (error: unknown) => void
}

/** How many claims of a network there are before those are looked for that the endpoints themselves bear out. */
const manyClaims = 1000

/**
 * What this host has on networks, and the copy of it in the shared store. The host is right and the copy follows; one change of
 * a network at a time, so that the comparison of all of it and a change of one record do not undo each other.
 */
export class OwnRecords {
  readonly #deps: OwnDeps
  readonly #members = new Map<string, MemberRecord>()
  readonly #locks = new KeyedLock()
  /**
   * What was last said of an endpoint, undefined being that it is gone: whoever says so has still to record it, or has
   * recorded it already, and a comparison may come in between.
   */
  readonly #claims = new Map<string, Map<string, Peer | undefined>>()
  /** networks that were compared and of which the shared store was told everything since */
  readonly #agreed = new Set<string>()

  constructor(deps: OwnDeps) {
    this.#deps = deps
  }

  async load(): Promise<void> {
    for (const { value } of (await this.#deps.local.list<MemberRecord>(localKeys.members)).entries) {
      this.#members.set(value.member.networkId, value)
      if (!value.leaving) this.#deps.networks.remember(value.network)
    }
  }

  /** Also those that are given up without the others knowing. */
  records(): MemberRecord[] {
    return [...this.#members.values()]
  }

  member(networkId: string): Member | undefined {
    const record = this.#members.get(networkId)
    return record === undefined || record.leaving ? undefined : record.member
  }

  publish(endpoint: Endpoint, sandbox: string): Promise<void> {
    const { networkId, id } = endpoint
    const peer: Peer = { ...endpoint, host: this.#deps.host, sandbox }
    return this.#writing(networkId, async () => {
      try {
        await this.#deps.networks.whileStands(networkId, [put(keys.endpoint(networkId, id), peer)])
        this.#claim(networkId, id, peer)
      } catch (error) {
        this.#claims.get(networkId)?.delete(id)
        throw error
      }
    })
  }

  withdraw({ networkId, id }: Endpoint): Promise<void> {
    return this.#locks.with(networkId, async () => {
      this.#claim(networkId, id, undefined)
      await this.#tell(networkId, () => this.#deps.shared.txn([], [del(keys.endpoint(networkId, id))]))
    })
  }

  putMember(member: Member): Promise<void> {
    const { networkId } = member
    return this.#writing(networkId, async () => {
      const { networks, host } = this.#deps
      const network = networks.record(networkId)
      if (network === undefined) throw notFound(`there is no network ${networkId} in the cluster store`)
      const before = this.#members.get(networkId)
      // here first: what has no record here is not looked for there
      await this.#remember({ member, network })
      try {
        await networks.whileStands(networkId, [put(keys.member(networkId, host), member)])
      } catch (error) {
        if (before !== undefined) await this.#remember(before)
        else if (kindOf(error) === 'Unavailable') await this.#remember({ member, network, leaving: true })
        else await this.forget(networkId)
        throw error
      }
    })
  }

  /** With nothing of the network left the membership ends. */
  reduceMember(member: Member): Promise<void> {
    const { networkId, addresses, dockerNetworkIds } = member
    const ends = addresses.length === 0 && dockerNetworkIds.length === 0
    return this.#locks.with(networkId, async () => {
      const record = this.#members.get(networkId)
      if (record === undefined) return
      const { shared, host, networks } = this.#deps
      const key = keys.member(networkId, host)
      if (ends) {
        // the record here goes last: while it is there, the others' may be
        await this.#remember({ ...record, member, leaving: true })
        // of what was withdrawn while the store did not answer, nobody would think any more
        const leave = () => (this.#agreed.has(networkId) ? shared.txn([], [del(key)]) : this.#compare(networkId))
        // the others know: what fails here now, the next comparison does
        if (await this.#tell(networkId, leave)) await this.#tell(networkId, () => this.forget(networkId))
      } else {
        await this.#remember({ ...record, member })
        await this.#tell(networkId, () => networks.whileStands(networkId, [put(key, member)]))
      }
    })
  }

  /** Make the shared store's copy of what this host has on a network agree; returns all that was there before. */
  mend(networkId: string): Promise<Listing<OnNetwork>> {
    return this.#locks.with(networkId, async () => {
      const listing = await this.#compare(networkId)
      if (this.#members.get(networkId)?.leaving) await this.forget(networkId)
      return listing
    })
  }

  /**
   * Take up again, as ending, memberships that this host has ended and the store has: it was put back to a time before. There is no
   * endpoint without one, so that whatever is there under this host's name is found.
   */
  async findForgotten(): Promise<void> {
    const { networks, shared, host } = this.#deps
    await Promise.all(
      networks.standing().map(network =>
        this.#locks.with(network.id, async () => {
          if (this.#members.has(network.id)) return
          const entry = await shared.get<Member>(keys.member(network.id, host))
          if (entry !== undefined) await this.#remember({ member: entry.value, network, leaving: true })
        }),
      ),
    )
  }

  /** Forget a membership of which the shared store has nothing. */
  async forget(networkId: string): Promise<void> {
    await this.#deps.local.txn([], [del(localKeys.member(networkId))])
    this.#members.delete(networkId)
    this.#claims.delete(networkId)
    this.#agreed.delete(networkId)
    this.#deps.networks.memberChanged(networkId)
  }

  async forgetAll(): Promise<void> {
    for (const { member } of this.records()) await this.forget(member.networkId)
  }

  /**
   * Make the networks again that this host has part in and the store has lost, being older than it was. Where this host was
   * removed they were deleted rightly: `removed` forgets them.
   */
  async restoreNetworks({ removed }: { removed: boolean }): Promise<void> {
    const { networks, log } = this.#deps
    for (const { member, network, leaving } of this.records()) {
      if (leaving || networks.stands(member.networkId)) continue
      if (removed) {
        await this.forget(member.networkId)
        networks.forget(member.networkId)
        continue
      }
      const { name } = network
      try {
        await networks.restore(network)
        log.warn({ network: name }, `network ${name} was missing in the cluster store, and is made again`)
      } catch (error) {
        if (!(error instanceof StoreConflict)) throw error
        log.error(
          { network: name },
          `network ${name} is missing in the cluster store and cannot be made again, because another one has ${error.key} there: disconnect what is on it here`,
        )
      }
    }
  }

  /** Keep the copies of the networks as the networks are now. */
  async refresh(): Promise<void> {
    for (const { member, network } of this.records())
      await this.#locks.with(member.networkId, async () => {
        const now = this.#deps.networks.record(member.networkId)
        const record = this.#members.get(member.networkId)
        if (now !== undefined && record !== undefined && !isDeepStrictEqual(now, network))
          await this.#remember({ ...record, network: now })
      })
  }

  /** The shared store should have this key of this host. */
  isWanted(networkId: string, key: string): boolean {
    const claims = this.#claims.get(networkId)
    const endpointId = key.slice(keys.endpoint(networkId, '').length)
    if (claims?.has(endpointId)) return claims.get(endpointId) !== undefined
    return this.#wanted(networkId).some(([wanted]) => wanted === key)
  }

  async #compare(networkId: string): Promise<Listing<OnNetwork>> {
    const { shared, host, networks } = this.#deps
    const listing = await shared.list<OnNetwork>(keys.on(networkId))
    const there = listing.entries.filter(({ value }) => value.host === host)
    const wanted = networks.stands(networkId) ? this.#wanted(networkId) : []
    const plan = diff<Own, Entry<OnNetwork>>(
      wanted,
      there,
      { want: ([key]) => key, have: ({ key }) => key },
      ([, want], have) => isDeepStrictEqual(JSON.parse(JSON.stringify(want)), have.value),
    )
    // before the records, which tell of them
    await this.#releaseStrays(networkId, wanted, there)
    const puts = [...plan.add, ...plan.change.map(({ want }) => want)].map(([key, value]) => put(key, value))
    for (const some of chunks(puts)) await networks.whileStands(networkId, some)
    for (const some of chunks(plan.remove.map(({ key }) => del(key)))) await shared.txn([], some)
    this.#agreed.add(networkId)
    return listing
  }

  #wanted(networkId: string): Own[] {
    const member = this.member(networkId)
    if (member === undefined) return []
    this.#dropBorneOut(networkId)
    const { host, endpointsOf } = this.#deps
    const peers = new Map<string, Peer | undefined>(this.#claims.get(networkId))
    for (const { endpoint, sandbox } of endpointsOf(networkId))
      if (!peers.has(endpoint.id) || peers.get(endpoint.id) !== undefined)
        peers.set(endpoint.id, { ...endpoint, host, sandbox })
    const present = [...peers.values()].filter(peer => peer !== undefined)
    return [
      [keys.member(networkId, host), member],
      ...present.map((peer): Own => [keys.endpoint(networkId, peer.id), peer]),
    ]
  }

  /** Addresses of what the store has of this host on a network, and this host has not. */
  async #releaseStrays(networkId: string, wanted: Own[], there: Entry<OnNetwork>[]): Promise<void> {
    const { networks, releaseStray } = this.#deps
    const kept = new Set(wanted.flatMap(([, { addresses }]) => addresses))
    const strays = there.flatMap(({ value }) => value.addresses).filter(cidr => !kept.has(cidr))
    const subnets = networks.record(networkId)?.subnets ?? []
    for (const address of strays.map(addressOf)) {
      const pool = subnets.find(({ subnet }) => holds(subnet, address))
      if (pool !== undefined) await releaseStray(pool.poolId, address)
    }
  }

  #claim(networkId: string, endpointId: string, peer: Peer | undefined): void {
    const claims = this.#claims.get(networkId) ?? new Map<string, Peer | undefined>()
    this.#claims.set(networkId, claims.set(endpointId, peer))
    if (claims.size > manyClaims) this.#dropBorneOut(networkId)
  }

  /** The endpoints themselves say the same by now. */
  #dropBorneOut(networkId: string): void {
    const claims = this.#claims.get(networkId)
    if (claims === undefined || claims.size === 0) return
    const joined = new Set(this.#deps.endpointsOf(networkId).map(({ endpoint }) => endpoint.id))
    for (const [id, peer] of claims) if (joined.has(id) === (peer !== undefined)) claims.delete(id)
  }

  async #remember(record: MemberRecord): Promise<void> {
    const { networkId } = record.member
    await this.#deps.local.txn([], [put(localKeys.member(networkId), record)])
    this.#members.set(networkId, record)
    this.#deps.networks.memberChanged(networkId)
  }

  /** What is new must be told to the others at once, or not be. */
  async #writing(networkId: string, work: () => Promise<void>): Promise<void> {
    const refuse = (): void => {
      const error = this.#deps.unreachable()
      if (error !== undefined) throw error
    }
    refuse()
    await this.#locks.with(networkId, async () => {
      refuse()
      try {
        await work()
      } catch (error) {
        if (kindOf(error) === 'Unavailable') this.#doubt(networkId, error)
        throw error
      }
    })
  }

  /** What is gone is told now, if that can be, or by the next comparison. */
  async #tell(networkId: string, work: () => Promise<unknown>): Promise<boolean> {
    if (this.#deps.unreachable() !== undefined) {
      this.#agreed.delete(networkId)
      return false
    }
    try {
      await work()
      return true
    } catch (error) {
      this.#doubt(networkId, error)
      return false
    }
  }

  #doubt(networkId: string, error: unknown): void {
    this.#agreed.delete(networkId)
    this.#deps.doubt(error)
  }
}

/** A key and what it should have. */
type Own = [key: string, value: OnNetwork]
