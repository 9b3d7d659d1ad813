import type { DockerDoor } from '../../src/cnm/cnm.js'
import type {
  DockerAddressRequest,
  DockerEndpointSpec,
  DockerJoin,
  DockerNetworkSpec,
  DockerPoolGrant,
  DockerPoolRequest,
} from '../../src/cnm/specs.js'
import type { Family, PortSpec } from '../../src/cnm/types.js'
import { notFound } from '../../src/errors.js'

type Verb = keyof DockerDoor
interface Held {
  arrived: Promise<void>
  release(): void
}

function signal(): { given: Promise<void>; give(): void } {
  let give!: () => void
  const given = new Promise<void>(resolve => {
    give = resolve
  })
  return { given, give }
}

/**
 * What the door to dockerd is to the outside: every call may come again, deletes of unknown things are fine.
 * Remembers every call in order and what exists after it; can be told to fail or to hold the next call of a kind.
 */
export class FakeDockerDoor implements DockerDoor {
  readonly calls: [Verb, ...unknown[]][] = []
  readonly networks = new Map<string, DockerNetworkSpec>()
  readonly endpoints = new Map<string, { spec: DockerEndpointSpec; sandboxKey?: string; ports: PortSpec[] }>()
  readonly pools = new Map<string, { request: DockerPoolRequest; addresses: Set<string> }>()
  joinAnswer: DockerJoin = { link: 'vethabc', ifnamePrefix: 'eth', routes: [], disableGatewayService: false }
  createdMac = '02:42:0a:14:00:02'
  #failures = new Map<Verb, Error[]>()
  #holds = new Map<Verb, { arrive(): void; released: Promise<void> }>()

  failNext(verb: Verb, error: Error): void {
    this.#failures.set(verb, [...(this.#failures.get(verb) ?? []), error])
  }

  /** The next call of this kind is done, but does not return before `release()`. */
  hold(verb: Verb): Held {
    const arrival = signal()
    const release = signal()
    this.#holds.set(verb, { arrive: arrival.give, released: release.given })
    return { arrived: arrival.given, release: release.give }
  }

  verbs(): Verb[] {
    return this.calls.map(([verb]) => verb)
  }

  skipsGateway({ driver }: Record<string, string>): Record<Family, boolean> {
    return { 4: driver === 'macvlan', 6: driver === 'macvlan' }
  }

  async #take(verb: Verb, args: unknown[], effect: () => void = () => {}): Promise<void> {
    this.calls.push([verb, ...args])
    const failure = this.#failures.get(verb)?.shift()
    if (failure) throw failure
    effect()
    const hold = this.#holds.get(verb)
    this.#holds.delete(verb)
    hold?.arrive()
    await hold?.released
  }

  #endpoint(networkId: string, endpointId: string) {
    const endpoint = this.endpoints.get(endpointId)
    if (!this.networks.has(networkId)) throw notFound(`no network ${networkId.slice(0, 12)}`)
    if (endpoint === undefined) throw notFound(`no endpoint ${endpointId.slice(0, 12)}`)
    return endpoint
  }

  createNetwork(spec: DockerNetworkSpec) {
    return this.#take('createNetwork', [spec], () => this.networks.set(spec.networkId, spec))
  }
  deleteNetwork(networkId: string) {
    return this.#take('deleteNetwork', [networkId], () => this.networks.delete(networkId))
  }
  async createEndpoint(spec: DockerEndpointSpec) {
    await this.#take('createEndpoint', [spec], () => this.endpoints.set(spec.endpointId, { spec, ports: [] }))
    return spec.mac === undefined ? { mac: this.createdMac } : {}
  }
  deleteEndpoint(networkId: string, endpointId: string) {
    return this.#take('deleteEndpoint', [networkId, endpointId], () => this.endpoints.delete(endpointId))
  }
  async join(networkId: string, endpointId: string, sandboxKey: string) {
    await this.#take('join', [networkId, endpointId, sandboxKey], () => {
      this.#endpoint(networkId, endpointId).sandboxKey = sandboxKey
    })
    return this.joinAnswer
  }
  leave(networkId: string, endpointId: string) {
    return this.#take('leave', [networkId, endpointId], () => {
      const endpoint = this.endpoints.get(endpointId)
      if (endpoint) {
        delete endpoint.sandboxKey
        endpoint.ports = []
      }
    })
  }
  publish(networkId: string, endpointId: string, ports: PortSpec[]) {
    return this.#take('publish', [networkId, endpointId, ports], () => {
      this.#endpoint(networkId, endpointId).ports = ports
    })
  }
  revoke(networkId: string, endpointId: string) {
    return this.#take('revoke', [networkId, endpointId], () => {
      const endpoint = this.endpoints.get(endpointId)
      if (endpoint) endpoint.ports = []
    })
  }
  async requestPool(request: DockerPoolRequest): Promise<DockerPoolGrant> {
    const subnet = request.subnet ?? `10.20.${this.pools.size}.0/24`
    await this.#take('requestPool', [request], () => {
      if (!this.pools.has(subnet)) this.pools.set(subnet, { request, addresses: new Set() })
    })
    return { poolId: subnet, subnet }
  }
  releasePool(poolId: string) {
    return this.#take('releasePool', [poolId], () => this.pools.delete(poolId))
  }
  async requestAddress(request: DockerAddressRequest): Promise<string> {
    const have = this.pools.get(request.poolId)?.addresses
    const address = request.address ?? `10.20.0.${(have?.size ?? 0) + 1}`
    await this.#take('requestAddress', [request], () => {
      if (have === undefined) throw notFound(`no pool ${request.poolId}`)
      have.add(address)
    })
    return `${address}/24`
  }
  releaseAddress(poolId: string, address: string) {
    return this.#take('releaseAddress', [poolId, address], () => this.pools.get(poolId)?.addresses.delete(address))
  }
}
