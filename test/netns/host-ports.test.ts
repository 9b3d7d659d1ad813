import { type ChildProcess, spawn } from 'node:child_process'
import { connect, createServer, type Server } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { PortBinding } from '../../src/cnm/types.js'
import { HostPorts } from '../../src/firewall/host-ports.js'
import { enterNetnsForGood, openNetns } from '../../src/netlink/netns.js'
import { makeNetns, needRoot, netnsPath, removeNetns, run, sweep } from '../helpers/netns.js'
import { boundSockets } from '../helpers/sockets.js'

const prefix = 'tst-hp'
let netns: string
let held: HostPorts

beforeAll(() => {
  needRoot()
  sweep(prefix)
  netns = makeNetns(prefix)
  run(netns, 'ip', 'addr', 'add', '192.0.2.1/32', 'dev', 'lo')
  run(netns, 'ip', 'addr', 'add', '192.0.2.2/32', 'dev', 'lo')
  run(netns, 'ip', 'addr', 'add', '2001:db8::1/128', 'dev', 'lo')
  enterNetnsForGood(openNetns(netnsPath(netns)))
  held = new HostPorts()
})
afterEach(() => held.close())
afterAll(() => removeNetns(netns))

const binding = (over: Partial<PortBinding> = {}): PortBinding => ({
  protocol: 'tcp',
  hostIp: '0.0.0.0',
  hostPort: 8080,
  containerIp: '10.20.0.2',
  containerPort: 80,
  size: 1,
  ...over,
})

const sockets = () => boundSockets(netns)

