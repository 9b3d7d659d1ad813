import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { kindOf, messageOf } from '../../src/errors.js'
import { Kernel, type Link } from '../../src/netlink/kernel.js'
import { NetlinkError } from '../../src/netlink/netlink-error.js'
import { type Netns, openNetns } from '../../src/netlink/netns.js'
import {
  addressAdd,
  addressDelete,
  addressReplace,
  bridgePortSet,
  fdbAppend,
  fdbDelete,
  fdbReplace,
  linkAdd,
  linkDelete,
  linkSet,
  neighbourDelete,
  neighbourReplace,
  routeAdd,
  routeDelete,
  routeReplace,
  tolerant,
} from '../../src/netlink/requests.js'
import type { Json } from '../helpers/ip-judge.js'
import {
  bridgeJson,
  ipJson,
  makeNetns,
  needRoot,
  netnsPath,
  removeNetns,
  run,
  sweep,
  tryRun,
} from '../helpers/netns.js'

const prefix = 'tst-nlv'

let name: string
let boxName: string
let netns: Netns
let box: Netns
let kernel: Kernel

beforeAll(() => {
  needRoot()
  sweep(prefix)
})

beforeEach(() => {
  name = makeNetns(prefix)
  boxName = makeNetns(prefix)
  netns = openNetns(netnsPath(name))
  box = openNetns(netnsPath(boxName))
  kernel = Kernel.open(netns)
  return () => {
    kernel.close()
    netns.close()
    box.close()
    removeNetns(name)
    removeNetns(boxName)
  }
})
afterAll(() => sweep(prefix))

const ipLink = (link: string, ns = name): Json => ipJson<Json[]>(ns, 'link', 'show', 'dev', link)[0] as Json
const index = (link: string): number => (kernel.link(link) as Link).index
const failure = (work: () => unknown): unknown => {
  try {
    work()
  } catch (error) {
    return error
  }
  throw new Error('nothing was thrown')
}

