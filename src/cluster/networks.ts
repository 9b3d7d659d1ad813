import { isDeepStrictEqual } from 'node:util'
import type { Member, Network } from '../cnm/types.js'
import { conflict, kindOf, notFound } from '../errors.js'
import { addressOf, holds } from '../net/subnets.js'
import {
  absent,
  type Change,
  type Condition,
  del,
  type Entry,
  empty,
  type Operation,
  put,
  type Store,
  StoreConflict,
} from '../store/store.js'
import { keys, localKeys, type NetworkRecord } from './keys.js'

export interface NetworksDeps {
  shared: Store
  local: Store
  /** what this host has of a network */
  member: (networkId: string) => Member | undefined
  changed: (before: Network | undefined, after: Network | undefined) => void
  /** Somebody else has deleted a network that this host has part in. */
  lost: (network: Network) => void
}

/** The networks of the cluster, as the store tells them, each with what this host has of it. */
export class Networks {
  readonly #deps: NetworksDeps
  /** revision 0: as this host remembers it, and not heard of from the store yet */
  readonly #known = new Map<string, Entry<NetworkRecord>>()
  readonly #views = new Map<string, Network>()
  /** networks that this host is creating or deleting: it need not be told of those */
  readonly #ours = new Set<string>()
  /** revisions at which this host has deleted networks whose echoes are still to come */
  readonly #deletedAt = new Map<string, number>()

  constructor(deps: NetworksDeps) {
    this.#deps = deps
  }

