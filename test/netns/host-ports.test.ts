import { type ChildProcess, spawn } from 'node:child_process'
import { connect, createServer, type Server } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { binding, hostPortsWorld } from '../helpers/host-ports-world.js'

const world = hostPortsWorld('tst-hp')

describe('a held host port', () => {
  it('is bound, at its address and family only, and free again when released', async () => {
    const bindings = [
      binding(),
      binding({ hostIp: '::' }),
      binding({ protocol: 'udp', hostIp: '192.0.2.1' }),
      binding({ protocol: 'udp', hostIp: '2001:db8::1' }),
      binding({ hostIp: '127.0.0.1', hostPort: 9000, size: 2 }),
    ]
    for (const b of bindings) await world.held.hold(b, 'web')
    expect(world.sockets()).toEqual(
      [
        'tcp 0.0.0.0:8080',
        'tcp [::]:8080',
        'udp 192.0.2.1:8080',
        'udp [2001:db8::1]:8080',
        'tcp 127.0.0.1:9000',
        'tcp 127.0.0.1:9001',
      ].sort(),
    )
    expect(bindings.map(b => world.held.isHeld(b))).toEqual([true, true, true, true, true])
    expect(world.held.isHeld(binding({ containerPort: 81 }))).toBe(false)
    expect(world.held.isHeld(binding({ hostPort: 8081 }))).toBe(false)
    for (const b of bindings) await world.held.release(b)
    expect(bindings.some(b => world.held.isHeld(b))).toBe(false)
    expect(world.sockets()).toEqual([])
  })

  it('is held once however often it is asked for, and released for good by one release', async () => {
    await Promise.all([world.held.hold(binding(), 'web'), world.held.hold(binding(), 'web')])
    await world.held.hold(binding(), 'web')
    expect(world.sockets()).toEqual(['tcp 0.0.0.0:8080'])
    await world.held.release(binding())
    await world.held.release(binding())
    expect(world.sockets()).toEqual([])
  })

  it('is released once when two ask for that at once', async () => {
    for (const protocol of ['tcp', 'udp'] as const) {
      const b = binding({ protocol })
      await world.held.hold(b, 'web')
      await Promise.all([world.held.release(b), world.held.release(b)])
      expect(world.sockets()).toEqual([])
      await world.held.hold(b, 'web')
      await Promise.all([world.held.release(b), world.held.hold(b, 'web')])
      expect(world.sockets()).toEqual([`${protocol} 0.0.0.0:8080`])
      await world.held.release(b)
    }
  })

  it("may be another endpoint's at another address", async () => {
    await world.held.hold(binding({ hostIp: '192.0.2.1' }), 'web')
    await world.held.hold(binding({ hostIp: '192.0.2.2', containerIp: '10.20.0.3' }), 'db')
    expect(world.sockets()).toEqual(['tcp 192.0.2.1:8080', 'tcp 192.0.2.2:8080'])
  })

  it.each([
    ['the same address', '0.0.0.0', '0.0.0.0'],
    ['one address under all', '0.0.0.0', '192.0.2.1'],
    ['all addresses over one', '192.0.2.1', '0.0.0.0'],
    ['all IPv6 addresses over one', '2001:db8::1', '::'],
  ])('is refused to another endpoint, naming the holder: %s', async (_, first, second) => {
    for (const protocol of ['tcp', 'udp', 'sctp'] as const) {
      await world.held.hold(binding({ protocol, hostIp: first }), 'web')
      await expect(
        world.held.hold(binding({ protocol, hostIp: second, containerIp: '10.20.0.3' }), 'db'),
      ).rejects.toMatchObject({
        kind: 'Conflict',
        message: `port 8080/${protocol} on ${second} is in use by endpoint web`,
      })
    }
  })

  it('is refused when asked for twice at once: one wins', async () => {
    const both = [world.held.hold(binding(), 'web'), world.held.hold(binding({ containerIp: '10.20.0.3' }), 'db')]
    const got = await Promise.allSettled(both)
    expect(got.map(result => result.status).sort()).toEqual(['fulfilled', 'rejected'])
  })

  it('is not released for an endpoint that does not hold it', async () => {
    await world.held.hold(binding(), 'web')
    await world.held.release(binding({ containerIp: '10.20.0.3' }))
    expect(world.sockets()).toEqual(['tcp 0.0.0.0:8080'])
  })

  it('of a range is all or nothing', async () => {
    await world.held.hold(binding({ hostPort: 9002 }), 'web')
    const range = binding({ hostPort: 9000, size: 5, containerIp: '10.20.0.3' })
    await expect(world.held.hold(range, 'db')).rejects.toThrow('port 9002/tcp on 0.0.0.0 is in use by endpoint web')
    expect(world.sockets()).toEqual(['tcp 0.0.0.0:9002'])
  })

  it("is refused at an address that is not this host's", async () => {
    await expect(world.held.hold(binding({ hostIp: '198.51.100.7' }), 'web')).rejects.toMatchObject({
      kind: 'InvalidParameter',
      message: 'port 8080/tcp on 198.51.100.7: 198.51.100.7 is no address of this host that a port can be published on',
    })
    expect(world.sockets()).toEqual([])
  })

  it('costs the same for the thousandth, and a range of ten thousand is held', async () => {
    const timeMs = async (work: () => unknown) => {
      const start = performance.now()
      await work()
      return (performance.now() - start).toFixed(1)
    }
    const one = (i: number) => world.held.hold(binding({ hostPort: 10_000 + i }), 'web')
    const firstMs = await timeMs(() => one(0))
    const restMs = await timeMs(async () => {
      for (let i = 1; i < 1000; i++) await one(i)
    })
    const rangeMs = await timeMs(() => world.held.hold(binding({ hostPort: 20_000, size: 10_000 }), 'web'))
    expect(world.sockets().length).toBe(11_000)
    const closeMs = await timeMs(() => world.held.close())
    expect(world.sockets()).toEqual([])
    console.log(
      `first ${firstMs} ms, 999 more ${restMs} ms, a range of 10,000 ${rangeMs} ms, release of all ${closeMs} ms`,
    )
  })
})