describe('linkAdd', () => {
  test('a bridge with all it can be given', () => {
    kernel.apply(
      linkAdd({
        kind: 'bridge',
        name: 'br0',
        index: 4321,
        mtu: 1400,
        mac: '02:00:00:00:00:01',
        up: true,
        alias: 'tsnet:web:ö',
        group: 9,
        addrGenMode: 'none',
        bridge: { stpState: true, forwardDelay: 4, ageingTime: 60, mcastSnooping: false, priority: 0x1000 },
      }),
    )
    expect(ipLink('br0')).toMatchObject({
      ifindex: 4321,
      mtu: 1400,
      address: '02:00:00:00:00:01',
      ifalias: 'tsnet:web:ö',
      group: '9',
      inet6_addr_gen_mode: 'none',
      flags: expect.arrayContaining(['UP']),
      linkinfo: {
        info_kind: 'bridge',
        info_data: { stp_state: 1, forward_delay: 400, ageing_time: 6000, mcast_snooping: 0, priority: 4096 },
      },
    })
    // Up came after the choice of addresses, so there never was a link-local one.
    expect(kernel.addresses({ index: 4321 })).toEqual([])
  })

  test('a veth whose other end starts in another namespace, as a port with settings', () => {
    kernel.apply(linkAdd({ kind: 'bridge', name: 'br0', up: true }))
    kernel.apply(
      linkAdd({
        kind: 'veth',
        name: 'v0',
        index: 33,
        mtu: 1300,
        master: index('br0'),
        up: true,
        alias: 'tsnet:web:ep',
        port: { isolated: true, hairpin: true, learning: false, neighSuppress: true },
        peer: { name: 'eth0', index: 77, mtu: 1300, mac: '02:42:0a:00:00:02', netns: box },
      }),
    )
    expect(ipLink('v0')).toMatchObject({
      mtu: 1300,
      master: 'br0',
      ifalias: 'tsnet:web:ep',
      link_index: 77,
      flags: expect.arrayContaining(['UP']),
      linkinfo: {
        info_kind: 'veth',
        info_slave_data: { isolated: true, hairpin: true, learning: false, neigh_suppress: true, flood: true },
      },
    })
    expect(ipLink('eth0', boxName)).toMatchObject({ ifindex: 77, mtu: 1300, address: '02:42:0a:00:00:02' })
    expect(kernel.link('v0')).toMatchObject({ peerIndex: 77, peerNetnsid: 0 })
  })

  test('a veth with both ends here; a link in another namespace', () => {
    kernel.apply(
      linkAdd({ kind: 'veth', name: 'v0', peer: { name: 'v1' } }),
      linkAdd({ kind: 'bridge', name: 'far', netns: box, mtu: 1234 }),
    )
    expect(ipLink('v1').link).toBe('v0')
    expect(ipLink('far', boxName).mtu).toBe(1234)
    expect(kernel.link('far')).toBeUndefined()
  })

  test.each([
    ['192.0.2.1', '192.0.2.9', 'local', 'group'],
    ['2001:db8::1', '2001:db8::9', 'local6', 'group6'],
  ])('a vxlan from %s', (local, group, wantLocal, wantGroup) => {
    kernel.apply(linkAdd({ kind: 'veth', name: 'v0', peer: { name: 'v1' } }))
    const parent = index('v0')
    const data = { id: 4097, local, group, parent, port: 4789, learning: false, ttl: 7, proxy: true, l2miss: true }
    kernel.apply(
      linkAdd({ kind: 'vxlan', name: 'x0', mtu: 1400, up: true, vxlan: { ...data, ageing: 60, udpCsum: false } }),
    )
    const info = (ipLink('x0').linkinfo as { info_data: Json }).info_data
    expect(info).toMatchObject({
      ...{ id: 4097, [wantLocal]: local, [wantGroup.replace('group', 'remote')]: group, link: 'v0', port: 4789 },
      ...{ learning: false, ttl: 7, proxy: true, l2miss: true, ageing: 60, udp_csum: false },
    })
    expect(info.l3miss ?? false).toBe(false)
    expect(kernel.link('x0')?.vxlan).toMatchObject(data)
  })

  test.each(['private', 'vepa', 'bridge', 'passthru'] as const)('a macvlan of mode %s', mode => {
    kernel.apply(linkAdd({ kind: 'veth', name: 'v0', peer: { name: 'v1' } }))
    kernel.apply(linkAdd({ kind: 'macvlan', name: 'm0', parent: index('v0'), macvlan: { mode } }))
    expect(ipLink('m0')).toMatchObject({ link: 'v0', linkinfo: { info_kind: 'macvlan', info_data: { mode } } })
    expect(kernel.link('m0')).toMatchObject({ kind: 'macvlan', peerIndex: index('v0'), macvlan: { mode } })
  })

  test('a macvlan made straight in another namespace', () => {
    kernel.apply(linkAdd({ kind: 'veth', name: 'v0', peer: { name: 'v1' } }))
    kernel.apply(linkAdd({ kind: 'macvlan', name: 'm0', parent: index('v0'), netns: box, macvlan: { mode: 'bridge' } }))
    expect(ipLink('m0', boxName)).toMatchObject({ link_index: index('v0'), linkinfo: { info_kind: 'macvlan' } })
  })

  test('a vlan, or what this kernel says where it has none', () => {
    kernel.apply(linkAdd({ kind: 'veth', name: 'v0', peer: { name: 'v1' } }))
    const twin = tryRun(name, 'ip', 'link', 'add', 'link', 'v0', 'name', 'q1', 'type', 'vlan', 'id', '7')
    const create = () => kernel.apply(linkAdd({ kind: 'vlan', name: 'q0', parent: index('v0'), vlan: { id: 6 } }))
    if (twin.status === 0) {
      create()
      expect(ipLink('q0')).toMatchObject({
        link: 'v0',
        linkinfo: { info_kind: 'vlan', info_data: { id: 6, protocol: '802.1Q' } },
      })
    } else {
      expect(kindOf(failure(create))).toBe('NotImplemented')
      expect(twin.stderr).toContain('Unknown device type')
    }
  })

  test('a taken name is a Conflict, and the link that has it stays as it is', () => {
    run(name, 'ip', 'link', 'add', 'web', 'type', 'bridge')
    const before = ipLink('web')
    const again = linkAdd({ kind: 'bridge', name: 'web', alias: 'tsnet:web', mtu: 1400 })
    const error = failure(() => kernel.apply(again))
    expect(kindOf(error)).toBe('Conflict')
    expect(messageOf(error)).toBe('ip link add name web mtu 1400 type bridge: File exists')
    expect(ipLink('web')).toEqual(before)
    kernel.apply(tolerant(linkAdd({ kind: 'bridge', name: 'web' }), 'EEXIST'))
  })
})

