import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { expectAgreement, readRecords } from '../helpers/cluster-judge.js'
import { attachOnEach, eachLeavesAllAsFound, expectAllReach, expectReach } from '../helpers/cluster-tidy.js'
import { type ClusterHost, ClusterWorld } from '../helpers/cluster-world.js'
import { until } from '../helpers/machine.js'
import { endServe, pings, startServe } from '../helpers/vantage.js'

// Without etcd, everything that is there goes on, and what is global waits. With it again, all hosts agree, without a restart.

let world: ClusterWorld
let [h1, h2, h3]: ClusterHost[] = []

beforeAll(async () => {
  world = await ClusterWorld.start()
  ;[h1, h2, h3] = world.hosts
})
afterAll(() => world?.stop())

eachLeavesAllAsFound(
  () => world,
  async () => {
    world.mend()
    const [member] = world.etcd.members
    if (member!.paused) member!.resume()
    if (!member!.runs) await startAgain()
    for (const host of world.hosts) await untilUp(host)
  },
)

const startAgain = async (): Promise<void> => {
  world.etcd.members[0]!.start()
  await world.etcd.ready()
}

/** Global operations work on the host: nothing but time is needed for that. */
const untilUp = (host: ClusterHost): Promise<unknown> =>
  until(`${host.name} to have etcd back`, () => host.tryTsnet('host', 'ls').status === 0, 20_000)

function blueOnAll() {
  h1!.tsnet('network', 'create', 'blue', '--driver', 'overlay', '--subnet', '10.50.0.0/24')
  return attachOnEach(world.hosts, 'blue')
}

/** Refused with the sentence of an absent store, in time; the client's own start is in the time too. */
function expectUnavailable(host: ClusterHost, ...args: string[]): void {
  const before = Date.now()
  const got = host.tryTsnet(...args)
  expect([Date.now() - before, got.status, got.stderr]).toEqual([
    expect.toSatisfy((ms: number) => ms < 10_000), // 3 s, and a machine that is busy
    7,
    expect.stringMatching(/^tsnet: .*etcd.*\n$/),
  ])
}

/** Everything of this host alone works. */
async function expectLocalWork(host: ClusterHost): Promise<void> {
  host.tsnet('network', 'create', 'here', '--subnet', '10.99.0.0/24')
  const [address] = host.attach('here', 'l1')
  host.attach('here', 'l2')
  await expectReach(host.sandbox('l2'), address!, 'l1')
  host.tsnet('sandbox', 'rm', 'l1', 'l2')
  host.tsnet('network', 'rm', 'here')
}

/** One packet every 50 ms, from now until `stop`: returns how many but the last were not answered. */
async function startPinging(host: ClusterHost, sandbox: string, address: string) {
  await host.serve('pinging', ...host.sandbox(sandbox).argv, 'busybox', 'ping', '-i', '0.05', address)
  return {
    async stop(): Promise<number> {
      await host.end('pinging', 'INT')
      const said = host.logOf('pinging').slice(host.logOf('pinging').lastIndexOf('PING '))
      const sent = Number(/(\d+) packets transmitted/.exec(said)?.[1])
      expect(sent).toBeGreaterThan(10)
      const answered = new Set([...said.matchAll(/ seq=(\d+) /g)].map(([, n]) => Number(n)))
      // the last one may have been under way
      return Array.from({ length: sent - 1 }, (_, n) => n).filter(n => !answered.has(n)).length
    },
  }
}

const ways: [string, { stop: () => unknown; back: () => unknown }][] = [
  ['killed', { stop: () => world.etcd.members[0]!.kill(), back: startAgain }],
  ['silent', { stop: () => world.etcd.members[0]!.pause(), back: () => world.etcd.members[0]!.resume() }],
  ['behind a broken switch', { stop: () => world.cut(world.etcdPlace(0)), back: () => world.mend() }],
]

