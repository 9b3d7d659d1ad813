import { describe, expect, it } from 'vitest'
import type { PortSpec } from '../../src/cnm/types.js'
import { kindOf, messageOf } from '../../src/errors.js'
import {
  addressRequestOf,
  createEndpointAnswer,
  endpointSpecOf,
  joinAnswer,
  networkSpecOf,
  poolAnswer,
  poolRequestOf,
  portSpecsOf,
} from '../../src/plugin-api/translate.js'
import type { CreateEndpoint, PortMapping } from '../../src/plugin-api/wire.js'

const nid = 'a'.repeat(64)
const eid = 'b'.repeat(64)

/** `tcp 127.0.0.1:8080-8090>80`, in Docker's order. */
const shown = ({ protocol, hostIp = '*', hostPort, containerPort }: PortSpec): string => {
  const range = (r?: { first: number; last: number }) =>
    r ? (r.first === r.last ? `${r.first}` : `${r.first}-${r.last}`) : '?'
  return `${protocol} ${hostIp}:${range(hostPort)}>${range(containerPort)}`
}
const mapping = (Proto: number, Port: number, HostPort = 0, HostPortEnd = HostPort, HostIP?: string): PortMapping => ({
  Proto,
  Port,
  HostIP,
  HostPort,
  HostPortEnd,
})

describe('port mappings', () => {
  const rows: [string, PortMapping[], string[]][] = [
    ['nothing', [], []],
    ['-p 8080:80', [mapping(6, 80, 8080)], ['tcp *:8080>80']],
    ['-p 127.0.0.1:8081:80', [mapping(6, 80, 8081, 8081, '127.0.0.1')], ['tcp 127.0.0.1:8081>80']],
    ['-p [::1]:8081:80', [mapping(6, 80, 8081, 8081, '::1')], ['tcp ::1:8081>80']],
    ['-p 0.0.0.0:80:80, which is IPv4 alone', [mapping(6, 80, 80, 80, '0.0.0.0')], ['tcp 0.0.0.0:80>80']],
    ['-p 53:53/udp', [mapping(17, 53, 53)], ['udp *:53>53']],
    ['-p 9:9/sctp', [mapping(132, 9, 9)], ['sctp *:9>9']],
    ['-p 80, a free host port', [mapping(6, 80)], ['tcp *:?>80']],
    ['-p 8000-8010:80, one of a range', [mapping(6, 80, 8000, 8010)], ['tcp *:8000-8010>80']],
    ['an end that is missing', [mapping(6, 80, 8080, 0)], ['tcp *:8080>80']],
    [
      '-p 9000-9002:9000-9002 in any order',
      [mapping(6, 9002, 9002), mapping(6, 9000, 9000), mapping(6, 9001, 9001)],
      ['tcp *:9000-9002>9000-9002'],
    ],
    ['a run with an offset', [mapping(6, 80, 8080), mapping(6, 81, 8081)], ['tcp *:8080-8081>80-81']],
    ['a gap', [mapping(6, 80, 80), mapping(6, 82, 82)], ['tcp *:80>80', 'tcp *:82>82']],
    [
      'container ports in a row, host ports not',
      [mapping(6, 80, 80), mapping(6, 81, 91)],
      ['tcp *:80>80', 'tcp *:91>81'],
    ],
    ['two protocols', [mapping(17, 81, 81), mapping(6, 80, 80)], ['tcp *:80>80', 'udp *:81>81']],
    [
      'two addresses',
      [mapping(6, 80, 80, 80, '::'), mapping(6, 81, 81, 81, '0.0.0.0')],
      ['tcp 0.0.0.0:81>81', 'tcp :::80>80'],
    ],
    ['free ports in a row stay single', [mapping(6, 80), mapping(6, 81)], ['tcp *:?>80', 'tcp *:?>81']],
    [
      'a choice does not join a run',
      [mapping(6, 80, 8000, 8001), mapping(6, 81, 8002)],
      ['tcp *:8000-8001>80', 'tcp *:8002>81'],
    ],
    [
      'a run does not join a choice',
      [mapping(6, 80, 8000), mapping(6, 81, 8001, 8005)],
      ['tcp *:8000>80', 'tcp *:8001-8005>81'],
    ],
    [
      'the same twice',
      [mapping(6, 80, 80), mapping(6, 81, 81), mapping(6, 80, 80), mapping(6, 81, 81)],
      ['tcp *:80-81>80-81'],
    ],
    [
      'one container port on two host ports',
      [mapping(6, 80, 9090), mapping(6, 80, 8080)],
      ['tcp *:8080>80', 'tcp *:9090>80'],
    ],
    ['the last port', [mapping(6, 65_535, 65_535)], ['tcp *:65535>65535']],
  ]
  it.each(rows)('%s', (_, mappings, want) => {
    expect(portSpecsOf(mappings).map(shown)).toEqual(want)
  })

  it.each([
    [mapping(1, 80, 80), 'port 80 cannot be published for protocol number 1: only tcp, udp and sctp can'],
    [mapping(6, 0, 80), 'container port 0 cannot be published: ports are 1 to 65535'],
    [mapping(6, 80, 90, 80), 'host ports 90-80 are not a range: it ends before it begins, or begins with 0'],
    [mapping(6, 80, 0, 80), 'host ports 0-80 are not a range: it ends before it begins, or begins with 0'],
  ])('%j is refused', (bad, want) => {
    let got: unknown
    try {
      portSpecsOf([bad])
    } catch (error) {
      got = error
    }
    expect([kindOf(got), messageOf(got)]).toEqual(['InvalidParameter', want])
  })

  it('of all ports become one range, quickly', () => {
    const all = Array.from({ length: 65_535 }, (_, i) => mapping(6, 65_535 - i, 65_535 - i))
    const start = performance.now()
    expect(portSpecsOf(all).map(shown)).toEqual(['tcp *:1-65535>1-65535'])
    expect(performance.now() - start).toBeLessThan(10_000)
  })
})

