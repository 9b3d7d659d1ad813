import { type ChildProcess, spawn } from 'node:child_process'
import { connect, createServer, type Server } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import type { PortBinding } from '../../src/cnm/types.js'
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
    for (const b of bindings) await world.held.release([b])
    expect(bindings.some(b => world.held.isHeld(b))).toBe(false)
    expect(world.sockets()).toEqual([])
  })

  it('is held once however often it is asked for, and released for good by one release', async () => {
    await Promise.all([world.held.hold(binding(), 'web'), world.held.hold(binding(), 'web')])
    await world.held.hold(binding(), 'web')
    expect(world.sockets()).toEqual(['tcp 0.0.0.0:8080'])
    await world.held.release([binding()])
    await world.held.release([binding()])
    expect(world.sockets()).toEqual([])
  })

  it('is released once when two ask for that at once', async () => {
    for (const protocol of ['tcp', 'udp'] as const) {
      const b = binding({ protocol })
      await world.held.hold(b, 'web')
      await Promise.all([world.held.release([b]), world.held.release([b])])
      expect(world.sockets()).toEqual([])
      await world.held.hold(b, 'web')
      await Promise.all([world.held.release([b]), world.held.hold(b, 'web')])
      expect(world.sockets()).toEqual([`${protocol} 0.0.0.0:8080`])
      await world.held.release([b])
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
    await world.held.release([binding({ containerIp: '10.20.0.3' })])
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

  it('costs the same for the thousandth, and a range of ten thousand lets others have their turns', async () => {
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
    const both = pair({ hostPort: 20_000, size: 10_000 })
    const turns = countTurns()
    const rangeMs = await timeMs(async () => {
      for (const b of both) await world.held.hold(b, 'web', both)
    })
    const holding = turns.sofar()
    expect(world.sockets().length).toBe(11_000)
    const releaseMs = await timeMs(() => world.held.release(both))
    const { count } = turns.stop()
    expect(world.sockets().length).toBe(1000)
    expect(holding.count).toBeGreaterThan(10)
    expect(count - holding.count).toBeGreaterThan(5)
    console.log(
      `first ${firstMs} ms, 999 more ${restMs} ms, a range of 10,000 in both families ${rangeMs} ms, ` +
        `the event loop waiting ${holding.longestMs.toFixed(1)} ms at most, its release ${releaseMs} ms`,
    )
  })
})

/** How often the event loop comes round, and its longest wait. */
function countTurns() {
  const seen = { count: 0, longestMs: 0 }
  let at = performance.now()
  let next = setImmediate(turn)
  function turn(): void {
    const now = performance.now()
    seen.count++
    seen.longestMs = Math.max(seen.longestMs, now - at)
    at = now
    next = setImmediate(turn)
  }
  return {
    sofar: () => ({ ...seen }),
    stop: () => {
      clearImmediate(next)
      return seen
    },
  }
}

/** The same port at every address, as a `-p` without one means it. */
const pair = (over: Partial<PortBinding> = {}): [PortBinding, PortBinding] => [
  binding(over),
  binding({ ...over, hostIp: '::', containerIp: '192.0.2.2' }),
]

describe('a port held at every address of both families', () => {
  const holdBoth = async (over: Partial<PortBinding> = {}) => {
    const both = pair(over)
    for (const b of both) await world.held.hold(b, 'web', both)
    return both
  }

  it.each(['tcp', 'udp'] as const)('is one socket, and two bindings: %s', async protocol => {
    const both = await holdBoth({ protocol })
    expect(world.sockets()).toEqual([`${protocol} *:8080`])
    expect(both.map(b => world.held.isHeld(b))).toEqual([true, true])
    for (const hostIp of ['0.0.0.0', '192.0.2.1', '::', '2001:db8::1'])
      await expect(world.held.hold(binding({ protocol, hostIp, containerPort: 81 }), 'db')).rejects.toThrow(
        `port 8080/${protocol} on ${hostIp} is in use by endpoint web`,
      )
    await world.held.release(both)
    expect(world.sockets()).toEqual([])
  })

  it('stays held in one family when the other is released', async () => {
    for (const [i, left] of ['[::]', '0.0.0.0'].entries()) {
      const both = await holdBoth()
      await world.held.release([both[i]!])
      expect(world.sockets()).toEqual([`tcp ${left}:8080`])
      expect(both.map(b => world.held.isHeld(b))).toEqual([i === 1, i === 0])
      await world.held.hold(both[i]!, 'db', both)
      expect(world.sockets().length).toBe(2)
      await world.held.release(both)
      expect(world.sockets()).toEqual([])
    }
  })

  it("becomes another endpoint's in one family alone", async () => {
    const both = await holdBoth()
    const other = binding({ containerIp: '10.20.0.3' })
    const giveBack = await world.held.takeOver(other, 'db')
    expect([...both, other].map(b => world.held.isHeld(b))).toEqual([false, true, true])
    giveBack()
    expect([...both, other].map(b => world.held.isHeld(b))).toEqual([true, true, false])
    await world.held.takeOver(other, 'db')
    await world.held.release(both, [other])
    expect(world.sockets()).toEqual(['tcp 0.0.0.0:8080'])
    expect(world.held.isHeld(other)).toBe(true)
  })

  it('is chosen as one, past ports that are taken in one family', async () => {
    const other = createServer()
    await new Promise<void>(done => other.listen(8003, '2001:db8::1', done))
    const range = { first: 8000, last: 8010 }
    const request = { protocol: 'tcp', hostIps: ['0.0.0.0', '::'], range, size: 4, owner: 'web' } as const
    expect(await world.held.choose(request)).toBe(8004)
    other.close()
    const ports = [8004, 8005, 8006, 8007]
    expect(world.sockets().filter(socket => socket.startsWith('tcp *'))).toEqual(ports.map(port => `tcp *:${port}`))
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
    ['tcp', '127.0.0.1', 'TCP4-LISTEN:7006,bind=127.0.0.1', '0.0.0.0', 'both'],
    ['tcp', '::', 'TCP6-LISTEN:7007,ipv6only=1', '::', 'both'],
  ] as const)(
    'is refused, naming the program: %s on %s (%s) against %s',
    async (protocol, _, address, hostIp, ...both) => {
      const port = Number(/:(\d+)/.exec(address)?.[1])
      program = spawn('ip', ['netns', 'exec', world.netns, 'socat', '-u', address, 'STDOUT'])
      while (!world.sockets().some(socket => socket.endsWith(`:${port}`)))
        await new Promise(resolve => setTimeout(resolve, 5))
      const others = both.length > 0 ? pair({ hostPort: port }) : []
      // what the other family has free is no reason to name it
      const hold = async () => {
        for (const b of others.length > 0 ? others : [binding({ protocol, hostIp, hostPort: port })])
          await world.held.hold(b, 'web', others)
      }
      await expect(hold()).rejects.toMatchObject({
        kind: 'Conflict',
        message: `port ${port}/${protocol} on ${hostIp} is in use by socat (pid ${program.pid})`,
      })
    },
  )
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

  it('goes on with its connections when the port is released in IPv4 alone', async () => {
    server = createServer(socket => socket.pipe(socket))
    await new Promise<void>(resolve => server.listen(80, '192.0.2.2', resolve))
    const both = pair()
    for (const b of both) await world.held.hold(b, 'web', both)
    const socket = connect(8080, '::1')
    const echo = (text: string): Promise<string> =>
      new Promise(resolve => {
        socket.once('data', data => resolve(String(data)))
        socket.write(text)
      })
    expect(await echo('before')).toBe('before')
    await world.held.release([both[0]])
    expect(await echo('after')).toBe('after')
    socket.destroy()
    expect(await exchange('::1', 8080, 'anew')).toBe('anew')
    await expect(exchange('192.0.2.1', 8080, '')).rejects.toThrow('ECONNREFUSED')
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
    await world.held.release([b])
    await closed
    await expect(exchange('::1', 8080, '')).rejects.toThrow('ECONNREFUSED')
    await world.held.hold(binding({ hostIp: '::', containerIp: '192.0.2.2', containerPort: 81 }), 'web')
    expect(await exchange('::1', 8080, 'x').catch((error: Error) => error.message)).not.toContain('x')
  })
})