describe.each(ways)('while etcd is %s', (_, etcd) => {
  test('traffic and local networks go on, what is global fails in time and says why, deletes are made up for', async () => {
    const places = blueOnAll()
    await expectAllReach(places)
    h3!.tsnet('sandbox', 'create', 'late')
    const pinging = await startPinging(h1!, 'c1', places[1]!.known[0]!)
    await etcd.stop()

    expectUnavailable(h3!, 'connect', 'blue', 'late')
    expectUnavailable(h2!, 'network', 'create', 'red', '--driver', 'overlay')
    expectUnavailable(h1!, 'host', 'ls')
    await expectLocalWork(h2!)
    await expectAllReach(places)
    expect(h1!.tsnet('network', 'ls')).toContain('blue')
    h3!.tsnet('disconnect', 'blue', 'c3')
    expect(h3!.json('ip', '-j', 'link', 'show', 'type', 'vxlan')).toEqual([])
    expect(await pinging.stop()).toBe(0)

    await etcd.back()
    for (const host of world.hosts) await untilUp(host)
    expect((await readRecords(world)).peers.map(({ name }) => name).sort()).toEqual(['c1', 'c2'])
    await expectAgreement(world)
    const [again] = h3!.attach('blue', 'late')
    await expectReach(h1!.sandbox('c1'), again!, 'late')
    await expectAgreement(world)
  })
})

test('a daemon that starts before etcd does all that is its own, and takes part once etcd is there', async () => {
  await world.etcd.members[0]!.kill()
  for (const host of world.hosts) await host.killTsnet()
  for (const host of world.hosts) await host.startTsnet()
  await expectLocalWork(h1!)
  expectUnavailable(h1!, 'network', 'create', 'blue', '--driver', 'overlay')
  await startAgain()
  for (const host of world.hosts) await untilUp(host)
  await expectAllReach(blueOnAll())
  await expectAgreement(world)
})

test('a daemon that is killed and started while etcd is away changes nothing in the kernel, and leaves no endpoint', async () => {
  const places = blueOnAll()
  h1!.attach('blue', 'd1')
  await expectAllReach(places)
  await expectAgreement(world)
  await world.etcd.members[0]!.kill()
  const kernel = (): unknown => [
    h1!.json('ip', '-j', 'link').map(({ ifindex, ifname }) => `${ifindex} ${ifname}`),
    // what bridges learn from those who speak comes and goes
    h1!
      .run('bridge', 'fdb')
      .split('\n')
      .filter(line => /permanent|static/.test(line))
      .sort(),
    h1!.run('ip', 'neigh', 'show', 'nud', 'permanent').split('\n').sort(),
  ]
  const before = kernel()
  const pinging = await startPinging(h2!, 'c2', places[0]!.known[0]!)
  await h1!.killTsnet()
  await h1!.startTsnet()
  // it knows nothing of other hosts yet, so their names least of all; the kernel does
  const addresses = places.map(({ known }) => known[0]!)
  for (const { at } of places) await expectReach(at, ...addresses)
  await expectReach(h1!.sandbox('d1'), 'c1')
  await expectReach(h2!.sandbox('c2'), 'c1', 'c3')
  expect(kernel()).toEqual(before)
  expect(await pinging.stop()).toBe(0)
  expect(h1!.tsnet('reconcile')).toBe('')
  h1!.tsnet('sandbox', 'create', 'late')
  expectUnavailable(h1!, 'connect', 'blue', 'late')
  h1!.tsnet('disconnect', 'blue', 'c1')
  await h1!.stopTsnet()
  await h1!.startTsnet() // what was not told yet is told by the next daemon
  await startAgain()
  for (const host of world.hosts) await untilUp(host)
  await expectAgreement(world)
  expect((await readRecords(world)).peers.map(({ name }) => name).sort()).toEqual(['c2', 'c3', 'd1'])
  await expectReach(h1!.sandbox('d1'), 'c2', 'c3')
})