describe('linkSet', () => {
  beforeEach(() =>
    kernel.apply(linkAdd({ kind: 'veth', name: 'v0', peer: { name: 'v1' } }), linkAdd({ kind: 'bridge', name: 'br0' })),
  )

  test('by name and by index: up, mtu, mac, alias, group, master, and back', () => {
    kernel.apply(
      linkSet({
        name: 'v0',
        up: true,
        mtu: 1200,
        mac: '02:00:00:00:00:07',
        alias: 'a',
        group: 5,
        master: index('br0'),
      }),
    )
    expect(ipLink('v0')).toMatchObject({
      mtu: 1200,
      address: '02:00:00:00:00:07',
      ifalias: 'a',
      group: '5',
      master: 'br0',
    })
    expect(ipLink('v0').flags).toContain('UP')
    kernel.apply(linkSet({ index: index('v0'), up: false, master: 0, alias: '' }))
    expect(ipLink('v0').flags).not.toContain('UP')
    expect(ipLink('v0').master).toBeUndefined()
    expect(ipLink('v0').ifalias).toBeUndefined()
    expect(kernel.link('v0')).not.toHaveProperty('alias')
  })

  test('a new name, another namespace, both at once', () => {
    kernel.apply(linkSet({ index: index('v0'), newName: 'lan' }))
    expect(ipLink('lan').ifname).toBe('lan')
    kernel.apply(linkSet({ index: index('lan'), newName: 'eth0', netns: box }))
    expect(kernel.link('lan')).toBeUndefined()
    expect(ipLink('eth0', boxName)).toMatchObject({ linkinfo: { info_kind: 'veth' } })
  })

  test('address generation before up', () => {
    kernel.apply(linkSet({ name: 'v1', up: true }), linkSet({ name: 'v0', up: true, addrGenMode: 'none' }))
    expect(ipLink('v0').inet6_addr_gen_mode).toBe('none')
    expect(kernel.addresses({ index: index('v0') })).toEqual([])
    expect(kernel.addresses({ index: index('v1') })).toHaveLength(1)
  })

  test('master and port settings in one call; bridgePortSet alone', () => {
    kernel.apply(linkSet({ name: 'v0', master: index('br0'), port: { isolated: true, cost: 77 } }))
    const port = () => bridgeJson<Json[]>(name, 'link', 'show', 'dev', 'v0')[0] as Json
    expect(port()).toMatchObject({ isolated: true, cost: 77, hairpin: false })
    const all = {
      ...{ hairpin: true, isolated: false, learning: false, unicastFlood: false, mcastFlood: false, bcastFlood: false },
      ...{
        neighSuppress: true,
        proxyarp: true,
        guard: true,
        rootBlock: true,
        fastLeave: true,
        locked: true,
        mcastToUcast: true,
      },
      ...{ priority: 9, cost: 12 },
    }
    kernel.apply(bridgePortSet({ index: index('v0'), ...all }))
    expect(port()).toMatchObject({
      ...{ hairpin: true, isolated: false, learning: false, flood: false, mcast_flood: false, bcast_flood: false },
      ...{ neigh_suppress: true, guard: true, root_block: true, fastleave: true, locked: true, mcast_to_unicast: true },
      ...{ priority: 9, cost: 12 },
    })
    expect(kernel.link('v0')?.port).toMatchObject(all)
  })

  test('port settings of a link that is no port are refused, by either verb', () => {
    expect(kindOf(failure(() => kernel.apply(bridgePortSet({ index: index('v0'), isolated: true }))))).not.toBe(
      'Internal',
    )
    expect(kindOf(failure(() => kernel.apply(linkSet({ name: 'v0', port: { isolated: true } }))))).not.toBe('Internal')
  })

  test('an absent link is NotFound', () => {
    const error = failure(() => kernel.apply(linkSet({ name: 'absent', up: true })))
    expect(kindOf(error)).toBe('NotFound')
    expect(messageOf(error)).toBe('ip link set dev absent up: no such link')
  })

  test("the kernel's own words come with an error, and where the fault is", () => {
    const error = failure(() => kernel.apply(linkSet({ name: 'v0', mtu: 70_000 }))) as Error
    expect(kindOf(error)).toBe('InvalidParameter')
    expect(messageOf(error)).toBe('ip link set dev v0 mtu 70000: mtu greater than device maximum (Invalid argument)')
    expect(error.cause).toBeInstanceOf(NetlinkError)
    expect(error.cause).toMatchObject({ code: 'EINVAL', errno: 22, text: 'mtu greater than device maximum' })
    const twin = tryRun(name, 'ip', 'link', 'set', 'dev', 'v0', 'mtu', '70000')
    expect(twin.stderr).toContain('mtu greater than device maximum')
  })
})

