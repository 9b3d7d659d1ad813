import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { refusal, removeAll, removeContainers, runContainer, runServing } from '../helpers/docker.js'
import { addresses, Host } from '../helpers/host.js'
import { eachLeavesAsFound } from '../helpers/tidy-host.js'
import { ask, isClosed, untilServed, type Vantage } from '../helpers/vantage.js'

// Published ports of real containers: where they answer, where they do not, and whom the container sees.

let host: Host

beforeAll(async () => {
  host = await Host.startWithDocker()
})
afterAll(() => host?.stop())

eachLeavesAsFound(
  () => host,
  () => removeAll(host),
)

const { host4, host6, outside4, outside6 } = addresses
const portsServed = ['80/tcp', '53/udp', '9000/tcp', '9001/tcp', '9002/tcp']

describe.each([
  ["Docker's IPAM", []],
  ["tsnet's IPAM", ['--ipam-driver', 'tsnet']],
])('with %s', (_whose, ipam) => {
  /** A web server with every form of -p, a neighbour on its network, and a container on another network. */
  async function publish(...flags: string[]): Promise<void> {
    host.docker('network', 'create', '-d', 'tsnet', ...ipam, '--subnet', '10.20.0.0/24', ...flags, 'web')
    host.docker('network', 'create', '-d', 'tsnet', ...ipam, '--subnet', '10.21.0.0/24', 'other')
    const published = ['8080:80', '127.0.0.1:8081:80', '53:53/udp', '9000-9002:9000-9002', '80']
    await runServing(host, 'web', 'web', portsServed, ...published.flatMap(spec => ['-p', spec]))
    await runContainer(host, 'neighbour', 'web')
    await runContainer(host, 'stranger', 'other')
  }

  test('each form of -p answers where it should, and nowhere else', async () => {
    await publish()
    const everywhere: [string, Vantage][] = [
      ['outside', host.outside],
      ['host', host],
      ['neighbour', host.container('neighbour')],
      ['stranger', host.container('stranger')],
      ['itself', host.container('web')],
    ]
    for (const [where, from] of everywhere) {
      expect([where, ask(from, 'tcp', host4, 8080)?.name]).toEqual([where, 'web'])
      expect([where, ask(from, 'udp', host4, 53)?.name]).toEqual([where, 'web'])
      expect([where, [9000, 9001, 9002].map(port => ask(from, 'tcp', host4, port)?.name)]).toEqual([
        where,
        ['web', 'web', 'web'],
      ])
      // bound to 127.0.0.1 only
      expect([where, isClosed(from, 'tcp', host4, 8081)]).toEqual([where, true])
      // never published
      expect([where, isClosed(from, 'tcp', host4, 9003)]).toEqual([where, true])
    }
    expect(ask(host, 'tcp', '127.0.0.1', 8080)?.name).toBe('web')
    expect(ask(host, 'tcp', '127.0.0.1', 8081)?.name).toBe('web')
    expect(ask(host, 'udp', '127.0.0.1', 53)?.name).toBe('web')
    expect(ask(host.outside, 'tcp', host6, 8080)?.name).toBe('web')
    expect(ask(host, 'tcp', '::1', 8080)?.name).toBe('web')
  })

  test('127.0.0.1 of the host stays out of reach of a machine that routes to it', async () => {
    await publish()
    // without its own loopback the machine outside sends what is for 127.0.0.1 to the host
    host.outside.run('ip', 'link', 'set', 'lo', 'down')
    host.outside.run('sysctl', '-qw', 'net.ipv4.conf.eth0.route_localnet=1')
    host.outside.run('ip', 'route', 'add', '127.0.0.1', 'via', host4, 'dev', 'eth0', 'src', outside4)
    expect(isClosed(host.outside, 'tcp', '127.0.0.1', 8081)).toBe(true)
    host.outside.run('ip', 'route', 'del', '127.0.0.1')
    host.outside.run('ip', 'link', 'set', 'lo', 'up')
  })

  test('the container sees the address of a client outside as it is', async () => {
    await publish('--ipv6', '--subnet', 'fd00:20::/64')
    expect(ask(host.outside, 'tcp', host4, 8080)?.peer).toBe(outside4)
    expect(ask(host.outside, 'udp', host4, 53)?.peer).toBe(outside4)
    expect(ask(host.outside, 'tcp', host4, 9001)?.peer).toBe(outside4)
    expect(ask(host.outside, 'tcp', host6, 8080)?.peer).toBe(outside6)
    expect(ask(host.outside, 'udp', host6, 53)?.peer).toBe(outside6)
    expect(ask(host.container('stranger'), 'tcp', host4, 8080)?.peer).toBe('10.21.0.2')
  })

  test('-p 80 takes a free port, which tsnet ps tells', async () => {
    await publish()
    const [web] = host
      .tsnetJson<{ bindings: Record<string, unknown>[] }[]>('ps')
      .filter(({ bindings }) => bindings.length > 0)
    const given = new Set([8080, 8081, 53, 9000])
    const free = web!.bindings.find(({ hostPort, hostIp }) => hostIp === '0.0.0.0' && !given.has(hostPort as number))
    expect(free).toMatchObject({ containerPort: 80, protocol: 'tcp' })
    expect(ask(host.outside, 'tcp', host4, Number(free!.hostPort))).toEqual({ name: 'web', peer: outside4 })
  })

  test('a port answers no more when its container has stopped, and again when it has started', async () => {
    await publish()
    host.docker('stop', 'web')
    expect(isClosed(host.outside, 'tcp', host4, 8080)).toBe(true)
    expect(isClosed(host, 'tcp', '127.0.0.1', 8081)).toBe(true)
    host.docker('start', 'web')
    await untilServed(host.container('web'), 'web', portsServed)
    expect(ask(host.outside, 'tcp', host4, 8080)?.name).toBe('web')
  })

  test('a port that is taken is refused by naming the holder, and the holder keeps it', async () => {
    await publish()
    // its name here, which is the container's as soon as dockerd has told it
    const holder = () =>
      host.tsnetJson<{ name: string; bindings: object[] }[]>('ps').find(row => row.bindings.length)!.name
    const before = holder()
    const said = refusal(host, 'run', '-d', '--name', 'second', '--network', 'web', '-p', '8080:80', 'busybox', 'true')
    expect(said).toMatch(/8080/)
    expect([before, holder()].some(name => said.includes(`is in use by endpoint ${name}`))).toBe(true)
    expect(ask(host.outside, 'tcp', host4, 8080)?.name).toBe('web')
    removeContainers(host, 'second')
  })
})

