import type { HostView } from '../cnm/cluster.js'
import type { Host, Member, Network, Peer } from '../cnm/types.js'
import { conflict, notFound } from '../errors.js'
import { addressOf, holds } from '../net/subnets.js'
import { del, put, type Store, unchanged } from '../store/store.js'
import { type AliveRecord, type HostRecord, isPeer, keys, type NetworkRecord, type OnNetwork } from './keys.js'

export interface AdminDeps {
  shared: Store
  /** this host's name */
  host: string
  lastSeen: (host: string) => string | undefined
  /** Give back every address that a host has. */
  releaseHost: (host: string) => Promise<void>
  /** Give back a plain address of a pool, if this owner has it. */
  releaseAddress: (poolId: string, address: string, owner: string) => Promise<void>
}

/** How many keys are deleted in one transaction. */
const deletionsATime = 100

/** What is done about hosts from outside of them. */
export class HostAdmin {
  readonly #deps: AdminDeps

  constructor(deps: AdminDeps) {
    this.#deps = deps
  }

  async views(): Promise<HostView[]> {
    const { shared, lastSeen } = this.#deps
    const alive = new Set((await shared.list<AliveRecord>(keys.alives)).entries.map(({ key }) => key))
    const views = new Map<string, HostView>()
    for (const { value } of (await shared.list<HostRecord>(keys.hosts)).entries) {
      const isUp = alive.has(keys.alive(value.name))
      views.set(value.name, {
        ...value,
        state: isUp ? 'up' : 'down',
        lastSeen: isUp ? new Date().toISOString() : latest(lastSeen(value.name), value.lastSeen),
        endpoints: 0,
        networks: [],
      })
    }
    for await (const [network, records] of this.#byNetwork())
      for (const { value } of records) {
        const view = views.get(value.host)
        if (view === undefined) continue
        if (isPeer(value)) view.endpoints++
        else view.networks.push(network.name)
      }
    return [...views.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  async removeHost(name: string, { force }: { force: boolean }): Promise<void> {
    const { shared, host } = this.#deps
    const entry = await shared.get<HostRecord>(keys.host(name))
    if (entry === undefined) throw notFound(`there is no host ${name}`)
    if (name === host)
      throw conflict(`host ${name} is this one: stop its daemon, then remove it from another host of the cluster`)
    if (!force && (await shared.get(keys.alive(name))) !== undefined)
      throw conflict(`host ${name} is up: stop its daemon first, or remove it with --force`)
    // the host's own record goes last: until then the removal can be repeated
    await shared.txn([], [put(keys.removed(entry.value.id), { at: new Date().toISOString() }), del(keys.alive(name))])
    await this.#forget(name)
    await this.#forgetRecord(name, entry.value.id)
  }

  /** This host had another name, or its name was another host's that is gone. */
  async forgetFormer(name: string, { id, name: now }: Pick<Host, 'id' | 'name'>): Promise<void> {
    const entry = await this.#deps.shared.get<HostRecord>(keys.host(name))
    if (entry?.value.id !== id) return
    await this.#forget(name)
    if (name !== now) await this.#forgetRecord(name, id)
  }

  async #forgetRecord(name: string, id: string): Promise<void> {
    const { shared } = this.#deps
    const entry = await shared.get<HostRecord>(keys.host(name))
    if (entry?.value.id === id) await shared.txn([unchanged(entry)], [del(entry.key), del(keys.alive(name))])
  }

  /** Delete what the store has of a host on networks, and its addresses. */
  async #forget(name: string): Promise<void> {
    const { shared, releaseHost } = this.#deps
    for await (const [, records] of this.#byNetwork()) {
      const its = records.filter(({ value }) => value.host === name).map(({ key }) => del(key))
      for (let at = 0; at < its.length; at += deletionsATime) await shared.txn([], its.slice(at, at + deletionsATime))
    }
    await releaseHost(name)
  }

  async removePeer(peer: Peer, network: Network | undefined): Promise<void> {
    const { shared, releaseAddress } = this.#deps
    if ((await shared.get(keys.alive(peer.host))) !== undefined)
      throw conflict(`endpoint ${peer.name} is on host ${peer.host}, which is up: disconnect it there`)
    await shared.txn([], [del(keys.endpoint(peer.networkId, peer.id))])
    for (const address of peer.addresses.map(addressOf)) {
      const pool = network?.subnets.find(({ subnet }) => holds(subnet, address))
      if (pool !== undefined) await releaseAddress(pool.poolId, address, peer.id)
    }
  }

  /** Network after network, so that other work comes in between: together they may have 100,000 records. */
  async *#byNetwork(): AsyncGenerator<[NetworkRecord, { key: string; value: OnNetwork }[]]> {
    const { shared } = this.#deps
    for (const { value } of (await shared.list<NetworkRecord>(keys.networks)).entries)
      yield [value, (await shared.list<OnNetwork>(keys.on(value.id))).entries]
  }
}

const latest = (a: string | undefined, b: string): string => (a !== undefined && a > b ? a : b)

/** Who uses a network: `web on h1, db on h2 (down); attached to Docker on h3`. */
export function usesOf(
  { peers, members }: { peers: Peer[]; members: Member[] },
  isUp: (host: string) => boolean,
): string {
  const host = (name: string): string => (isUp(name) ? name : `${name} (down)`)
  const hostsOf = (some: Member[]): string => some.map(member => host(member.host)).join(', ')
  const docker = members.filter(({ dockerNetworkIds }) => dockerNetworkIds.length > 0)
  const rest = members.filter(member => !docker.includes(member) && !peers.some(peer => peer.host === member.host))
  return [
    peers.map(peer => `${peer.name} on ${host(peer.host)}`).join(', '),
    docker.length === 0 ? '' : `attached to Docker on ${hostsOf(docker)}`,
    rest.length === 0 ? '' : `member ${hostsOf(rest)}`,
  ]
    .filter(part => part !== '')
    .join('; ')
}
