import { conflict, invalid, kindOf, messageOf, notFound } from '../errors.js'
import type { KeyedLock } from '../locks.js'
import { randomMac, shortId } from '../names.js'
import { addressOf } from '../net/subnets.js'
import type { TxnPart } from '../store/store.js'
import { withUndo } from '../undo.js'
import type { DockerDoor } from './cnm.js'
import { dockerPlaceholder, networkLock } from './deps.js'
import { ForgottenByDocker } from './docker-forgotten.js'
import { DockerIpam } from './docker-ipam.js'
import { createDockerNetwork, deleteDockerNetwork } from './docker-networks.js'
import { isAny, isDockers, publishContainer, unpublishContainer } from './docker-ports.js'
import { givenOptions } from './endpoint-options.js'
import { type EndpointDeps, hostLinkName } from './endpoints.js'
import { forgetEndpoint, releaseAddresses, removeEndpoint } from './leaving.js'
import { leaveUnlocked, takePart } from './membership.js'
import { asksInternal, subnetOf } from './networks.js'
import type {
  DockerAddressRequest,
  DockerEndpointSpec,
  DockerJoin,
  DockerNetworkSpec,
  DockerPoolGrant,
  DockerPoolRequest,
} from './specs.js'
import type { Endpoint, Family, Network, PortSpec } from './types.js'

/** Docker's objects in terms of ours. dockerd may repeat any call, so each states an end and looks first whether it is reached. */
export class Docker implements DockerDoor {
  readonly #deps: EndpointDeps
  readonly #locks: KeyedLock
  readonly #forgotten: ForgottenByDocker
  readonly #ipam: DockerIpam

  constructor(deps: EndpointDeps, locks: KeyedLock) {
    this.#deps = deps
    this.#forgotten = new ForgottenByDocker(deps, locks)
    this.#ipam = new DockerIpam(deps, this.#forgotten)
    this.#locks = locks
  }

  createNetwork(spec: DockerNetworkSpec): Promise<void> {
    return this.#locks.with('networks', () => createDockerNetwork(this.#deps, this.#locks, spec))
  }

  deleteNetwork(networkId: string): Promise<void> {
    return this.#locks.with('networks', async () => {
      const network = this.#deps.state.networkOfDocker(networkId)
      if (network !== undefined)
        await this.#locks.with(lockOf(network), () => deleteDockerNetwork(this.#deps, network, networkId))
    })
  }

  createEndpoint(spec: DockerEndpointSpec): Promise<{ mac?: string }> {
    return this.#locked(spec.networkId, async network => {
      await this.#removePredecessors(spec, network)
      const known = this.#deps.state.endpoint(spec.endpointId)
      const endpoint = known ?? (await this.#newEndpoint(spec, network))
      this.#forgotten.endpointCreated(endpoint.id)
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
      const parts: TxnPart[] = []
      for (const cidr of spec.addresses) {
        const subnet = subnetOf(network, cidr)
        if (subnet === undefined) throw invalid(`address ${cidr} is in no subnet of network ${network.name}`)
        // either dockerd asked our IPAM for it a moment ago, or chose it itself and ours must not have given it away
        await ipam.claim(subnet.poolId, addressOf(cidr), endpoint.id, `endpoint ${name}`, parts).catch(error => {
          throw network.scope === 'global' && subnet.assignedBy === 'docker' ? withAdvice(error) : error
        })
        undo.add(`release ${cidr}`, () => releaseAddresses(this.#deps, network, endpoint))
      }
      await state.putEndpoint(endpoint, parts)
      return endpoint
    })
  }

  async deleteEndpoint(networkId: string, endpointId: string): Promise<void> {
    const rest = await this.#ifKnown(networkId, endpointId, async (network, endpoint) => {
      const leaving = await forgetEndpoint(this.#deps, network, endpoint)
      return async () => {
        await leaving.gone()
        await leaving.ended()
        await leaveUnlocked(this.#deps, this.#locks, network.id)
      }
    })
    await rest?.()
  }

  join(networkId: string, endpointId: string, sandboxKey: string): Promise<DockerJoin> {
    return this.#locked(networkId, async network => {
      const endpoint = this.#endpoint(network, endpointId)
      const driver = this.#deps.drivers.get(network.driver)
      await withUndo(async undo => {
        await takePart(this.#deps, network, undo)
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
      await unpublishContainer(this.#deps, network, endpoint, isAny, { state: 'created' })
    })
  }

  async publish(networkId: string, endpointId: string, ports: PortSpec[]): Promise<void> {
    await this.#locked(networkId, network =>
      publishContainer(this.#deps, network, this.#endpoint(network, endpointId), ports),
    )
  }

  async revoke(networkId: string, endpointId: string): Promise<void> {
    await this.#ifKnown(networkId, endpointId, async (network, endpoint) => {
      await unpublishContainer(this.#deps, network, endpoint, isDockers)
    })
  }

  skipsGateway(asked: Record<string, string>, internal: boolean): Record<Family, boolean> {
    const { network: name, driver: type = 'bridge', ...rest } = asked
    const known = name === undefined ? undefined : this.#deps.state.network(name)
    const driver = this.#deps.drivers.get(known?.driver ?? type)
    if (driver.segment === 'lan') return { 4: true, 6: true }
    const options = known?.options ?? driver.parseOptions(rest)
    const network = { options, internal: known?.internal ?? (internal || asksInternal(options)) }
    const skips = (family: Family): boolean => driver.hasGateway?.(network, family) === false
    return { 4: skips(4), 6: skips(6) }
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

/** dockerd knows of no other host, and chooses the same address again at the next try. */
const withAdvice = (error: unknown): unknown =>
  kindOf(error) === 'Conflict'
    ? conflict(
        `${messageOf(error)}; Docker's own IPAM does not know what other hosts have: make the Docker network with --ipam-driver tsnet, or on each host with an --ip-range of its own`,
        { cause: error },
      )
    : error

const lockOf = (network: Network): string => networkLock(network.id)