describe('networks', () => {
  const none = { user: {}, ipv6: false, internal: false }
  const data = (Pool: string | undefined, AddressSpace: string, Gateway?: string, AuxAddresses = {}) => ({
    AddressSpace,
    Pool,
    Gateway,
    AuxAddresses,
  })

  it('get their pools with plain gateways, and who assigns in each', () => {
    const got = networkSpecOf({
      NetworkID: nid,
      Options: { user: { mtu: '1400' }, ipv6: false, internal: true },
      IPv4Data: [data('10.20.0.0/24', 'LocalDefault', '10.20.0.1/24', { router: '10.20.0.9/24' })],
      IPv6Data: [data('fd00:20::/64', 'tsnet', 'fd00:20::1/64')],
    })
    expect(got).toEqual({
      networkId: nid,
      options: { mtu: '1400' },
      internal: true,
      ipv6: true,
      pools: [
        {
          family: 4,
          assignedBy: 'docker',
          subnet: '10.20.0.0/24',
          gateway: '10.20.0.1',
          auxAddresses: { router: '10.20.0.9' },
        },
        { family: 6, assignedBy: 'tsnet', subnet: 'fd00:20::/64', gateway: 'fd00:20::1', auxAddresses: {} },
      ],
    })
  })

  it('have no pool where the null IPAM gives everything or nothing', () => {
    const IPv4Data = [data('0.0.0.0/0', 'null'), data(undefined, 'null')]
    expect(networkSpecOf({ NetworkID: nid, Options: none, IPv4Data, IPv6Data: [] }).pools).toEqual([])
  })

  it('without a gateway have none', () => {
    const [pool] = networkSpecOf({
      NetworkID: nid,
      Options: none,
      IPv4Data: [data('10.1.0.0/24', '')],
      IPv6Data: [],
    }).pools
    expect(pool).not.toHaveProperty('gateway')
  })
})

describe('endpoints', () => {
  const request = (MacAddress?: string, optionMac?: string, user?: Record<string, string>): CreateEndpoint => ({
    NetworkID: nid,
    EndpointID: eid,
    Interface: { Address: '10.20.0.2/24', AddressIPv6: 'fd00:20::2/64', MacAddress },
    Options: { mac: optionMac, user },
  })
  const mac = '02:42:0a:14:00:02'
  const ours = '02:42:aa:aa:aa:aa'

  it('bring the addresses and the MAC that dockerd chose', () => {
    const want = { networkId: nid, endpointId: eid, addresses: ['10.20.0.2/24', 'fd00:20::2/64'] }
    expect(endpointSpecOf(request())).toEqual(want)
    expect(endpointSpecOf(request(mac))).toEqual({ ...want, mac })
    expect(endpointSpecOf(request(undefined, mac))).toEqual({ ...want, mac })
    const options = { neighbours: '10.20.0.9=02:00:00:00:00:09' }
    expect(endpointSpecOf(request(undefined, undefined, options))).toEqual({ ...want, options })
  })

  it('are answered with our MAC only where dockerd has none, and never with an address', () => {
    expect(createEndpointAnswer(request(), { mac: ours })).toEqual({ Interface: { MacAddress: ours } })
    expect(createEndpointAnswer(request(mac), { mac })).toEqual({})
    expect(createEndpointAnswer(request(mac), {})).toEqual({})
    expect(createEndpointAnswer(request(mac, mac), {})).toEqual({})
    expect(createEndpointAnswer(request(undefined, mac), {})).toEqual({ Interface: { MacAddress: mac } })
    expect(createEndpointAnswer(request(), {})).toEqual({})
  })
})

