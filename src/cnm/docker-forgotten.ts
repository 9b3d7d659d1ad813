import type { KeyedLock } from '../locks.js'
import { addressOf, hostOverlap } from '../net/subnets.js'
import { dockerWaitMs, networkLock } from './deps.js'
import type { EndpointDeps } from './endpoints.js'
import { removeEndpoint } from './leaving.js'
import { deleteNetwork, subnetOf } from './networks.js'
import type { Network } from './types.js'

/**
 * What dockerd asked for and knows nothing of: our answer was lost, and its second try has no body and fails. It never says
 * DeleteNetwork or DeleteEndpoint of such a thing, but it gives back what it had from our IPAM for it (moby
 * pkg/plugins/client.go; libnetwork/network.go, `createEndpoint`; libnetwork/controller.go, `NewNetwork`).
 */
export class ForgottenByDocker {
  readonly #deps: EndpointDeps
  readonly #locks: KeyedLock
  readonly #givenBack = new Set<string>()
  /** of networks that several of Docker's are bound to: one that lets go says nothing of the others */
  readonly #shared = new Set<string>()

  constructor(deps: EndpointDeps, locks: KeyedLock) {
    this.#deps = deps
    this.#locks = locks
  }

  /** dockerd was given the subnet of a network that is there. */
  poolShared(poolId: string): void {
    this.#shared.add(poolId)
  }

  /** dockerd has given a subnet back. Before DeleteNetwork it does that too, so its network has a moment to go by itself. */
  poolGivenBack(poolId: string): void {
    const network = this.#deps.state.networks().find(({ subnets }) => subnets.some(subnet => subnet.poolId === poolId))
    if (network === undefined || network.dockerNetworkIds.length > 0 || this.#shared.has(poolId)) return
    this.#givenBack.add(poolId)
    this.#later(async () => {
      await this.#removeNetworks(({ subnets }) => subnets.some(subnet => subnet.poolId === poolId))
      this.#givenBack.delete(poolId)
    })
  }

  /** dockerd wants a subnet, which is not that of any network that it knows. */
  makeRoom(subnet: string): Promise<void> {
    return this.#removeNetworks(
      ({ subnets }) =>
        hostOverlap(
          subnet,
          subnets.map(taken => taken.subnet),
        ) !== undefined,
    )
  }

  /** Its Join comes next; where dockerd has died in between, nobody says anything more of it. */
  endpointCreated(id: string): void {
    this.#later(() => this.removeUnjoined(id))
  }

  /** dockerd has given back the address of an endpoint, or let a minute go by: one that never was in a container is none. */
  async removeUnjoined(id: string): Promise<void> {
    const endpoint = this.#deps.state.endpoint(id)
    if (endpoint === undefined) return
    await this.#locks.with(networkLock(endpoint.networkId), async () => {
      const { drivers, ipam, log, state } = this.#deps
      const network = state.networkOf(endpoint)
      const now = state.endpoint(id)
      if (now === undefined || network === undefined) return
      if (now.createdBy !== 'docker' || now.state !== 'created' || !drivers.get(network.driver).isLost(now)) return
      await removeEndpoint(this.#deps, network, now)
      for (const cidr of now.addresses) {
        const subnet = subnetOf(network, cidr)
        if (subnet !== undefined) await ipam.releaseAddress(subnet.poolId, addressOf(cidr), id)
      }
      log.info({ network: network.name, endpoint: now.name }, 'Docker knows nothing of this endpoint: it is removed')
    })
  }

  async #removeNetworks(which: (network: Network) => boolean): Promise<void> {
    if (this.#givenBack.size === 0) return
    const isForgotten = (network: Network): boolean =>
      network.createdBy === 'docker' &&
      network.scope === 'local' &&
      network.subnets.every(({ poolId }) => this.#givenBack.has(poolId)) &&
      which(network)
    await this.#locks.with('networks', async () => {
      for (const { id } of this.#deps.state.networks().filter(isForgotten))
        await this.#locks.with(networkLock(id), async () => {
          const network = this.#deps.state.networkById(id)
          if (network === undefined || this.#deps.state.endpointsOfNetwork(id).length > 0) return
          await deleteNetwork(this.#deps, network)
          this.#deps.log.info({ network: network.name }, 'Docker knows nothing of this network: it is removed')
        })
    })
  }

  #later(work: () => Promise<void>): void {
    setTimeout(() => {
      work().catch(error => this.#deps.log.error({ err: error }, 'could not remove what Docker does not know'))
    }, dockerWaitMs).unref()
  }
}
