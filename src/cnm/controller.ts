import { setImmediate as turn } from 'node:timers/promises'
import { doing, kindOf, messageOf, notFound } from '../errors.js'
import type { ClusterAddresses } from '../ipam/types.js'
import { KeyedLock } from '../locks.js'
import { eventsOf } from './changes.js'
import type { Cluster, ClusterListener } from './cluster.js'
import { clusterListener } from './cluster-listener.js'
import type { Cnm } from './cnm.js'
import { clusterOf, networkLock, sandboxLock } from './deps.js'
import { Docker } from './docker.js'
import { learnDockerNames } from './docker-names.js'
import { Drift } from './drift.js'
import { connect, type EndpointDeps, endpointView, rewire } from './endpoints.js'
import { bridgesHere, disconnectPeer, networkView, ownSandbox, verifyOverlay, wholeNetworkView } from './hosts.js'
import { inspect } from './inspect.js'
import { detach, forgetEndpoint, type Leaving, removeEndpoint } from './leaving.js'
import { leaveUnlocked, leaveUnused } from './membership.js'
import type { DockerNames } from './names.js'
import { createNetwork, deleteNetwork, isUnused } from './networks.js'
import { Publications } from './publications.js'
import { lostContainerSteps, reconcile } from './reconcile.js'
import { repairFirewall } from './repair.js'
import { createSandbox, deleteSandbox, refuseSharedByOthers, sandboxView } from './sandboxes.js'
import type {
  ConnectSpec,
  EndpointView,
  Event,
  EventsOptions,
  HostView,
  Inspected,
  NetworkSpec,
  NetworkView,
  OverlayReport,
  PublishSpec,
  ReconcileReport,
  SandboxSpec,
  SandboxView,
} from './specs.js'
import type { Endpoint, ForwardedBridge, Network, Sandbox } from './types.js'

/** What the resolver calls them. */
const kindsOf = { network: 'networks', sandbox: 'sandboxes', endpoint: 'endpoints' } as const

/**
 * One lock for the set of networks, one for each network and each sandbox, and all of them are taken here and in
 * docker.ts, nowhere else. Order: `networks`, then sandboxes, then single networks (withAll takes keys in the order of
 * their text). Objects are looked up again once the lock is held: what was found before may be gone.
 */
export class Controller implements Cnm {
  readonly docker: Docker
  readonly drift: Drift
  readonly #deps: EndpointDeps
  readonly #locks = new KeyedLock()
  readonly #publications: Publications
  #listener: ClusterListener | undefined