describe('a held host port', () => {
  it('is bound, at its address and family only, and free again when released', async () => {
    const bindings = [
      binding(),
      binding({ hostIp: '::' }),
      binding({ protocol: 'udp', hostIp: '192.0.2.1' }),
      binding({ protocol: 'udp', hostIp: '2001:db8::1' }),
      binding({ hostIp: '127.0.0.1', hostPort: 9000, size: 2 }),
    ]
    for (const b of bindings) await held.hold(b, 'web')
    expect(sockets()).toEqual(
      [
        'tcp 0.0.0.0:8080',
        'tcp [::]:8080',
        'udp 192.0.2.1:8080',
        'udp [2001:db8::1]:8080',
        'tcp 127.0.0.1:9000',
        'tcp 127.0.0.1:9001',
      ].sort(),
    )
    expect(bindings.map(b => held.isHeld(b))).toEqual([true, true, true, true, true])
    expect(held.isHeld(binding({ containerPort: 81 }))).toBe(false)
    expect(held.isHeld(binding({ hostPort: 8081 }))).toBe(false)
    for (const b of bindings) await held.release(b)
    expect(bindings.some(b => held.isHeld(b))).toBe(false)
    expect(sockets()).toEqual([])
  })

  it('is held once however often it is asked for, and released for good by one release', async () => {
    await Promise.all([held.hold(binding(), 'web'), held.hold(binding(), 'web')])
    await held.hold(binding(), 'web')
    expect(sockets()).toEqual(['tcp 0.0.0.0:8080'])
    await held.release(binding())
    await held.release(binding())
    expect(sockets()).toEqual([])
  })

  it('is released once when two ask for that at once', async () => {
    for (const protocol of ['tcp', 'udp'] as const) {
      const b = binding({ protocol })
      await held.hold(b, 'web')
      await Promise.all([held.release(b), held.release(b)])
      expect(sockets()).toEqual([])
      await held.hold(b, 'web')
      await Promise.all([held.release(b), held.hold(b, 'web')])
      expect(sockets()).toEqual([`${protocol} 0.0.0.0:8080`])
      await held.release(b)
    }
  })

  it("may be another endpoint's at another address", async () => {
    await held.hold(binding({ hostIp: '192.0.2.1' }), 'web')
    await held.hold(binding({ hostIp: '192.0.2.2', containerIp: '10.20.0.3' }), 'db')
    expect(sockets()).toEqual(['tcp 192.0.2.1:8080', 'tcp 192.0.2.2:8080'])
  })

  it.each([
    ['the same address', '0.0.0.0', '0.0.0.0'],
    ['one address under all', '0.0.0.0', '192.0.2.1'],
    ['all addresses over one', '192.0.2.1', '0.0.0.0'],
    ['all IPv6 addresses over one', '2001:db8::1', '::'],
  ])('is refused to another endpoint, naming the holder: %s', async (_, first, second) => {
    for (const protocol of ['tcp', 'udp', 'sctp'] as const) {
      await held.hold(binding({ protocol, hostIp: first }), 'web')
      await expect(
        held.hold(binding({ protocol, hostIp: second, containerIp: '10.20.0.3' }), 'db'),
      ).rejects.toMatchObject({
        kind: 'Conflict',
        message: `port 8080/${protocol} on ${second} is in use by endpoint web`,
      })
    }
  })

  it('is refused when asked for twice at once: one wins', async () => {
    const both = [held.hold(binding(), 'web'), held.hold(binding({ containerIp: '10.20.0.3' }), 'db')]
    const got = await Promise.allSettled(both)
    expect(got.map(result => result.status).sort()).toEqual(['fulfilled', 'rejected'])
  })

  it('is not released for an endpoint that does not hold it', async () => {
    await held.hold(binding(), 'web')
    await held.release(binding({ containerIp: '10.20.0.3' }))
    expect(sockets()).toEqual(['tcp 0.0.0.0:8080'])
  })

  it('of a range is all or nothing', async () => {
    await held.hold(binding({ hostPort: 9002 }), 'web')
    const range = binding({ hostPort: 9000, size: 5, containerIp: '10.20.0.3' })
    await expect(held.hold(range, 'db')).rejects.toThrow('port 9002/tcp on 0.0.0.0 is in use by endpoint web')
    expect(sockets()).toEqual(['tcp 0.0.0.0:9002'])
  })

  it("is refused at an address that is not this host's", async () => {
    await expect(held.hold(binding({ hostIp: '198.51.100.7' }), 'web')).rejects.toMatchObject({
      kind: 'InvalidParameter',
      message: 'port 8080/tcp on 198.51.100.7: 198.51.100.7 is no address of this host that a port can be published on',
    })
    expect(sockets()).toEqual([])
  })

  it('costs the same for the thousandth, and a range of ten thousand is held', async () => {
    const timeMs = async (work: () => unknown) => {
      const start = performance.now()
      await work()
      return (performance.now() - start).toFixed(1)
    }
    const one = (i: number) => held.hold(binding({ hostPort: 10_000 + i }), 'web')
    const firstMs = await timeMs(() => one(0))
    const restMs = await timeMs(async () => {
      for (let i = 1; i < 1000; i++) await one(i)
    })
    const rangeMs = await timeMs(() => held.hold(binding({ hostPort: 20_000, size: 10_000 }), 'web'))
    expect(sockets().length).toBe(11_000)
    const closeMs = await timeMs(() => held.close())
    expect(sockets()).toEqual([])
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
    program = spawn('ip', ['netns', 'exec', netns, 'socat', '-u', address, 'STDOUT'])
    while (!sockets().some(socket => socket.endsWith(`:${port}`))) await new Promise(resolve => setTimeout(resolve, 5))
    await expect(held.hold(binding({ protocol, hostIp, hostPort: port }), 'web')).rejects.toMatchObject({
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
    await held.hold(binding({ hostIp: '::', containerIp: '192.0.2.2' }), 'web')
    const text = 'x'.repeat(1 << 20)
    expect(await exchange('::1', 8080, text)).toBe(text.toUpperCase())
  })

  it('ends its connections when the port is released, and refuses while there is no container', async () => {
    server = createServer(socket => socket.on('error', () => {}))
    await new Promise<void>(resolve => server.listen(80, '192.0.2.2', resolve))
    const b = binding({ hostIp: '::', containerIp: '192.0.2.2' })
    await held.hold(b, 'web')
    const socket = connect(8080, '::1')
    await new Promise(resolve => socket.on('connect', resolve))
    const closed = new Promise(resolve => socket.on('close', resolve))
    socket.on('error', () => {})
    await held.release(b)
    await closed
    await expect(exchange('::1', 8080, '')).rejects.toThrow('ECONNREFUSED')
    await held.hold(binding({ hostIp: '::', containerIp: '192.0.2.2', containerPort: 81 }), 'web')
    expect(await exchange('::1', 8080, 'x').catch((error: Error) => error.message)).not.toContain('x')
  })
})
