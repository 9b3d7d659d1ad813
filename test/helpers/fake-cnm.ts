import type { Cnm, DockerDoor } from '../../src/cnm/cnm.js'
import { EventLog } from '../../src/cnm/event-log.js'
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
} from '../../src/cnm/specs.js'
import { conflict, notFound, within } from '../../src/errors.js'
import { randomId } from '../../src/names.js'
import { formatPortSpec } from '../../src/ports/spec.js'
import { netnsPath } from './netns.js'

type Verb = keyof Cnm
const epoch = '2026-01-02T03:04:05.000Z'

/** The controller as the REST API sees it, in memory: the same refusals, no kernel. Remembers what it was asked to change. */
export class FakeCnm implements Cnm {
  readonly log = new EventLog()
  readonly calls: [Verb, ...unknown[]][] = []
  allHosts: HostView[] = []
  overlay: OverlayReport = { network: '', ok: true, hosts: [] }
  report: ReconcileReport = { dryRun: false, changes: [], failures: [] }
  /** makes and removes the namespace of a sandbox, where a test needs a real one */
  namespaces = { create: (_name: string): void => {}, delete: (_name: string): void => {} }
  readonly #networks = new Map<string, NetworkView>()
  readonly #sandboxes = new Map<string, SandboxView>()
  readonly #failures = new Map<Verb, unknown>()

  /** The next call of this verb throws. */
  failNext(verb: Verb, error: unknown): void {
    this.#failures.set(verb, error)
  }