  constructor(deps: EndpointDeps) {
    this.#deps = deps
    this.docker = new Docker(deps, this.#locks)
    this.drift = new Drift(deps, this.#locks)
    this.#publications = new Publications(deps, this.#locks)
    deps.state.onCommit(change => {
      deps.names.update(deps.state, kindsOf[change.of])
      for (const event of eventsOf(change)) deps.events.emit(event)
    })
  }

  createNetwork(spec: NetworkSpec): Promise<NetworkView> {
    return doing(`create network ${spec.name}`, () =>
      this.#locks.with('networks', async () => this.#networkView(await createNetwork(this.#deps, spec))),
    )
  }

  async network(ref: string): Promise<NetworkView> {
    return await wholeNetworkView(this.#deps, this.#deps.state.network(ref))
  }

  networks(): NetworkView[] {
    return this.#deps.state.networks().map(network => this.#networkView(network))
  }

  deleteNetwork(ref: string): Promise<void> {
    return doing(`remove network ${ref}`, async () => {
      const { id } = this.#deps.state.network(ref)
      await this.#locks.with('networks', () =>
        this.#locks.with(networkLock(id), () => deleteNetwork(this.#deps, this.#deps.state.network(id))),
      )
    })
  }

  async pruneNetworks(): Promise<string[]> {
    const unused = this.networks().filter(network => isUnused(this.#deps, network))
    const pruned: string[] = []
    for (const { id, name, scope } of unused)
      try {
        await this.deleteNetwork(id)
        pruned.push(name)
      } catch (error) {
        // what other hosts have of it is not known before it is asked for
        if (scope === 'local' || kindOf(error) !== 'Conflict') throw error
      }
    return pruned
  }

  createSandbox(spec: SandboxSpec): Promise<SandboxView> {
    // whoever is shared cannot be removed meanwhile
    const shared = this.#deps.state
      .sandboxes()
      .filter(({ id, name }) => spec.share?.endsWith(name) || spec.share?.endsWith(id))
    const keys = [`sandbox-name:${spec.name}`, ...shared.map(({ id }) => sandboxLock(id))]
    return doing(`create sandbox ${spec.name}`, () =>
      this.#locks.withAll(keys, async () => this.#sandboxView(await createSandbox(this.#deps, spec))),
    )
  }

  sandbox(ref: string): SandboxView {
    return this.#sandboxView(this.#deps.state.sandbox(ref))
  }

  sandboxes(): SandboxView[] {
    return this.#deps.state.sandboxes().map(sandbox => this.#sandboxView(sandbox))
  }

  deleteSandbox(ref: string): Promise<void> {
    return doing(`remove sandbox ${ref}`, async () => {
      const { id } = this.#deps.state.sandbox(ref)
      await this.#locks.with(sandboxLock(id), async () => {
        const sandbox = this.#deps.state.sandbox(id)
        refuseSharedByOthers(this.#deps, sandbox)
        const endpoints = this.#deps.state.endpointsOfSandbox(id)
        await Promise.all(endpoints.map(async endpoint => this.#left(endpoint, await this.#forget(endpoint))))
        await deleteSandbox(this.#deps, sandbox)
      })
    })
  }

  /** Others come to a local network and leave it meanwhile: their records share a transaction's sync. */
  connect(networkRef: string, sandboxRef: string, spec: ConnectSpec): Promise<EndpointView> {
    return doing(`connect sandbox ${sandboxRef} to network ${networkRef}`, async () => {
      const { state } = this.#deps
      const { id: networkId, scope } = state.network(networkRef)
      const sandboxId = state.sandbox(sandboxRef).id
      const attach = async () => {
        const [network, sandbox] = [state.network(networkId), state.sandbox(sandboxId)]
        return this.#endpointView(await connect(this.#deps, network, sandbox, spec, work => this.#inTurn(work)))
      }
      const key = networkLock(networkId)
      // what this host has of a global one comes with the first of its endpoints, and goes if that fails
      return await this.#locks.with(sandboxLock(sandboxId), () =>
        scope === 'local' ? this.#locks.shared(key, attach) : this.#locks.with(key, attach),
      )
    })
  }

  /** One after the other, and between two of them whatever else waits. */
  #inTurn(work: () => Promise<void>): Promise<void> {
    return this.#locks.with('attach', async () => {
      await turn()
      await work()
    })
  }

  disconnect(networkRef: string, sandboxRef: string, options: { force?: boolean; wait?: boolean } = {}): Promise<void> {
    return doing(`disconnect sandbox ${sandboxRef} from network ${networkRef}`, async () => {
      const { state } = this.#deps
      const network = state.network(networkRef)
      if (options.force && ownSandbox(this.#deps, network.id, sandboxRef) === undefined)
        return await disconnectPeer(this.#deps, network, sandboxRef)
      const { id } = state.sandbox(sandboxRef)
      await this.#locks.with(sandboxLock(id), async () => {
        const sandbox = state.sandbox(id)
        const endpoint = state.endpointsOfSandbox(id).find(candidate => candidate.networkId === network.id)
        if (endpoint === undefined) throw notFound(`sandbox ${sandbox.name} is not attached to network ${network.name}`)
        const leaving = await detach(this.#deps, sandbox, endpoint, () => this.#forget(endpoint))
        await this.#left(endpoint, leaving, options)
      })
    })
  }

  /**
   * The network is locked while the endpoint is forgotten, beside others who forget theirs, not while the kernel deletes its link.
   * The caller holds the sandbox's lock.
   */
  #forget(endpoint: Endpoint): Promise<Leaving> {
    const forget = () => forgetEndpoint(this.#deps, this.#deps.state.networkOf(endpoint), endpoint)
    return this.#locks.shared(networkLock(endpoint.networkId), forget)
  }

  async #left({ networkId }: Endpoint, leaving: Leaving, { wait = true } = {}): Promise<void> {
    await leaving.gone()
    // neither fails for anybody
    const rest = leaving.ended().then(() => leaveUnlocked(this.#deps, this.#locks, networkId))
    if (wait) await rest
  }

  endpoints(): EndpointView[] {
    return this.#deps.state.endpoints().map(endpoint => this.#endpointView(endpoint))
  }

  async publish(ref: string, spec: PublishSpec): Promise<EndpointView> {
    return this.#endpointView(await this.#publications.add(ref, spec))
  }

  unpublish(ref: string, spec: PublishSpec): Promise<void> {
    return this.#publications.remove(ref, spec)
  }

  async hosts(): Promise<HostView[]> {
    return await clusterOf(this.#deps).hosts()
  }

  removeHost(name: string, options: { force: boolean }): Promise<void> {
    return doing(`remove host ${name}`, () => clusterOf(this.#deps).removeHost(name, options))
  }

  verifyOverlay(ref: string): Promise<OverlayReport> {
    return doing(`verify network ${ref}`, () => verifyOverlay(this.#deps, this.#deps.state.network(ref)))
  }

  inspect(ref: string): Inspected[] {
    return inspect(ref, { networks: this.networks(), sandboxes: this.sandboxes(), endpoints: this.endpoints() })
  }

  events(options: EventsOptions): AsyncIterable<Event> {
    return this.#deps.events.read(options)
  }

  /** While the cluster's store answers, also what this host has there: a release that it did not answer waits for that. */
  async reconcile(options: { dryRun: boolean }): Promise<ReconcileReport> {
    if (this.#deps.state.cluster?.downBecause() === undefined && !options.dryRun)
      await this.#listener?.reclaim().catch(error => this.#deps.log.warn({ err: error }, messageOf(error)))
    return await this.#reconcileHere(options)
  }

  #reconcileHere(options: { dryRun: boolean }): Promise<ReconcileReport> {
    const { state } = this.#deps
    const sandboxLocks = () => state.sandboxes().map(sandbox => sandboxLock(sandbox.id))
    return this.#withNetworks(sandboxLocks, async () => {
      const report = await reconcile(this.#deps, options)
      // namespaces and addresses may have come without a change to any object
      this.#deps.names.update(state, 'everything')
      return report
    })
  }

  /** Another program has changed the firewall, in the words of `cause`: put back what is missing, take away what is not ours. */
  repairFirewall(cause: string): Promise<boolean> {
    return repairFirewall(this.#deps, cause, work => this.#withNetworks(() => [], work))
  }

  /** The bridges of all networks that there are. */
  bridges(): ForwardedBridge[] {
    return bridgesHere(this.#deps)
  }

  /** Hold the set of networks, every network and `others`. */
  #withNetworks<T>(others: () => string[], work: () => Promise<T>): Promise<T> {
    return this.#locks.with('networks', () => {
      const networks = this.#deps.state.networks().map(network => networkLock(network.id))
      return this.#locks.withAll([...networks, ...others()], work)
    })
  }

  /** Forget containers whose links have gone: called when links go. What dockerd says of them later finds nothing to do. */
  async removeLostContainers(): Promise<void> {
    for (const { id, name } of this.#deps.state.networks())
      await this.#locks.with(networkLock(id), async () => {
        const network = this.#deps.state.networkById(id)
        for (const step of network === undefined ? [] : lostContainerSteps(this.#deps, [network])) {
          await step.apply()
          this.#deps.events.emit({ type: 'reconcile', action: 'change', words: step.words })
          this.#deps.log.info({ network: name, change: step.words }, 'a container has gone')
          await leaveUnused(this.#deps, id)
        }
      })
  }

  hasDockerNetwork(id: string): boolean {
    return this.#deps.state.networkOfDocker(id) !== undefined
  }

  /** What the cluster tells this host, and asks of it. */
  clusterListener(cluster: Cluster, addresses: ClusterAddresses): ClusterListener {
    this.#listener = clusterListener(this.#deps, cluster, {
      addresses,
      detach: (endpoint, network) => this.#detach(endpoint, network),
      reconcile: () => this.#reconcileHere({ dryRun: false }),
    })
    return this.#listener
  }

  async #detach(endpoint: Endpoint, network: Network): Promise<void> {
    const { sandboxId } = endpoint
    const locks = [...(sandboxId === undefined ? [] : [sandboxLock(sandboxId)]), networkLock(network.id)]
    await this.#locks.withAll(locks, async () => {
      if (this.#deps.state.endpoint(endpoint.id) === undefined) return
      if (sandboxId !== undefined) rewire(this.#deps, this.#deps.state.sandbox(sandboxId), endpoint)
      await removeEndpoint(this.#deps, network, endpoint)
    })
  }

  /** What dockerd says its objects are called; it says so outside of the plugin protocol, and never to a plugin call's face. */
  learnDockerNames(names: DockerNames): Promise<void> {
    return learnDockerNames(this.#deps, this.#locks, names)
  }

  /** Announce a container, and set in it what dockerd does not know of, once its end of the cable is where it belongs. `link` is our end. */
  async finishContainer(link: string): Promise<void> {
    const { state, namespaces, drivers } = this.#deps
    const endpoint = state.endpointOfLink(link)
    if (endpoint?.createdBy !== 'docker' || endpoint.state !== 'joined') return
    const network = state.networkOf(endpoint)
    if (network !== undefined) drivers.get(network.driver).announce?.(network, endpoint)
    const { options, sandboxKey } = endpoint
    if (options !== undefined && sandboxKey !== undefined) namespaces.adjust(sandboxKey, endpoint.mac, options)
  }

  #networkView(network: Network): NetworkView {
    return networkView(this.#deps, network)
  }

  #endpointView(endpoint: Endpoint): EndpointView {
    return endpointView(this.#deps, endpoint)
  }

  #sandboxView(sandbox: Sandbox): SandboxView {
    return sandboxView(this.#deps, sandbox)
  }
}