describe('deleting', () => {
  test('a link by name and by index, its peer with it', async () => {
    kernel.apply(linkAdd({ kind: 'veth', name: 'v0', peer: { name: 'v1' } }), linkAdd({ kind: 'bridge', name: 'br0' }))
    await kernel.applyAsync(linkDelete({ name: 'v0' }))
    kernel.apply(linkDelete({ index: index('br0') }))
    expect(ipJson<Json[]>(name, 'link', 'show').map(link => link.ifname)).toEqual(['lo'])
    await expect(kernel.applyAsync(linkDelete({ name: 'v0' }))).rejects.toThrow('ip link delete dev v0: no such link')
  })

  test('many at once, in one grace period; absent ones are fine; calls of one tick share it', async () => {
    const names = Array.from({ length: 60 }, (_, i) => `v${i}`)
    kernel.apply(...names.map(v => linkAdd({ kind: 'veth', name: v, peer: { name: `p${v}` } })))
    kernel.apply(linkAdd({ kind: 'bridge', name: 'keep', group: 5 }))
    const indexes = names.map(index)
    const started = performance.now()
    const first = kernel.deleteLinks(indexes.slice(0, 40))
    expect(kernel.deleteLinks([...indexes.slice(40), 99_999])).toBe(first)
    await first
    const tookMs = performance.now() - started
    expect(ipJson<Json[]>(name, 'link', 'show').map(link => link.ifname)).toEqual(['lo', 'keep'])
    // One by one they would take 60 grace periods of 20 ms.
    expect(tookMs).toBeLessThan(600)
    await kernel.deleteLinks([])
    await kernel.deleteLinks([99_999])
  })

  test('does not hold up the event loop', async () => {
    kernel.apply(
      ...Array.from({ length: 40 }, (_, i) => linkAdd({ kind: 'veth', name: `v${i}`, peer: { name: `p${i}` } })),
    )
    let ticks = 0
    const timer = setInterval(() => ticks++, 1)
    for (let i = 0; i < 40; i += 10) await kernel.applyAsync(linkDelete({ name: `v${i}` }))
    clearInterval(timer)
    // Each delete waits some 20 ms in the kernel; on this thread, the timer would get one turn a delete.
    expect(ticks).toBeGreaterThan(12)
  })
})

