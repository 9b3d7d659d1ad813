import { expect } from 'vitest'
import { expectAgreement, expectSameJournals, readRecords } from './cluster-judge.js'
import { expectReach } from './cluster-tidy.js'
import { ClusterUser, commonNetworks } from './cluster-user.js'
import type { ClusterWorld } from './cluster-world.js'

// Several users on every host at once, and what must hold when they have finished.

const usersPerHost = 2

export async function startUsers(world: ClusterWorld, seed: number): Promise<ClusterUser[]> {
  for (const [name, subnet] of Object.entries(commonNetworks))
    world.host(1).tsnet('network', 'create', name, '--driver', 'overlay', '--subnet', subnet)
  const users = world.hosts.flatMap((host, i) =>
    Array.from({ length: usersPerHost }, (_, k) => new ClusterUser(host, usersPerHost * i + k + 1, seed)),
  )
  for (const user of users) await user.prepare()
  return users
}

/** Daemons, namespaces and etcd have what was answered, and nothing else. */
export async function expectAllKept(world: ClusterWorld, users: readonly ClusterUser[]): Promise<void> {
  for (const user of users) {
    await user.expectKept()
    user.expectInside()
  }
  const names = (await readRecords(world)).networks.map(({ name }) => name)
  for (const { owns, network } of users)
    if (owns !== undefined) expect([network, names.includes(network)]).toEqual([network, owns])
}

/** One sandbox of each user on each network reaches all others of the network. */
export async function expectNeighbours(users: readonly ClusterUser[]): Promise<void> {
  for (const network of Object.keys(commonNetworks)) {
    const places = users.map(({ host, attached }) => ({
      host,
      here: [...attached].filter(([key]) => key.endsWith(` ${network}`)),
    }))
    const addresses = places.flatMap(({ here }) => here.map(([, [address]]) => address!.split('/')[0]!))
    for (const { host, here } of places)
      if (here[0]) await expectReach(host.sandbox(here[0][0].split(' ')[0]!), ...addresses)
  }
}

/** Nothing waits on any host, and daemons that are started again find nothing to do. */
export async function expectNothingLeft(world: ClusterWorld): Promise<void> {
  for (const host of world.hosts) {
    expect([host.name, host.tsnet('reconcile')]).toEqual([host.name, ''])
    await host.stopTsnet()
  }
  await expectSameJournals(world)
  for (const host of world.hosts) await host.startTsnet()
  await expectAgreement(world)
  for (const host of world.hosts) expect([host.name, host.tsnet('reconcile', '--dry-run')]).toEqual([host.name, ''])
}

export function figures(users: readonly ClusterUser[]): string {
  const sum = (of: keyof ClusterUser['count']): number => users.reduce((all, { count }) => all + count[of], 0)
  const slowest = Math.round(Math.max(...users.map(({ count }) => count.slowestMs)))
  return `${sum('done')} operations, ${sum('unavailable')} refused as Unavailable, ${sum('unanswered')} without an answer, the slowest ${slowest} ms`
}
