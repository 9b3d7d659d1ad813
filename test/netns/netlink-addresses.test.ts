import { beforeEach, describe, expect, test } from 'vitest'
import { kindOf, messageOf } from '../../src/errors.js'
import {
  addressAdd,
  addressDelete,
  addressReplace,
  fdbAppend,
  fdbDelete,
  fdbReplace,
  linkAdd,
  linkSet,
  neighbourDelete,
  neighbourReplace,
  routeAdd,
  routeDelete,
  routeReplace,
} from '../../src/netlink/requests.js'
import type { Json } from '../helpers/ip-judge.js'
import { thrown, useKernelWorld } from '../helpers/kernel-world.js'
import { bridgeJson, ipJson } from '../helpers/netns.js'

const world = useKernelWorld('tst-nla')

describe('addresses', () => {
  beforeEach(() =>
    world.kernel.apply(
      linkAdd({ kind: 'veth', name: 'v0', up: true, addrGenMode: 'none', peer: { name: 'v1' } }),
      linkSet({ name: 'v1', up: true }),
    ),
  )
  const infos = (): Json[] =>
    ipJson<{ addr_info: Json[] }[]>(world.name, 'address', 'show', 'dev', 'v0')[0]?.addr_info ?? []

  test('added, replaced, deleted', () => {
    const v0 = world.index('v0')
    world.kernel.apply(
      addressAdd({ index: v0, address: '10.30.0.2/24' }),
      addressAdd({ index: v0, address: '10.31.0.2/24', broadcast: '10.31.0.255', scope: 'link' }),
      addressAdd({ index: v0, address: 'fd00:30::2/64', noDad: true, noPrefixRoute: true }),
      addressAdd({ index: v0, address: 'fd00:31::2/64' }),
    )
    expect(infos()).toMatchObject([
      { local: '10.31.0.2', broadcast: '10.31.0.255', scope: 'link' },
      { local: '10.30.0.2', prefixlen: 24, scope: 'global', label: 'v0' },
      { local: 'fd00:31::2', tentative: true },
      { local: 'fd00:30::2', prefixlen: 64, nodad: true, noprefixroute: true },
    ])
    expect(infos()[1]).not.toHaveProperty('broadcast')
    expect(infos()[3]).not.toHaveProperty('tentative')
    expect(world.kernel.addresses({ index: v0, family: 6 }).map(a => a.tentative)).toEqual([true, false])
    world.kernel.apply(
      addressReplace({ index: v0, address: '10.30.0.2/24' }),
      addressReplace({ index: v0, address: '10.32.0.2/24' }),
    )
    expect(infos()).toHaveLength(5)
    world.kernel.apply(...world.kernel.addresses({ index: v0 }).map(addressDelete))
    expect(infos()).toEqual([])
  })

  test('there already is a Conflict, absent is NotFound', () => {
    const v0 = world.index('v0')
    world.kernel.apply(addressAdd({ index: v0, address: '10.30.0.2/24' }))
    const twice = thrown(() => world.kernel.apply(addressAdd({ index: v0, address: '10.30.0.2/24' })))
    expect(kindOf(twice)).toBe('Conflict')
    expect(messageOf(twice)).toContain(`ip address add 10.30.0.2/24 dev ${v0}: `)
    expect(kindOf(thrown(() => world.kernel.apply(addressDelete({ index: v0, address: '10.9.9.9/24' }))))).toBe(
      'NotFound',
    )
    expect(kindOf(thrown(() => world.kernel.apply(addressAdd({ index: 9999, address: '10.9.9.9/24' }))))).toBe(
      'NotFound',
    )
  })

  test('every request of a send is attempted, the first that failed is thrown, the others are counted', () => {
    const v0 = world.index('v0')
    const error = thrown(() =>
      world.kernel.apply(
        addressDelete({ index: v0, address: '10.1.1.1/24' }),
        addressAdd({ index: v0, address: '10.30.0.2/24' }),
        addressDelete({ index: v0, address: '10.1.1.2/24' }),
      ),
    )
    expect(messageOf(error)).toContain(`ip address delete 10.1.1.1/24 dev ${v0}: `)
    expect(messageOf(error)).toContain('(and 1 more failed)')
    expect(infos()).toHaveLength(1)
  })
})

