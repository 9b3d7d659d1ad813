import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { NetworkView } from '../../src/cnm/specs.js'
import { disagreements, expectAgreement } from '../helpers/cluster-judge.js'
import {
  attachOnEach,
  eachLeavesAllAsFound,
  expectAllReach,
  expectNoReach,
  expectReach,
} from '../helpers/cluster-tidy.js'
import { type ClusterHost, ClusterWorld, underlay } from '../helpers/cluster-world.js'
import { until } from '../helpers/machine.js'
import { expectRefused } from '../helpers/tidy-host.js'
import { ask, endServe, isClosed, pings, startServe } from '../helpers/vantage.js'

// Networks of three hosts, by the command line: sandboxes that find each other, whichever host they are on.

let world: ClusterWorld
let h1: ClusterHost
let h2: ClusterHost
let h3: ClusterHost

beforeAll(async () => {
  world = await ClusterWorld.start()
  ;[h1, h2, h3] = [world.host(1), world.host(2), world.host(3)]
})
afterAll(() => world?.stop())

eachLeavesAllAsFound(() => world)

const blue = (...options: string[]): string => h1.tsnet('network', 'create', 'blue', '--driver', 'overlay', ...options)
/** Addresses outside of the range are the tests': whatever is chosen, the hosts' own addresses too, is inside. */
const subnet = ['--subnet', '10.50.0.0/24', '--ip-range', '10.50.0.128/26']
const vxlans = (host: ClusterHost): unknown[] => host.json('ip', '-j', '-d', 'link', 'show', 'type', 'vxlan')