test('a port that a program of the host holds is refused by naming the program', async () => {
  host.docker('network', 'create', '-d', 'tsnet', 'web')
  await host.serve('squatter', 'socat', 'TCP-LISTEN:9090,fork', 'SYSTEM:true')
  expect(refusal(host, 'run', '-d', '--name', 'web', '--network', 'web', '-p', '9090:80', 'busybox', 'true')).toMatch(
    /9090.*socat/,
  )
  await host.end('squatter')
})

test('a published port is out of reach of the programs of the host and of Docker itself', async () => {
  host.docker('network', 'create', '-d', 'tsnet', 'web')
  await runContainer(host, 'web', 'web', '-p', '8080:80')
  expect(host.tryRun('timeout', '1', 'socat', 'TCP-LISTEN:8080', 'SYSTEM:true').stderr).toMatch(
    /Address already in use/,
  )
  const bridge = `br-${host.docker('network', 'create', 'plain').slice(0, 12)}`
  expect(
    refusal(host, 'run', '-d', '--name', 'second', '--network', 'plain', '-p', '8080:80', 'busybox', 'true'),
  ).toMatch(/8080/)
  removeContainers(host, 'second')
  // dockerd 28 leaves the link of a container that it could not publish
  for (const { ifname } of host.json('ip', '-j', 'link', 'show', 'master', bridge))
    host.run('ip', 'link', 'delete', String(ifname))
  host.docker('network', 'rm', 'plain')
})

test('-P publishes what the image exposes at free ports, and every form of an address is understood', async () => {
  host.docker('network', 'create', '-d', 'tsnet', '--ipv6', '--subnet', 'fd00:22::/64', 'web')
  const forms = [`${host4}::80`, `[${host6}]:8002:80`, '[::]:8003:80', '0.0.0.0:8003:9000', '8010-8012:80']
  const exposed = ['-P', '--expose', '9001', '--expose', '53/udp']
  await runServing(host, 'web', 'web', portsServed, ...exposed, ...forms.flatMap(spec => ['-p', spec]))
  interface Bound {
    protocol: string
    hostIp: string
    hostPort: number
    containerPort: number
  }
  const bindings = host.tsnetJson<{ bindings: Bound[] }[]>('ps').flatMap(row => row.bindings)
  const portOf = (containerPort: number, hostIp: string): number =>
    bindings.find(b => b.containerPort === containerPort && b.hostIp === hostIp)!.hostPort
  expect(ask(host.outside, 'tcp', host4, portOf(9001, '0.0.0.0'))?.name).toBe('web')
  expect(ask(host.outside, 'tcp', host6, portOf(9001, '::'))?.name).toBe('web')
  expect(ask(host.outside, 'udp', host4, portOf(53, '0.0.0.0'))?.name).toBe('web')
  expect(ask(host.outside, 'tcp', host4, portOf(80, host4))?.name).toBe('web')
  expect(ask(host.outside, 'tcp', host6, 8002)?.name).toBe('web')
  expect(ask(host.outside, 'tcp', host6, 8003)?.name).toBe('web')
  expect(ask(host.outside, 'tcp', host4, 8003)?.name).toBe('web')
  expect(ask(host.outside, 'tcp', host4, portOf(80, '0.0.0.0'))?.name).toBe('web')
  expect([8010, 8011, 8012]).toContain(portOf(80, '0.0.0.0'))
})
