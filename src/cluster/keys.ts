import type { Host, Member, Network, Peer } from '../cnm/types.js'

/** Keys of the store that all hosts share. */
export const keys = {
  clusterId: 'cluster/id',
  hosts: 'host/',
  host: (name: string) => `host/${name}`,
  /** with the host's lease: there while its daemon keeps it */
  alives: 'alive/',
  alive: (name: string) => `alive/${name}`,
  /** left by `tsnet host rm` for the host's return */
  removed: (hostId: string) => `removed/${hostId}`,
  networks: 'network/',
  network: (id: string) => `network/${id}`,
  networkName: (name: string) => `network-name/${name}`,
  unique: (what: string) => `unique/${what}`,
  /** what hosts have of a network: one watch has it all */
  on: (networkId: string) => `net/${networkId}/`,
  member: (networkId: string, host: string) => `net/${networkId}/member/${host}`,
  endpoint: (networkId: string, endpointId: string) => `net/${networkId}/endpoint/${endpointId}`,
}

/** Keys of this host's own store. */
export const localKeys = {
  cluster: 'cluster',
  members: 'member/',
  member: (networkId: string) => `member/${networkId}`,
  /** networks that are being created: one that stays here may be in the shared store though nobody was told so */
  attempts: 'network-attempt/',
  attempt: (networkId: string) => `network-attempt/${networkId}`,
}

/** A network in the shared store: nothing of any one host in it. */
export interface NetworkRecord extends Network {
  /** names of its keys below `unique/` */
  unique: string[]
}

export interface HostRecord extends Host {
  /** ISO 8601; when it joined last, or left in good order */
  lastSeen: string
}

export interface AliveRecord {
  /** the host's id */
  id: string
}

/** What is below `net/`: a member's key has another middle than a peer's. */
export type OnNetwork = Member | Peer

export const isPeer = (value: OnNetwork): value is Peer => 'sandbox' in value

export const isMember = (value: OnNetwork): value is Member => !isPeer(value)

/** The cluster as this host remembers it. */
export interface ClusterRecord {
  id: string
  /** this host's name there */
  host: string
}

/** A membership as this host remembers it. While there is one, the shared store may have something of this host. */
export interface MemberRecord {
  member: Member
  network: NetworkRecord
  /** given up, and the others may not know yet */
  leaving?: true
}