test('a host that is cut off keeps its own; the others go on without it; afterwards all agree', async () => {
  const places = blueOnAll()
  h3!.attach('blue', 'd3')
  await expectAllReach(places)
  world.cut(h3!)
  expectUnavailable(h3!, 'network', 'create', 'red', '--driver', 'overlay')
  await expectReach(h3!.sandbox('d3'), ...places[2]!.known)
  h3!.tsnet('disconnect', 'blue', 'd3')
  h1!.attach('blue', 'd1')
  h2!.tsnet('disconnect', 'blue', 'c2')
  await expectReach(h1!.sandbox('c1'), 'd1')
  await until('h1 to see that h3 is down', () => stateOf('h3') === 'down', 30_000)
  // its addresses stay its own for as long as nobody says otherwise
  h2!.tsnet('sandbox', 'create', 'thief')
  const got = h2!.tryTsnet('connect', 'blue', 'thief', '--ip', places[2]!.known[0]!)
  expect(got).toMatchObject({ status: 5, stderr: expect.stringContaining('h3') })
  world.mend()
  await untilUp(h3!)
  await until('h1 to see that h3 is up', () => stateOf('h3') === 'up', 20_000)
  await expectReach(h3!.sandbox('c3'), 'c1', 'd1')
  await expectAgreement(world)
})

const stateOf = (name: string): string | undefined =>
  h1!.tsnetJson<{ name: string; state: string }[]>('host', 'ls').find(host => host.name === name)?.state

describe('a snapshot from the past', () => {
  const file = (): string => join(world.etcd.dir, 'past')

  test('what was made since is there again, what was removed since is gone again', async () => {
    const places = blueOnAll()
    await expectAllReach(places)
    await world.etcd.saveSnapshot(file())
    const [d3] = h3!.attach('blue', 'd3')
    h2!.tsnet('disconnect', 'blue', 'c2')
    h2!.tsnet('network', 'create', 'red', '--driver', 'overlay', '--subnet', '10.60.0.0/24')
    const [r1] = h1!.attach('red', 'r1')
    h3!.attach('red', 'r3')
    await expectReach(h3!.sandbox('r3'), r1!)
    await world.etcd.restoreSnapshot(file())
    for (const host of world.hosts) await untilUp(host)
    await expectAgreement(world, 30_000)
    const { networks, peers } = await readRecords(world)
    expect(networks.map(({ name }) => name).sort()).toEqual(['blue', 'red'])
    expect(peers.map(({ name }) => name).sort()).toEqual(['c1', 'c3', 'd3', 'r1', 'r3'])
    await expectReach(h1!.sandbox('c1'), d3!, 'd3')
    await expectReach(h3!.sandbox('r3'), r1!, 'r1')
    // addresses of before are nobody else's now
    const [next] = h2!.attach('blue', 'next')
    expect([places[0]!.known[0], places[2]!.known[0], d3]).not.toContain(next)
  })

  test('an address that another host has got meanwhile is given up by the one that comes back, which says so', async () => {
    const places = blueOnAll()
    const [c1] = places
    await world.etcd.saveSnapshot(file())
    // hosts choose addresses at random
    const taken = places.flatMap(({ known }) => known)
    const free = ['10.50.0.200', '10.50.0.201', '10.50.0.202', '10.50.0.203'].find(address => !taken.includes(address))!
    const [contested] = h3!.attach('blue', 'loser', '--ip', free)
    world.cut(h3!)
    await world.etcd.restoreSnapshot(file())
    for (const host of [h1!, h2!]) await untilUp(host)
    h2!.attach('blue', 'winner', '--ip', contested!)
    await startServe(h2!, 'winner', ['80/tcp'], h2!.sandbox('winner'))
    const since = new Date().toISOString()
    world.mend()
    await untilUp(h3!)
    await expectAgreement(world, 30_000)
    expect((await readRecords(world)).peers.map(({ name }) => name).sort()).toEqual(['c1', 'c2', 'c3', 'winner'])
    await expectReach(c1!.at, contested!)
    expect(h3!.tsnet('events', '--since', since, '--until', '0s')).toContain('loser')
    expect(h3!.logOf('tsnet')).toMatch(new RegExp(`loser.*${contested}|${contested}.*loser`))
    expect(pings(h3!.sandbox('loser'), contested!, 1)).toBe(false)
    await endServe(h2!, 'winner')
  })
})