describe('who reaches whom', () => {
  test('sandboxes on three hosts reach each other by address and by name, in both families, and the world', async () => {
    blue(...subnet, '--subnet', 'fd00:50::/64')
    const places = attachOnEach(world.hosts, 'blue')
    await expectAllReach(places)
    for (const { at } of places) await expectReach(at, underlay.beyond4, underlay.beyond6)
    await expectAgreement(world)
  })

  test('nothing but VXLAN is on the wire between the hosts, and no question for a MAC address of the network', async () => {
    blue(...subnet)
    const [one, two] = attachOnEach([h1, h2], 'blue')
    await expectReach(one!.at, two!.known[0]!)
    const dump = join(h1.dir, 'wire')
    await world.lan.serve('tcpdump', 'tcpdump', '-i', 'lan0', '-U', '-n', '-w', dump)
    await until('tcpdump to listen', () => world.lan.logOf('tcpdump').includes('listening'))
    h1.sandbox('c1').tryRun('ip', 'neigh', 'flush', 'all')
    expect(pings(one!.at, two!.known[0]!)).toBe(true)
    expectNoReach(one!.at, '10.50.0.200')
    await world.lan.end('tcpdump', 'INT')
    const seen = (filter: string): number =>
      Number(world.lan.run('tcpdump', '-r', dump, '--count', filter).trim().split(' ')[0])
    expect(seen('udp port 4789')).toBeGreaterThan(0)
    expect(seen('udp port 4789 and udp[28:2] = 0x0806')).toBe(0) // ARP within VXLAN: UDP 8, VXLAN 8, two MAC addresses 12
    expect(seen('net 10.50.0.0/24')).toBe(0)
  })

  test('two subnets of one family: sandboxes of one reach those of the other by the gateway of their own host', async () => {
    blue(...subnet, '--subnet', '10.51.0.0/24', '--ip-range', '10.51.0.128/26')
    h1.attach('blue', 'c1', '--ip', '10.50.0.10')
    h2.attach('blue', 'c2', '--ip', '10.51.0.10')
    h3.attach('blue', 'c3', '--ip', '10.51.0.11')
    await expectReach(h1.sandbox('c1'), '10.51.0.10', '10.51.0.11')
    await expectReach(h2.sandbox('c2'), '10.50.0.10', '10.51.0.11')
    await expectAgreement(world)
  })

  test('on an internal network there is no default route, and nobody outside is reached', async () => {
    blue(...subnet, '--internal')
    const places = attachOnEach(world.hosts, 'blue')
    await expectAllReach(places)
    for (const { at } of places) {
      expect(at.tryRun('ip', 'route', 'show', 'default').stdout).toBe('')
      expectNoReach(at, underlay.beyond4)
    }
  })

  test('two overlays do not reach each other, on one host or across hosts', async () => {
    blue(...subnet)
    h2.tsnet('network', 'create', 'red', '--driver', 'overlay', '--subnet', '10.60.0.0/24')
    const [inBlue] = h2.attach('blue', 'b2')
    const [inRed] = h1.attach('red', 'r1')
    h1.attach('blue', 'b1')
    h2.attach('red', 'r2')
    await expectReach(h1.sandbox('b1'), inBlue!)
    await expectReach(h2.sandbox('r2'), inRed!)
    expectNoReach(h1.sandbox('b1'), inRed!)
    expectNoReach(h2.sandbox('b2'), inRed!)
    expectNoReach(h2.sandbox('r2'), inBlue!, 'b2')
  })

  test('a host reaches sandboxes of other hosts, which see an address that is its alone', async () => {
    blue(...subnet)
    const [, two] = attachOnEach([h1, h2, h3], 'blue')
    await startServe(h2, 'c2', ['80/tcp'], h2.sandbox('c2'))
    const seen = [h1, h2, h3].map(host => ask(host, 'tcp', two!.known[0]!, 80)?.peer)
    await endServe(h2, 'c2')
    expect(new Set(seen).size).toBe(3)
    for (const address of seen) expect(address).toMatch(/^10\.50\.0\./)
    await expectReach(h3.sandbox('c3'), ...(seen as string[]))
  })

  test('a published port is reached from outside, from the other hosts and from their sandboxes', async () => {
    blue(...subnet)
    h1.attach('blue', 'c1', '-p', '8080:80')
    h2.attach('blue', 'c2')
    await startServe(h1, 'c1', ['80/tcp'], h1.sandbox('c1'))
    for (const from of [world.outside, h2, h3, h2.sandbox('c2')])
      expect(ask(from, 'tcp', h1.ip4, 8080)?.name).toBe('c1')
    expect(ask(world.outside, 'tcp', h1.ip4, 8080)?.peer).toBe(underlay.outside4)
    expect(isClosed(world.outside, 'tcp', h2.ip4, 8080)).toBe(true)
    await endServe(h1, 'c1')
  })

  test('a port can be published while a sandbox runs, for some clients, moved and taken back, and all hosts are told', async () => {
    blue(...subnet)
    const places = attachOnEach([h1, h2], 'blue')
    h1.attach('blue', 'd1')
    for (const box of ['c1', 'd1']) await startServe(h1, box, ['80/tcp'], h1.sandbox(box))
    const toldToH2 = () =>
      h2
        .tsnetJson<NetworkView[]>('network', 'inspect', 'blue')[0]!
        .endpoints.flatMap(({ name, bindings }) => bindings.map(({ hostPort }) => `${name} ${hostPort}`))
    h1.tsnet('publish', 'add', 'c1', '8080:80', '--from', underlay.outside4)
    expect(ask(world.outside, 'tcp', h1.ip4, 8080)).toEqual({ name: 'c1', peer: underlay.outside4 })
    expect(isClosed(h2, 'tcp', h1.ip4, 8080)).toBe(true)
    expect(new Set(toldToH2())).toEqual(new Set(['c1 8080']))
    h1.tsnet('publish', 'add', 'd1', '8080:80', '--replace')
    expect(ask(h2, 'tcp', h1.ip4, 8080)?.name).toBe('d1')
    expect(new Set(toldToH2())).toEqual(new Set(['d1 8080']))
    await expectAgreement(world)
    h1.tsnet('publish', 'rm', 'd1', '8080:80')
    expect(isClosed(world.outside, 'tcp', h1.ip4, 8080)).toBe(true)
    expect(toldToH2()).toEqual([])
    await expectReach(places[1]!.at, ...places[0]!.known)
    for (const box of ['c1', 'd1']) await endServe(h1, box)
  })

  test('publish_default and from of the network hold on every host, and what drops its VXLAN is named', async () => {
    blue(...subnet, '-o', 'publish_default=loopback')
    h2.tsnet('network', 'create', 'red', '--driver', 'overlay', '-o', `from=${underlay.outside4}`)
    for (const host of [h1, h2]) {
      host.attach('blue', `b${host.n}`, '-p', '8080:80')
      host.attach('red', `r${host.n}`, '-p', '8081:80')
      for (const box of [`b${host.n}`, `r${host.n}`]) await startServe(host, box, ['80/tcp'], host.sandbox(box))
    }
    for (const [host, other] of [
      [h1, h2],
      [h2, h1],
    ] as const) {
      expect(ask(host, 'tcp', '127.0.0.1', 8080)?.name).toBe(`b${host.n}`)
      expect(isClosed(world.outside, 'tcp', host.ip4, 8080)).toBe(true)
      expect(ask(world.outside, 'tcp', host.ip4, 8081)).toEqual({ name: `r${host.n}`, peer: underlay.outside4 })
      expect(isClosed(other, 'tcp', host.ip4, 8081)).toBe(true)
    }
    const chain = '{ type filter hook input priority 0; }'
    h1.run(
      'nft',
      `add table inet theirs; add chain inet theirs in ${chain}; add rule inet theirs in udp dport 4789 drop`,
    )
    const obstacles = () => h1.tsnetJson<NetworkView[]>('network', 'inspect', 'blue')[0]!.obstacles ?? []
    await until('the obstacle', () => obstacles().length > 0)
    expect(obstacles()).toEqual([
      expect.stringMatching(
        /^table inet theirs, chain in: udp dport 4789 drop \(to VXLAN from other hosts: iifname "\w+" udp dport 4789\)$/,
      ),
    ])
    h1.run('nft', 'delete table inet theirs')
    for (const host of [h1, h2]) for (const box of [`b${host.n}`, `r${host.n}`]) await endServe(host, box)
  })
})

