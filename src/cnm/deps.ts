import { unavailable } from '../errors.js'
import type { Addresses } from '../ipam/ipam.js'
import type { Log } from '../log.js'
import { shortId } from '../names.js'
import type { Cluster } from './cluster.js'
import type { Drivers } from './driver.js'
import type { EventLog } from './event-log.js'
import type { NameService } from './names.js'
import type { State } from './state.js'

/** What the controller works with. */
export interface CnmDeps {
  state: State
  ipam: Addresses
  drivers: Drivers
  names: NameService
  /** CIDRs of the host's addresses and routes, the default routes left out */
  hostSubnets: () => string[]
  events: EventLog
  log: Log
}

/** How long what dockerd asked for may wait for its next call. The two are milliseconds apart. */
export const dockerWaitMs = 60_000
/** Owner of pools that dockerd asked for and no network has come for yet. */
export const dockerPoolOwner = 'a Docker network being created'
/** Owners of addresses that belong to no endpoint, as the IPAM keeps them. */
export const gatewayOwner = 'gateway'
export const hostOwner = 'host'
export const auxOwner = (name: string): string => `aux:${name}`
/** An endpoint's address is owned by the endpoint's id. */
export const isEndpointId = (owner: string): boolean => /^[0-9a-f]{64}$/.test(owner)

export const sandboxLock = (id: string): string => `namespace:${id}`
export const networkLock = (id: string): string => `network:${id}`
/** What stands for a name until dockerd has told it. */
export const dockerPlaceholder = (id: string): string => `docker-${shortId(id)}`

/** @throws {NetError} Unavailable: there is none */
export function clusterOf({ state: { cluster } }: CnmDeps): Cluster {
  if (cluster === undefined)
    throw unavailable(
      'this daemon keeps its objects on this host alone: for networks of many hosts start it with --store etcd://HOST:2379',
    )
  return cluster
}
