import type { DaemonOptions, StoreOptions } from './cli/daemon-options.js'
import { ClusterOfHosts } from './cluster/cluster.js'
import { keys } from './cluster/keys.js'
import type { Controller } from './cnm/controller.js'
import type { State } from './cnm/state.js'
import type { Peer } from './cnm/types.js'
import { conflict, messageOf } from './errors.js'
import { ClusterIpam } from './ipam/cluster.js'
import type { Log } from './log.js'
import type { Kernel } from './netlink/kernel.js'
import { currentNetns } from './netlink/netns.js'
import { openEtcd } from './store/etcd.js'
import { noticing } from './store/noticing.js'
import type { Store } from './store/store.js'
import { readUnderlay, type Underlay, watchUnderlay } from './underlay.js'
import type { Undo } from './undo.js'
import { packageVersion } from './version.js'

/** What a daemon has besides, where its store is one that hosts share. */
export interface ClusterParts {
  cluster: ClusterOfHosts
  ipam: ClusterIpam
  /** Connect, and stay connected: from now on the controller hears what other hosts do. */
  start(controller: Controller): void
}

interface ClusterOptions {
  options: DaemonOptions
  etcd: Extract<StoreOptions, { kind: 'etcd' }>
  local: Store
  hostId: string
  hostSubnets: () => string[]
  kernel: Kernel
  log: Log
}

/** Open what concerns other hosts, as far as this host's own store knows it: the shared one need not be there. */
export async function openCluster(given: ClusterOptions, undo: Undo): Promise<ClusterParts> {
  const { options, etcd, local, hostId, hostSubnets, kernel, log } = given
  const shared = await openEtcd(etcd)
  undo.add("close the cluster's store", () => shared.close())
  const cluster: ClusterOfHosts = new ClusterOfHosts({
    shared,
    where: shared.name,
    local,
    host: { name: options.hostName, id: hostId, version: packageVersion(), startedAt: new Date().toISOString() },
    log,
    releaseHost: host => ipam.releaseHost(host),
    releaseAddress: (poolId, address, owner) => ipam.releaseOwner(poolId, address, owner),
    releaseStray: (poolId, address) => ipam.releaseStray(poolId, address),
  })
  const ipam: ClusterIpam = new ClusterIpam({
    shared: noticing(cluster.shared, error => cluster.doubt(error)),
    local,
    host: options.hostName,
    networks: () => cluster.networks(),
    networkKey: keys.network,
    clusterIdKey: keys.clusterId,
    unreachable: () => cluster.unreachable(),
    hostSubnets,
    endpointName: async (networkId, id) => (await shared.get<Peer>(keys.endpoint(networkId, id)))?.value.name,
  })
  await cluster.load()
  await ipam.load()
  const told = (underlay: Underlay | undefined, because: string): void => {
    cluster.setUnderlay(underlay)
    if (underlay === undefined) log.warn({ because }, 'other hosts cannot reach this one')
    else log.info({ vtep: underlay.vtep, link: underlay.link }, 'other hosts reach this one')
  }
  tellUnderlay(kernel, options.advertise, told)
  const start = (controller: Controller): void => {
    cluster.start(controller.clusterListener(cluster, ipam))
    undo.add('leave the cluster', () => cluster.close())
    const stop = new AbortController()
    const netns = currentNetns()
    try {
      const changed = (underlay: Underlay | undefined, because: string): void => {
        told(underlay, because)
        // links that carry the old address take the new one
        controller
          .reconcile({ dryRun: false })
          .catch(error => log.error({ err: error }, `could not follow the new address: ${messageOf(error)}`))
      }
      watchUnderlay({ kernel, netns, advertise: options.advertise, changed, signal: stop.signal })
    } finally {
      netns.close()
    }
    undo.add('stop watching the underlay', () => stop.abort())
  }
  return { cluster, ipam, start }
}

/**
 * What this host has on networks of a cluster must not be taken for leftovers because the daemon was started without it.
 * @throws {NetError} Conflict
 */
export function refuseWithoutCluster(state: State): void {
  const names = state.endpoints().flatMap(endpoint => (state.networkOf(endpoint) === undefined ? endpoint.name : []))
  if (names.length > 0)
    throw conflict(
      `endpoints of this host are on networks of a cluster (${names.join(', ')}): start the daemon with that cluster's --store etcd://... as before, and disconnect them first if it is to do without`,
    )
}

function tellUnderlay(
  kernel: Kernel,
  advertise: string | undefined,
  told: (underlay: Underlay | undefined, because: string) => void,
): void {
  try {
    told(readUnderlay(kernel, advertise), '')
  } catch (error) {
    told(undefined, messageOf(error))
  }
}
