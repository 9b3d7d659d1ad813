import type { ChangedObjects, NamedWorld } from '../cnm/names.js'
import type { Endpoint, Network, Peer, Sandbox } from '../cnm/types.js'
import type { Asker } from './resolver.js'
import { exclude, include } from './sets.js'
import { type Member, Zone } from './zone.js'

const nobody: Asker = { zones: [], external: false }

/** An endpoint, of this host or of another one, in its network's zone. */
interface Placed<E extends Endpoint> {
  endpoint: E
  member: Member
}

interface Listed {
  networks: readonly Network[]
  sandboxes: readonly Sandbox[]
  endpoints: readonly Endpoint[]
  peers: readonly Peer[]
}

/**
 * The world in the order in which questions need it. It is brought up to date before a question is answered: what is
 * another object than it was is taken out and put in again, all the rest stays. So a change among many thousand
 * endpoints costs next to nothing.
 */
export class View {
  /** as they were listed the last time */
  #listed: Listed = { networks: [], sandboxes: [], endpoints: [], peers: [] }
  readonly #networks = new Map<string, Network>()
  readonly #sandboxes = new Map<string, Sandbox>()
  readonly #endpoints = new Map<string, Placed<Endpoint>>()
  readonly #peers = new Map<string, Placed<Peer>>()
  /** endpoints of this host, by what the endpoints of one sandbox share */
  readonly #byPlace = new Map<string, Set<Endpoint>>()
  /** endpoints of this host, by plain address */
  readonly #byAddress = new Map<string, Set<Endpoint>>()
  readonly #zones = new Map<string, Zone>()
  /** by place */
  readonly #askers = new Map<string, Asker>()

  /** Take over what has changed since the last time. */
  update(world: NamedWorld, changed: ReadonlySet<ChangedObjects>): void {
    const all = changed.has('everything')
    if (all || changed.has('sandboxes')) this.#updateSandboxes(world.sandboxes())
    if (all || changed.has('endpoints')) this.#updateEndpoints(world.endpoints())
    if (all || changed.has('peers')) this.#updatePeers(world.peers())
    // last: a zone goes with its network when nobody is left in it
    if (all || changed.has('networks')) this.#updateNetworks(world.networks())
  }

