import { afterEach, beforeEach, expect } from 'vitest'
import type { ClusterHost, ClusterWorld } from './cluster-world.js'
import { until } from './machine.js'
import { removeEverything } from './tidy-host.js'
import { pings, type Vantage } from './vantage.js'

// What the suites of many hosts have in common between "before" and "after".

/** On every host: its sandboxes, then all networks, global ones from any of them. */
export function removeAllSandboxes(world: ClusterWorld): void {
  for (const host of world.hosts) removeEverything(host)
}

/**
 * Nothing is left of a test on any host, nor in etcd but what hosts say of themselves, the guard of the pools, and that a host
 * which never came back was removed.
 */
async function expectAsBefore(world: ClusterWorld, before: Map<string, string>): Promise<void> {
  const leftInEtcd = async (): Promise<string[]> =>
    [...(await world.records()).keys()].filter(key => !/^((cluster|host|alive|removed)\/|ipam\/pools$)/.test(key))
  // what was deleted while etcd did not answer, hosts tell it later
  await until('etcd to be empty', async () => (await leftInEtcd()).length === 0).catch(() => {})
  expect(await leftInEtcd()).toEqual([])
  for (const host of world.hosts) expect(host.snapshot()).toBe(before.get(host.name))
}

/**
 * Each test of a file leaves all hosts as it found them, once `tidy` and the removal of every sandbox have undone what it did.
 * Returns how they were found: of a host that a test brings anew, it has to tell itself.
 */
export function eachLeavesAllAsFound(world: () => ClusterWorld, tidy: () => unknown = () => {}): Map<string, string> {
  const found = new Map<string, string>()
  beforeEach(() => {
    for (const host of world().hosts) found.set(host.name, host.snapshot())
  })
  afterEach(async () => {
    await tidy()
    removeAllSandboxes(world())
    await expectAsBefore(world(), found)
  })
  return found
}

/** It answers there, at the latest in a few seconds: what a host tells of a new endpoint takes its time to arrive. */
export async function expectReach(from: Vantage, ...targets: string[]): Promise<void> {
  for (const target of targets) await until(`an answer from ${target}`, () => pings(from, target, 1))
}

export const expectNoReach = (from: Vantage, ...targets: string[]): void => {
  for (const target of targets) expect([target, pings(from, target, 1)]).toEqual([target, false])
}

/** Every one of them reaches every other one at all of its addresses and names. */
export async function expectAllReach(places: { at: Vantage; known: string[] }[]): Promise<void> {
  for (const from of places) for (const to of places) if (from !== to) await expectReach(from.at, ...to.known)
}

/** A sandbox on each host, `c1` on h1 and so on, attached to the network: where they are, and what they are known by. */
export const attachOnEach = (hosts: readonly ClusterHost[], network: string) =>
  hosts.map(host => {
    const name = `c${host.n}`
    return { host, name, at: host.sandbox(name), known: [...host.attach(network, name), name] }
  })