  #called(verb: Verb, ...args: unknown[]): void {
    this.calls.push([verb, ...args])
    const failure = this.#failures.get(verb)
    this.#failures.delete(verb)
    if (failure !== undefined) throw failure
  }

  async createNetwork(spec: NetworkSpec): Promise<NetworkView> {
    this.#called('createNetwork', spec)
    if (this.networks().some(network => network.name === spec.name))
      throw within(`create network ${spec.name}`, conflict('the name is taken'))
    const network: NetworkView = {
      id: randomId(),
      name: spec.name,
      driver: spec.driver ?? 'bridge',
      options: spec.options ?? {},
      subnets: (spec.subnets ?? ['10.30.0.0/24']).map(subnet => ({
        family: subnet.includes(':') ? 6 : 4,
        subnet,
        auxAddresses: {},
        poolId: subnet,
        assignedBy: 'tsnet',
      })),
      internal: spec.internal ?? false,
      labels: spec.labels ?? {},
      createdBy: 'tsnet',
      createdAt: epoch,
      dockerNetworkIds: [],
      scope: 'local',
      endpoints: [],
    }
    this.#networks.set(network.id, network)
    return network
  }

  async network(ref: string): Promise<NetworkView> {
    return this.#network(ref)
  }

  #network(ref: string): NetworkView {
    return find(ref, this.networks(), 'network')
  }

  networks(): NetworkView[] {
    return [...this.#networks.values()]
  }

  async deleteNetwork(ref: string): Promise<void> {
    this.#called('deleteNetwork', ref)
    const network = this.#network(ref)
    if (network.endpoints.length > 0) throw within(`delete network ${ref}`, conflict('it is in use'))
    this.#networks.delete(network.id)
  }

  async pruneNetworks(): Promise<string[]> {
    this.#called('pruneNetworks')
    const unused = this.networks().filter(network => network.endpoints.length === 0)
    for (const network of unused) this.#networks.delete(network.id)
    return unused.map(network => network.name)
  }

  async createSandbox(spec: SandboxSpec): Promise<SandboxView> {
    this.#called('createSandbox', spec)
    if (this.sandboxes().some(sandbox => sandbox.name === spec.name))
      throw within(`create sandbox ${spec.name}`, conflict('the name is taken'))
    const owned = spec.netns === undefined && spec.pid === undefined && spec.share === undefined
    const owner = spec.share === undefined ? undefined : this.sandbox(spec.share.replace('container:', ''))
    if (owned) this.namespaces.create(spec.name)
    const sandbox: SandboxView = {
      id: randomId(),
      name: spec.name,
      netns: owner?.netns ?? spec.netns ?? (spec.pid === undefined ? netnsPath(spec.name) : `/proc/${spec.pid}/ns/net`),
      owned,
      ephemeral: spec.ephemeral ?? false,
      createdAt: epoch,
      endpoints: [],
      missing: false,
    }
    this.#sandboxes.set(sandbox.id, sandbox)
    return sandbox
  }

  sandbox(ref: string): SandboxView {
    return find(ref, this.sandboxes(), 'sandbox')
  }

  sandboxes(): SandboxView[] {
    return [...this.#sandboxes.values()]
  }

  async deleteSandbox(ref: string): Promise<void> {
    this.#called('deleteSandbox', ref)
    const sandbox = this.sandbox(ref)
    for (const network of this.networks())
      network.endpoints = network.endpoints.filter(endpoint => endpoint.sandboxId !== sandbox.id)
    if (sandbox.owned) this.namespaces.delete(sandbox.name)
    this.#sandboxes.delete(sandbox.id)
  }

  async connect(networkRef: string, sandboxRef: string, spec: ConnectSpec): Promise<EndpointView> {
    this.#called('connect', networkRef, sandboxRef, spec)
    const network = this.#network(networkRef)
    const sandbox = this.sandbox(sandboxRef)
    const endpoint: EndpointView = {
      id: randomId(),
      networkId: network.id,
      name: sandbox.name,
      createdBy: 'tsnet',
      sandboxId: sandbox.id,
      addresses: [`${spec.ip ?? '10.30.0.2'}/24`],
      mac: spec.mac ?? '02:42:0a:1e:00:02',
      hostLink: 'ts0123456789ab',
      ifname: spec.ifname ?? 'eth0',
      aliases: spec.aliases ?? [],
      routes: spec.routes ?? [],
      ports: spec.ports ?? [],
      bindings: (spec.ports ?? []).map(({ protocol, hostIp, hostPort, containerPort }) => ({
        protocol,
        hostIp: hostIp ?? '0.0.0.0',
        hostPort: hostPort?.first ?? 32768,
        containerIp: spec.ip ?? '10.30.0.2',
        containerPort: containerPort.first,
        size: containerPort.last - containerPort.first + 1,
      })),
      state: 'joined',
      createdAt: epoch,
      network: network.name,
      sandbox: sandbox.name,
    }
    network.endpoints.push(endpoint)
    sandbox.endpoints.push(endpoint)
    return endpoint
  }

  async disconnect(
    networkRef: string,
    sandboxRef: string,
    options: { force?: boolean; wait?: boolean } = {},
  ): Promise<void> {
    this.#called('disconnect', networkRef, sandboxRef, options)
    if (options.force) return
    const network = this.#network(networkRef)
    const sandbox = this.sandbox(sandboxRef)
    network.endpoints = network.endpoints.filter(endpoint => endpoint.sandboxId !== sandbox.id)
    sandbox.endpoints = sandbox.endpoints.filter(endpoint => endpoint.networkId !== network.id)
  }

  endpoints(): EndpointView[] {
    return this.sandboxes().flatMap(sandbox => sandbox.endpoints)
  }

  async publish(ref: string, spec: PublishSpec): Promise<EndpointView> {
    this.#called('publish', ref, spec)
    const endpoint = find(ref, this.endpoints(), 'endpoint')
    const { protocol, hostIp = '0.0.0.0', hostPort, containerPort, from } = spec.port
    const at = { protocol, hostIp, hostPort: hostPort?.first ?? 40_000, containerIp: '10.30.0.2' }
    const asked = { spec: formatPortSpec(spec.port), live: true as const, ...(from && { from }) }
    endpoint.bindings.push({ ...at, containerPort: containerPort.first, size: 1, ...asked })
    return endpoint
  }

  async unpublish(ref: string, spec: PublishSpec): Promise<void> {
    this.#called('unpublish', ref, spec)
    const endpoint = find(ref, this.endpoints(), 'endpoint')
    endpoint.bindings = endpoint.bindings.filter(binding => binding.spec !== formatPortSpec(spec.port))
  }

  async hosts(): Promise<HostView[]> {
    this.#called('hosts')
    return this.allHosts
  }

  async removeHost(name: string, options: { force: boolean }): Promise<void> {
    this.#called('removeHost', name, options)
    const host = this.allHosts.find(each => each.name === name)
    if (host === undefined) throw notFound(`there is no host ${name}`)
    if (host.state === 'up' && !options.force) throw conflict(`host ${name} is up`)
    this.allHosts = this.allHosts.filter(each => each !== host)
  }

  async verifyOverlay(ref: string): Promise<OverlayReport> {
    this.#called('verifyOverlay', ref)
    return { ...this.overlay, network: this.#network(ref).name }
  }

  inspect(ref: string): Inspected[] {
    return [
      ...this.networks().map((network): Inspected => ({ kind: 'network', ...network })),
      ...this.sandboxes().map((sandbox): Inspected => ({ kind: 'sandbox', ...sandbox })),
      ...this.endpoints().map((endpoint): Inspected => ({ kind: 'endpoint', ...endpoint })),
    ].filter(({ id, name }) => id === ref || name === ref)
  }

  events(options: EventsOptions): AsyncIterable<Event> {
    return this.log.read(options)
  }

  async reconcile(options: { dryRun: boolean }): Promise<ReconcileReport> {
    this.#called('reconcile', options)
    return { ...this.report, ...options }
  }

  get docker(): DockerDoor {
    throw new Error("this fake has no door for Docker: fake-docker-door.ts is that one's fake")
  }
}

function find<T extends { id: string; name: string }>(ref: string, objects: T[], what: string): T {
  const found = objects.find(object => object.id === ref || object.name === ref)
  if (found === undefined) throw notFound(`there is no ${what} ${ref}`)
  return found
}