describe('coming and going', () => {
  test('one that leaves is not reached, and is again once it is back', async () => {
    blue(...subnet)
    const [one, two] = attachOnEach([h1, h2], 'blue')
    await expectReach(one!.at, ...two!.known)
    h2.tsnet('disconnect', 'blue', 'c2')
    expectNoReach(one!.at, two!.known[0]!)
    await until('the name to go', () => !pings(one!.at, 'c2', 1))
    const [again] = h2.attach('blue', 'c2')
    await expectReach(one!.at, again!, 'c2')
    await expectAgreement(world)
  })

  test('an address that moves to another host is reached there at once', async () => {
    blue(...subnet)
    h1.attach('blue', 'c1')
    for (const host of [h2, h3, h2]) {
      host.attach('blue', 'mover', '--ip', '10.50.0.77')
      await expectReach(h1.sandbox('c1'), '10.50.0.77')
      host.tsnet('disconnect', 'blue', 'mover')
    }
    await expectAgreement(world)
  })

  test('the links of a network are on a host from its first endpoint to its last', async () => {
    blue(...subnet)
    for (const host of world.hosts) expect(vxlans(host)).toEqual([])
    const [one, two] = attachOnEach([h1, h2], 'blue')
    h1.attach('blue', 'other')
    await expectReach(one!.at, two!.known[0]!)
    expect([vxlans(h1).length, vxlans(h2).length, vxlans(h3).length]).toEqual([1, 1, 0])
    h1.tsnet('disconnect', 'blue', 'other')
    expect(vxlans(h1)).toHaveLength(1)
    h1.tsnet('disconnect', 'blue', 'c1')
    expect([vxlans(h1).length, vxlans(h2).length]).toEqual([0, 1])
    await expectAgreement(world)
  })

  test('what somebody takes out of a kernel is missed, and put back by reconcile', async () => {
    await h1.stopTsnet()
    await h1.startTsnet('--repair', 'off')
    blue(...subnet)
    const [one, two] = attachOnEach([h1, h2], 'blue')
    await expectReach(one!.at, two!.known[0]!)
    await expectAgreement(world)
    const bridge = String((vxlans(h1)[0] as { master: string }).master)
    h1.run('ip', 'neigh', 'del', two!.known[0]!, 'dev', bridge)
    expect((await disagreements(world)).join('\n')).toContain(
      `neighbours of blue on h1: only etcd has ${two!.known[0]}`,
    )
    expect(h1.tsnet('reconcile')).not.toBe('')
    expect(await disagreements(world)).toEqual([])
    expect(h1.tsnet('reconcile', '--dry-run')).toBe('')
    await h1.stopTsnet()
    await h1.startTsnet()
  })
})