  views(): Network[] {
    return [...this.#known.keys()].flatMap(id => this.view(id) ?? [])
  }

  view(id: string): Network | undefined {
    const entry = this.#known.get(id)
    if (entry === undefined) return undefined
    const view = this.#views.get(id) ?? withMember(entry.value, this.#deps.member(id))
    this.#views.set(id, view)
    return view
  }

  record(id: string): NetworkRecord | undefined {
    return this.#known.get(id)?.value
  }

  /** Those that the store has. */
  standing(): NetworkRecord[] {
    return [...this.#known.values()].filter(({ revision }) => revision > 0).map(({ value }) => value)
  }

  /** The store has it. */
  stands(id: string): boolean {
    return (this.#known.get(id)?.revision ?? 0) > 0
  }

  /** What this host has of it is another now. */
  memberChanged(id: string): void {
    this.#views.delete(id)
  }

  remember(record: NetworkRecord): void {
    this.#known.set(record.id, { key: keys.network(record.id), value: record, revision: 0 })
  }

  reset(entries: readonly Entry<NetworkRecord>[]): void {
    const listed = new Set(entries.map(({ value }) => value.id))
    for (const id of this.#deletedAt.keys()) if (!listed.has(id)) this.#deletedAt.delete(id)
    for (const id of [...this.#known.keys()]) if (!listed.has(id)) this.#gone(id)
    for (const entry of entries) this.#set(entry)
  }

  apply(changes: readonly Change<NetworkRecord>[]): void {
    for (const change of changes) {
      if (change.type === 'put') {
        if (change.revision >= (this.#known.get(change.value.id)?.revision ?? 0)) this.#set(change)
      } else {
        this.#gone(idIn(change.key))
        this.#deletedAt.delete(idIn(change.key))
      }
    }
  }

  forget(id: string): void {
    const before = this.view(id)
    this.#known.delete(id)
    this.#views.delete(id)
    if (before !== undefined && !this.#ours.has(id)) this.#deps.changed(before, undefined)
  }

  /** Also recorded here, first: whether an attempt without an answer has made it is seen later. */
  async create(network: Network, unique: readonly string[]): Promise<void> {
    const { shared, local } = this.#deps
    const record = toRecord(network, unique)
    this.#ours.add(network.id)
    try {
      await local.txn([], [put(localKeys.attempt(network.id), record)])
      this.#set({
        key: keys.network(network.id),
        value: record,
        revision: await shared.txn(...creationOf(record)),
      })
      // while it is ours: whoever drops attempts must not meet one that has succeeded
      await local.txn([], [del(localKeys.attempt(network.id))]).catch(async error => {
        await this.delete(network.id, unique)
        throw error
      })
    } catch (error) {
      if (kindOf(error) !== 'Unavailable') await local.txn([], [del(localKeys.attempt(network.id))])
      throw explain(error, record)
    } finally {
      this.#ours.delete(network.id)
    }
  }

  /** @throws {StoreConflict} something of a host is left on it */
  async delete(id: string, unique: readonly string[]): Promise<void> {
    this.#ours.add(id)
    try {
      const operations = deletionOf(this.record(id), id, unique)
      this.#deletedAt.set(id, await this.whileStands(id, operations, [empty(keys.on(id))]))
      this.forget(id)
    } catch (error) {
      if (kindOf(error) !== 'NotFound') throw error
      this.forget(id)
    } finally {
      this.#ours.delete(id)
    }
  }

  /** Make a network again that this host has part in and the store has lost. @throws {StoreConflict} its name, or what only one may have, is taken */
  async restore(record: NetworkRecord): Promise<void> {
    const { shared } = this.#deps
    try {
      const revision = await shared.txn(...creationOf(record))
      this.#set({ key: keys.network(record.id), value: record, revision })
    } catch (error) {
      if (!(error instanceof StoreConflict) || error.key !== keys.network(record.id)) throw error
      const entry = await shared.get<NetworkRecord>(error.key)
      if (entry !== undefined) this.#set(entry)
    }
  }

  /** Delete what attempts without an answer have made, unless somebody uses it by now. */
  async dropAttempts(): Promise<void> {
    const { shared, local } = this.#deps
    for (const { key, value } of (await local.list<NetworkRecord>(localKeys.attempts)).entries) {
      // it may have succeeded while another one was looked at
      if (this.#ours.has(value.id) || (await local.get(key)) === undefined) continue
      try {
        const entry = await shared.get<NetworkRecord>(keys.network(value.id))
        if (entry !== undefined)
          await shared.txn(
            [{ key: entry.key, revision: entry.revision }, empty(keys.on(value.id))],
            deletionOf(value, value.id, value.unique),
          )
      } catch (error) {
        if (!(error instanceof StoreConflict)) throw error
      }
      await local.txn([], [del(localKeys.attempt(value.id))])
    }
  }

  /**
   * Write while the network is there, whatever becomes of its record meanwhile.
   * @throws {NetError} NotFound: it is gone
   */
  async whileStands(id: string, operations: Operation[], conditions: Condition[] = []): Promise<number> {
    const { shared } = this.#deps
    const key = keys.network(id)
    let revision = this.#known.get(id)?.revision ?? 0
    for (;;) {
      // 0 is the revision of what is not there
      if (revision === 0) revision = (await shared.get(key))?.revision ?? 0
      if (revision === 0) throw notFound(`network ${this.record(id)?.name ?? id} is gone from the cluster store`)
      try {
        return await shared.txn([{ key, revision }, ...conditions], operations)
      } catch (error) {
        if (!(error instanceof StoreConflict) || error.key !== key) throw error
        revision = 0
      }
    }
  }

  /** What this host has part in is known on, as remembered: whether it goes or is made again is the next session's to say. */
  #gone(id: string): void {
    const record = this.record(id)
    if (record === undefined || this.#deps.member(id) === undefined) this.forget(id)
    else if (this.stands(id)) {
      this.remember(record)
      this.#deps.lost(record)
    }
  }

  #set(entry: Pick<Entry<NetworkRecord>, 'key' | 'value' | 'revision'>): void {
    const { id } = entry.value
    if (entry.revision < (this.#deletedAt.get(id) ?? 0)) return
    const known = this.#known.get(id)
    const before = this.view(id)
    this.#known.set(id, { key: entry.key, value: entry.value, revision: entry.revision })
    if (known !== undefined && isDeepStrictEqual(known.value, entry.value)) return
    this.#views.delete(id)
    if (!this.#ours.has(id)) this.#deps.changed(before, this.view(id))
  }
}

function withMember({ unique: _, ...network }: NetworkRecord, member: Member | undefined): Network {
  if (member === undefined) return network
  const addresses = member.addresses.map(addressOf)
  const byDocker = member.dockerNetworkIds.length > 0 && member.assignedBy === 'docker'
  const subnets = network.subnets.map(plain => {
    // whom dockerd asks for containers' addresses is each host's own affair
    const subnet = byDocker ? { ...plain, assignedBy: 'docker' as const } : plain
    const hostAddress = addresses.find(address => holds(subnet.subnet, address))
    return hostAddress === undefined ? subnet : { ...subnet, hostAddress }
  })
  return { ...network, subnets, dockerNetworkIds: member.dockerNetworkIds }
}

const toRecord = (network: Network, unique: readonly string[]): NetworkRecord => ({
  ...network,
  dockerNetworkIds: [],
  subnets: network.subnets.map(({ hostAddress: _, ...subnet }) => subnet),
  unique: [...unique],
})

function creationOf(record: NetworkRecord): [Condition[], Operation[]] {
  const entries: [string, unknown][] = [
    [keys.network(record.id), record],
    [keys.networkName(record.name), { id: record.id }],
    ...record.unique.map((what): [string, unknown] => [keys.unique(what), { networkId: record.id }]),
  ]
  return [entries.map(([key]) => absent(key)), entries.map(([key, value]) => put(key, value))]
}

function deletionOf(record: NetworkRecord | undefined, id: string, unique: readonly string[]): Operation[] {
  const names = record === undefined ? [] : [keys.networkName(record.name)]
  const all = new Set([...unique, ...(record?.unique ?? [])].map(keys.unique))
  return [keys.network(id), ...names, ...all].map(del)
}

function explain(error: unknown, { id, name }: NetworkRecord): unknown {
  if (!(error instanceof StoreConflict)) return error
  if (error.key === keys.networkName(name)) return conflict(`network name ${name} is taken`, { cause: error })
  if (error.key === keys.network(id)) return conflict(`network ${name} is there already, as ${id}`, { cause: error })
  return error
}

const idIn = (key: string): string => key.slice(keys.networks.length)
