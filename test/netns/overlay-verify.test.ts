import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Findings, OthersOnNetwork } from '../../src/cnm/driver.js'
import { ping } from '../../src/netlink/ping.js'
import { needRoot, sweep } from '../helpers/netns.js'
import { type OverlayHost, type OverlayNetwork, OverlayWorld } from '../helpers/overlay-world.js'

const prefix = 'tst-ovv'
let world: OverlayWorld
let one: OverlayHost
let two: OverlayHost
let blue: OverlayNetwork
let vxlan: string
let bridge: string

beforeAll(async () => {
  needRoot()
  sweep(prefix)
  world = await OverlayWorld.make(prefix, 2)
  ;[one, two] = world.hosts as [OverlayHost, OverlayHost]
  blue = world.network('blue', ['10.50.0.0/24', 'fd00:50::/64'])
  ;[vxlan, bridge] = [`vx-${blue.id.slice(0, 12)}`, `br-${blue.id.slice(0, 12)}`]
  await world.attach(one, blue, ['10.50.0.2', 'fd00:50::2'], '02:42:0a:32:00:02')
  await world.attach(two, blue, ['10.50.0.3', 'fd00:50::3'], '02:42:0a:32:00:03')
})
afterAll(() => world?.close())

beforeEach(async () => {
  for (const host of [one, two]) await host.repair(blue)
})

/** What the cluster's store has of the other hosts. */
const others = (host: OverlayHost): OthersOnNetwork => ({
  remotes: world.remotes(host, blue.id) ?? [],
  members: world.hosts
    .filter(other => other !== host)
    .map(other => ({
      networkId: blue.id,
      host: other.name,
      addresses: other.view(blue).subnets.map(({ hostAddress, family }) => `${hostAddress}/${family === 4 ? 24 : 64}`),
      mac: '',
      dockerNetworkIds: [],
      assignedBy: 'tsnet',
    })),
})

function verify(host: OverlayHost): Promise<Findings> {
  host.enter()
  const [wanted] = host.wanted([blue])
  return host.driver.verify!(wanted as never, others(host))
}

const found = async (host: OverlayHost): Promise<string[]> =>
  (await verify(host)).found.map(({ check, words }) => `${check}: ${words}`)

describe('what a host finds wrong about an overlay', () => {
  test('is nothing when all is as it should be, the way to the others with full packets included', async () => {
    for (const host of [one, two])
      expect(await verify(host)).toEqual({ checked: ['links', 'mtu', 'fdb', 'neighbours', 'reach'], found: [] })
  })

  test('is a forwarding entry that is missing, stale, or of another host', async () => {
    one.run('bridge', 'fdb', 'del', '02:42:0a:32:00:03', 'dev', vxlan, 'self')
    one.run('bridge', 'fdb', 'add', '02:42:0a:32:00:99', 'dev', vxlan, 'dst', '192.0.2.99', 'self', 'static')
    expect(await found(one)).toEqual([
      expect.stringMatching(/^fdb: not done: bridge fdb del.* 02:42:0a:32:00:99 dev vx-/),
      expect.stringMatching(/^fdb: not done: bridge fdb replace 02:42:0a:32:00:03 dev vx-.* dst 192\.0\.2\.11/),
    ])
    await one.repair(blue)
    one.run('bridge', 'fdb', 'replace', '02:42:0a:32:00:03', 'dev', vxlan, 'dst', '192.0.2.77', 'self', 'static')
    expect(await found(one)).toEqual([
      expect.stringMatching(/^fdb: not done: bridge fdb delete .* dst 192\.0\.2\.77 /),
      expect.stringMatching(/^fdb: not done: bridge fdb replace .* dst 192\.0\.2\.11 /),
    ])
  })

  test('is a neighbour that is missing or has another MAC address', async () => {
    one.run('ip', 'neigh', 'del', '10.50.0.3', 'dev', bridge)
    one.run('ip', 'neigh', 'replace', 'fd00:50::3', 'lladdr', '02:42:0a:32:00:77', 'dev', bridge, 'nud', 'permanent')
    const got = await found(one)
    expect(got).toHaveLength(2)
    for (const address of ['10.50.0.3', 'fd00:50::3'])
      expect(got).toContainEqual(expect.stringMatching(`^neighbours: not done: ip neigh.* ${address} .*dev br-`))
  })

  test('is a link with another MTU, and an underlay that is too narrow', async () => {
    one.run('ip', 'link', 'set', vxlan, 'mtu', '1300')
    expect(await found(one)).toEqual([
      `mtu: ${vxlan} has MTU 1300 instead of 1450`,
      ...['10.50.0.241', 'fd00:50::f1'].map(address =>
        expect.stringContaining(`reach: no answer from host ${two.name} at ${address} to a packet of 1450 bytes`),
      ),
    ])
    await one.repair(blue)
    one.run('ip', 'link', 'set', 'eth0', 'mtu', '1400')
    try {
      expect(await found(one)).toContain(
        "mtu: the underlay carries packets of 1350 bytes at most, and the network's MTU is 1450",
      )
    } finally {
      one.run('ip', 'link', 'set', 'eth0', 'mtu', '1500')
    }
  })

  test('is a link that is down, gone or set otherwise, and that nobody is reached then', async () => {
    one.run('ip', 'link', 'set', vxlan, 'down')
    const got = await found(one)
    expect(got[0]).toMatch(/^links: not done: set up of vx-/)
    expect(got.slice(1)).toContain(`reach: no answer from host ${two.name} at 10.50.0.241`)
    await one.repair(blue)
    one.run('ip', 'link', 'set', vxlan, 'type', 'bridge_slave', 'learning', 'on')
    expect(await found(one)).toEqual([expect.stringMatching(/^links: not done: set port of vx-/)])
    one.run('ip', 'link', 'del', vxlan)
    expect(await verify(one)).toMatchObject({
      checked: ['links', 'mtu'],
      found: [{ check: 'links', words: expect.stringMatching(/^not done: create vxlan/) }],
    })
  })

  test('changes nothing', async () => {
    one.run('bridge', 'fdb', 'del', '02:42:0a:32:00:03', 'dev', vxlan, 'self')
    const first = await found(one)
    expect(await found(one)).toEqual(first)
    expect(first).not.toEqual([])
  })

  test('is another host that does not answer', async () => {
    two.run('ip', 'link', 'set', bridge, 'down')
    expect(await found(one)).toEqual([
      `reach: no answer from host ${two.name} at 10.50.0.241`,
      `reach: no answer from host ${two.name} at fd00:50::f1`,
    ])
  })
})

test('a ping goes whole or not at all, and says when nobody answers', async () => {
  one.enter()
  expect(await ping('192.0.2.1', 1500, 2_000)).toBe('answered')
  expect(await ping('192.0.2.1', 1501, 2_000)).toBe('too big')
  expect(await ping('2001:db8::1', 1500, 2_000)).toBe('answered')
  expect(await ping('2001:db8::1', 1501, 2_000)).toBe('too big')
  expect(await ping('192.0.2.200', 100, 300)).toBe('silent')
  await expect(ping('203.0.113.1', 100, 300)).resolves.toBe('silent')
})