describe('one cluster', () => {
  const listed = (host: ClusterHost): string[] =>
    host.request<{ name: string }[]>('GET', '/networks').map(({ name }) => name)

  test('a network that any host makes is on all, under one id, until any host removes it', async () => {
    for (const host of world.hosts) {
      const id = host.tsnet('network', 'create', 'mh', '--driver', 'overlay')
      for (const other of world.hosts) {
        await until(`mh on ${other.name}`, () => listed(other).includes('mh'))
        expect(other.request('GET', '/networks/mh')).toMatchObject({ id, scope: 'global' })
      }
      h2.tsnet('network', 'rm', 'mh')
      for (const other of world.hosts) await until(`no mh on ${other.name}`, () => !listed(other).includes('mh'))
    }
  })

  test('endpoints of all hosts are shown everywhere, and the network is not removed while there is one', async () => {
    blue(...subnet)
    attachOnEach(world.hosts, 'blue')
    for (const host of world.hosts) {
      const seen = host.tsnet('network', 'inspect', 'blue')
      for (const name of ['c1', 'c2', 'c3', 'h1', 'h2', 'h3']) expect(seen).toContain(`"${name}"`)
    }
    h1.tsnet('disconnect', 'blue', 'c1')
    h3.tsnet('disconnect', 'blue', 'c3')
    for (const host of [h1, h2, h3]) expectRefused(host, 5, 'c2', 'network', 'rm', 'blue')
    expectRefused(h1, 5, 'h2', 'network', 'rm', 'blue')
    h2.tsnet('disconnect', 'blue', 'c2')
    h3.tsnet('network', 'rm', 'blue')
  })

  test('an address that is taken on another host is refused, saying by whom', async () => {
    blue(...subnet)
    h1.attach('blue', 'c1', '--ip', '10.50.0.9')
    h2.tsnet('sandbox', 'create', 'c2')
    const connect = ['connect', 'blue', 'c2', '--ip', '10.50.0.9']
    for (const part of ['10.50.0.9', 'c1', 'h1']) expectRefused(h2, 5, part, ...connect)
    h1.tsnet('disconnect', 'blue', 'c1')
    h2.tsnet(...connect)
  })

  test('names, VNIs and subnets belong to one network of the whole cluster', async () => {
    blue(...subnet, '-o', 'vni=4100')
    const create = (name: string, ...options: string[]): string[] => [
      ...['network', 'create', name, '--driver', 'overlay'],
      ...options,
    ]
    await until('blue on h2', () => listed(h2).includes('blue'))
    expectRefused(h2, 5, 'blue', ...create('blue', '--subnet', '10.61.0.0/24'))
    expectRefused(h2, 5, '4100', ...create('red', '--subnet', '10.61.0.0/24', '-o', 'vni=4100'))
    expectRefused(h2, 5, 'blue', ...create('red', '--subnet', '10.50.0.128/25'))
    h2.tsnet(...create('red'))
    const [{ subnets }] = h2.tsnetJson<[{ subnets: { subnet: string }[] }]>('network', 'inspect', 'red')
    expect(subnets[0]!.subnet).not.toMatch(/^10\.50\.0\./)
  })

  test('hosts are listed with their addresses and whether they are there', async () => {
    const rows = h2.tsnetJson<{ name: string; vtep: string; state: string }[]>('host', 'ls')
    expect(rows.map(({ name, vtep, state }) => [name, vtep, state])).toEqual(
      world.hosts.map(host => [host.name, host.ip4, 'up']),
    )
    expectRefused(h1, 5, 'h2', 'host', 'rm', 'h2')
  })
})
