import { beforeEach, describe, expect, test } from 'vitest'
import { kindOf, messageOf } from '../../src/errors.js'
import { NetlinkError } from '../../src/netlink/netlink-error.js'
import { bridgePortSet, linkAdd, linkSet, tolerant } from '../../src/netlink/requests.js'
import type { Json } from '../helpers/ip-judge.js'
import { thrown, useKernelWorld } from '../helpers/kernel-world.js'
import { bridgeJson, ipJson, run, tryRun } from '../helpers/netns.js'

const world = useKernelWorld('tst-nlk')

const ipLink = (link: string, ns = world.name): Json => ipJson<Json[]>(ns, 'link', 'show', 'dev', link)[0] as Json

describe('linkAdd', () => {
  test('a bridge with all it can be given', () => {
    world.kernel.apply(
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
    expect(world.kernel.addresses({ index: 4321 })).toEqual([])
  })

  test('a veth whose other end starts in another namespace, as a port with settings', () => {
    world.kernel.apply(linkAdd({ kind: 'bridge', name: 'br0', up: true }))
    world.kernel.apply(
      linkAdd({
        kind: 'veth',
        name: 'v0',
        index: 33,
        mtu: 1300,
        master: world.index('br0'),
        up: true,
        alias: 'tsnet:web:ep',
        port: { isolated: true, hairpin: true, learning: false, neighSuppress: true },
        peer: { name: 'eth0', index: 77, mtu: 1300, mac: '02:42:0a:00:00:02', netns: world.box },
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
    expect(ipLink('eth0', world.boxName)).toMatchObject({ ifindex: 77, mtu: 1300, address: '02:42:0a:00:00:02' })
    expect(world.kernel.link('v0')).toMatchObject({ peerIndex: 77, peerNetnsid: 0 })
  })

  test('a veth with both ends here; a link in another namespace', () => {
    world.kernel.apply(
      linkAdd({ kind: 'veth', name: 'v0', peer: { name: 'v1' } }),
      linkAdd({ kind: 'bridge', name: 'far', netns: world.box, mtu: 1234 }),
    )
    expect(ipLink('v1').link).toBe('v0')
    expect(ipLink('far', world.boxName).mtu).toBe(1234)
    expect(world.kernel.link('far')).toBeUndefined()
  })

  test.each([
    ['192.0.2.1', '192.0.2.9', 'local', 'group'],
    ['2001:db8::1', '2001:db8::9', 'local6', 'group6'],
  ])('a vxlan from %s', (local, group, wantLocal, wantGroup) => {
    world.kernel.apply(linkAdd({ kind: 'veth', name: 'v0', peer: { name: 'v1' } }))
    const parent = world.index('v0')
    const data = { id: 4097, local, group, parent, port: 4789, learning: false, ttl: 7, proxy: true, l2miss: true }
    world.kernel.apply(
      linkAdd({ kind: 'vxlan', name: 'x0', mtu: 1400, up: true, vxlan: { ...data, ageing: 60, udpCsum: false } }),
    )
    const info = (ipLink('x0').linkinfo as { info_data: Json }).info_data
    expect(info).toMatchObject({
      ...{ id: 4097, [wantLocal]: local, [wantGroup.replace('group', 'remote')]: group, link: 'v0', port: 4789 },
      ...{ learning: false, ttl: 7, proxy: true, l2miss: true, ageing: 60, udp_csum: false },
    })
    expect(info.l3miss ?? false).toBe(false)
    expect(world.kernel.link('x0')?.vxlan).toMatchObject(data)
  })

  test.each(['private', 'vepa', 'bridge', 'passthru'] as const)('a macvlan of mode %s', mode => {
    world.kernel.apply(linkAdd({ kind: 'veth', name: 'v0', peer: { name: 'v1' } }))
    world.kernel.apply(linkAdd({ kind: 'macvlan', name: 'm0', parent: world.index('v0'), macvlan: { mode } }))
    expect(ipLink('m0')).toMatchObject({ link: 'v0', linkinfo: { info_kind: 'macvlan', info_data: { mode } } })
    expect(world.kernel.link('m0')).toMatchObject({ kind: 'macvlan', peerIndex: world.index('v0'), macvlan: { mode } })
  })

  test('a macvlan made straight in another namespace', () => {
    world.kernel.apply(linkAdd({ kind: 'veth', name: 'v0', peer: { name: 'v1' } }))
    world.kernel.apply(
      linkAdd({
        kind: 'macvlan',
        name: 'm0',
        parent: world.index('v0'),
        netns: world.box,
        macvlan: { mode: 'bridge' },
      }),
    )
    expect(ipLink('m0', world.boxName)).toMatchObject({
      link_index: world.index('v0'),
      linkinfo: { info_kind: 'macvlan' },
    })
  })

  test('a vlan, or what this kernel says where it has none', () => {
    world.kernel.apply(linkAdd({ kind: 'veth', name: 'v0', peer: { name: 'v1' } }))
    const twin = tryRun(world.name, 'ip', 'link', 'add', 'link', 'v0', 'name', 'q1', 'type', 'vlan', 'id', '7')
    const create = () =>
      world.kernel.apply(linkAdd({ kind: 'vlan', name: 'q0', parent: world.index('v0'), vlan: { id: 6 } }))
    if (twin.status === 0) {
      create()
      expect(ipLink('q0')).toMatchObject({
        link: 'v0',
        linkinfo: { info_kind: 'vlan', info_data: { id: 6, protocol: '802.1Q' } },
      })
    } else {
      expect(kindOf(thrown(create))).toBe('NotImplemented')
      expect(twin.stderr).toContain('Unknown device type')
    }
  })

  test('a taken name is a Conflict, and the link that has it stays as it is', () => {
    run(world.name, 'ip', 'link', 'add', 'web', 'type', 'bridge')
    const before = ipLink('web')
    const again = linkAdd({ kind: 'bridge', name: 'web', alias: 'tsnet:web', mtu: 1400 })
    const error = thrown(() => world.kernel.apply(again))
    expect(kindOf(error)).toBe('Conflict')
    expect(messageOf(error)).toBe('ip link add name web mtu 1400 type bridge: File exists')
    expect(ipLink('web')).toEqual(before)
    world.kernel.apply(tolerant(linkAdd({ kind: 'bridge', name: 'web' }), 'EEXIST'))
  })
})

describe('linkSet', () => {
  beforeEach(() =>
    world.kernel.apply(
      linkAdd({ kind: 'veth', name: 'v0', peer: { name: 'v1' } }),
      linkAdd({ kind: 'bridge', name: 'br0' }),
    ),
  )

  test('by name and by index: up, mtu, mac, alias, group, master, and back', () => {
    world.kernel.apply(
      linkSet({
        name: 'v0',
        up: true,
        mtu: 1200,
        mac: '02:00:00:00:00:07',
        alias: 'a',
        group: 5,
        master: world.index('br0'),
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
    world.kernel.apply(linkSet({ index: world.index('v0'), up: false, master: 0, alias: '' }))
    expect(ipLink('v0').flags).not.toContain('UP')
    expect(ipLink('v0').master).toBeUndefined()
    expect(ipLink('v0').ifalias).toBeUndefined()
    expect(world.kernel.link('v0')).not.toHaveProperty('alias')
  })

  test('a new name, another namespace, both at once', () => {
    world.kernel.apply(linkSet({ index: world.index('v0'), newName: 'lan' }))
    expect(ipLink('lan').ifname).toBe('lan')
    world.kernel.apply(linkSet({ index: world.index('lan'), newName: 'eth0', netns: world.box }))
    expect(world.kernel.link('lan')).toBeUndefined()
    expect(ipLink('eth0', world.boxName)).toMatchObject({ linkinfo: { info_kind: 'veth' } })
  })

  test('address generation before up', () => {
    world.kernel.apply(linkSet({ name: 'v1', up: true }), linkSet({ name: 'v0', up: true, addrGenMode: 'none' }))
    expect(ipLink('v0').inet6_addr_gen_mode).toBe('none')
    expect(world.kernel.addresses({ index: world.index('v0') })).toEqual([])
    expect(world.kernel.addresses({ index: world.index('v1') })).toHaveLength(1)
  })

  test('what a link announces, as sysctl has it', () => {
    const announces = () => run(world.name, 'sysctl', '-n', 'net.ipv4.conf.v0.arp_notify').trim()
    for (const arpNotify of [true, false]) {
      world.kernel.apply(linkSet({ name: 'v0', arpNotify }))
      expect(announces()).toBe(arpNotify ? '1' : '0')
    }
    expect(ipLink('v0').inet6_addr_gen_mode).toBe('eui64')
  })

  test('master and port settings in one call; bridgePortSet alone', () => {
    world.kernel.apply(linkSet({ name: 'v0', master: world.index('br0'), port: { isolated: true, cost: 77 } }))
    const port = () => bridgeJson<Json[]>(world.name, 'link', 'show', 'dev', 'v0')[0] as Json
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
    world.kernel.apply(bridgePortSet({ index: world.index('v0'), ...all }))
    expect(port()).toMatchObject({
      ...{ hairpin: true, isolated: false, learning: false, flood: false, mcast_flood: false, bcast_flood: false },
      ...{ neigh_suppress: true, guard: true, root_block: true, fastleave: true, locked: true, mcast_to_unicast: true },
      ...{ priority: 9, cost: 12 },
    })
    expect(world.kernel.link('v0')?.port).toMatchObject(all)
  })

  test('port settings of a link that is no port are refused, by either verb', () => {
    expect(
      kindOf(thrown(() => world.kernel.apply(bridgePortSet({ index: world.index('v0'), isolated: true })))),
    ).not.toBe('Internal')
    expect(kindOf(thrown(() => world.kernel.apply(linkSet({ name: 'v0', port: { isolated: true } }))))).not.toBe(
      'Internal',
    )
  })

  test('an absent link is NotFound', () => {
    const error = thrown(() => world.kernel.apply(linkSet({ name: 'absent', up: true })))
    expect(kindOf(error)).toBe('NotFound')
    expect(messageOf(error)).toBe('ip link set dev absent up: no such link')
  })

  test("the kernel's own words come with an error, and where the fault is", () => {
    const error = thrown(() => world.kernel.apply(linkSet({ name: 'v0', mtu: 70_000 }))) as Error
    expect(kindOf(error)).toBe('InvalidParameter')
    expect(messageOf(error)).toBe('ip link set dev v0 mtu 70000: mtu greater than device maximum (Invalid argument)')
    expect(error.cause).toBeInstanceOf(NetlinkError)
    expect(error.cause).toMatchObject({ code: 'EINVAL', errno: 22, text: 'mtu greater than device maximum' })
    const twin = tryRun(world.name, 'ip', 'link', 'set', 'dev', 'v0', 'mtu', '70000')
    expect(twin.stderr).toContain('mtu greater than device maximum')
  })
})