describe('the answer to Join', () => {
  const join = { link: 'veth1', ifnamePrefix: 'eth', routes: [], disableGatewayService: false }
  const InterfaceName = { SrcName: 'veth1', DstPrefix: 'eth' }

  it('leaves out what there is not', () => {
    expect(joinAnswer(join)).toEqual({ InterfaceName })
  })

  it('has gateways, routes of both types and the switch', () => {
    const got = joinAnswer({
      ...join,
      gateway4: '10.20.0.1',
      gateway6: 'fd00:20::1',
      routes: [{ destination: '10.99.0.0/16', via: '10.20.0.254' }, { destination: '192.168.7.0/24' }],
      disableGatewayService: true,
    })
    expect(got).toEqual({
      InterfaceName,
      Gateway: '10.20.0.1',
      GatewayIPv6: 'fd00:20::1',
      StaticRoutes: [
        { Destination: '10.99.0.0/16', RouteType: 0, NextHop: '10.20.0.254' },
        { Destination: '192.168.7.0/24', RouteType: 1 },
      ],
      DisableGatewayService: true,
    })
  })

  it('has no default route with a next hop: that is the gateway', () => {
    const routes = [
      { destination: '0.0.0.0/0', via: '10.20.0.1' },
      { destination: '::/0', via: 'fd00:20::1' },
    ]
    expect(joinAnswer({ ...join, routes })).toEqual({ InterfaceName, Gateway: '10.20.0.1', GatewayIPv6: 'fd00:20::1' })
    expect(joinAnswer({ ...join, gateway4: '10.20.0.9', routes })).toMatchObject({ Gateway: '10.20.0.9' })
  })

  it('keeps dockerd from adding its gateway network beside a default route on link', () => {
    expect(joinAnswer({ ...join, routes: [{ destination: '0.0.0.0/0' }] })).toEqual({
      InterfaceName,
      StaticRoutes: [{ Destination: '0.0.0.0/0', RouteType: 1 }],
      DisableGatewayService: true,
    })
  })
})

describe('pools and addresses', () => {
  it('take the family from the pool that is asked for, else from V6', () => {
    const ask = (Pool: string | undefined, V6: boolean) =>
      poolRequestOf({ AddressSpace: 'tsnet', Pool, SubPool: undefined, Options: {}, V6 })
    expect(ask(undefined, false)).toEqual({ family: 4, options: {} })
    expect(ask(undefined, true)).toEqual({ family: 6, options: {} })
    expect(ask('10.1.0.0/16', false)).toEqual({ subnet: '10.1.0.0/16', family: 4, options: {} })
    expect(ask('fd00::/64', false)).toEqual({ subnet: 'fd00::/64', family: 6, options: {} })
  })

  it('pass the range and the options of the user on', () => {
    const got = poolRequestOf({
      AddressSpace: 'tsnet',
      Pool: '10.1.0.0/16',
      SubPool: '10.1.4.0/24',
      Options: { k: 'v' },
      V6: false,
    })
    expect(got).toEqual({ subnet: '10.1.0.0/16', range: '10.1.4.0/24', family: 4, options: { k: 'v' } })
  })

  it('tell the gateway of a pool only if it has one', () => {
    expect(poolAnswer({ poolId: 'p', subnet: '10.1.0.0/16' })).toEqual({ PoolID: 'p', Pool: '10.1.0.0/16', Data: {} })
    expect(poolAnswer({ poolId: 'p', subnet: '10.1.0.0/16', gateway: '10.1.0.1/16' })).toMatchObject({
      Data: { 'com.docker.network.gateway': '10.1.0.1/16' },
    })
  })

  it('carry the wish for an address', () => {
    expect(
      addressRequestOf({ PoolID: 'p', Address: '10.1.0.7', Options: { gateway: false, endpointName: 'web1' } }),
    ).toEqual({
      poolId: 'p',
      address: '10.1.0.7',
      gateway: false,
      name: 'web1',
    })
    expect(
      addressRequestOf({ PoolID: 'p', Address: undefined, Options: { gateway: true, endpointName: undefined } }),
    ).toEqual({
      poolId: 'p',
      gateway: true,
    })
  })
})
