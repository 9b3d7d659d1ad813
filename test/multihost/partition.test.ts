import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { expectAgreement } from '../helpers/cluster-judge.js'
import { attachOnEach, eachLeavesAllAsFound, expectAllReach, expectReach } from '../helpers/cluster-tidy.js'
import { type ClusterHost, ClusterWorld, keyPrefix } from '../helpers/cluster-world.js'
import { until } from '../helpers/machine.js'

// A host on the wrong side of a partition, with the wrong name, with the wrong etcd, with a clock that is wrong.

let world: ClusterWorld
let [h1, h2, h3]: ClusterHost[] = []

beforeAll(async () => {
  world = await ClusterWorld.start({ etcd: 3 })
  ;[h1, h2, h3] = world.hosts
})
afterAll(() => world?.stop())

eachLeavesAllAsFound(
  () => world,
  async () => {
    world.mend()
    for (const host of world.hosts) await untilUp(host)
  },
)

const untilUp = (host: ClusterHost): Promise<unknown> =>
  until(`${host.name} to have etcd`, () => host.tryTsnet('host', 'ls').status === 0, 30_000)

function blueOnAll() {
  h1!.tsnet('network', 'create', 'blue', '--driver', 'overlay', '--subnet', '10.50.0.0/24')
  return attachOnEach(world.hosts, 'blue')
}

/** Global operations are refused in time with this reason; the client's own start is in the time too. */
function expectRefused(host: ClusterHost, reason: RegExp): void {
  const before = Date.now()
  const got = host.tryTsnet('network', 'create', 'red', '--driver', 'overlay')
  expect([Date.now() - before, got.status, got.stderr]).toEqual([
    expect.toSatisfy((ms: number) => ms < 10_000), // 3 s, and a machine that is busy
    7,
    expect.stringMatching(reason),
  ])
}

async function restart(host: ClusterHost, ...options: string[]): Promise<void> {
  await host.stopTsnet()
  await host.startTsnet(...options)
}

/** The daemon logs that it does not take part, and why. */
const untilSaid = (host: ClusterHost, words: string): Promise<unknown> =>
  until(`${host.name} to say "${words}"`, () => host.logOf('tsnet').includes(words))

test('a host that reaches only a member of etcd without a majority goes on as without etcd, and no other host notices', async () => {
  const places = blueOnAll()
  h3!.attach('blue', 'd3')
  await expectAllReach(places)
  const lonely = world.etcdPlace(2)
  world.cut(lonely, h1!, h2!, world.outside, world.etcdPlace(0), world.etcdPlace(1))
  world.cut(h3!, h1!, h2!, world.outside, world.etcdPlace(0), world.etcdPlace(1))
  expectRefused(h3!, /etcd/)
  h3!.tsnet('disconnect', 'blue', 'd3')
  await expectReach(h3!.sandbox('c3'), places[2]!.known[0]!)
  const [d1] = h1!.attach('blue', 'd1')
  h2!.tsnet('disconnect', 'blue', 'c2')
  await expectReach(h2!.attach('blue', 'd2') && h2!.sandbox('d2'), d1!, 'd1')
  world.mend()
  await untilUp(h3!)
  await expectAgreement(world, 30_000)
  await expectReach(h3!.sandbox('c3'), 'c1', 'd1', 'd2')
})

test('of two hosts of one name the second does not take part, says so, and does once it has a name of its own', async () => {
  const places = blueOnAll()
  h3!.tsnet('sandbox', 'rm', 'c3')
  await restart(h3!, '--host-name', 'h1')
  await untilSaid(h3!, 'host name h1 is used by another host')
  expectRefused(h3!, /host name h1 is used by another host .*--host-name/)
  h3!.tsnet('network', 'create', 'here', '--subnet', '10.99.0.0/24')
  h3!.attach('here', 'local')
  await expectReach(h1!.sandbox('c1'), places[1]!.known[0]!, 'c2')
  expect(h1!.tsnetJson<{ name: string; id: string }[]>('host', 'ls').map(({ name }) => name)).toContain('h1')
  await restart(h3!)
  await untilUp(h3!)
  const [again] = h3!.attach('blue', 'c3')
  await expectReach(h1!.sandbox('c1'), again!, 'c3')
  await expectAgreement(world)
})

