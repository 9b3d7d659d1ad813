import { invalid, notFound } from '../errors.js'
import type { KeyedLock } from '../locks.js'
import { randomMac, shortId } from '../names.js'
import { addressOf, prefixLengthOf } from '../net/subnets.js'
import { type Undo, withUndo } from '../undo.js'
import type { DockerDoor } from './cnm.js'
import { DockerIpam } from './docker-ipam.js'
import { givenOptions } from './endpoint-options.js'
import { type EndpointDeps, forgetEndpoint, hostLinkName, releaseAddresses, removeEndpoint } from './endpoints.js'
import {
  adoptSubnet,
  asksInternal,
  deleteNetwork,
  dockerPlaceholder,
  establish,
  networkLock,
  refuseFixed,
  reserveHostAddresses,
  subnetOf,
} from './networks.js'
import type {
  DockerAddressRequest,
  DockerEndpointSpec,
  DockerJoin,
  DockerNetworkSpec,
  DockerPoolGrant,
  DockerPoolRequest,
} from './specs.js'
import type { Endpoint, Network, PortSpec } from './types.js'

/** Docker's objects in terms of ours. dockerd may repeat any call, so each states an end and looks first whether it is reached. */
export class Docker implements DockerDoor {
  readonly #deps: EndpointDeps
  readonly #locks: KeyedLock
  readonly #ipam: DockerIpam

  constructor(deps: EndpointDeps, locks: KeyedLock) {
    this.#deps = deps
    this.#ipam = new DockerIpam(deps)
    this.#locks = locks
  }

