import { afterAll, beforeAll, expect, test } from 'vitest'
import { randomMac } from '../../src/names.js'
import { needRoot, run, sweep } from '../helpers/netns.js'
import { captured, type OverlayHost, OverlayWorld, reaches } from '../helpers/overlay-world.js'

// Hosts that speak IPv6 to each other; and what is sent to the neighbours of an address that moves.

const prefix = 'tst-ovl'
let world: OverlayWorld
let h0: OverlayHost
let h1: OverlayHost

beforeAll(async () => {
  needRoot()
  sweep(prefix)
  world = await OverlayWorld.make(prefix, 2, { v6: true })
  ;[h0, h1] = world.hosts as [OverlayHost, OverlayHost]
})
afterAll(() => world?.close())

test('hosts that speak IPv6 carry networks of both families, whole packets of an MTU of 1430', async () => {
  const blue = world.network('blue', ['10.50.0.0/24', 'fd00:50::/64'], { flood: 'true' })
  expect(blue.options.mtu).toBe(1430)
  const a = await world.attach(h0, blue, ['10.50.0.2', 'fd00:50::2'])
  const b = await world.attach(h1, blue, ['10.50.0.3', 'fd00:50::3'])
  const seen = await captured(h0.name, 'eth0', '192.0.2.1', () => {
    expect(reaches(a, '10.50.0.3', '-M', 'do', '-s', '1402')).toBe(true)
  })
  // the kernels of the sandboxes may say meanwhile what groups they listen to, which a network that floods carries
  const echoes = seen.filter(packet => /VXLAN.* ICMP echo (request|reply)/.test(packet))
  expect(echoes.map(packet => [packet.includes('2001:db8::1'), packet.includes('length 1514:')])).toEqual([
    [true, true],
    [true, true],
  ])
  expect(seen.filter(packet => packet.includes('frag ('))).toEqual([])
  expect([reaches(b, 'fd00:50::2'), reaches(h0.name, '10.50.0.3'), reaches(h1.name, 'fd00:50::2')]).toEqual([
    true,
    true,
    true,
  ])
  expect([await h0.repair(blue), await h1.repair(blue)]).toEqual([[], []])
  await world.detachAll()
})

test('remotes behind a VTEP of the other family are left out, as the kernel can send them nothing', async () => {
  const blue = world.network('blue', ['10.50.0.0/24'])
  await world.attach(h0, blue, ['10.50.0.2'])
  const remote = { mac: randomMac(), addresses: ['10.50.0.9'], vtep: '192.0.2.11' }
  world.tell(blue.id, h1, [], [remote])
  expect(h0.run('ip', 'neigh', 'show', '10.50.0.9')).toBe('')
  expect(await h0.repair(blue)).toEqual([])
  world.tell(blue.id, h1, [remote], [])
  await world.detachAll()
})

test('neighbours are told of a new owner by a gratuitous ARP and an unsolicited neighbour advertisement, on this host alone', async () => {
  const blue = world.network('blue', ['10.50.0.0/24', 'fd00:50::/64'], { flood: 'true' })
  const a = await world.attach(h0, blue, ['10.50.0.2', 'fd00:50::2'])
  const mac = randomMac()
  let underlay: string[] = []
  const seen = await captured(a, 'eth0', '10.50.0.1', async () => {
    underlay = await captured(h0.name, 'eth0', '192.0.2.1', () => {
      world.tell(blue.id, h1, [], [{ mac, addresses: ['10.50.0.9', 'fd00:50::9'], vtep: '2001:db8::11' }])
    })
  })
  const from = seen.filter(packet => packet.includes(`${mac} >`))
  expect(from).toHaveLength(2)
  expect(from[0]).toMatch(/> ff:ff:ff:ff:ff:ff, ethertype ARP .*Request who-has 10\.50\.0\.9 tell 10\.50\.0\.9/)
  expect(from[1]).toMatch(
    new RegExp(
      `> 33:33:00:00:00:01, .* fd00:50::9 > ff02::1: \\[icmp6 sum ok\\] ICMP6, neighbor advertisement.*tgt is fd00:50::9, Flags \\[override\\].*destination link-address option \\(2\\).*${mac}`,
    ),
  )
  // the sandbox's own kernel may say meanwhile what groups it listens to
  expect(underlay.filter(packet => /VXLAN.*(ARP|neighbor advertisement)/.test(packet))).toEqual([])
  expect(run(a, 'ip', 'neigh', 'show', '10.50.0.9')).toBe('')
})
