import { invalid, notFound } from '../errors.js'
import { dockerOwner } from '../ipam/ipam.js'
import { hostOverlap, withPrefixLength } from '../net/subnets.js'
import { type CnmDeps, dockerPoolOwner, gatewayOwner, isEndpointId } from './deps.js'
import type { ForgottenByDocker } from './docker-forgotten.js'
import type { DockerAddressRequest, DockerPoolGrant, DockerPoolRequest } from './specs.js'
import type { Subnet } from './types.js'

/** Docker's IPAM calls (libnetwork/ipams/remote/api in moby) over our IPAM. They come before the network and the endpoint that they are for. */
export class DockerIpam {
  readonly #deps: CnmDeps
  readonly #forgotten: ForgottenByDocker

  constructor(deps: CnmDeps, forgotten: ForgottenByDocker) {
    this.#deps = deps
    this.#forgotten = forgotten
  }

  async requestPool(request: DockerPoolRequest): Promise<DockerPoolGrant> {
    const { network: bound, ...unknown } = request.options
    const key = Object.keys(unknown)[0]
    if (key !== undefined) throw invalid(`unknown option ${key} for the tsnet IPAM driver (it has one: network=NAME)`)
    if (bound === undefined) return this.#grantGlobal(request) ?? (await this.#newPool(request))
    const granted = this.#grantBound(request, bound)
    this.#forgotten.poolShared(granted.poolId)
    return granted
  }

  #grantBound(request: DockerPoolRequest, bound: string): DockerPoolGrant {
    const { state } = this.#deps
    const network = state.network(bound)
    const subnet = network.subnets.find(
      candidate => candidate.family === request.family && candidate.dockerNetworkId === undefined,
    )
    if (subnet === undefined) throw notFound(`network ${bound} has no IPv${request.family} subnet`)
    if (request.subnet !== undefined && request.subnet !== subnet.subnet)
      throw invalid(`subnet ${request.subnet} is not the one of network ${bound} (${subnet.subnet})`)
    // asked for no subnet in particular, dockerd asks again and again until it gets one that the host has no route to
    // (requestPoolHelper in libnetwork/network.go): this one it would refuse for ever, holding its locks
    if (request.subnet === undefined && hostOverlap(subnet.subnet, this.#deps.hostSubnets()) !== undefined)
      throw invalid(
        `network ${bound} is on this host already, so Docker wants its subnet said: --subnet ${subnet.subnet}`,
      )
    return grantOf(subnet)
  }

  /** The same `docker network create` on every host of a cluster: a subnet of a network that another host has made already. */
  #grantGlobal({ subnet }: DockerPoolRequest): DockerPoolGrant | undefined {
    const known = this.#deps.state.networks().filter(({ scope }) => scope === 'global')
    const same = known.flatMap(({ subnets }) => subnets).find(candidate => candidate.subnet === subnet)
    return same && grantOf(same)
  }

  async #newPool(request: DockerPoolRequest): Promise<DockerPoolGrant> {
    if (request.subnet !== undefined) await this.#forgotten.makeRoom(request.subnet)
    const pool = await this.#deps.ipam.requestPool({
      family: request.family,
      owner: dockerPoolOwner,
      // dockerd does not say what driver the subnet is for: whether it may be shared is seen when the network comes
      shared: true,
      ...(request.subnet === undefined ? {} : { subnet: request.subnet }),
      ...(request.range === undefined ? {} : { range: request.range }),
      // a request whose answer was lost left its pool behind; one that a network uses is refused by name
      ...(request.subnet !== undefined && this.#isUnusedDockerPool(request.subnet) ? { sameIsFine: true } : {}),
    })
    return { poolId: pool.id, subnet: pool.subnet }
  }

  #isUnusedDockerPool(subnet: string): boolean {
    return this.#deps.ipam.pools().some(pool => pool.subnet === subnet && pool.owner === dockerPoolOwner)
  }

  /** dockerd releases the pools of a network before it deletes the network; the network's deletion frees them. */
  async releasePool(poolId: string): Promise<void> {
    const used = this.#deps.state.networks().some(network => network.subnets.some(subnet => subnet.poolId === poolId))
    if (!used) await this.#deps.ipam.releasePool(poolId)
    else this.#forgotten.poolGivenBack(poolId)
  }

  async requestAddress(request: DockerAddressRequest): Promise<string> {
    const { ipam } = this.#deps
    const pool = ipam.pool(request.poolId)
    if (pool === undefined) throw notFound(`there is no address pool ${request.poolId}`)
    if (request.gateway && request.address !== undefined)
      if ((await ipam.holder(pool.id, request.address))?.owner === gatewayOwner)
        return withPrefixLength(request.address, pool.subnet)
    return await ipam.requestAddress(pool.id, {
      owner: request.gateway ? gatewayOwner : dockerOwner,
      ownerName: request.gateway ? `the gateway of ${pool.owner}` : 'a container',
      ...(request.address === undefined ? {} : { address: request.address }),
      ...(request.name === undefined ? {} : { name: request.name }),
      ...(request.gateway ? { anywhere: true } : {}),
    })
  }

  async releaseAddress(poolId: string, address: string): Promise<void> {
    const { ipam, state } = this.#deps
    const owner = (await ipam.holder(poolId, address))?.owner
    if (owner !== undefined) await this.#forgotten.removeUnjoined(owner)
    // an endpoint that is still there keeps its address, and a gateway is its network's
    if (owner === dockerOwner || (owner !== undefined && isEndpointId(owner) && state.endpoint(owner) === undefined))
      await ipam.releaseAddress(poolId, address, owner)
  }
}

const grantOf = ({ poolId, subnet, gateway }: Subnet): DockerPoolGrant => ({
  poolId,
  subnet,
  ...(gateway === undefined ? {} : { gateway: withPrefixLength(gateway, subnet) }),
})