describe('routes', () => {
  beforeEach(() => {
    world.kernel.apply(
      linkAdd({ kind: 'veth', name: 'v0', up: true, peer: { name: 'v1' } }),
      linkSet({ name: 'v1', up: true }),
    )
    const v0 = world.index('v0')
    world.kernel.apply(
      addressAdd({ index: v0, address: '10.30.0.2/24' }),
      addressAdd({ index: v0, address: 'fd00:30::2/64', noDad: true }),
    )
  })
  const route = (destination: string, ...args: string[]): Json[] =>
    ipJson<Json[]>(world.name, destination.includes(':') ? '-6' : '-4', 'route', 'show', destination, ...args)

  test('added with all they can be given', () => {
    const v0 = world.index('v0')
    world.kernel.apply(
      routeAdd({ destination: '0.0.0.0/0', via: '10.30.0.1' }),
      routeAdd({ destination: '::/0', via: 'fd00:30::1', index: v0, metric: 77 }),
      routeAdd({ destination: '10.50.0.0/16', index: v0, protocol: 99, metric: 5, source: '10.30.0.2', mtu: 1280 }),
      routeAdd({ destination: '10.51.0.0/16', via: '192.0.2.1', index: v0, onlink: true, table: 1234 }),
      routeAdd({ destination: '10.52.0.0/16', type: 'unreachable' }),
      routeAdd({ destination: 'fd00:52::/48', type: 'blackhole' }),
    )
    expect(route('default')).toMatchObject([{ gateway: '10.30.0.1', dev: 'v0', scope: 'global', protocol: 'boot' }])
    expect(ipJson<Json[]>(world.name, '-6', 'route', 'show', 'default')).toMatchObject([
      { gateway: 'fd00:30::1', metric: 77 },
    ])
    expect(ipJson(world.name, '-N', 'route', 'show', '10.50.0.0/16')).toMatchObject([
      { dev: 'v0', protocol: '99', metric: 5, prefsrc: '10.30.0.2', metrics: [{ mtu: 1280 }] },
    ])
    expect(route('10.50.0.0/16')[0]?.scope).toBe('link')
    expect(route('10.51.0.0/16', 'table', '1234')).toMatchObject([
      { gateway: '192.0.2.1', dev: 'v0', flags: ['onlink'] },
    ])
    expect(route('10.52.0.0/16')).toMatchObject([{ type: 'unreachable' }])
    expect(route('fd00:52::/48')).toMatchObject([{ type: 'blackhole' }])
  })

  test('replaced and deleted', () => {
    const v0 = world.index('v0')
    const to = { destination: '10.50.0.0/16', protocol: 99 }
    world.kernel.apply(routeReplace({ ...to, via: '10.30.0.1' }))
    world.kernel.apply(routeReplace({ ...to, via: '10.30.0.9' }))
    expect(route(to.destination)).toMatchObject([{ gateway: '10.30.0.9' }])
    expect(kindOf(thrown(() => world.kernel.apply(routeAdd({ ...to, via: '10.30.0.1' }))))).toBe('Conflict')
    world.kernel.apply(routeDelete(to))
    expect(route(to.destination)).toEqual([])
    expect(kindOf(thrown(() => world.kernel.apply(routeDelete(to))))).toBe('NotFound')
    world.kernel.apply(routeReplace({ destination: '::/0', via: 'fd00:30::1', index: v0, protocol: 99 }))
    world.kernel.apply(...world.kernel.routes({ protocol: 99 }).map(routeDelete))
    expect(world.kernel.routes({ protocol: 99 })).toEqual([])
  })

  test('a gateway out of reach is InvalidParameter in the words of the kernel', () => {
    const error = thrown(() => world.kernel.apply(routeAdd({ destination: '10.60.0.0/16', via: '192.0.2.1' })))
    expect(kindOf(error)).toBe('InvalidParameter')
    expect(messageOf(error)).toBe(
      'ip route add 10.60.0.0/16 via 192.0.2.1: Nexthop has invalid gateway (Network is unreachable)',
    )
    expect(
      kindOf(thrown(() => world.kernel.apply(routeAdd({ destination: '10.60.0.1/16', index: world.index('v0') })))),
    ).toBe('InvalidParameter')
  })
})

