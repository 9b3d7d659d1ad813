import { spawn } from 'node:child_process'
import { createSocket, type Socket as DatagramSocket } from 'node:dgram'
import { readdirSync, readlinkSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { binding, hostPortsWorld } from '../helpers/host-ports-world.js'

const world = hostPortsWorld('tst-hd')

describe('what comes to a held port', () => {
  /** What a client sees for so long. */
  const fate = async (host: string, port: number, ms: number): Promise<string> => {
    const socket = connect(port, host)
    const seen = new Promise<string>(resolve => {
      socket.on('connect', () => resolve('connected'))
      socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'error'))
      setTimeout(resolve, ms, 'nothing')
    })
    const what = await seen
    socket.destroy()
    return what
  }

  it('is dropped where the kernel is to redirect it, neither served nor refused', async () => {
    await world.held.hold(binding(), 'web')
    await world.held.hold(binding({ hostIp: '::', containerIp: 'fd00::2' }), 'web')
    expect(await fate('192.0.2.1', 8080, 300)).toBe('nothing')
    expect(await fate('2001:db8::1', 8080, 300)).toBe('nothing')
    world.held.close()
    expect(await fate('192.0.2.1', 8080, 10_000)).toBe('ECONNREFUSED')
  })

  it('of IPv4 is dropped by a socket that carries IPv6', async () => {
    const server = createServer(socket => socket.end('hello'))
    await new Promise<void>(resolve => server.listen(80, '192.0.2.2', resolve))
    try {
      const both = [binding(), binding({ hostIp: '::', containerIp: '192.0.2.2' })]
      for (const b of both) await world.held.hold(b, 'web', both)
      expect(world.sockets()).toContain('tcp *:8080')
      expect(await fate('2001:db8::1', 8080, 20_000)).toBe('connected')
      expect(await fate('192.0.2.1', 8080, 300)).toBe('nothing')
      expect(await fate('::ffff:192.0.2.1', 8080, 300)).toBe('nothing')
    } finally {
      server.close()
    }
  })

  it('before its container is known is dropped too, and served once it is', async () => {
    const server = createServer(socket => socket.end('hello'))
    await new Promise<void>(resolve => server.listen(80, '192.0.2.2', resolve))
    try {
      const range = { first: 8080, last: 8080 }
      const port = await world.held.choose({ protocol: 'tcp', hostIps: ['2001:db8::1'], range, size: 1, owner: 'web' })
      const connected = fate('2001:db8::1', port, 20_000)
      expect(await fate('2001:db8::1', port, 300)).toBe('nothing')
      await world.held.hold(binding({ hostIp: '2001:db8::1', containerIp: '192.0.2.2' }), 'web')
      expect(await connected).toBe('connected')
    } finally {
      server.close()
    }
  })

  it('is remembered: whether anybody came, so that nobody need look for what was dropped', async () => {
    const port = binding({ hostPort: 8081 })
    await world.held.hold(binding(), 'web')
    await world.held.hold(port, 'web')
    expect(await fate('192.0.2.1', 8080, 100)).toBe('nothing')
    expect([world.held.hasDropped(binding()), world.held.hasDropped(port)]).toEqual([true, false])
    world.held.close()
    expect(world.held.hasDropped(binding())).toBe(false)
  })

  it('is filtered by one program of the kernel for all sockets', async () => {
    const programs = () => readdirSync('/proc/self/fd').filter(fd => linkOf(fd) === 'anon_inode:bpf-prog').length
    const hold = async (hostPort: number, size: number) => {
      await world.held.hold(binding({ hostPort, size }), 'web')
      await world.held.hold(binding({ hostIp: '::', containerIp: 'fd00::2', hostPort, size }), 'web')
    }
    await hold(20_000, 1)
    const before = programs()
    expect(before).toBeGreaterThanOrEqual(2)
    await hold(20_001, 10)
    expect(programs()).toBe(before)
  })

  it.each([
    'TCP4-LISTEN:8080,reuseaddr,reuseport',
    'TCP6-LISTEN:8080,reuseaddr,ipv6only=0',
    'UDP4-RECV:8080,reuseaddr',
  ])('leaves no room for another program: %s', async address => {
    const protocol = address.startsWith('TCP') ? 'tcp' : 'udp'
    await world.held.hold(binding({ protocol, hostIp: '192.0.2.1' }), 'web')
    const program = spawn('ip', ['netns', 'exec', world.netns, 'socat', '-u', address, 'STDOUT'])
    let said = ''
    program.stderr.on('data', text => {
      said += text
    })
    await new Promise(resolve => program.on('close', resolve))
    expect(said).toContain('Address already in use')
  })
})

const linkOf = (fd: string): string => {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    return ''
  }
}

describe('datagrams that the kernel cannot redirect', () => {
  let container: DatagramSocket
  const clients: DatagramSocket[] = []
  const seen = new Set<number>()
  beforeAll(async () => {
    container = createSocket('udp4')
    container.on('message', (bytes, { address, port }) => {
      seen.add(port)
      container.send(`${bytes} back`, port, address)
    })
    await new Promise<void>(resolve => container.bind(53, '192.0.2.2', resolve))
  })
  afterEach(() => {
    for (const client of clients.splice(0)) client.close()
    vi.useRealTimers()
    seen.clear()
  })
  afterAll(() => container.close())

  const client = (): DatagramSocket => {
    const socket = createSocket('udp6')
    clients.push(socket)
    return socket
  }
  const exchange = (socket: DatagramSocket, text: string): Promise<string> =>
    new Promise(resolve => {
      socket.once('message', (bytes, { address, port }) => resolve(`${bytes} from ${address} ${port}`))
      socket.send(text, 8053, '::1')
    })
  /** sockets of this process towards the container */
  const outgoing = (): number => world.sockets().filter(line => /^udp 0\.0\.0\.0:/.test(line)).length
  const dns = binding({ protocol: 'udp', hostIp: '::1', hostPort: 8053, containerIp: '192.0.2.2', containerPort: 53 })

  it('go there and back, each client by a socket of its own', async () => {
    await world.held.hold(dns, 'web')
    const [one, two] = [client(), client()]
    expect(await exchange(one, 'a')).toBe('a back from ::1 8053')
    expect(await exchange(two, 'b')).toBe('b back from ::1 8053')
    expect(await exchange(one, 'c')).toBe('c back from ::1 8053')
    expect(seen.size).toBe(2)
    expect(outgoing()).toBe(2)
    await world.held.release([dns])
    expect(outgoing()).toBe(0)
  })

  it('of a client that was silent for long, or one of too many, come from another socket', async () => {
    await world.held.hold(dns, 'web')
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    await exchange(client(), 'a')
    expect(outgoing()).toBe(1)
    vi.advanceTimersByTime(90_000)
    expect(outgoing()).toBe(0)
    vi.useRealTimers()
    for (let i = 0; i < 520; i++) await exchange(client(), 'b')
    expect(outgoing()).toBe(512)
    expect(await exchange(clients[1]!, 'again')).toBe('again back from ::1 8053')
    expect(seen.size).toBe(522)
  })
})