describe('a port that another program has', () => {
  let program: ChildProcess | undefined
  afterEach(() => program?.kill())

  it.each([
    ['tcp', '0.0.0.0', 'TCP4-LISTEN:7001', '0.0.0.0'],
    ['tcp', '192.0.2.1', 'TCP4-LISTEN:7002,bind=192.0.2.1', '0.0.0.0'],
    ['tcp', '0.0.0.0', 'TCP6-LISTEN:7003,ipv6only=0', '0.0.0.0'],
    ['tcp', '2001:db8::1', 'TCP6-LISTEN:7004,bind=[2001:db8::1]', '::'],
    ['udp', '127.0.0.1', 'UDP4-RECV:7005,bind=127.0.0.1', '127.0.0.1'],
  ] as const)('is refused, naming the program: %s on %s (%s) against %s', async (protocol, _, address, hostIp) => {
    const port = Number(/:(\d+)/.exec(address)?.[1])
    program = spawn('ip', ['netns', 'exec', world.netns, 'socat', '-u', address, 'STDOUT'])
    while (!world.sockets().some(socket => socket.endsWith(`:${port}`)))
      await new Promise(resolve => setTimeout(resolve, 5))
    await expect(world.held.hold(binding({ protocol, hostIp, hostPort: port }), 'web')).rejects.toMatchObject({
      kind: 'Conflict',
      message: `port ${port}/${protocol} on ${hostIp} is in use by socat (pid ${program.pid})`,
    })
  })
})

describe('the proxy on a held tcp port', () => {
  let server: Server
  afterEach(() => server.close())

  /** Sends `text`, ends its half, and returns what comes back. */
  const exchange = (host: string, port: number, text: string): Promise<string> =>
    new Promise((resolve, reject) => {
      let got = ''
      const socket = connect({ host, port, allowHalfOpen: true }, () => socket.end(text))
      socket.on('data', data => {
        got += data
      })
      socket.on('end', () => resolve(got))
      socket.on('error', reject)
    })

  it('carries a connection from IPv6 to IPv4, its two halves ending on their own', async () => {
    server = createServer({ allowHalfOpen: true }, socket => {
      let got = ''
      socket.on('data', data => {
        got += data
      })
      socket.on('end', () => socket.end(got.toUpperCase()))
    })
    await new Promise<void>(resolve => server.listen(80, '192.0.2.2', resolve))
    await world.held.hold(binding({ hostIp: '::', containerIp: '192.0.2.2' }), 'web')
    const text = 'x'.repeat(1 << 20)
    expect(await exchange('::1', 8080, text)).toBe(text.toUpperCase())
  })

  it('ends its connections when the port is released, and refuses while there is no container', async () => {
    server = createServer(socket => socket.on('error', () => {}))
    await new Promise<void>(resolve => server.listen(80, '192.0.2.2', resolve))
    const b = binding({ hostIp: '::', containerIp: '192.0.2.2' })
    await world.held.hold(b, 'web')
    const socket = connect(8080, '::1')
    await new Promise(resolve => socket.on('connect', resolve))
    const closed = new Promise(resolve => socket.on('close', resolve))
    socket.on('error', () => {})
    await world.held.release(b)
    await closed
    await expect(exchange('::1', 8080, '')).rejects.toThrow('ECONNREFUSED')
    await world.held.hold(binding({ hostIp: '::', containerIp: '192.0.2.2', containerPort: 81 }), 'web')
    expect(await exchange('::1', 8080, 'x').catch((error: Error) => error.message)).not.toContain('x')
  })
})
