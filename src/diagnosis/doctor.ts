import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import { type Check, type DoctorReport, fail, ok } from '../cnm/diagnosis.js'
import type { Drivers } from '../cnm/driver.js'
import { inUse } from '../cnm/hosts.js'
import type { HostView, ReconcileReport } from '../cnm/specs.js'
import type { State } from '../cnm/state.js'
import type { Family, Network } from '../cnm/types.js'
import { isMarked } from '../drivers/mark.js'
import { messageOf } from '../errors.js'
import { passedChains } from '../firewall/foreign.js'
import { obstaclesOf } from '../firewall/foreign-nft.js'
import { openRunner } from '../firewall/runner.js'
import { Kernel } from '../netlink/kernel.js'
import { currentNetns } from '../netlink/netns.js'
import type { Link } from '../netlink/objects.js'
import type { EtcdOptions } from '../store/etcd-url.js'
import { conntrackChecks, diskChecks, kernelChecks, routeChecks, sysctlChecks } from './host-checks.js'
import { differenceChecks, encapsulationOf, mtuChecks, mtuOf, obstacleChecks, pathChecks } from './network-checks.js'
import { dockerCheck, dockerNetworkChecks, etcdChecks, pluginCheck } from './service-checks.js'

/** Where things are, as the daemon was told, or would be. */
export interface Places {
  pluginSocket: string
  dockerSocket: string
  stateDir: string
  /** absent: objects are kept on this host alone */
  etcd?: EtcdOptions
}

/** What the daemon knows. */
export interface DoctorDeps {
  places: Places
  kernel: Kernel
  /** what rules are written with */
  firewall: string
  state: State
  drivers: Drivers
  /** without changing anything */
  differences: () => Promise<ReconcileReport>
  hosts: () => Promise<HostView[]>
  /** look at other programs' rules anew */
  review: () => Promise<void>
  /** @throws {NetError} other hosts cannot reach this one now */
  underlay: () => { vtep: string; link: string }
}

type Work = () => Check[] | Check | Promise<Check[] | Check>

/** Look at everything; what cannot be looked at is said, and keeps nothing else from being. */
async function lookAt(works: Record<string, Work>): Promise<DoctorReport> {
  const found = await Promise.all(
    Object.entries(works).map(async ([what, work]) => {
      try {
        return await work()
      } catch (error) {
        return fail(what, `it could not be looked at: ${messageOf(error)}`)
      }
    }),
  )
  const checks = found.flat()
  return { ok: checks.every(({ state }) => state !== 'fail'), checks }
}

/** `tsnet doctor`, while the daemon runs. */
export function examine(deps: DoctorDeps): Promise<DoctorReport> {
  const { places, kernel, firewall, state, drivers } = deps
  const networks = state.networks()
  const used = networks.map(network => ({ network, endpoints: state.endpointsOfNetwork(network.id) }))
  const bridged = used.flatMap(({ network, endpoints }) =>
    drivers.bridges([inUse(network, endpoints)]).map(({ name }) => ({ network, endpoints, bridge: name })),
  )
  const families = new Set(networks.filter(({ internal }) => !internal).flatMap(familiesOf))
  const { cluster } = state
  return lookAt({
    firewall: () => ok('firewall', `rules are written with ${firewall}`),
    kernel: kernelChecks,
    sysctl: () => sysctlChecks(families, bridgesOf(kernel.links())),
    route: () =>
      routeChecks(
        bridged.map(({ network, bridge }) => ({
          ...{ network: network.name, bridge },
          subnets: network.subnets.map(({ subnet }) => subnet),
        })),
        kernel.links(),
        kernel.routes(),
      ),
    conntrack: conntrackChecks,
    foreign: async () => {
      await deps.review()
      return obstacleChecks(
        used.map(({ network, endpoints }) => ({
          name: network.name,
          bridge: drivers.bridges([inUse(network, endpoints)])[0]?.name,
          obstacles: drivers.obstacles(inUse(network, endpoints)),
        })),
      )
    },
    mtu: () => mtuChecks(kernel, used, cluster === undefined ? undefined : quietly(deps.underlay)),
    records: async () => differenceChecks(await deps.differences()),
    plugin: () => pluginCheck(places.pluginSocket),
    dockerd: () => dockerCheck(places.dockerSocket, networks.filter(isDockers).length),
    'networks of Docker': () => dockerNetworkChecks(places.dockerSocket, places.pluginSocket, networks),
    etcd: async () => (places.etcd === undefined ? [] : etcdChecks(places.etcd)),
    hosts: () => betweenHosts(deps),
    disk: () => diskChecks(places.stateDir),
  })
}

const isDockers = ({ createdBy, dockerNetworkIds }: Network): boolean =>
  createdBy === 'docker' || dockerNetworkIds.length > 0
const familiesOf = ({ subnets }: { subnets: readonly { family: Family }[] }): Family[] =>
  subnets.map(({ family }) => family)
const bridgesOf = (links: readonly Link[]): Link[] => links.filter(link => link.kind === 'bridge' && isMarked(link))

function quietly<T>(work: () => T): T | undefined {
  try {
    return work()
  } catch {
    return undefined
  }
}

async function betweenHosts({ state, hosts, underlay }: DoctorDeps): Promise<Check[]> {
  const { cluster } = state
  if (cluster === undefined) return []
  const because = cluster.downBecause()
  if (because !== undefined)
    return [fail('cluster', `what other hosts have is not known: ${because}`, 'systemctl status etcd')]
  const { vtep } = underlay()
  const mtus = state.networks().flatMap(network => (network.driver === 'overlay' ? (mtuOf(network) ?? []) : []))
  const whole = Math.max(1280, ...mtus.map(mtu => mtu + encapsulationOf(vtep)))
  return await pathChecks(cluster.host, await hosts(), whole)
}

/** The same as far as it goes without a daemon, which `because` says why there is none. */
export async function examineAlone(places: Places, because: string): Promise<DoctorReport> {
  const netns = currentNetns()
  const kernel = Kernel.open(netns)
  netns.close()
  try {
    const bridges = bridgesOf(kernel.links())
    const families = new Set<Family>(bridges.length > 0 ? [4] : [])
    return await lookAt({
      daemon: () => fail('daemon', because, 'systemctl start tsnet    # or: tsnet daemon'),
      kernel: kernelChecks,
      sysctl: () => sysctlChecks(families, bridges),
      conntrack: conntrackChecks,
      foreign: () => foreignAlone(bridges),
      plugin: () => pluginCheck(places.pluginSocket),
      dockerd: () => dockerCheck(places.dockerSocket, 0),
      etcd: async () => (places.etcd === undefined ? [] : etcdChecks(places.etcd)),
      disk: () => diskChecks(nearest(places.stateDir)),
    })
  } finally {
    kernel.close()
  }
}

/** Before its first start the daemon has not made it yet. */
const nearest = (path: string): string => (existsSync(path) ? path : nearest(dirname(path)))

/** With nftables' own rules in force: before those of iptables. */
const ourPriority = -10

async function foreignAlone(bridges: readonly Link[]): Promise<Check[]> {
  const runner = await openRunner()
  try {
    const chains = await passedChains({ runner })
    return obstacleChecks(
      bridges.map(({ name, alias = '' }) => ({
        ...{ name: alias.replace(/^tsnet:/, ''), bridge: name },
        // what modes its network has, only the daemon knows: these are the usual ones
        obstacles: obstaclesOf(chains, { name, published: [4, 6], direct: [], doors: [] }, ourPriority),
      })),
    )
  } finally {
    runner.close()
  }
}
