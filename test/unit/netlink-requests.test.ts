import { describe, expect, test } from 'vitest'
import { kindOf, messageOf } from '../../src/errors.js'
import { decode } from '../../src/netlink/codec.js'
import {
  addressAdd,
  bridgePortSet,
  fdbAppend,
  linkAdd,
  linkDeleteGroup,
  linkSet,
  neighbourReplace,
  routeAdd,
  routeDelete,
  tolerant,
} from '../../src/netlink/requests.js'
import { addressMessage, linkMessage, routeMessage } from '../../src/netlink/tables.js'

const refusal = (work: () => unknown): string => {
  try {
    work()
  } catch (error) {
    return `${kindOf(error)}: ${messageOf(error)}`
  }
  return 'no refusal'
}

describe('names of links', () => {
  test.each(['a', 'x'.repeat(15), 'veth-1.2_3', 'brü'])('%j is fine', name => {
    expect(linkAdd({ kind: 'bridge', name })).toHaveLength(1)
  })

  test.each(['', 'x'.repeat(16), 'ü'.repeat(8)])('%j does not have 1 to 15 bytes', name => {
    expect(refusal(() => linkAdd({ kind: 'bridge', name }))).toBe(
      `InvalidParameter: interface name "${name}" has ${Buffer.byteLength(name)} bytes: it must have 1 to 15`,
    )
  })

  test.each(['.', '..', 'a/b', 'a b', 'a\tb', 'a\nb', 'a\0b', 'a\u00a0b', 'a:b', 'veth%d', '\u007f'])(
    '%j has what no name may have',
    name => {
      expect(refusal(() => linkAdd({ kind: 'bridge', name }))).toContain('InvalidParameter: interface name')
      expect(refusal(() => linkSet({ index: 1, newName: name }))).toContain('InvalidParameter: interface name')
      expect(refusal(() => linkAdd({ kind: 'veth', name: 'ok', peer: { name } }))).toContain(
        'InvalidParameter: interface name',
      )
    },
  )
})

describe('requests', () => {
  test('say the command that does the same', () => {
    const ops = [
      linkAdd({ kind: 'bridge', name: 'web', mtu: 1400, up: true }),
      linkAdd({ kind: 'veth', name: 'v0', master: 3, peer: { name: 'eth0' } }),
      linkAdd({ kind: 'vxlan', name: 'x', vxlan: { id: 42, local: 'fd00::1' } }),
      linkAdd({ kind: 'macvlan', name: 'm', parent: 2 }),
      linkSet({ name: 'v0', up: false, alias: 'tsnet:a:b' }),
      bridgePortSet({ index: 4, isolated: true, hairpin: false }),
      addressAdd({ index: 2, address: 'fd00::2/64', noDad: true }),
      routeAdd({ destination: '0.0.0.0/0', via: '10.0.0.1', index: 2 }),
      neighbourReplace({ index: 2, address: '10.0.0.7', mac: '02:00:00:00:00:07' }),
      fdbAppend({ index: 5, mac: '00:00:00:00:00:00', dst: '192.0.2.1', self: true }),
      linkDeleteGroup(9),
    ]
    expect(ops.flat().map(request => request.op)).toEqual([
      'ip link add name web mtu 1400 up type bridge',
      'ip link add name v0 master 3 type veth peer eth0',
      'ip link add name x type vxlan id 42',
      'ip link add name m link 2 type macvlan',
      'ip link set dev v0 down alias tsnet:a:b',
      'bridge link set dev 4 isolated on hairpin off',
      'ip address add fd00::2/64 dev 2 nodad',
      'ip route add 0.0.0.0/0 via 10.0.0.1 dev 2',
      'ip neighbour replace 10.0.0.7 lladdr 02:00:00:00:00:07 dev 2',
      'bridge fdb append 00:00:00:00:00:00 dev 5 dst 192.0.2.1 permanent self',
      'ip link delete group 9',
    ])
  })

  test('what the kernel ignores in a creation follows it, and waits for its success', () => {
    const requests = linkAdd({ kind: 'bridge', name: 'web', alias: 'tsnet:web', up: true })
    expect(requests.map(request => [request.op, request.byName])).toEqual([
      ['ip link add name web up type bridge', false],
      ['ip link set dev web group 0 alias tsnet:web', true],
    ])
  })

  test('how a link-local address is made is said before the link comes up', () => {
    expect(linkAdd({ kind: 'bridge', name: 'web', addrGenMode: 'none', up: true }).map(request => request.op)).toEqual([
      'ip link add name web type bridge',
      'ip link set dev web addrgenmode none',
      'ip link set dev web up',
    ])
  })

  test('port settings follow the master', () => {
    expect(linkSet({ name: 'v0', master: 3, port: { isolated: true } }).map(request => request.op)).toEqual([
      'ip link set dev v0 master 3',
      'ip link set dev v0 master 3 type bridge_slave isolated on',
    ])
  })

  test('the local address of a vxlan goes where its family belongs', () => {
    const dataOf = (local: string) => {
      const [request] = linkAdd({ kind: 'vxlan', name: 'x', vxlan: { id: 42, local, group: local } })
      return decode(linkMessage, request!.body).attrs.info?.data
    }
    expect(dataOf('10.0.0.1')).toEqual({ id: 42, local: '10.0.0.1', group: '10.0.0.1' })
    expect(dataOf('fd00::1')).toEqual({ id: 42, local6: 'fd00::1', group6: 'fd00::1' })
  })

  test('have the defaults of ip', () => {
    const route = (spec: Parameters<typeof routeAdd>[0]) => decode(routeMessage, routeAdd(spec).body)
    expect(route({ destination: '10.0.0.0/8', index: 1 })).toMatchObject({
      scope: 253,
      protocol: 3,
      table: 254,
      type: 1,
    })
    expect(route({ destination: '10.0.0.0/8', via: '10.9.9.9' })).toMatchObject({ scope: 0 })
    expect(route({ destination: 'fd00::/8', index: 1 })).toMatchObject({ scope: 0 })
    expect(route({ destination: '10.0.0.1/32', index: 1, type: 'local' })).toMatchObject({ scope: 254, type: 2 })
    expect(route({ destination: '10.0.0.0/8', index: 1, table: 300 })).toMatchObject({
      table: 0,
      attrs: { table: 300 },
    })
    expect(decode(routeMessage, routeDelete({ destination: '10.0.0.0/8' }).body)).toMatchObject({
      scope: 255,
      protocol: 0,
      type: 0,
    })
    const address = (text: string) => decode(addressMessage, addressAdd({ index: 1, address: text }).body)
    expect(address('127.0.0.9/8').scope).toBe(254)
    expect(address('10.0.0.9/8')).toMatchObject({
      scope: 0,
      prefixLength: 8,
      attrs: { local: '10.0.0.9', address: '10.0.0.9' },
    })
    expect(address('10.0.0.9/8').attrs.broadcast).toBeUndefined()
  })

  test('tolerate what they are told to', () => {
    const requests = tolerant(linkAdd({ kind: 'bridge', name: 'web', alias: 'x' }), 'EEXIST')
    expect(requests.map(request => request.tolerate)).toEqual([['EEXIST'], ['EEXIST']])
    expect(tolerant(tolerant(linkDeleteGroup(9), 'ENODEV'), 'EPERM').map(request => request.tolerate)).toEqual([
      ['ENODEV', 'EPERM'],
    ])
  })
})

