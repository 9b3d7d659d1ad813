import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { conflict, notFound } from '../../src/errors.js'
import type { Log } from '../../src/log.js'
import type { UnixServer } from '../../src/net/unix-server.js'
import { createPluginServer } from '../../src/plugin-api/server.js'
import { DockerdClient } from '../helpers/dockerd-client.js'
import { FakeDockerDoor } from '../helpers/fake-docker-door.js'

const nid = 'a'.repeat(64)
const eid = 'b'.repeat(64)
const both = { NetworkID: nid, EndpointID: eid }
const network = {
  NetworkID: nid,
  Options: { 'com.docker.network.enable_ipv6': false, 'com.docker.network.generic': {} },
  IPv4Data: [{ AddressSpace: 'LocalDefault', Gateway: '10.20.0.1/24', Pool: '10.20.0.0/24' }],
  IPv6Data: [],
}
const portmap = [{ Proto: 6, IP: '', Port: 80, HostIP: '', HostPort: 8080, HostPortEnd: 8080 }]
const labels = {
  'com.docker.network.endpoint.exposedports': [{ Proto: 6, Port: 80 }],
  'com.docker.network.portmap': portmap,
}
const endpoint = {
  ...both,
  Interface: { Address: '10.20.0.2/24', AddressIPv6: '', MacAddress: '' },
  Options: labels,
}
const joining = { ...both, SandboxKey: '/var/run/docker/netns/0123456789ab', Options: labels }
const program = { ...both, Options: labels }

type Line = { level: string; fields: Record<string, unknown>; message: string }
let dir: string
let socketPath: string
let lines: Line[]
let log: Log
let door: FakeDockerDoor
let server: UnixServer
let dockerd: DockerdClient

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'tst-pl-'))
  socketPath = join(dir, 'plugins/tsnet.sock')
  lines = []
  const at = (level: string) => (fields: object, message: string) =>
    void lines.push({ level, fields: { ...fields }, message })
  log = { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error'), child: () => log }
  door = new FakeDockerDoor()
  server = await createPluginServer({ cnm: { docker: door }, log, socketPath })
  dockerd = new DockerdClient(socketPath)
})
afterEach(async () => {
  dockerd.close()
  await server.close()
  rmSync(dir, { recursive: true })
})

const call = (method: string, args: object | null = null) => dockerd.call(method, args)
const net = (method: string, args: object) => call(`NetworkDriver.${method}`, args)
const ipam = (method: string, args: object) => call(`IpamDriver.${method}`, args)
const failure = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'it did not fail',
    error => error.message,
  )

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

describe('a lost answer', () => {
  it('is followed by the same call without a body, which fails and does nothing', async () => {
    const held = door.hold('createNetwork')
    const creating = failure(net('CreateNetwork', network))
    await held.arrived
    dockerd.cut()
    expect(await creating).toBe(
      'NetworkDriver.CreateNetwork: the connection broke before the answer was out, and the repeated request has no body: try again',
    )
    held.release()
    expect(door.verbs()).toEqual(['createNetwork'])
    // dockerd forgets this network without DeleteNetwork, and the user asks again.
    expect(await net('CreateNetwork', { ...network, NetworkID: 'c'.repeat(64) })).toEqual({})
    expect([...door.networks.keys()]).toEqual([nid, 'c'.repeat(64)])
    expect(lines.map(({ message }) => message)).toContain(
      'did what dockerd asked, but it had hung up before the answer',
    )
  })

  it.each([
    'CreateEndpoint',
    'Join',
    'Leave',
    'DeleteEndpoint',
    'ProgramExternalConnectivity',
    'DeleteNetwork',
    'AllocateNetwork',
    'DiscoverNew',
  ])('of %s: an empty body is 400, before anything is done', async method => {
    for (const body of ['', '\n']) {
      const reply = await dockerd.send(`NetworkDriver.${method}`, body)
      expect([reply.status, reply.body.Err]).toEqual([400, reply.body.Error])
    }
    expect(door.calls).toEqual([])
  })
})