  createNetwork(spec: DockerNetworkSpec): Promise<void> {
    return this.#locks.with('networks', async () => {
      const known = this.#deps.state.networkOfDocker(spec.networkId)
      if (known !== undefined) return await this.#deps.drivers.get(known.driver).ensureNetwork(known)
      const { network: bound, driver = 'bridge', ...options } = spec.options
      if (bound === undefined) return await this.#createOwn(spec, driver, options)
      const other = Object.keys(options)[0]
      if (other !== undefined)
        throw invalid(`option ${other} has no effect beside network=${bound}: network ${bound} has its options already`)
      const network = this.#deps.state.network(bound)
      await this.#locks.with(lockOf(network), () => this.#bind(spec, network))
    })
  }

  /** `docker network create -d tsnet`: a network of its own, under Docker's id. dockerd never tells us its name. */
  async #createOwn(spec: DockerNetworkSpec, driver: string, options: Record<string, string>): Promise<void> {
    const parsed = this.#deps.drivers.get(driver).parseOptions(options)
    const network: Network = {
      id: spec.networkId,
      name: dockerPlaceholder(spec.networkId),
      driver,
      scope: this.#deps.drivers.get(driver).scope,
      options: parsed,
      subnets: [],
      internal: spec.internal || asksInternal(parsed),
      labels: {},
      createdBy: 'docker',
      createdAt: new Date().toISOString(),
      dockerNetworkIds: [],
    }
    await withUndo(async undo => {
      network.subnets = await this.#adopt(spec, network, undo)
      await establish(this.#deps, network, undo)
    })
  }

  /** `-o network=NAME`: the Docker network is another name for one of ours; subnets of its own are routed over the same link. */
  async #bind(spec: DockerNetworkSpec, network: Network): Promise<void> {
    refuseFixed(this.#deps, network)
    await withUndo(async undo => {
      const added = await this.#adopt(spec, network, undo)
      const updated: Network = {
        ...network,
        subnets: [...network.subnets, ...added.map(subnet => ({ ...subnet, dockerNetworkId: spec.networkId }))],
        dockerNetworkIds: [...network.dockerNetworkIds, spec.networkId],
      }
      await reserveHostAddresses(this.#deps, updated)
      const driver = this.#deps.drivers.get(network.driver)
      undo.add(`put network ${network.name} back`, () => driver.ensureNetwork(network, updated))
      await driver.ensureNetwork(updated, network)
      await this.#deps.state.updateNetwork(updated)
    })
  }

  async #adopt(spec: DockerNetworkSpec, network: Network, undo: Undo) {
    // 0.0.0.0/0 and ::/0 are Docker's null IPAM: no addresses at all
    const pools = spec.pools.filter(pool => prefixLengthOf(pool.subnet) > 0)
    const own = pools.filter(pool => !network.subnets.some(({ subnet }) => subnet === pool.subnet))
    const subnets = []
    for (const pool of own) subnets.push(await adoptSubnet(this.#deps, network, pool, undo))
    return subnets
  }

  deleteNetwork(networkId: string): Promise<void> {
    return this.#locks.with('networks', async () => {
      const network = this.#deps.state.networkOfDocker(networkId)
      if (network === undefined) return
      await this.#locks.with(lockOf(network), async () => {
        if (network.id === networkId) await this.#deleteOwn(network)
        else await this.#unbind(network, networkId)
      })
    })
  }

  /** dockerd forgets the network whatever we answer, so endpoints of its containers that are left here are leftovers. */
  async #deleteOwn(network: Network): Promise<void> {
    const { state } = this.#deps
    for (const endpoint of state.endpointsOfNetwork(network.id))
      if (endpoint.createdBy === 'docker') await removeEndpoint(this.#deps, network, endpoint)
    const others = state.endpointsOfNetwork(network.id)
    if (others.length === 0) return await deleteNetwork(this.#deps, network)
    // sandboxes of ours still use it: it becomes ours, so that `tsnet network rm` can end it
    await state.updateNetwork({ ...network, createdBy: 'tsnet' })
    this.#deps.log.warn(
      { network: network.name, endpoints: others.map(endpoint => endpoint.name) },
      'Docker removed a network that sandboxes still use; it stays until tsnet network rm',
    )
  }

  async #unbind(network: Network, dockerNetworkId: string): Promise<void> {
    const leaving = network.subnets.filter(subnet => subnet.dockerNetworkId === dockerNetworkId)
    for (const endpoint of this.#deps.state.endpointsOfNetwork(network.id)) {
      const subnet = endpoint.addresses[0] === undefined ? undefined : subnetOf(network, endpoint.addresses[0])
      if (endpoint.createdBy === 'docker' && subnet !== undefined && leaving.includes(subnet))
        await removeEndpoint(this.#deps, network, endpoint)
    }
    const updated: Network = {
      ...network,
      subnets: network.subnets.filter(subnet => !leaving.includes(subnet)),
      dockerNetworkIds: network.dockerNetworkIds.filter(id => id !== dockerNetworkId),
    }
    await this.#deps.drivers.get(network.driver).ensureNetwork(updated, network)
    await this.#deps.state.updateNetwork(updated)
    for (const subnet of leaving) await this.#deps.ipam.releasePool(subnet.poolId)
  }

  createEndpoint(spec: DockerEndpointSpec): Promise<{ mac?: string }> {
    return this.#locked(spec.networkId, async network => {
      await this.#removePredecessors(spec, network)
      const known = this.#deps.state.endpoint(spec.endpointId)
      const endpoint = known ?? (await this.#newEndpoint(spec, network))
      return spec.mac === undefined ? { mac: endpoint.mac } : {}
    })
  }

  /**
   * dockerd gives an address of its own IPAM to nobody twice: whoever has it here has ended, though in a crash nobody
   * said so (see lostContainerSteps), and where the link was in the container alone, no event of the host's did.
   */
  async #removePredecessors({ endpointId, addresses }: DockerEndpointSpec, network: Network): Promise<void> {
    const again = addresses.filter(address => subnetOf(network, address)?.assignedBy === 'docker')
    for (const other of this.#deps.state.endpointsOfNetwork(network.id))
      if (other.createdBy === 'docker' && other.id !== endpointId && other.addresses.some(a => again.includes(a)))
        await removeEndpoint(this.#deps, network, other)
  }

  #newEndpoint(spec: DockerEndpointSpec, network: Network): Promise<Endpoint> {
    const { ipam, state } = this.#deps
    const name = dockerPlaceholder(spec.endpointId)
    const endpoint: Endpoint = {
      id: spec.endpointId,
      networkId: network.id,
      name,
      createdBy: 'docker',
      addresses: spec.addresses,
      mac: spec.mac ?? randomMac(),
      hostLink: hostLinkName(spec.endpointId),
      aliases: [],
      routes: [],
      ...givenOptions(spec.options),
      ports: [],
      bindings: [],
      state: 'created',
      createdAt: new Date().toISOString(),
    }
    return withUndo(async undo => {
      for (const cidr of spec.addresses) {
        const subnet = subnetOf(network, cidr)
        if (subnet === undefined) throw invalid(`address ${cidr} is in no subnet of network ${network.name}`)
        // either dockerd asked our IPAM for it a moment ago, or chose it itself and ours must not have given it away
        await ipam.claim(subnet.poolId, addressOf(cidr), endpoint.id, `endpoint ${name}`)
        undo.add(`release ${cidr}`, () => releaseAddresses(this.#deps, network, endpoint))
      }
      await state.putEndpoint(endpoint)
      return endpoint
    })
  }

  async deleteEndpoint(networkId: string, endpointId: string): Promise<void> {
    const gone = await this.#ifKnown(networkId, endpointId, (network, endpoint) =>
      forgetEndpoint(this.#deps, network, endpoint),
    )
    await gone?.()
  }

  join(networkId: string, endpointId: string, sandboxKey: string): Promise<DockerJoin> {
    return this.#locked(networkId, async network => {
      const endpoint = this.#endpoint(network, endpointId)
      const driver = this.#deps.drivers.get(network.driver)
      await withUndo(async undo => {
        undo.add('delete the link', () => driver.deleteEndpoint(network, { endpoint }))
        await driver.join(network, { endpoint })
        await this.#deps.state.putEndpoint({ ...endpoint, state: 'joined', sandboxKey })
      })
      const { link, gateways, routes } = driver.attachment(network, endpoint)
      return {
        link,
        ifnamePrefix: driver.ifnamePrefix(network),
        ...(gateways[4] === undefined ? {} : { gateway4: gateways[4] }),
        ...(gateways[6] === undefined ? {} : { gateway6: gateways[6] }),
        routes,
        // without a gateway dockerd would add a network of its own, and with it a way out that nobody asked for
        disableGatewayService: gateways[4] === undefined && gateways[6] === undefined,
      }
    })
  }

  async leave(networkId: string, endpointId: string): Promise<void> {
    await this.#ifKnown(networkId, endpointId, async (network, endpoint) => {
      await this.#unpublish(network, endpoint, { state: 'created' })
    })
  }

  async publish(networkId: string, endpointId: string, ports: PortSpec[]): Promise<void> {
    await this.#locked(networkId, async network => {
      const endpoint = this.#endpoint(network, endpointId)
      const driver = this.#deps.drivers.get(network.driver)
      // dockerd sends a container's ports for each of its networks; an internal one has no outside
      if (network.internal) return
      if (driver.publish === undefined) {
        const fields = { network: network.name, endpoint: endpoint.name, ports }
        if (ports.length > 0)
          this.#deps.log.warn(
            fields,
            `driver ${network.driver} publishes no ports: they are reached at the container's address`,
          )
        return
      }
      if (JSON.stringify(endpoint.ports) === JSON.stringify(ports)) return
      const before = await this.#unpublish(network, endpoint, {})
      if (ports.length === 0) return
      await withUndo(async undo => {
        const wanted: Endpoint = { ...before, ports }
        undo.add('revoke the ports', () => driver.revoke?.(network, wanted))
        wanted.bindings = (await driver.publish?.(network, wanted)) ?? []
        await this.#deps.state.putEndpoint(wanted)
      })
    })
  }

  async revoke(networkId: string, endpointId: string): Promise<void> {
    await this.#ifKnown(networkId, endpointId, async (network, endpoint) => {
      await this.#unpublish(network, endpoint, {})
    })
  }

  async #unpublish(network: Network, endpoint: Endpoint, change: Partial<Endpoint>): Promise<Endpoint> {
    await this.#deps.drivers.get(network.driver).revoke?.(network, endpoint)
    const updated: Endpoint = { ...endpoint, ports: [], bindings: [], ...change }
    await this.#deps.state.putEndpoint(updated)
    return updated
  }

  skipsGateway({ network, driver = 'bridge' }: Record<string, string>): boolean {
    const type = network === undefined ? driver : this.#deps.state.network(network).driver
    return this.#deps.drivers.get(type).segment === 'lan'
  }

  requestPool(request: DockerPoolRequest): Promise<DockerPoolGrant> {
    return this.#ipam.requestPool(request)
  }

  releasePool(poolId: string): Promise<void> {
    return this.#ipam.releasePool(poolId)
  }

  requestAddress(request: DockerAddressRequest): Promise<string> {
    return this.#ipam.requestAddress(request)
  }

  releaseAddress(poolId: string, address: string): Promise<void> {
    return this.#ipam.releaseAddress(poolId, address)
  }

  /** Run `work` on the network that Docker knows by this id, holding its lock. */
  async #locked<T>(dockerNetworkId: string, work: (network: Network) => Promise<T>): Promise<T> {
    const find = (): Network => {
      const network = this.#deps.state.networkOfDocker(dockerNetworkId)
      if (network !== undefined) return network
      throw notFound(
        `Docker network ${shortId(dockerNetworkId)} is not known to tsnet (was its state directory removed?); docker network rm it and create it again`,
      )
    }
    return await this.#locks.with(lockOf(find()), () => work(find()))
  }

  /** Like #locked, for calls that end something: what is not there needs no ending. */
  async #ifKnown<T>(
    dockerNetworkId: string,
    endpointId: string,
    work: (network: Network, endpoint: Endpoint) => Promise<T>,
  ): Promise<T | undefined> {
    if (this.#deps.state.networkOfDocker(dockerNetworkId) === undefined) return undefined
    return await this.#locked(dockerNetworkId, async network => {
      const endpoint = this.#deps.state.endpoint(endpointId)
      return endpoint?.networkId === network.id ? await work(network, endpoint) : undefined
    })
  }

  #endpoint(network: Network, endpointId: string): Endpoint {
    const endpoint = this.#deps.state.endpoint(endpointId)
    if (endpoint?.networkId === network.id) return endpoint
    throw notFound(`endpoint ${shortId(endpointId)} is not on network ${network.name}`)
  }
}

const lockOf = (network: Network): string => networkLock(network.id)
