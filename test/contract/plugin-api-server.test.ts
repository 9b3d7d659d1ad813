import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { conflict, notFound } from '../../src/errors.js'
import { createPluginServer } from '../../src/plugin-api/server.js'
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
  lines,
  log,
  net,
  network,
  nid,
  pluginServerForEachTest,
  replaceServer,
  server,
  socketPath,
} from '../helpers/plugin-server.js'

pluginServerForEachTest()

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
    replaceServer(await second())
    // dockerd's idle connection is gone with the old server: the call is sent again on a new one.
    expect(await call('Plugin.Activate')).toHaveProperty('Implements')
  })
})