describe('addresses', () => {
  beforeEach(() =>
    kernel.apply(
      linkAdd({ kind: 'veth', name: 'v0', up: true, addrGenMode: 'none', peer: { name: 'v1' } }),
      linkSet({ name: 'v1', up: true }),
    ),
  )
  const infos = (): Json[] => ipJson<{ addr_info: Json[] }[]>(name, 'address', 'show', 'dev', 'v0')[0]?.addr_info ?? []

  test('added, replaced, deleted', () => {
    const v0 = index('v0')
    kernel.apply(
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
    expect(kernel.addresses({ index: v0, family: 6 }).map(a => a.tentative)).toEqual([true, false])
    kernel.apply(
      addressReplace({ index: v0, address: '10.30.0.2/24' }),
      addressReplace({ index: v0, address: '10.32.0.2/24' }),
    )
    expect(infos()).toHaveLength(5)
    kernel.apply(...kernel.addresses({ index: v0 }).map(addressDelete))
    expect(infos()).toEqual([])
  })

  test('there already is a Conflict, absent is NotFound', () => {
    const v0 = index('v0')
    kernel.apply(addressAdd({ index: v0, address: '10.30.0.2/24' }))
    const twice = failure(() => kernel.apply(addressAdd({ index: v0, address: '10.30.0.2/24' })))
    expect(kindOf(twice)).toBe('Conflict')
    expect(messageOf(twice)).toContain(`ip address add 10.30.0.2/24 dev ${v0}: `)
    expect(kindOf(failure(() => kernel.apply(addressDelete({ index: v0, address: '10.9.9.9/24' }))))).toBe('NotFound')
    expect(kindOf(failure(() => kernel.apply(addressAdd({ index: 9999, address: '10.9.9.9/24' }))))).toBe('NotFound')
  })

  test('every request of a send is attempted, the first that failed is thrown, the others are counted', () => {
    const v0 = index('v0')
    const error = failure(() =>
      kernel.apply(
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
    kernel.apply(
      linkAdd({ kind: 'veth', name: 'v0', up: true, peer: { name: 'v1' } }),
      linkSet({ name: 'v1', up: true }),
    )
    const v0 = index('v0')
    kernel.apply(
      addressAdd({ index: v0, address: '10.30.0.2/24' }),
      addressAdd({ index: v0, address: 'fd00:30::2/64', noDad: true }),
    )
  })
  const route = (destination: string, ...args: string[]): Json[] =>
    ipJson<Json[]>(name, destination.includes(':') ? '-6' : '-4', 'route', 'show', destination, ...args)

  test('added with all they can be given', () => {
    const v0 = index('v0')
    kernel.apply(
      routeAdd({ destination: '0.0.0.0/0', via: '10.30.0.1' }),
      routeAdd({ destination: '::/0', via: 'fd00:30::1', index: v0, metric: 77 }),
      routeAdd({ destination: '10.50.0.0/16', index: v0, protocol: 99, metric: 5, source: '10.30.0.2', mtu: 1280 }),
      routeAdd({ destination: '10.51.0.0/16', via: '192.0.2.1', index: v0, onlink: true, table: 1234 }),
      routeAdd({ destination: '10.52.0.0/16', type: 'unreachable' }),
      routeAdd({ destination: 'fd00:52::/48', type: 'blackhole' }),
    )
    expect(route('default')).toMatchObject([{ gateway: '10.30.0.1', dev: 'v0', scope: 'global', protocol: 'boot' }])
    expect(ipJson<Json[]>(name, '-6', 'route', 'show', 'default')).toMatchObject([
      { gateway: 'fd00:30::1', metric: 77 },
    ])
    expect(ipJson(name, '-N', 'route', 'show', '10.50.0.0/16')).toMatchObject([
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
    const v0 = index('v0')
    const to = { destination: '10.50.0.0/16', protocol: 99 }
    kernel.apply(routeReplace({ ...to, via: '10.30.0.1' }))
    kernel.apply(routeReplace({ ...to, via: '10.30.0.9' }))
    expect(route(to.destination)).toMatchObject([{ gateway: '10.30.0.9' }])
    expect(kindOf(failure(() => kernel.apply(routeAdd({ ...to, via: '10.30.0.1' }))))).toBe('Conflict')
    kernel.apply(routeDelete(to))
    expect(route(to.destination)).toEqual([])
    expect(kindOf(failure(() => kernel.apply(routeDelete(to))))).toBe('NotFound')
    kernel.apply(routeReplace({ destination: '::/0', via: 'fd00:30::1', index: v0, protocol: 99 }))
    kernel.apply(...kernel.routes({ protocol: 99 }).map(routeDelete))
    expect(kernel.routes({ protocol: 99 })).toEqual([])
  })

  test('a gateway out of reach is InvalidParameter in the words of the kernel', () => {
    const error = failure(() => kernel.apply(routeAdd({ destination: '10.60.0.0/16', via: '192.0.2.1' })))
    expect(kindOf(error)).toBe('InvalidParameter')
    expect(messageOf(error)).toBe(
      'ip route add 10.60.0.0/16 via 192.0.2.1: Nexthop has invalid gateway (Network is unreachable)',
    )
    expect(kindOf(failure(() => kernel.apply(routeAdd({ destination: '10.60.0.1/16', index: index('v0') }))))).toBe(
      'InvalidParameter',
    )
  })
})

describe('neighbours and forwarding entries', () => {
  beforeEach(() => {
    kernel.apply(
      linkAdd({ kind: 'bridge', name: 'br0', up: true }),
      linkAdd({ kind: 'vxlan', name: 'x0', up: true, vxlan: { id: 7, local: '192.0.2.1', port: 4789 } }),
    )
    kernel.apply(linkSet({ name: 'x0', master: index('br0') }))
  })

  test('a neighbour is replaced, and deleted', () => {
    const br0 = index('br0')
    kernel.apply(
      neighbourReplace({ index: br0, address: '10.0.0.7', mac: '02:00:00:00:00:07' }),
      neighbourReplace({ index: br0, address: 'fd00::7', mac: '02:00:00:00:00:07', externLearned: true, router: true }),
      neighbourReplace({ index: br0, address: '10.0.0.8', mac: '02:00:00:00:00:08', state: 'reachable' }),
      neighbourReplace({ index: br0, address: '10.0.0.9', proxy: true }),
    )
    const shown = (address: string, ...args: string[]) =>
      ipJson<Json[]>(name, 'neighbour', 'show', ...args, 'dev', 'br0', 'to', address)
    expect(shown('10.0.0.7')).toMatchObject([{ lladdr: '02:00:00:00:00:07', state: ['PERMANENT'] }])
    expect(shown('fd00::7')).toMatchObject([{ router: null, extern_learn: null, state: ['PERMANENT'] }])
    expect(shown('10.0.0.8')).toMatchObject([{ state: ['REACHABLE'] }])
    expect(ipJson<Json[]>(name, 'neighbour', 'show', 'proxy')).toMatchObject([{ dst: '10.0.0.9', dev: 'br0' }])
    kernel.apply(neighbourReplace({ index: br0, address: '10.0.0.7', mac: '02:00:00:00:00:99' }))
    expect(shown('10.0.0.7')).toMatchObject([{ lladdr: '02:00:00:00:00:99' }])
    kernel.apply(
      neighbourDelete({ index: br0, address: '10.0.0.7' }),
      neighbourDelete({ index: br0, address: 'fd00::7' }),
      neighbourDelete({ index: br0, address: '10.0.0.9', proxy: true }),
    )
    expect(shown('10.0.0.7')).toEqual([])
    expect(ipJson<Json[]>(name, 'neighbour', 'show', 'proxy')).toEqual([])
    expect(kindOf(failure(() => kernel.apply(neighbourDelete({ index: br0, address: '10.0.0.77' }))))).toBe('NotFound')
  })

  test('the remotes of a vxlan', () => {
    const x0 = index('x0')
    const mac = '02:00:00:00:00:07'
    const all = '00:00:00:00:00:00'
    const remotes = () => bridgeJson<Json[]>(name, 'fdb', 'show', 'dev', 'x0').filter(entry => entry.dst !== undefined)
    kernel.apply(
      fdbReplace({ index: x0, mac, dst: '192.0.2.7', self: true }),
      fdbAppend({ index: x0, mac: all, dst: '192.0.2.7', self: true }),
      fdbAppend({ index: x0, mac: all, dst: '192.0.2.8', self: true, port: 4444, vni: 55 }),
    )
    expect(remotes().sort((a, b) => (String(a.dst) + a.mac < String(b.dst) + b.mac ? -1 : 1))).toMatchObject([
      { mac: all, dst: '192.0.2.7', flags: ['self'], state: 'permanent' },
      { mac, dst: '192.0.2.7', flags: ['self'], state: 'permanent' },
      { mac: all, dst: '192.0.2.8', port: 4444, vni: 55 },
    ])
    kernel.apply(fdbReplace({ index: x0, mac, dst: '192.0.2.9', self: true, state: 'static' }))
    expect(remotes().find(entry => entry.mac === mac)).toMatchObject({
      dst: '192.0.2.9',
      state: 'static',
      flags: ['self'],
    })
    kernel.apply(fdbAppend({ index: x0, mac: all, dst: '192.0.2.7', self: true }))
    expect(remotes()).toHaveLength(3)
    for (const entry of kernel.fdb({ index: x0 })) if (entry.dst) kernel.apply(fdbDelete(entry))
    expect(remotes()).toEqual([])
    expect(kindOf(failure(() => kernel.apply(fdbDelete({ index: x0, mac, self: true }))))).toBe('NotFound')
  })

  test("entries of the bridge's own table", () => {
    const x0 = index('x0')
    const mac = '02:00:00:00:00:17'
    kernel.apply(fdbReplace({ index: x0, mac, self: false, state: 'static' }))
    const own = () => bridgeJson<Json[]>(name, 'fdb', 'show', 'br', 'br0').filter(entry => entry.mac === mac)
    expect(own()).toMatchObject([{ ifname: 'x0', state: 'static', master: 'br0' }])
    expect(kernel.fdb({ master: index('br0') })).toContainEqual(
      expect.objectContaining({ mac, index: x0, master: index('br0'), self: false, state: 'static' }),
    )
    kernel.apply(fdbDelete({ index: x0, mac, self: false }))
    expect(own()).toEqual([])
  })
})
