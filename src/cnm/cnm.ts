import type {
  ConnectSpec,
  DockerAddressRequest,
  DockerEndpointSpec,
  DockerJoin,
  DockerNetworkSpec,
  DockerPoolGrant,
  DockerPoolRequest,
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
import type { Family, PortSpec } from './types.js'

/**
 * The controller as the REST API and the CLI see it. A `ref` is an id, a name, or the start of an id that fits only one.
 * Everything throws NetError; nothing is changed by a call that throws.
 */
export interface Cnm {
  createNetwork(spec: NetworkSpec): Promise<NetworkView>
  /** A global one with what all hosts have of it. */
  network(ref: string): Promise<NetworkView>
  /** As far as it is known here without asking anybody. */
  networks(): NetworkView[]
  deleteNetwork(ref: string): Promise<void>
  /** Delete every network that has no endpoint; returns their names. Docker's networks are left to Docker. */
  pruneNetworks(): Promise<string[]>

  createSandbox(spec: SandboxSpec): Promise<SandboxView>
  sandbox(ref: string): SandboxView
  sandboxes(): SandboxView[]
  /** Disconnects it from everything first. A namespace that we did not make is left as it was found. */
  deleteSandbox(ref: string): Promise<void>

  connect(networkRef: string, sandboxRef: string, spec: ConnectSpec): Promise<EndpointView>
  /**
   * Links, interface, ports and addresses are gone and free afterwards. `force`: also an endpoint on another host, which must be
   * down. `wait: false`: not for the connections that came by its ports to be forgotten.
   */
  disconnect(networkRef: string, sandboxRef: string, options?: { force?: boolean; wait?: boolean }): Promise<void>
  endpoints(): EndpointView[]
  /** `ref` is the sandbox, the endpoint or Docker's container by its name. */
  publish(ref: string, spec: PublishSpec): Promise<EndpointView>
  unpublish(ref: string, spec: PublishSpec): Promise<void>

  /** @throws {NetError} Unavailable: there is no cluster, or its store does not answer */
  hosts(): Promise<HostView[]>
  /** Forget a host with its endpoints, addresses and memberships. `force`: one that is up, too. */
  removeHost(name: string, options: { force: boolean }): Promise<void>
  /** Have every host on a network compare what it should have with what it has. Changes nothing. */
  verifyOverlay(ref: string): Promise<OverlayReport>

  /** Every object whose id or name is `ref`; where there is none, those whose id starts with it. */
  inspect(ref: string): Inspected[]
  /** What has changed and what changes, in the order in which it did. Ends at `until`, when `signal` aborts, or with the daemon. */
  events(options: EventsOptions): AsyncIterable<Event>

  reconcile(options: { dryRun: boolean }): Promise<ReconcileReport>
  readonly docker: DockerDoor
}

/**
 * The same objects as dockerd's remote network and IPAM drivers speak of them. dockerd repeats calls, forgets what we
 * refuse to delete and never sends a network twice, so: every call may come again, deletes of unknown things are fine.
 */
export interface DockerDoor {
  /** Whether a network with these `-o` has no gateway in a family unless the user names one. */
  skipsGateway(options: Record<string, string>, internal: boolean): Record<Family, boolean>
  createNetwork(spec: DockerNetworkSpec): Promise<void>
  deleteNetwork(networkId: string): Promise<void>
  /** `mac` is set in the answer only if dockerd did not choose one. */
  createEndpoint(spec: DockerEndpointSpec): Promise<{ mac?: string }>
  deleteEndpoint(networkId: string, endpointId: string): Promise<void>
  join(networkId: string, endpointId: string, sandboxKey: string): Promise<DockerJoin>
  leave(networkId: string, endpointId: string): Promise<void>
  /** Replaces whatever this endpoint had published. */
  publish(networkId: string, endpointId: string, ports: PortSpec[]): Promise<void>
  revoke(networkId: string, endpointId: string): Promise<void>

  requestPool(request: DockerPoolRequest): Promise<DockerPoolGrant>
  releasePool(poolId: string): Promise<void>
  /** Returns a CIDR. */
  requestAddress(request: DockerAddressRequest): Promise<string>
  releaseAddress(poolId: string, address: string): Promise<void>
}
