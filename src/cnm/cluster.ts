import type { Findings, Remote } from './driver.js'
import type { Endpoint, Host, Member, Network, Peer } from './types.js'

/**
 * The other hosts, through a store that all of them share.
 *
 * Each host's own endpoints and memberships are kept in its own store; the cluster's has a copy of them, which the others
 * read. Networks, their names and their addresses are the cluster's. So a host needs the cluster's store only for what
 * concerns others: without it everything that is there goes on working, and what was removed meanwhile is told later.
 */
export interface Cluster {
  /** this host's name */
  readonly host: string
  /** Why nothing can be asked of the store now, as the end of a sentence; undefined while it answers and all is known. */
  downBecause(): string | undefined

  /**
   * Global networks, with what this host has of them. While the store does not answer: as last heard, and after a restart those
   * that this host is a member of.
   */
  networks(): readonly Network[]
  /**
   * @throws {StoreConflict} a name of `unique` is taken: its key ends with that name
   * @throws {NetError} Conflict: the network's name is taken. Unavailable, at the latest after 3 s; at once while the store is down
   */
  createNetwork(network: Network, unique: readonly string[]): Promise<void>
  /** @throws {NetError} Conflict: endpoints or members are left, naming them with their hosts. Unavailable */
  deleteNetwork(network: Network, unique: readonly string[]): Promise<void>

  /** What this host has of a network. */
  member(networkId: string): Member | undefined
  /** Record what this host has of a network, here and for the others, and follow what others have of it. @throws {NetError} Unavailable */
  putMember(member: Member): Promise<void>
  /**
   * Record that less is left of it, or with no address and no Docker network that nothing is: never refused, the others
   * are told later where the store does not answer.
   */
  reduceMember(member: Member): Promise<void>

  /**
   * Tell the others of an endpoint of this host, or of its changes; the host is a member of its network. When it fails the others
   * may know all the same: withdraw it unless it stays.
   * @throws {NetError} Unavailable, NotFound: the network is gone
   */
  publish(endpoint: Endpoint, sandbox: string): Promise<void>
  /** Tell them that it is gone; later, where the store does not answer. */
  withdraw(endpoint: Endpoint): Promise<void>

  /** Endpoints on other hosts, of networks that this host is a member of. */
  peers(): readonly Peer[]
  /** The same of any one network, asked of the store; `remotes` is what drivers make of it. @throws {NetError} Unavailable */
  readNetwork(networkId: string): Promise<{ peers: Peer[]; members: Member[]; remotes: Remote[] }>

  /** @throws {NetError} Unavailable */
  hosts(): Promise<HostView[]>
  /**
   * Forget a host with its endpoints, addresses and memberships. @throws {NetError} NotFound; Conflict: it is up, without `force`
   */
  removeHost(name: string, options: { force: boolean }): Promise<void>
  /** Forget one endpoint of a host that is down, with its addresses. @throws {NetError} Conflict: the host is up */
  removePeer(peer: Peer): Promise<void>

  /**
   * Have every host on a network, this one included, say what it finds wrong there, as its `ClusterListener.verify` does;
   * in the order of their names. Waits `timeoutMs` for those that are up. @throws {NetError} Unavailable
   */
  verify(networkId: string, timeoutMs: number): Promise<HostReport[]>
}

export interface HostReport extends Findings {
  host: string
  /** silent: its daemon keeps its lease and has not answered in time */
  state: 'answered' | 'silent' | 'down'
}

export interface HostView extends Host {
  /** up: its daemon keeps its lease */
  state: 'up' | 'down'
  /** ISO 8601; when it was last heard of; now, while it is up */
  lastSeen: string
  endpoints: number
  /** names of the networks that it is a member of */
  networks: string[]
}

/** What the cluster asks of this host, and tells it. */
export interface ClusterListener {
  /** Joined endpoints of this host on a network, each with its sandbox as Peer has it. */
  endpointsOf(networkId: string): { endpoint: Endpoint; sandbox: string }[]
  /**
   * The store answers, for the first time or again, and the networks are known. Take back the addresses that this host has,
   * and let go of what others got meanwhile, before endpoints are published again.
   */
  reclaim(): Promise<void>
  /** Everything is known and published: make the kernel agree. */
  up(): Promise<void>
  down(because: string): void
  networkChanged(before: Network | undefined, after: Network | undefined): void
  /**
   * Endpoints, members or VTEPs of other hosts have changed on a network that this host is a member of: of the remotes, only
   * those that have, and none where it is something else that has, such as a name. Not told of what is known first when this
   * host becomes a member, or before `up`: ask for all of it.
   */
  remotesChanged(networkId: string, before: readonly Remote[], after: readonly Remote[]): void
  /** A host asks what is wrong about a network here. */
  verify(networkId: string): Promise<Findings>
}