describe('errors', () => {
  it('reach the user of docker as our sentence, on both sides', async () => {
    const sentence = 'subnet 10.1.0.0/24 overlaps network db (10.1.0.0/16)'
    door.failNext('createNetwork', conflict(sentence))
    door.failNext('requestPool', conflict(sentence))
    expect(await failure(net('CreateNetwork', network))).toBe(`remote: ${sentence}`)
    expect(await failure(ipam('RequestPool', { AddressSpace: 'tsnet' }))).toBe(`remote: ${sentence}`)
  })

  it('are on one line, whatever was thrown', async () => {
    door.failNext('createNetwork', new Error('first\n  second'))
    expect(await failure(net('CreateNetwork', network))).toBe('remote: first; second')
  })

  it.each(['ProgramExternalConnectivity', 'RevokeExternalConnectivity', 'Join', 'CreateNetwork'])(
    'of %s for what is not there are never 404, which dockerd takes for success',
    async method => {
      const verbs = {
        ProgramExternalConnectivity: 'publish',
        RevokeExternalConnectivity: 'revoke',
        Join: 'join',
        CreateNetwork: 'createNetwork',
      } as const
      door.failNext(verbs[method as keyof typeof verbs], notFound('no network web'))
      const reply = await dockerd.send(
        `NetworkDriver.${method}`,
        JSON.stringify({ ...joining, ...network, Options: {} }),
      )
      expect([reply.status, reply.body]).toEqual([200, { Err: 'no network web', Error: 'no network web' }])
    },
  )

  it('of a body name the field and the rule', async () => {
    expect(await failure(net('DeleteNetwork', { NetworkID: 'web' }))).toBe(
      'NetworkDriver.DeleteNetwork: NetworkID must be 64 hex digits, not "web"',
    )
  })

  it.each([
    'NetworkDriver.Explode',
    'constructor',
    '__proto__',
    'NetworkDriver',
    'toString',
    'a/b',
    '',
    'NetworkDriver.Join/',
  ])('of the unknown method %j are 404, as JSON', async method => {
    const reply = await dockerd.send(method, '{}')
    expect([reply.status, typeof reply.body.Err]).toEqual([404, 'string'])
  })

  it('of a path that is no text are 400', async () => {
    expect((await dockerd.send('%E0%A4%A', '{}')).status).toBe(400)
  })

  it('of a body over the limit are 413, while every port of tcp and udp still fits', async () => {
    expect((await dockerd.send('NetworkDriver.Join', ' '.repeat(17 * 1024 * 1024))).status).toBe(413)
    const every = [6, 17].flatMap(Proto => Array.from({ length: 65_535 }, (_, i) => ({ Proto, Port: i + 1 })))
    const all = {
      'com.docker.network.endpoint.exposedports': every,
      'com.docker.network.portmap': every.map(({ Proto, Port }) => ({
        Proto,
        IP: '',
        Port,
        HostIP: '',
        HostPort: Port,
        HostPortEnd: Port,
      })),
    }
    await net('CreateNetwork', network)
    await net('CreateEndpoint', endpoint)
    expect(await net('ProgramExternalConnectivity', { ...both, Options: all })).toEqual({})
    expect(door.endpoints.get(eid)?.ports).toHaveLength(2)
  })

  it('of a compressed body are 400: a small one could unpack to any size', async () => {
    const body = gzipSync(JSON.stringify({ NetworkID: nid }))
    expect((await dockerd.send('NetworkDriver.DeleteNetwork', body, { 'Content-Encoding': 'gzip' })).status).toBe(400)
    expect(door.calls).toEqual([])
  })
})

describe('the log', () => {
  it('has a line for each call: method, ids, outcome and duration', async () => {
    await net('CreateNetwork', network)
    await net('CreateEndpoint', endpoint)
    expect(lines).toEqual([
      {
        level: 'debug',
        message: 'answered dockerd',
        fields: { method: 'NetworkDriver.CreateNetwork', network: nid, status: 200, durationMs: expect.any(Number) },
      },
      {
        level: 'debug',
        message: 'answered dockerd',
        fields: {
          method: 'NetworkDriver.CreateEndpoint',
          network: nid,
          endpoint: eid,
          status: 200,
          durationMs: expect.any(Number),
        },
      },
    ])
  })

  it('warns of what was refused, with the sentence', async () => {
    door.failNext('releasePool', conflict('pool p1 is in use'))
    await failure(ipam('ReleasePool', { PoolID: 'p1' }))
    await failure(net('Explode', {}))
    expect(lines.map(({ level, fields }) => [level, fields.status, fields.error])).toEqual([
      ['warn', 200, 'pool p1 is in use'],
      ['warn', 404, 'there is no method NetworkDriver.Explode'],
    ])
    expect(lines[0]?.fields.pool).toBe('p1')
  })

  it('warns of a call that takes over 5 seconds while it lasts, and lets it go on', async () => {
    const held = door.hold('createNetwork')
    const creating = net('CreateNetwork', network)
    await delay(5_300)
    expect(lines).toEqual([
      {
        level: 'warn',
        message: 'dockerd has been waiting for this answer for 5 s',
        fields: { method: 'NetworkDriver.CreateNetwork', network: nid },
      },
    ])
    held.release()
    expect(await creating).toEqual({})
    expect(lines.at(-1)?.fields.durationMs).toBeGreaterThan(5_000)
  })
})

describe('connections', () => {
  it('are kept: a hundred calls in turn use one', async () => {
    for (let i = 0; i < 100; i++) await call('Plugin.Activate')
    expect(dockerd.sockets.size).toBe(1)
  })

  it('survive an idle time longer than the default of Node, 5 s, and promise more than the 30 s of dockerd', async () => {
    await call('Plugin.Activate')
    await delay(6_500)
    await call('Plugin.Activate')
    expect(dockerd.sockets.size).toBe(1)
    const raw = connect(socketPath)
    raw.write('POST /Plugin.Activate HTTP/1.1\r\nHost: plugin.moby.localhost\r\nContent-Length: 0\r\n\r\n')
    const [chunk] = await new Promise<Buffer[]>(resolve => raw.once('data', data => resolve([data])))
    raw.destroy()
    const seconds = Number(/^Keep-Alive: timeout=(\d+)/m.exec(String(chunk))?.[1])
    expect(seconds).toBeGreaterThan(35)
  })

  it('carry fifty calls at once, each answered with its own', async () => {
    await net('CreateNetwork', network)
    const ids = Array.from({ length: 50 }, (_, i) => i.toString(16).padStart(64, '0'))
    await Promise.all(ids.map(EndpointID => net('CreateEndpoint', { ...endpoint, EndpointID })))
    expect([...door.endpoints.keys()].sort()).toEqual(ids)
  })

  it('to a second server on the same socket are refused it, and after close it may have it', async () => {
    const second = () => createPluginServer({ cnm: { docker: door }, log, socketPath })
    expect(await failure(second())).toBe(
      `listen on ${socketPath}: another daemon answers there: stop it first, or choose another path`,
    )
    await server.close()
    server = await second()
    // dockerd's idle connection is gone with the old server: the call is sent again on a new one.
    expect(await call('Plugin.Activate')).toHaveProperty('Implements')
  })
})
