import { randomUUID } from 'node:crypto'
import { KeyedLock } from '../locks.js'
import type { Fence } from '../store/fenced.js'
import { absent, type Condition, type Entry, put, type Store, StoreConflict, unchanged } from '../store/store.js'
import { type AliveRecord, type ClusterRecord, type HostRecord, keys, localKeys, type MemberRecord } from './keys.js'
import { Refused } from './session.js'

export interface AdmissionDeps {
  shared: Store
  local: Store
  where: string
  /** as it is now */
  host: () => HostRecord
  records: () => MemberRecord[]
  /** Forget all memberships: they are another cluster's, and given up. */
  forgetAll: () => Promise<void>
}

/** Names under which the store may have something that is nobody's any more. */
export interface Admitted {
  formerNames: string[]
  /** another host has removed this one */
  removed: boolean
}

/** Whether this host may use the shared store as what it is, and under its name. */
export class Admission {
  readonly #deps: AdmissionDeps
  readonly #locks = new KeyedLock()
  #remembered: ClusterRecord | undefined
  /** what this host was last announced by: its later writes hold only while that does */
  fence: Fence | undefined
  /** as the store has it */
  #toldVtep: string | undefined

  constructor(deps: AdmissionDeps) {
    this.#deps = deps
  }

  async load(): Promise<void> {
    this.#remembered = (await this.#deps.local.get<ClusterRecord>(localKeys.cluster))?.value
  }

  /** @throws {Refused} the store is another cluster's */
  async checkCluster(): Promise<void> {
    const { where, records, forgetAll } = this.#deps
    const id = await this.#clusterId()
    const known = this.#remembered
    if (known !== undefined && known.id !== id) {
      const names = records().flatMap(({ network, leaving }) => (leaving ? [] : network.name))
      if (names.length > 0)
        throw new Refused(
          `the cluster store ${where} is that of another cluster (${id}) than this host belongs to (${known.id}): ` +
            `start the daemon with that one's --store, or first disconnect everything on this host from ${names.join(', ')}`,
        )
      await forgetAll()
    }
    if (known?.id !== id) await this.#remember({ id, host: known?.host ?? this.#name })
  }

  /** @throws {Refused} a host of this name is up that is not this one */
  async announce(lease: string): Promise<Admitted> {
    const { shared, host } = this.#deps
    const mine = host()
    const [hostEntry, aliveEntry, removed] = [
      await shared.get<HostRecord>(keys.host(mine.name)),
      await shared.get<AliveRecord>(keys.alive(mine.name)),
      await shared.get(keys.removed(mine.id)),
    ]
    const holder = aliveEntry?.value.id ?? mine.id
    if (holder !== mine.id)
      throw new Refused(
        `host name ${mine.name} is used by another host (id ${holder}) in the cluster store ${this.#deps.where}: choose another one with --host-name`,
      )
    const revision = await shared.txn(
      [asRead(keys.host(mine.name), hostEntry), asRead(keys.alive(mine.name), aliveEntry)],
      [
        put(keys.host(mine.name), mine),
        { type: 'put', key: keys.alive(mine.name), value: { id: mine.id } satisfies AliveRecord, lease },
      ],
    )
    this.fence = { key: keys.alive(mine.name), revision }
    this.#toldVtep = mine.vtep
    const former = this.#remembered?.host ?? mine.name
    return {
      formerNames: [
        ...(former === mine.name ? [] : [former]),
        ...(hostEntry !== undefined && hostEntry.value.id !== mine.id ? [mine.name] : []),
      ],
      removed: removed !== undefined,
    }
  }

  /** Called twice at once, one after the other, each with what is so then: the last one is right. */
  tellVtep(): Promise<void> {
    return this.#locks.with('vtep', async () => {
      const mine = this.#deps.host()
      if (mine.vtep === this.#toldVtep) return
      await this.#deps.shared.txn(this.fence ? [this.fence] : [], [put(keys.host(mine.name), mine)])
      this.#toldVtep = mine.vtep
    })
  }

  /** Nothing is left under former names. */
  async settled(): Promise<void> {
    const known = this.#remembered
    if (known !== undefined && known.host !== this.#name) await this.#remember({ ...known, host: this.#name })
  }

  get #name(): string {
    return this.#deps.host().name
  }

  /** A store that has none yet becomes this host's cluster: a new one, or the one whose store was lost. */
  async #clusterId(): Promise<string> {
    const { shared } = this.#deps
    for (;;) {
      const entry = await shared.get<{ id: string }>(keys.clusterId)
      if (entry !== undefined) return entry.value.id
      const id = this.#remembered?.id ?? randomUUID()
      try {
        await shared.txn([absent(keys.clusterId)], [put(keys.clusterId, { id })])
        return id
      } catch (error) {
        if (!(error instanceof StoreConflict)) throw error
      }
    }
  }

  async #remember(record: ClusterRecord): Promise<void> {
    await this.#deps.local.txn([], [put(localKeys.cluster, record)])
    this.#remembered = record
  }
}

const asRead = (key: string, entry: Entry<unknown> | undefined): Condition =>
  entry === undefined ? absent(key) : unchanged(entry)
