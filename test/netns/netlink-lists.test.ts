import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Kernel } from '../../src/netlink/kernel.js'
import { openNetns } from '../../src/netlink/netns.js'
import {
  gotAddress,
  gotFdb,
  gotLink,
  gotNeighbour,
  gotRoute,
  type Json,
  namesOf,
  wantAddresses,
  wantFdb,
  wantLink,
  wantNeighbour,
  wantRoute,
} from '../helpers/ip-judge.js'
import { recordWorld } from '../helpers/netlink-recording.js'
import { makeNetlinkWorld, type NetlinkWorld } from '../helpers/netlink-world.js'
import { bridgeJson, ipJson, needRoot, runJson, sweep } from '../helpers/netns.js'

const prefix = 'tst-nll'

describe('what ip and bridge have made is listed as they list it', () => {
  let world: NetlinkWorld
  let kernel: Kernel
  let names: Map<number, string>

  beforeAll(() => {
    needRoot()
    sweep(prefix)
    world = makeNetlinkWorld(prefix)
    const netns = openNetns(world.path)
    kernel = Kernel.open(netns)
    netns.close()
    names = namesOf(ipJson(world.name, 'link', 'show'))
    if (process.env.TSNET_RECORD) recordWorld(world)
  })
  afterAll(() => {
    kernel?.close()
    world?.remove()
  })

  const sorted = (list: unknown[]): unknown[] =>
    [...list].sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1))

  test('links of every kind, with their kind data and port settings', () => {
    const want = ipJson<Json[]>(world.name, 'link', 'show').map(wantLink)
    const got = kernel.links().map(link => gotLink(link, names))
    expect(got).toEqual(want)
    expect(got.length).toBeGreaterThan(15)
  })

  test('links by kind, by master and one by one', () => {
    const indexOf = (name: string) => [...names].find(([, known]) => known === name)?.[0] as number
    expect(kernel.links({ kind: 'vxlan' }).map(link => link.name)).toEqual(['x4', 'x6', 'xg'])
    expect(kernel.links({ kind: 'no-such-kind' })).toEqual([])
    expect(kernel.links({ master: indexOf('br0') }).map(link => link.name)).toEqual(['v0', 'v2'])
    expect(kernel.links({ master: indexOf('br0'), kind: 'bridge' })).toEqual([])
    expect(kernel.link('x6')).toEqual(kernel.link(indexOf('x6')))
    expect(kernel.link('x6')).toEqual(kernel.links().find(link => link.name === 'x6'))
    expect(kernel.link('absent')).toBeUndefined()
    expect(kernel.link(9999)).toBeUndefined()
  })

  test('addresses', () => {
    const want = wantAddresses(ipJson(world.name, 'address', 'show'))
    const got = kernel.addresses().map(address => gotAddress(address, names))
    expect(sorted(got)).toEqual(sorted(want))
    expect(got.length).toBeGreaterThan(8)
    const d0 = kernel.link('d0')?.index as number
    const wantD0 = wantAddresses(ipJson(world.name, '-6', 'address', 'show', 'dev', 'd0'))
    expect(sorted(kernel.addresses({ index: d0, family: 6 }).map(a => gotAddress(a, names)))).toEqual(sorted(wantD0))
    expect(kernel.addresses({ index: 9999 })).toEqual([])
  })

  test.each([
    ['254', 4],
    ['254', 6],
    ['255', 4],
    ['255', 6],
    ['7', 4],
    ['1000', 4],
  ] as const)('routes of table %s, IPv%d', (table, family) => {
    const ip = runJson<Json[]>(world.name, 'ip', '-N', '-j', '-d', `-${family}`, 'route', 'show', 'table', table)
    const want = ip.map(route => wantRoute({ table, ...route }))
    const got = kernel.routes({ table: Number(table), family }).map(route => gotRoute(route, names))
    expect(sorted(got)).toEqual(sorted(want))
    expect(got.length).toBeGreaterThan(0)
  })

  test('routes by protocol and by link; a table without routes is empty', () => {
    expect(kernel.routes({ protocol: 99 }).map(route => route.destination)).toEqual([
      '10.99.0.0/16',
      '2001:db8:77::/48',
    ])
    expect(kernel.routes({ index: kernel.link('br0')?.index as number }).map(route => route.destination)).toContain(
      '2001:db8:30::/64',
    )
    expect(kernel.routes({ table: 4321 })).toEqual([])
    expect(kernel.routes({ table: 4321, family: 4 })).toEqual([])
    expect(kernel.routes({ table: 4321, family: 6 })).toEqual([])
    expect(kernel.routes({ index: 9999 })).toEqual([])
  })

  test('neighbours, and proxy entries', () => {
    const want = ipJson<Json[]>(world.name, 'neighbour', 'show', 'nud', 'all').map(wantNeighbour)
    expect(sorted(kernel.neighbours().map(n => gotNeighbour(n, names)))).toEqual(sorted(want))
    const wantProxy = ipJson<Json[]>(world.name, 'neighbour', 'show', 'proxy').map(wantNeighbour)
    expect(sorted(kernel.neighbours({ proxy: true }).map(n => gotNeighbour(n, names)))).toEqual(sorted(wantProxy))
    expect(wantProxy).toHaveLength(2)
    const d0 = kernel.link('d0')?.index as number
    const wantD0 = ipJson<Json[]>(world.name, '-4', 'neighbour', 'show', 'nud', 'all', 'dev', 'd0')
    expect(kernel.neighbours({ index: d0, family: 4 })).toHaveLength(wantD0.length)
  })

  test('forwarding entries of bridges and vxlans', () => {
    const want = bridgeJson<Json[]>(world.name, 'fdb', 'show').map(wantFdb)
    const got = kernel.fdb().map(entry => gotFdb(entry, names))
    expect(sorted(got)).toEqual(sorted(want))
    const x4 = kernel.link('x4')?.index as number
    const wantX4 = bridgeJson<Json[]>(world.name, 'fdb', 'show', 'dev', 'x4').map(entry =>
      wantFdb({ ifname: 'x4', ...entry }),
    )
    expect(sorted(kernel.fdb({ index: x4 }).map(entry => gotFdb(entry, names)))).toEqual(sorted(wantX4))
    const br0 = kernel.link('br0')?.index as number
    const wantBr0 = bridgeJson<Json[]>(world.name, 'fdb', 'show', 'br', 'br0').map(wantFdb)
    expect(sorted(kernel.fdb({ master: br0 }).map(entry => gotFdb(entry, names)))).toEqual(sorted(wantBr0))
    expect(kernel.fdb({ master: 9999 })).toEqual([])
  })
})