describe('neighbours and forwarding entries', () => {
  beforeEach(() => {
    world.kernel.apply(
      linkAdd({ kind: 'bridge', name: 'br0', up: true }),
      linkAdd({ kind: 'vxlan', name: 'x0', up: true, vxlan: { id: 7, local: '192.0.2.1', port: 4789 } }),
    )
    world.kernel.apply(linkSet({ name: 'x0', master: world.index('br0') }))
  })

  test('a neighbour is replaced, and deleted', () => {
    const br0 = world.index('br0')
    world.kernel.apply(
      neighbourReplace({ index: br0, address: '10.0.0.7', mac: '02:00:00:00:00:07' }),
      neighbourReplace({ index: br0, address: 'fd00::7', mac: '02:00:00:00:00:07', externLearned: true, router: true }),
      neighbourReplace({ index: br0, address: '10.0.0.8', mac: '02:00:00:00:00:08', state: 'reachable' }),
      neighbourReplace({ index: br0, address: '10.0.0.9', proxy: true }),
    )
    const shown = (address: string, ...args: string[]) =>
      ipJson<Json[]>(world.name, 'neighbour', 'show', ...args, 'dev', 'br0', 'to', address)
    expect(shown('10.0.0.7')).toMatchObject([{ lladdr: '02:00:00:00:00:07', state: ['PERMANENT'] }])
    expect(shown('fd00::7')).toMatchObject([{ router: null, extern_learn: null, state: ['PERMANENT'] }])
    expect(shown('10.0.0.8')).toMatchObject([{ state: ['REACHABLE'] }])
    expect(ipJson<Json[]>(world.name, 'neighbour', 'show', 'proxy')).toMatchObject([{ dst: '10.0.0.9', dev: 'br0' }])
    world.kernel.apply(neighbourReplace({ index: br0, address: '10.0.0.7', mac: '02:00:00:00:00:99' }))
    expect(shown('10.0.0.7')).toMatchObject([{ lladdr: '02:00:00:00:00:99' }])
    world.kernel.apply(
      neighbourDelete({ index: br0, address: '10.0.0.7' }),
      neighbourDelete({ index: br0, address: 'fd00::7' }),
      neighbourDelete({ index: br0, address: '10.0.0.9', proxy: true }),
    )
    expect(shown('10.0.0.7')).toEqual([])
    expect(ipJson<Json[]>(world.name, 'neighbour', 'show', 'proxy')).toEqual([])
    expect(kindOf(thrown(() => world.kernel.apply(neighbourDelete({ index: br0, address: '10.0.0.77' }))))).toBe(
      'NotFound',
    )
  })

  test('the remotes of a vxlan', () => {
    const x0 = world.index('x0')
    const mac = '02:00:00:00:00:07'
    const all = '00:00:00:00:00:00'
    const remotes = () =>
      bridgeJson<Json[]>(world.name, 'fdb', 'show', 'dev', 'x0').filter(entry => entry.dst !== undefined)
    world.kernel.apply(
      fdbReplace({ index: x0, mac, dst: '192.0.2.7', self: true }),
      fdbAppend({ index: x0, mac: all, dst: '192.0.2.7', self: true }),
      fdbAppend({ index: x0, mac: all, dst: '192.0.2.8', self: true, port: 4444, vni: 55 }),
    )
    expect(remotes().sort((a, b) => (String(a.dst) + a.mac < String(b.dst) + b.mac ? -1 : 1))).toMatchObject([
      { mac: all, dst: '192.0.2.7', flags: ['self'], state: 'permanent' },
      { mac, dst: '192.0.2.7', flags: ['self'], state: 'permanent' },
      { mac: all, dst: '192.0.2.8', port: 4444, vni: 55 },
    ])
    world.kernel.apply(fdbReplace({ index: x0, mac, dst: '192.0.2.9', self: true, state: 'static' }))
    expect(remotes().find(entry => entry.mac === mac)).toMatchObject({
      dst: '192.0.2.9',
      state: 'static',
      flags: ['self'],
    })
    world.kernel.apply(fdbAppend({ index: x0, mac: all, dst: '192.0.2.7', self: true }))
    expect(remotes()).toHaveLength(3)
    for (const entry of world.kernel.fdb({ index: x0 })) if (entry.dst) world.kernel.apply(fdbDelete(entry))
    expect(remotes()).toEqual([])
    expect(kindOf(thrown(() => world.kernel.apply(fdbDelete({ index: x0, mac, self: true }))))).toBe('NotFound')
  })

  test("entries of the bridge's own table", () => {
    const x0 = world.index('x0')
    const mac = '02:00:00:00:00:17'
    world.kernel.apply(fdbReplace({ index: x0, mac, self: false, state: 'static' }))
    const own = () => bridgeJson<Json[]>(world.name, 'fdb', 'show', 'br', 'br0').filter(entry => entry.mac === mac)
    expect(own()).toMatchObject([{ ifname: 'x0', state: 'static', master: 'br0' }])
    expect(world.kernel.fdb({ master: world.index('br0') })).toContainEqual(
      expect.objectContaining({ mac, index: x0, master: world.index('br0'), self: false, state: 'static' }),
    )
    world.kernel.apply(fdbDelete({ index: x0, mac, self: false }))
    expect(own()).toEqual([])
  })
})
