import type { ClusterHost, ClusterWorld } from './cluster-world.js'
import { attachmentOf, runContainer } from './docker.js'

// Docker on every host of a cluster, as its suites use it.

export const subnet = '10.50.0.0/16'
export const gateway = '10.50.0.1'

/** The network once, and Docker's part of it on each host. */
export function multihost(world: ClusterWorld, ...options: string[]): void {
  world.host(1).tsnet('network', 'create', 'multihost', '--driver', 'overlay', '--subnet', subnet, ...options)
  for (const host of world.hosts) bind(host, 'multihost', subnet)
}

/** Docker's part of a network on one host, as a user types it. */
export const bind = (host: ClusterHost, network: string, cidr: string): string =>
  host.docker(
    ...['network', 'create', '-d', 'tsnet', '--ipam-driver', 'tsnet', '--subnet', cidr],
    ...['-o', `network=${network}`, '--ipam-opt', `network=${network}`, network],
  )

export const addressOf = (host: ClusterHost, container: string, network = 'multihost'): string =>
  attachmentOf(host, container, network).IPAddress

/** `container_1` on h1 and so on, on network multihost: where they are, and what they are known by. */
export async function runOnEach(world: ClusterWorld, ...flags: string[]) {
  const places = []
  for (const host of world.hosts) {
    const name = `container_${host.n}`
    await runContainer(host, name, 'multihost', '--dns', gateway, ...flags)
    places.push({ host, name, at: host.container(name), known: [addressOf(host, name), name] })
  }
  return places
}
