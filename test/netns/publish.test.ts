import { createServer } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { HostPorts } from '../../src/firewall/host-ports.js'
import { resolveBindings } from '../../src/firewall/publish.js'
import { enterNetnsForGood, openNetns } from '../../src/netlink/netns.js'
import { formatBinding, parsePortSpec } from '../../src/ports/spec.js'
import { binding } from '../helpers/host-ports-world.js'
import { makeNetns, needRoot, netnsPath, removeNetns, run, sweep } from '../helpers/netns.js'
import { boundSockets } from '../helpers/sockets.js'

const prefix = 'tst-pub'
let netns: string
let held: HostPorts
const sockets = () => boundSockets(netns)

beforeAll(() => {
  needRoot()
  sweep(prefix)
  netns = makeNetns(prefix)
  run(netns, 'ip', 'addr', 'add', '192.0.2.1/32', 'dev', 'lo')
  run(netns, 'ip', 'addr', 'add', '192.0.2.2/32', 'dev', 'lo')
  run(netns, 'ip', 'addr', 'add', '2001:db8::1/128', 'dev', 'lo', 'nodad')
  enterNetnsForGood(openNetns(netnsPath(netns)))
  held = new HostPorts()
})
afterEach(() => held.close())
afterAll(() => removeNetns(netns))

describe('bindings resolved from what was asked', () => {
  const resolve = async (specs: string[], addresses = ['10.20.0.2/24', 'fd00:20::2/64'], more = {}) => {
    const got = await resolveBindings(specs.map(parsePortSpec), { addresses, held, owner: 'web', ...more })
    return got.map(b => `${formatBinding(b)} ${b.containerIp}`)
  }
  const four = ['10.20.0.2/24']
  const six = ['fd00:20::2/64']

  it.each<[string, string[], string[], object, string[]]>([
    [
      'both families',
      ['8080:80'],
      [...four, ...six],
      {},
      ['0.0.0.0:8080->80/tcp 10.20.0.2', '[::]:8080->80/tcp fd00:20::2'],
    ],
    [
      'IPv4 alone: the proxy serves ::',
      ['80:80'],
      four,
      {},
      ['0.0.0.0:80->80/tcp 10.20.0.2', '[::]:80->80/tcp 10.20.0.2'],
    ],
    ['IPv4 alone by udp', ['53:53/udp'], four, {}, ['0.0.0.0:53->53/udp 10.20.0.2']],
    ['IPv6 alone', ['80:80'], six, {}, ['[::]:80->80/tcp fd00:20::2']],
    ['one address', ['127.0.0.1:81:80'], [...four, ...six], {}, ['127.0.0.1:81->80/tcp 10.20.0.2']],
    ['an IPv6 address to IPv4', ['[::1]:81:80'], four, {}, ['[::1]:81->80/tcp 10.20.0.2']],
    ['an IPv6 address to IPv4 by udp', ['[::1]:53:53/udp'], four, {}, ['[::1]:53->53/udp 10.20.0.2']],
    ['a range', ['9000-9002:80-82/udp'], four, {}, ['0.0.0.0:9000-9002->80-82/udp 10.20.0.2']],
    [
      'host_binding of IPv6 alone',
      ['80:80'],
      [...four, ...six],
      { hostBinding6: '::1' },
      ['[::1]:80->80/tcp fd00:20::2'],
    ],
    [
      'host_binding of 0.0.0.0, which is the default',
      ['80:80'],
      four,
      { hostBinding4: '0.0.0.0' },
      ['0.0.0.0:80->80/tcp 10.20.0.2', '[::]:80->80/tcp 10.20.0.2'],
    ],
    ['host_binding', ['80:80'], [...four, ...six], { hostBinding4: '192.0.2.1' }, ['192.0.2.1:80->80/tcp 10.20.0.2']],
    [
      'host_binding of both families',
      ['80:80'],
      [...four, ...six],
      { hostBinding4: '192.0.2.1', hostBinding6: '2001:db8::1' },
      ['192.0.2.1:80->80/tcp 10.20.0.2', '[2001:db8::1]:80->80/tcp fd00:20::2'],
    ],
  ])('%s', async (_, specs, addresses, more, want) => {
    expect(await resolve(specs, addresses, more)).toEqual(want)
    expect(sockets()).toEqual([])
  })

  it.each<[string, string, string[]]>([
    ['127.0.0.1:80:80', 'endpoint web has no IPv4 address to publish at 127.0.0.1', six],
    ['[::1]:80:80/sctp', 'endpoint web has no IPv6 address to publish at ::1', four],
    ['[::]:80:80/udp', 'endpoint web has no IPv6 address to publish at ::', four],
  ])('refuses %s: %s', async (spec, why, addresses) => {
    await expect(resolve([spec], addresses)).rejects.toMatchObject({
      kind: 'InvalidParameter',
      message: `port ${spec}: ${why}`,
    })
  })

  it('choose one free port for all addresses, and hold it at once', async () => {
    const got = await resolveBindings([parsePortSpec('80')], { addresses: [...four, ...six], held, owner: 'web' })
    const port = got[0]?.hostPort ?? 0
    expect(got.map(b => b.hostPort)).toEqual([port, port])
    expect(port).toBeGreaterThanOrEqual(32768)
    expect(sockets()).toEqual([`tcp *:${port}`])
    for (const b of got) await held.hold(b, 'web')
    await held.release(got)
    expect(sockets()).toEqual([])
  })

  it('choose from the range that is given, past what is taken by us, by others and by number', async () => {
    const other = createServer()
    await new Promise<void>(done => other.listen(8001, '192.0.2.1', done))
    await held.hold(binding({ hostPort: 8000 }), 'db')
    const specs = ['127.0.0.1:8002:81', '8000-8005:80']
    expect((await resolve(specs, four)).map(text => text.split('->')[0])).toEqual([
      '127.0.0.1:8002',
      '0.0.0.0:8003',
      '[::]:8003',
    ])
    other.close()
  })

  it('choose different ports when asked at once', async () => {
    const all = await Promise.all(Array.from({ length: 20 }, () => resolve(['80'], four)))
    expect(new Set(all.map(([first]) => first)).size).toBe(20)
  })

  it('let go what was chosen when a later one cannot be had', async () => {
    await expect(resolve(['80', '127.0.0.1:80:80'], six)).rejects.toThrow('no IPv4 address')
    expect(sockets()).toEqual([])
    await held.hold(binding({ hostPort: 8000, size: 2 }), 'db')
    await expect(resolve(['80', '8000-8001:80'], four)).rejects.toMatchObject({
      kind: 'Conflict',
      message: 'no free port in 8000-8001/tcp on 0.0.0.0 and ::',
    })
    expect(sockets()).toEqual(['tcp 0.0.0.0:8000', 'tcp 0.0.0.0:8001'])
  })
})