  #updateNetworks(networks: readonly Network[]): void {
    compare(this.#networks, this.#listed.networks, networks, identity, {
      add: network => {
        this.#networks.set(network.id, network)
        const zone = this.#zones.get(network.id)
        if (zone !== undefined) zone.network = network.name
      },
      remove: ({ id }) => {
        this.#networks.delete(id)
        if (this.#zones.get(id)?.isEmpty) this.#zones.delete(id)
      },
    })
    this.#askers.clear()
    this.#listed.networks = networks
  }

  #updateSandboxes(sandboxes: readonly Sandbox[]): void {
    compare(this.#sandboxes, this.#listed.sandboxes, sandboxes, identity, {
      add: sandbox => this.#sandboxes.set(sandbox.id, sandbox),
      remove: ({ id }) => {
        this.#sandboxes.delete(id)
        this.#askers.delete(id)
      },
    })
    this.#listed.sandboxes = sandboxes
  }

  #updateEndpoints(endpoints: readonly Endpoint[]): void {
    compare(this.#endpoints, this.#listed.endpoints, endpoints, placedOf, {
      add: endpoint => {
        if (endpoint.state !== 'joined') return
        const sandbox = endpoint.sandboxId === undefined ? undefined : this.#sandboxes.get(endpoint.sandboxId)
        const member = memberOf(endpoint, sandbox?.name)
        this.#endpoints.set(endpoint.id, { endpoint, member })
        this.#zone(endpoint.networkId).add(member)
        include(this.#byPlace, placeOf(endpoint), endpoint)
        for (const address of member.addresses) include(this.#byAddress, address, endpoint)
        this.#askers.delete(placeOf(endpoint))
      },
      remove: ({ endpoint, member }) => {
        this.#endpoints.delete(endpoint.id)
        this.#leave(endpoint.networkId, member)
        exclude(this.#byPlace, placeOf(endpoint), endpoint)
        for (const address of member.addresses) exclude(this.#byAddress, address, endpoint)
        this.#askers.delete(placeOf(endpoint))
      },
    })
    this.#listed.endpoints = endpoints
  }

  #updatePeers(peers: readonly Peer[]): void {
    compare(this.#peers, this.#listed.peers, peers, placedOf, {
      add: peer => {
        if (peer.state !== 'joined') return
        // dockerd's path of a container's namespace is no name
        const member = memberOf(peer, peer.sandbox.includes('/') ? undefined : peer.sandbox)
        this.#peers.set(peer.id, { endpoint: peer, member })
        this.#zone(peer.networkId).add(member)
      },
      remove: ({ endpoint, member }) => {
        this.#peers.delete(endpoint.id)
        this.#leave(endpoint.networkId, member)
      },
    })
    this.#listed.peers = peers
  }

  /** Who asks from within the namespace of these sandboxes. */
  inside(sandboxIds: readonly string[]): Asker {
    const [id] = sandboxIds
    return id !== undefined && sandboxIds.length === 1
      ? this.#asker(id)
      : this.#askerOf(sandboxIds.flatMap(each => [...(this.#byPlace.get(each) ?? [])]))
  }

  /**
   * Who asks from this address at the gateway of a network: the endpoint that has it, on all its networks; anybody else
   * of the network, such as the host, on this one; undefined for whoever is not of this network.
   */
  at(networkId: string, from: string, isOfNetwork: (network: Network, address: string) => boolean): Asker | undefined {
    const network = this.#networks.get(networkId)
    if (network === undefined) return undefined
    const endpoint = [...(this.#byAddress.get(from) ?? [])].find(each => each.networkId === networkId)
    if (endpoint !== undefined) return this.#asker(placeOf(endpoint))
    return isOfNetwork(network, from) ? { zones: [this.#zone(networkId)], external: !network.internal } : undefined
  }

  #asker(place: string): Asker {
    const known = this.#askers.get(place)
    if (known !== undefined) return known
    const asker = this.#askerOf([...(this.#byPlace.get(place) ?? [])], this.#sandboxes.get(place))
    this.#askers.set(place, asker)
    return asker
  }

  #askerOf(endpoints: readonly Endpoint[], sandbox?: Sandbox): Asker {
    const ids = [...new Set(endpoints.map(endpoint => endpoint.networkId))]
    const networks = ids.flatMap(id => this.#networks.get(id) ?? [])
    if (networks.length === 0 && sandbox?.dns === undefined) return nobody
    return {
      zones: networks.map(network => this.#zone(network.id)),
      external: networks.some(network => !network.internal) || (sandbox?.dns?.servers.length ?? 0) > 0,
    }
  }

  #leave(networkId: string, member: Member): void {
    const zone = this.#zone(networkId)
    zone.remove(member)
    if (zone.isEmpty && !this.#networks.has(networkId)) this.#zones.delete(networkId)
  }

  /** Kept once it is there: askers hold it. */
  #zone(networkId: string): Zone {
    const known = this.#zones.get(networkId)
    if (known !== undefined) return known
    const zone = new Zone(this.#networks.get(networkId)?.name ?? '', [])
    this.#zones.set(networkId, zone)
    return zone
  }
}

const identity = <T>(object: T): T => object
const placedOf = <E extends Endpoint>({ endpoint }: Placed<E>): E => endpoint

/**
 * Bring `known` up to `wanted`: an object that is another one than it was is removed and added. What both lists, `before`
 * being the one of the last time, begin and end with is passed over, which is nearly all where one among many has changed.
 */
function compare<T extends { id: string }, K>(
  known: Map<string, K>,
  before: readonly T[],
  wanted: readonly T[],
  objectOf: (known: K) => T,
  { add, remove }: { add: (object: T) => void; remove: (known: K) => void },
): void {
  const shorter = Math.min(before.length, wanted.length)
  let start = 0
  while (start < shorter && before[start] === wanted[start]) start++
  let end = 0
  while (end < shorter - start && before.at(-1 - end) === wanted.at(-1 - end)) end++
  const fresh = wanted.slice(start, wanted.length - end)
  const ids = new Set(fresh.map(({ id }) => id))
  for (const { id } of before.slice(start, before.length - end)) {
    const gone = known.get(id)
    if (gone !== undefined && !ids.has(id)) remove(gone)
  }
  for (const object of fresh) {
    const old = known.get(object.id)
    if (old !== undefined && objectOf(old) === object) continue
    if (old !== undefined) remove(old)
    add(object)
  }
}

const memberOf = ({ name, aliases, addresses }: Endpoint, sandbox: string | undefined): Member => ({
  names: [name, ...(sandbox === undefined ? [] : [sandbox]), ...aliases],
  addresses: addresses.map(cidr => cidr.replace(/\/.*/, '')),
})

/** What the endpoints of one sandbox share: ours by its id, Docker's by its path. */
const placeOf = ({ id, sandboxId, sandboxKey }: Endpoint): string => sandboxId ?? sandboxKey ?? id
