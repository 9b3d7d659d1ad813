import type { NamedWorld } from '../cnm/names.js'
import type { Endpoint, Network, Sandbox } from '../cnm/types.js'
import type { Asker } from './resolver.js'
import { type Member, Zone } from './zone.js'

const nobody: Asker = { zones: [], external: false }

/** The world as it was when the first question after a change came, in the order in which questions need it. */
export class View {
  readonly #networks: Map<string, Network>
  readonly #sandboxes: Map<string, Sandbox>
  readonly #byNetwork = new Map<string, Endpoint[]>()
  readonly #byPlace = new Map<string, Endpoint[]>()
  readonly #byAddress = new Map<string, Endpoint[]>()
  readonly #zones = new Map<string, Zone>()
  readonly #askers = new Map<string, Asker>()

  constructor(world: NamedWorld) {
    this.#networks = new Map(world.networks().map(network => [network.id, network]))
    this.#sandboxes = new Map(world.sandboxes().map(sandbox => [sandbox.id, sandbox]))
    for (const endpoint of world.endpoints()) {
      if (endpoint.state !== 'joined') continue
      push(this.#byNetwork, endpoint.networkId, endpoint)
      push(this.#byPlace, placeOf(endpoint), endpoint)
      for (const address of addressesOf(endpoint)) push(this.#byAddress, address, endpoint)
    }
  }

  /** Who asks from within the namespace of these sandboxes. */
  inside(sandboxIds: readonly string[]): Asker {
    const [id] = sandboxIds
    return id !== undefined && sandboxIds.length === 1
      ? this.#asker(id)
      : this.#askerOf(sandboxIds.flatMap(each => this.#byPlace.get(each) ?? []))
  }

  /**
   * Who asks from this address at the gateway of a network: the endpoint that has it, on all its networks; anybody else
   * of the network, such as the host, on this one; undefined for whoever is not of this network.
   */
  at(networkId: string, from: string, isOfNetwork: (network: Network, address: string) => boolean): Asker | undefined {
    const network = this.#networks.get(networkId)
    if (network === undefined) return undefined
    const endpoint = this.#byAddress.get(from)?.find(each => each.networkId === networkId)
    if (endpoint !== undefined) return this.#asker(placeOf(endpoint))
    return isOfNetwork(network, from) ? { zones: [this.#zone(network)], external: !network.internal } : undefined
  }

  #asker(place: string): Asker {
    const known = this.#askers.get(place)
    if (known !== undefined) return known
    const asker = this.#askerOf(this.#byPlace.get(place) ?? [], this.#sandboxes.get(place))
    this.#askers.set(place, asker)
    return asker
  }

  #askerOf(endpoints: readonly Endpoint[], sandbox?: Sandbox): Asker {
    const ids = [...new Set(endpoints.map(endpoint => endpoint.networkId))]
    const networks = ids.flatMap(id => this.#networks.get(id) ?? [])
    if (networks.length === 0 && sandbox?.dns === undefined) return nobody
    return {
      zones: networks.map(network => this.#zone(network)),
      external: networks.some(network => !network.internal) || (sandbox?.dns?.servers.length ?? 0) > 0,
    }
  }

  #zone(network: Network): Zone {
    const known = this.#zones.get(network.id)
    if (known !== undefined) return known
    const members = (this.#byNetwork.get(network.id) ?? []).map((endpoint): Member => {
      const sandbox = endpoint.sandboxId === undefined ? undefined : this.#sandboxes.get(endpoint.sandboxId)
      return {
        names: [endpoint.name, ...(sandbox === undefined ? [] : [sandbox.name]), ...endpoint.aliases],
        addresses: addressesOf(endpoint),
      }
    })
    const zone = new Zone(network.name, members)
    this.#zones.set(network.id, zone)
    return zone
  }
}

/** What the endpoints of one sandbox share: ours by its id, Docker's by its path. */
const placeOf = ({ id, sandboxId, sandboxKey }: Endpoint): string => sandboxId ?? sandboxKey ?? id

const addressesOf = ({ addresses }: Endpoint): string[] => addresses.map(cidr => cidr.replace(/\/.*/, ''))

function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key)
  if (list === undefined) map.set(key, [value])
  else list.push(value)
}