describe('bad input is refused before the kernel sees it', () => {
  test.each([
    [
      'a MAC of five bytes',
      () => linkAdd({ kind: 'bridge', name: 'a', mac: '02:00:00:00:00' }),
      'MAC address "02:00:00:00:00" is not six pairs',
    ],
    [
      'a prefix length over 32',
      () => addressAdd({ index: 1, address: '10.0.0.1/33' }),
      '"10.0.0.1/33" has a prefix length over 32',
    ],
    ['an address without a length', () => addressAdd({ index: 1, address: '10.0.0.1' }), 'such as 10.30.0.2/24'],
    ['no address', () => addressAdd({ index: 1, address: 'x/8' }), '"x" is not an IP address'],
    ['a zone', () => addressAdd({ index: 1, address: 'fe80::1%eth0/64' }), 'is not an IP address'],
    ['families that differ', () => routeAdd({ destination: '10.0.0.0/8', via: 'fd00::1' }), 'different families'],
    [
      'the index of a peer alone',
      () => linkAdd({ kind: 'veth', name: 'v', peer: { name: 'p', index: 7 } }),
      'only together with its own',
    ],
    ['index 0', () => addressAdd({ index: 0, address: '10.0.0.1/8' }), 'link index 0'],
    [
      'a broken broadcast',
      () => addressAdd({ index: 1, address: '10.0.0.1/8', broadcast: 'all' }),
      '"all" is not an IPv4 address',
    ],
    [
      'a VNI that fits no field',
      () => linkAdd({ kind: 'vxlan', name: 'x', vxlan: { id: 2 ** 32 } }),
      'ip link add name x type vxlan id 4294967296: ',
    ],
    ['an alias over 255 bytes', () => linkSet({ index: 1, alias: 'x'.repeat(256) }), 'over 255 bytes'],
    ['group 0', () => linkDeleteGroup(0), 'group 0 has every link'],
    [
      'an unknown macvlan mode',
      () => linkAdd({ kind: 'macvlan', name: 'm', parent: 1, macvlan: { mode: 'x' as 'vepa' } }),
      '"x" is not one of private, vepa',
    ],
  ])('%s', (_, work, want) => {
    const got = refusal(work)
    expect(got).toContain('InvalidParameter: ')
    expect(got).toContain(want)
  })

  test('a link made in another namespace cannot be given what is set by name from here', () => {
    const netns = { fd: 3, label: '/run/netns/box' } as never
    expect(refusal(() => linkAdd({ kind: 'bridge', name: 'a', netns, alias: 'x' }))).toContain(
      'InvalidParameter: link a: master, alias',
    )
    expect(linkAdd({ kind: 'bridge', name: 'a', netns })).toHaveLength(1)
  })

  test('wrong shapes do not compile', () => {
    const shapes = () => {
      // @ts-expect-error a veth has a peer
      linkAdd({ kind: 'veth', name: 'v' })
      // @ts-expect-error a vxlan has a VNI
      linkAdd({ kind: 'vxlan', name: 'x', vxlan: { port: 4789 } })
      // @ts-expect-error a macvlan stands on a parent
      linkAdd({ kind: 'macvlan', name: 'm' })
      // @ts-expect-error a bridge has no VNI
      linkAdd({ kind: 'bridge', name: 'b', bridge: { id: 1 } })
      // @ts-expect-error a rename needs the index
      linkSet({ name: 'a', newName: 'b' })
      // @ts-expect-error a peer cannot start up
      linkAdd({ kind: 'veth', name: 'v', peer: { name: 'p', up: true } })
      // @ts-expect-error no tunnel kind of ours
      linkAdd({ kind: 'geneve', name: 'g' })
    }
    expect(shapes).toThrow()
  })
})