describe('another etcd', () => {
  const other = (): string => world.storeUrl.replace(`/${keyPrefix}`, '/other')

  test('that is of another cluster is refused while the host is on networks of the first one, which keep working', async () => {
    const places = blueOnAll()
    await expectAllReach(places)
    await expectAgreement(world)
    await world.etcd.ctl('put', 'other/cluster/id', JSON.stringify({ v: 1, value: { id: 'of-others' } }))
    await restart(h3!, '--store', other())
    await untilSaid(h3!, 'is that of another cluster (of-others)')
    expectRefused(h3!, /is that of another cluster \(of-others\).*blue/)
    const addresses = places.map(({ known }) => known[0]!)
    for (const { at } of places) await expectReach(at, ...addresses)
    expect(await world.etcd.ctl('get', 'other/host/', '--prefix', '--keys-only')).toBe('')
    await restart(h3!)
    await untilUp(h3!)
    await expectAgreement(world)
    await expectAllReach(places)
    await world.etcd.ctl('del', '--prefix', 'other/')
  })

  test('or none at all: a daemon does not start without the cluster whose networks its host is on', async () => {
    blueOnAll()
    await h3!.stopTsnet()
    const got = h3!.tryTsnet('daemon', '--store', 'lmdb')
    expect(got).toMatchObject({
      status: 5,
      stderr: expect.stringMatching(/networks of a cluster \(c3\).*--store etcd/),
    })
    await h3!.startTsnet()
    await untilUp(h3!)
    await expectAgreement(world)
  })
})

/** Loaded into the daemon before its own code: a clock that is off by up to an hour, and by another amount every 0.7 s. */
const jumping = `
const real = Date
let offMs = 0
setInterval(() => { offMs = (Math.random() - 0.5) * 7_200_000 }, 700).unref()
globalThis.Date = class extends real {
  constructor(...args) { args.length === 0 ? super(real.now() + offMs) : super(...args) }
  static now() { return real.now() + offMs }
}`

test('a host whose clock jumps by up to an hour stays up, is answered in time, and sees etcd go and come like any other', async () => {
  const before = process.env.NODE_OPTIONS
  process.env.NODE_OPTIONS = `--import=data:text/javascript,${encodeURIComponent(jumping)}`
  try {
    await restart(h3!)
  } finally {
    if (before === undefined) delete process.env.NODE_OPTIONS
    else process.env.NODE_OPTIONS = before
  }
  await untilUp(h3!)
  const places = blueOnAll()
  await expectAllReach(places)
  const end = performance.now() + 12_000 // longer than anybody is taken to be up who is not heard of
  while (performance.now() < end) {
    const begun = performance.now()
    h3!.attach('blue', 'd3')
    h3!.tsnet('disconnect', 'blue', 'd3')
    expect(performance.now() - begun).toBeLessThan(10_000)
    const states = h1!
      .tsnetJson<{ name: string; state: string }[]>('host', 'ls')
      .map(({ name, state }) => [name, state])
    expect(states).toContainEqual(['h3', 'up'])
  }
  for (const member of world.etcd.members) await member.kill()
  expectRefused(h3!, /etcd/)
  for (const member of world.etcd.members) member.start()
  await world.etcd.ready()
  await untilUp(h3!)
  await expectAgreement(world)
  expect(clockSpanMs(h3!)).toBeGreaterThan(600_000)
  await restart(h3!)
})

/** Between the earliest and the latest time in the daemon's log. */
function clockSpanMs(host: ClusterHost): number {
  const times = [...host.logOf('tsnet').matchAll(/"time":"([^"]+)"/g)].map(([, time]) => Date.parse(time!))
  return Math.max(...times) - Math.min(...times)
}
