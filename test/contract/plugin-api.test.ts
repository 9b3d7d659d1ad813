import { readFileSync, statSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { conflict } from '../../src/errors.js'
import {
  both,
  call,
  dockerd,
  door,
  eid,
  endpoint,
  failure,
  ipam,
  joining,
  labels,
  net,
  network,
  nid,
  pluginServerForEachTest,
  portmap,
  program,
  socketPath,
} from '../helpers/plugin-server.js'

pluginServerForEachTest()

describe('activation', () => {
  it('names both subsystems and their capabilities, to requests without a body', async () => {
    expect(await call('Plugin.Activate')).toEqual({ Implements: ['NetworkDriver', 'IpamDriver'] })
    expect(await call('NetworkDriver.GetCapabilities')).toEqual({
      Scope: 'local',
      ConnectivityScope: 'local',
      GwAllocChecker: true,
    })
    expect(await call('IpamDriver.GetCapabilities')).toEqual({
      RequiresMACAddress: false,
      RequiresRequestReplay: false,
    })
    expect(await call('IpamDriver.GetDefaultAddressSpaces')).toEqual({
      LocalDefaultAddressSpace: 'tsnet',
      GlobalDefaultAddressSpace: 'tsnet',
    })
  })

  it('answers as JSON of the protocol, on a socket for root and its group alone', async () => {
    const reply = await dockerd.send('Plugin.Activate', '')
    expect([reply.status, reply.contentType]).toEqual([200, 'application/vnd.docker.plugins.v1.2+json'])
    expect(statSync(socketPath).mode & 0o777).toBe(0o660)
  })

  it('reads a body whatever its Content-Type says', async () => {
    for (const type of ['application/x-www-form-urlencoded', 'text/plain', 'application/json', 'nonsense'])
      expect(
        (await dockerd.send('NetworkDriver.DeleteNetwork', `{"NetworkID":"${nid}"}`, { 'Content-Type': type })).text,
      ).toBe('{}')
    expect(door.verbs()).toEqual(Array(4).fill('deleteNetwork'))
  })

  it('reads a body that comes in chunks', async () => {
    const reply = await dockerd.send('NetworkDriver.DeleteNetwork', `{"NetworkID":"${nid}"}`, {
      'Transfer-Encoding': 'chunked',
    })
    expect(reply.text).toBe('{}')
  })
})

describe("dockerd's orders of calls", () => {
  const start = async () => {
    await net('CreateEndpoint', endpoint)
    await net('Join', joining)
    await net('ProgramExternalConnectivity', program)
    await net('EndpointOperInfo', both)
  }

  it('network create and rm, with its own IPAM: pool, gateway, aux, network; released before the network goes', async () => {
    expect(await net('GwAllocCheck', { Options: network.Options })).toEqual({ SkipIPv4: false, SkipIPv6: false })
    const onLan = { Options: { 'com.docker.network.generic': { driver: 'macvlan' } } }
    expect(await net('GwAllocCheck', onLan)).toEqual({ SkipIPv4: true, SkipIPv6: true })
    await call('IpamDriver.GetDefaultAddressSpaces')
    const pool = await ipam('RequestPool', { AddressSpace: 'tsnet', Pool: '', SubPool: '', Options: null, V6: false })
    expect(pool).toEqual({ PoolID: '10.20.0.0/24', Pool: '10.20.0.0/24', Data: {} })
    const gateway = { PoolID: pool.PoolID, Address: '', Options: { RequestAddressType: 'com.docker.network.gateway' } }
    expect(await ipam('RequestAddress', gateway)).toEqual({ Address: '10.20.0.1/24', Data: {} })
    expect(await ipam('RequestAddress', { PoolID: pool.PoolID, Address: '10.20.0.9', Options: null })).toMatchObject({
      Address: '10.20.0.9/24',
    })
    expect(
      await net('CreateNetwork', { ...network, IPv4Data: [{ ...network.IPv4Data[0], AddressSpace: 'tsnet' }] }),
    ).toEqual({})
    expect([...door.networks.values()][0]?.pools).toMatchObject([{ assignedBy: 'tsnet', gateway: '10.20.0.1' }])
    for (const Address of ['10.20.0.1', '10.20.0.9'])
      expect(await ipam('ReleaseAddress', { PoolID: pool.PoolID, Address })).toEqual({})
    expect(await ipam('ReleasePool', { PoolID: pool.PoolID })).toEqual({})
    expect(await net('DeleteNetwork', { NetworkID: nid })).toEqual({})
    expect([door.networks.size, door.pools.size]).toEqual([0, 0])
    const ours = [
      'requestPool',
      'requestAddress',
      'requestAddress',
      'createNetwork',
      'releaseAddress',
      'releaseAddress',
      'releasePool',
      'deleteNetwork',
    ]
    expect(door.verbs()).toEqual(ours)
  })

  it('a container of 29: its endpoint, its place, its ports, its info', async () => {
    await net('CreateNetwork', network)
    expect(await net('CreateEndpoint', endpoint)).toEqual({ Interface: { MacAddress: '02:42:0a:14:00:02' } })
    door.joinAnswer = { ...door.joinAnswer, gateway4: '10.20.0.1' }
    expect(await net('Join', joining)).toEqual({
      InterfaceName: { SrcName: 'vethabc', DstPrefix: 'eth' },
      Gateway: '10.20.0.1',
    })
    expect(await net('ProgramExternalConnectivity', program)).toEqual({})
    expect(await net('EndpointOperInfo', both)).toEqual({ Value: {} })
    expect(door.endpoints.get(eid)?.ports).toEqual([
      { protocol: 'tcp', hostPort: { first: 8080, last: 8080 }, containerPort: { first: 80, last: 80 } },
    ])
  })

  it('an endpoint whose MAC dockerd knows gets none back', async () => {
    const mac = { 'com.docker.network.endpoint.macaddress': 'AkKsEwAC' }
    await net('CreateNetwork', network)
    expect(
      await net('CreateEndpoint', {
        ...endpoint,
        Interface: { ...endpoint.Interface, MacAddress: '02:42:ac:13:00:02' },
        Options: mac,
      }),
    ).toEqual({})
    expect(door.endpoints.get(eid)?.spec.mac).toBe('02:42:ac:13:00:02')
  })

  it('stop: revoke, leave, delete', async () => {
    await net('CreateNetwork', network)
    await start()
    for (const method of ['RevokeExternalConnectivity', 'Leave', 'DeleteEndpoint'])
      expect(await net(method, both)).toEqual({})
    expect(door.endpoints.size).toBe(0)
    expect(door.verbs().slice(-3)).toEqual(['revoke', 'leave', 'deleteEndpoint'])
  })

  it('a change of gateway: programmed again without a revoke, which replaces', async () => {
    await net('CreateNetwork', network)
    await start()
    const other = {
      ...both,
      Options: {
        ...labels,
        'com.docker.network.portmap': [{ ...portmap[0], HostPort: 9090, HostPortEnd: 9090 }],
        'com.docker.network.driver.private.no_proxy_6to4': true,
      },
    }
    expect(await net('ProgramExternalConnectivity', other)).toEqual({})
    expect(door.endpoints.get(eid)?.ports.map(port => port.hostPort?.first)).toEqual([9090])
    expect(
      await net('ProgramExternalConnectivity', { ...both, Options: { 'com.docker.network.portmap': null } }),
    ).toEqual({})
    expect(door.endpoints.get(eid)?.ports).toEqual([])
  })

  it('a Join that fails: three times Leave, then DeleteEndpoint and the address', async () => {
    await net('CreateNetwork', network)
    await net('CreateEndpoint', endpoint)
    door.failNext('join', conflict('create link vethabc: File exists'))
    expect(await failure(net('Join', joining))).toBe('remote: create link vethabc: File exists')
    for (let i = 0; i < 3; i++) expect(await net('Leave', both)).toEqual({})
    expect(await net('DeleteEndpoint', both)).toEqual({})
    expect(await ipam('ReleaseAddress', { PoolID: 'p', Address: '10.20.0.2' })).toEqual({})
  })

  it('a reply to CreateEndpoint that dockerd rejects: DeleteEndpoint, twice, and the endpoint may come again', async () => {
    await net('CreateNetwork', network)
    await net('CreateEndpoint', endpoint)
    for (let i = 0; i < 2; i++) expect(await net('DeleteEndpoint', both)).toEqual({})
    await net('CreateEndpoint', endpoint)
    expect(door.endpoints.size).toBe(1)
  })

  it('ports that cannot be published: the sentence, then Leave without a revoke', async () => {
    await net('CreateNetwork', network)
    await net('CreateEndpoint', endpoint)
    await net('Join', joining)
    door.failNext('publish', conflict('port 0.0.0.0:8080/tcp is taken by nginx (pid 7)'))
    expect(await failure(net('ProgramExternalConnectivity', program))).toBe(
      'remote: port 0.0.0.0:8080/tcp is taken by nginx (pid 7)',
    )
    expect(await net('Leave', both)).toEqual({})
  })

  it('a restart of dockerd without live-restore: releases and leaves of what may be long gone', async () => {
    for (const method of ['RevokeExternalConnectivity', 'Leave', 'DeleteEndpoint'])
      expect(await net(method, both)).toEqual({})
    expect(await net('DeleteNetwork', { NetworkID: nid })).toEqual({})
    expect(await ipam('ReleaseAddress', { PoolID: 'gone', Address: '10.20.0.2' })).toEqual({})
    expect(await ipam('ReleasePool', { PoolID: 'gone' })).toEqual({})
  })

  it('a replay of pools and addresses gives the same ones', async () => {
    const pool = { AddressSpace: 'tsnet', Pool: '10.20.0.0/24', SubPool: '', Options: {}, V6: false }
    const address = {
      PoolID: '10.20.0.0/24',
      Address: '10.20.0.1',
      Options: { RequestAddressType: 'com.docker.network.gateway' },
    }
    const [first, again] = [await ipam('RequestPool', pool), await ipam('RequestPool', pool)]
    expect(again).toEqual(first)
    expect([await ipam('RequestAddress', address), await ipam('RequestAddress', address)]).toEqual(
      Array(2).fill({ Address: '10.20.0.1/24', Data: {} }),
    )
  })

  it('Swarm, should it ever ask: empty answers', async () => {
    expect(
      await net('AllocateNetwork', {
        NetworkID: 'x2tz9ukm0gxp7ioxgd5a6oz6j',
        Options: null,
        IPv4Data: null,
        IPv6Data: null,
      }),
    ).toEqual({})
    expect(await net('FreeNetwork', { NetworkID: 'x2tz9ukm0gxp7ioxgd5a6oz6j' })).toEqual({})
    for (const method of ['DiscoverNew', 'DiscoverDelete'])
      expect(
        await net(method, { DiscoveryType: 1, DiscoveryData: { Address: '10.0.0.1', BindAddress: '', Self: true } }),
      ).toEqual({})
    expect(door.calls).toEqual([])
  })
})

describe('what dockerd 20.10.24 really sent', () => {
  type Sent = { method: string; body: string }
  /** A dual-stack network; a container with a MAC and ports, stopped; a container with `--ip`, removed; the network removed. */
  const recorded = readFileSync(new URL('../fixtures/plugin/dockerd-20.10.jsonl', import.meta.url), 'utf8')
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as Sent)

  it('is answered without an error, though each message comes twice', async () => {
    for (const { method, body } of recorded.flatMap(sent => [sent, sent])) {
      const reply = await dockerd.send(method, body)
      expect([method, reply.status, reply.body.Err]).toEqual([method, 200, undefined])
    }
    expect([door.networks.size, door.endpoints.size]).toEqual([0, 0])
  })

  it('reaches the door as what the user had asked for', async () => {
    for (const { method, body } of recorded) await dockerd.send(method, body)
    const networkId = expect.stringMatching(/^f7ddab75c0af/)
    const endpointId = expect.stringMatching(/^9bd87aeda686/)
    expect(door.calls.slice(0, 7)).toEqual([
      [
        'createNetwork',
        {
          networkId,
          options: { mtu: '1400' },
          internal: false,
          ipv6: true,
          pools: [
            {
              family: 4,
              assignedBy: 'docker',
              subnet: '10.20.0.0/24',
              gateway: '10.20.0.1',
              auxAddresses: { r: '10.20.0.9' },
            },
            { family: 6, assignedBy: 'docker', subnet: 'fd00:20::/64', gateway: 'fd00:20::1', auxAddresses: {} },
          ],
        },
      ],
      [
        'createEndpoint',
        { networkId, endpointId, addresses: ['10.20.0.2/24', 'fd00:20::2/64'], mac: '02:42:aa:bb:cc:dd' },
      ],
      ['join', networkId, endpointId, expect.stringMatching(/netns\/155b6259c347$/)],
      [
        'publish',
        networkId,
        endpointId,
        [
          { protocol: 'tcp', hostPort: { first: 8080, last: 8080 }, containerPort: { first: 80, last: 80 } },
          { protocol: 'tcp', hostPort: { first: 7000, last: 7000 }, containerPort: { first: 7000, last: 7000 } },
          {
            protocol: 'tcp',
            hostIp: '127.0.0.1',
            hostPort: { first: 8000, last: 8010 },
            containerPort: { first: 80, last: 80 },
          },
          { protocol: 'udp', containerPort: { first: 53, last: 53 } },
        ],
      ],
      ['revoke', networkId, endpointId],
      ['leave', networkId, endpointId],
      ['deleteEndpoint', networkId, endpointId],
    ])
  })
})
