import { execFileSync, spawn } from 'node:child_process'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { PortBinding } from '../../src/cnm/types.js'
import { createFirewall, type Firewall } from '../../src/firewall/firewall.js'
import { deleteForeignAccept, ensureForeignAccept } from '../../src/firewall/foreign.js'
import { HostPorts } from '../../src/firewall/host-ports.js'
import type { Runner } from '../../src/firewall/nft.js'
import { bindingElements, networkElements } from '../../src/firewall/rules.js'
import { openRunner } from '../../src/firewall/runner.js'
import { noLog } from '../../src/log.js'
import { enterNetnsForGood, openNetns } from '../../src/netlink/netns.js'
import {
  address4,
  address6,
  bridgeOf,
  gateway4,
  gateway6,
  type Member,
  makeWorld,
  members,
  type NetworkName,
  networks,
  type World,
} from '../helpers/firewall-world.js'
import { needRoot, netnsPath, run } from '../helpers/netns.js'
import { sctpInit } from '../helpers/sctp.js'

let world: World
let runner: Runner
let firewall: Firewall
const held = new HostPorts()

const binding = (over: Partial<PortBinding>): PortBinding => ({
  protocol: 'tcp',
  hostIp: '0.0.0.0',
  hostPort: 8080,
  containerIp: address4('a1'),
  containerPort: 80,
  size: 1,
  ...over,
})
const bindings: PortBinding[] = [
  binding({}),
  binding({ hostIp: '::', containerIp: address6('a1') }),
  binding({ protocol: 'udp', hostPort: 5353, containerPort: 53 }),
  binding({ protocol: 'udp', hostPort: 5353, containerPort: 53, hostIp: '::', containerIp: address6('a1') }),
  binding({ hostIp: '127.0.0.1', hostPort: 8081 }),
  binding({ hostIp: '::1', hostPort: 8081, containerIp: address6('a1') }),
  binding({ protocol: 'udp', hostIp: '127.0.0.1', hostPort: 8081, containerPort: 53 }),
  binding({ hostIp: '127.0.0.1', hostPort: 9100, containerPort: 9100, size: 3 }),
  binding({ hostIp: '192.0.2.1', hostPort: 8082 }),
  binding({ hostIp: '2001:db8::1', hostPort: 8082, containerIp: address6('a1') }),
  binding({ hostPort: 9000, containerPort: 9000, size: 3 }),
  binding({ hostIp: '::', containerIp: address6('a1'), hostPort: 9000, containerPort: 9000, size: 3 }),
  binding({ hostIp: '192.0.2.1', hostPort: 9200, containerPort: 9200, size: 3 }),
  binding({ hostIp: '2001:db8::1', containerIp: address6('a1'), hostPort: 9200, containerPort: 9200, size: 3 }),
  binding({ hostPort: 9010, containerPort: 9000, size: 3 }),
  binding({ hostIp: '::', hostPort: 8090 }),
  binding({ hostPort: 8099, containerIp: address4('i1') }),
  binding({ protocol: 'sctp', hostPort: 7777, containerPort: 7000 }),
]

beforeAll(async () => {
  needRoot()
  world = makeWorld()
  // From here on this process is the daemon of that host; other machines are reached through `ip netns exec`.
  enterNetnsForGood(openNetns(netnsPath(world.host)))
  runner = await openRunner('libnftables')
  firewall = createFirewall(runner)
  await firewall.ensure()
  const filtered = (Object.keys(networks) as NetworkName[]).flatMap(n =>
    networkElements({
      bridge: bridgeOf(n),
      subnets: [
        { family: 4, subnet: `10.${networks[n]}.0.0/24` },
        { family: 6, subnet: `fd00:${networks[n]}::/64` },
      ],
      internal: n === 'i',
      masquerade: true,
      icc: true,
    }),
  )
  for (const b of bindings) await held.hold(b, 'a1')
  await firewall.apply({ add: [...filtered, ...bindings.flatMap(bindingElements)], delete: [] })
  for (const m of Object.keys(members) as Member[]) {
    await world.agents[m].listen('tcp', 80, m)
    await world.agents[m].listen('udp', 53, m)
  }
  for (const port of [9000, 9001, 9002, 9100, 9102, 9200, 9202]) await world.agents.a1.listen('tcp', port, `a1:${port}`)
  await world.agents.outside.listen('tcp', 80, 'outside')
  await world.agents.host.listen('tcp', 4000, 'host')
  await world.agents.host.listen('udp', 4000, 'host')
})

afterAll(async () => {
  await held.close()
  runner?.close()
  world?.close()
})

type Place = Member | 'outside' | 'host'
type Path = [what: string, from: Place, protocol: 'tcp' | 'udp', host: string, port: number, want: string]
const out4 = '192.0.2.9'
const out6 = '2001:db8::9'

// What answers, and which source address it sees. `nothing`: no answer at all, not even a refusal.
const paths: Path[] = [
  ['outside to a port published anywhere', 'outside', 'tcp', '192.0.2.1', 8080, `a1 ${out4}`],
  ['outside to a port published anywhere', 'outside', 'tcp', '2001:db8::1', 8080, `a1 ${out6}`],
  ['outside to a udp port', 'outside', 'udp', '192.0.2.1', 5353, `a1 ${out4}`],
  ['outside to a udp port', 'outside', 'udp', '2001:db8::1', 5353, `a1 ${out6}`],
  ['outside to a port published at that address', 'outside', 'tcp', '192.0.2.1', 8082, `a1 ${out4}`],
  ['outside to a port published at that address', 'outside', 'tcp', '2001:db8::1', 8082, `a1 ${out6}`],
  ['outside to a range onto itself, first', 'outside', 'tcp', '192.0.2.1', 9000, `a1:9000 ${out4}`],
  ['outside to a range onto itself, last', 'outside', 'tcp', '2001:db8::1', 9002, `a1:9002 ${out6}`],
  ['outside to a range at that address, last', 'outside', 'tcp', '192.0.2.1', 9202, `a1:9202 ${out4}`],
  ['outside to a range at that address, first', 'outside', 'tcp', '2001:db8::1', 9200, `a1:9200 ${out6}`],
  ['outside to a range onto another', 'outside', 'tcp', '192.0.2.1', 9011, `a1:9001 ${out4}`],
  ['outside past the end of a range', 'outside', 'tcp', '192.0.2.1', 9003, 'refused'],
  [
    'outside to a v6 port of a v4 container, by the proxy',
    'outside',
    'tcp',
    '2001:db8::1',
    8090,
    `a1 ${gateway4('a')}`,
  ],
  ['the host by its address', 'host', 'tcp', '192.0.2.1', 8080, 'a1 192.0.2.1'],
  ['the host by its address', 'host', 'tcp', '2001:db8::1', 8080, 'a1 2001:db8::1'],
  ['the host by udp', 'host', 'udp', '192.0.2.1', 5353, 'a1 192.0.2.1'],
  ['the host by 127.0.0.1', 'host', 'tcp', '127.0.0.1', 8080, `a1 ${gateway4('a')}`],
  ['the host by 127.0.0.1, udp', 'host', 'udp', '127.0.0.1', 5353, `a1 ${gateway4('a')}`],
  ['the host by ::1, by the proxy', 'host', 'tcp', '::1', 8080, `a1 ${gateway6('a')}`],
  ['the host to a port for 127.0.0.1 alone', 'host', 'tcp', '127.0.0.1', 8081, `a1 ${gateway4('a')}`],
  ['the host to a port for 127.0.0.1 alone, udp', 'host', 'udp', '127.0.0.1', 8081, `a1 ${gateway4('a')}`],
  ['the host to a range for 127.0.0.1 alone', 'host', 'tcp', '127.0.0.1', 9102, `a1:9102 ${gateway4('a')}`],
  ['the host to a port for ::1 alone', 'host', 'tcp', '::1', 8081, `a1 ${gateway6('a')}`],
  ['the host to an address it is not published at', 'host', 'tcp', '127.0.0.1', 8082, 'refused'],
  ['the host to a container directly', 'host', 'tcp', address4('b1'), 80, `b1 ${gateway4('b')}`],
  ['the host to an internal container', 'host', 'tcp', address4('i1'), 80, `i1 ${gateway4('i')}`],
  ['outside to a port for 127.0.0.1 alone', 'outside', 'tcp', '127.0.0.1', 8081, 'nothing'],
  ['outside to a udp port for 127.0.0.1 alone', 'outside', 'udp', '127.0.0.1', 8081, 'nothing'],
  ['outside to a range for 127.0.0.1 alone', 'outside', 'tcp', '127.0.0.1', 9101, 'nothing'],
  ['outside to that port by another address', 'outside', 'tcp', '192.0.2.1', 8081, 'refused'],
  ["a container to the host's 127.0.0.1", 'b2', 'tcp', '127.0.0.1', 4000, 'nothing'],
  ['a container to a port for 127.0.0.1 alone', 'b2', 'tcp', '127.0.0.1', 8081, 'nothing'],
  ['a container to its own published port', 'a1', 'tcp', '192.0.2.1', 8080, `a1 ${gateway4('a')}`],
  ['a container to its own published port', 'a1', 'tcp', '2001:db8::1', 8080, `a1 ${gateway6('a')}`],
  ['a container to its own published port by the gateway', 'a1', 'udp', gateway4('a'), 5353, `a1 ${gateway4('a')}`],
  ["a container to its peer's published port", 'a2', 'tcp', '192.0.2.1', 8080, `a1 ${gateway4('a')}`],
  ["a container to its peer's published port", 'a2', 'tcp', '2001:db8::1', 8080, `a1 ${gateway6('a')}`],
  ['a container to a port published on another network', 'b1', 'tcp', '192.0.2.1', 8080, `a1 ${address4('b1')}`],
  ['a container to a port published on another network', 'b1', 'tcp', '2001:db8::1', 8080, `a1 ${address6('b1')}`],
  ['a container to its peer', 'a2', 'tcp', address4('a1'), 80, `a1 ${address4('a2')}`],
  ['a container to its peer', 'a2', 'udp', address6('a1'), 53, `a1 ${address6('a2')}`],
  ['a container to the world', 'a1', 'tcp', out4, 80, 'outside 192.0.2.1'],
  ['a container to the world', 'b1', 'tcp', out6, 80, 'outside 2001:db8::1'],
  ['a container to a service of the host', 'a1', 'tcp', gateway4('a'), 4000, `host ${address4('a1')}`],
  ['a container to another network', 'b1', 'tcp', address4('a1'), 80, 'nothing'],
  ['a container to another network', 'b1', 'tcp', address6('a1'), 80, 'nothing'],
  ['a container to an internal network', 'a1', 'tcp', address4('i1'), 80, 'nothing'],
  ['outside to a container directly', 'outside', 'tcp', address4('a1'), 80, 'nothing'],
  ['outside to a container directly', 'outside', 'tcp', address6('a1'), 80, 'nothing'],
  [
    'outside to a port that somebody redirects to an internal container',
    'outside',
    'tcp',
    '192.0.2.1',
    8099,
    'nothing',
  ],
  ['outside to an internal container', 'outside', 'tcp', address4('i1'), 80, 'nothing'],
  ['outside to an internal container', 'outside', 'udp', address6('i1'), 53, 'nothing'],
  ['an internal container to its peer', 'i1', 'tcp', address4('i2'), 80, `i2 ${address4('i1')}`],
  ['an internal container to its peer', 'i1', 'tcp', address6('i2'), 80, `i2 ${address6('i1')}`],
  ['an internal container to the host', 'i1', 'tcp', gateway4('i'), 4000, `host ${address4('i1')}`],
  ['an internal container to the world', 'i1', 'tcp', out4, 80, 'nothing'],
  ['an internal container to the world', 'i1', 'tcp', out6, 80, 'nothing'],
  ['an internal container to another network', 'i1', 'tcp', address4('a1'), 80, 'nothing'],
  ['an internal container to a port published elsewhere', 'i1', 'tcp', gateway4('i'), 8080, 'nothing'],
]

function bridgeNetfilter(on: boolean): void {
  const value = on ? 1 : 0
  run(
    world.host,
    'sysctl',
    '-qw',
    `net.bridge.bridge-nf-call-iptables=${value}`,
    `net.bridge.bridge-nf-call-ip6tables=${value}`,
  )
}

function describePaths(): void {
  it("a container cannot pass for the host's own loopback", async () => {
    for (const from of [address4('b2'), '127.0.0.2'])
      await world.agents.b2.ask({ protocol: 'udp', host: gateway4('b'), port: 4000, from, timeoutMs: 200 })
    const got = await world.agents.host.seen()
    expect(got).toContain(address4('b2'))
    expect(got).not.toContain('127.0.0.2')
  })

  it('a neighbour by the link-local address of the host is served by the proxy', async () => {
    const [, linkLocal] = /(fe80\S+)\//.exec(run(world.host, 'ip', '-6', 'addr', 'show', 'dev', 'eth0')) ?? []
    const got = await world.agents.outside.ask({ protocol: 'tcp', host: `${linkLocal}%eth0`, port: 8080 })
    expect(got).toBe(`a1 ${gateway6('a')}`)
  })

  it.concurrent.each(paths)('%s: %s by %s to %s port %i gets "%s"', async (_, from, protocol, host, port, want) => {
    // Silence is waited for; an answer gets the time that a busy machine needs.
    const timeoutMs = want === 'nothing' ? 600 : 5000
    const got = await world.agents[from].ask({ protocol, host, port, timeoutMs })
    expect(got).toBe(want)
  })
}

describe('with frames of bridges kept from IP rules (bridge-nf-call 0)', () => {
  beforeAll(() => bridgeNetfilter(false))
  describePaths()
})

describe('with frames of bridges passed through IP rules (bridge-nf-call 1)', () => {
  beforeAll(() => bridgeNetfilter(true))
  describePaths()
})

describe('beside an iptables-nft whose FORWARD policy is drop, as dockerd leaves it', () => {
  beforeAll(async () => {
    bridgeNetfilter(true)
    for (const iptables of ['iptables', 'ip6tables']) {
      execFileSync(iptables, ['-P', 'FORWARD', 'DROP'])
      execFileSync(iptables, ['-N', 'DOCKER-USER'])
      execFileSync(iptables, ['-A', 'FORWARD', '-j', 'DOCKER-USER'])
      execFileSync(iptables, ['-A', 'DOCKER-USER', '-j', 'RETURN'])
    }
    expect(await world.agents.outside.ask({ protocol: 'tcp', host: '192.0.2.1', port: 8080 })).toBe('nothing')
    expect((await ensureForeignAccept(runner, noLog)).added).toEqual(['ip filter FORWARD', 'ip6 filter FORWARD'])
  })
  describePaths()

  it('adds nothing the second time', async () => {
    expect((await ensureForeignAccept(runner, noLog)).added).toEqual([])
  })

  it('adds a rule that iptables itself can read, after the jump to DOCKER-USER', () => {
    const got = execFileSync('iptables', ['-S', 'FORWARD'], { encoding: 'utf8' }).trim().split('\n')
    expect(got).toEqual([
      '-P FORWARD DROP',
      '-A FORWARD -j DOCKER-USER',
      '-A FORWARD -m mark --mark 0x800000/0x800000 -m comment --comment tsnet -j ACCEPT',
    ])
  })

  it('comes back to its place after dockerd has put chains above it', async () => {
    execFileSync('iptables', ['-N', 'DOCKER-ISOLATION'])
    execFileSync('iptables', ['-D', 'FORWARD', '-j', 'DOCKER-USER'])
    execFileSync('iptables', ['-I', 'FORWARD', '-j', 'DOCKER-ISOLATION'])
    execFileSync('iptables', ['-I', 'FORWARD', '-j', 'DOCKER-USER'])
    expect((await ensureForeignAccept(runner, noLog)).added).toEqual(['ip filter FORWARD'])
    const got = execFileSync('iptables', ['-S', 'FORWARD'], { encoding: 'utf8' }).trim().split('\n')
    expect(got.map(rule => rule.split(' ').at(-1))).toEqual(['DROP', 'DOCKER-USER', 'ACCEPT', 'DOCKER-ISOLATION'])
  })

  it('does not accept what our rules never accepted', async () => {
    // Neither side is a bridge of ours: two of the host's other links.
    run(world.host, 'ip', 'link', 'add', 'other', 'type', 'veth', 'peer', 'name', 'eth1', 'netns', world.netnsOf.b1)
    run(world.host, 'ip', 'addr', 'add', '198.51.100.1/24', 'dev', 'other')
    run(world.host, 'ip', 'link', 'set', 'other', 'up')
    run(world.netnsOf.b1, 'ip', 'addr', 'add', '198.51.100.2/24', 'dev', 'eth1')
    run(world.netnsOf.b1, 'ip', 'link', 'set', 'eth1', 'up')
    run(world.netnsOf.b1, 'ip', 'route', 'add', '192.0.2.0/24', 'via', '198.51.100.1')
    run(world.netnsOf.outside, 'ip', 'route', 'add', '198.51.100.0/24', 'via', '192.0.2.1')
    const question = { protocol: 'tcp', host: '198.51.100.2', port: 80 } as const
    expect(await world.agents.outside.ask(question)).toBe('nothing')
    execFileSync('iptables', ['-P', 'FORWARD', 'ACCEPT'])
    expect(await world.agents.outside.ask(question)).toBe(`b1 ${out4}`)
  })

  it('leaves nothing behind', async () => {
    await deleteForeignAccept(runner)
    await deleteForeignAccept(runner)
    expect(execFileSync('iptables', ['-S'], { encoding: 'utf8' })).not.toContain('tsnet')
    expect(execFileSync('ip6tables', ['-S'], { encoding: 'utf8' })).not.toContain('tsnet')
  })
})

describe('with icc off on network a', () => {
  beforeAll(async () => {
    bridgeNetfilter(false)
    for (const m of ['a1', 'a2']) run(world.host, 'bridge', 'link', 'set', 'dev', `v-${m}`, 'isolated', 'on')
    await firewall.apply({ add: [], delete: [{ set: 'intra', from: 'br-a', to: 'br-a' }] })
    // The way round: through the gateway instead of straight across the bridge.
    run(world.netnsOf.a2, 'ip', 'route', 'add', `${address4('a1')}/32`, 'via', gateway4('a'))
  })

  it.each([
    ['a peer, through the gateway', address4('a1'), 80, 'nothing'],
    ['a peer, straight', address6('a1'), 80, 'nothing'],
    ["a peer's published port", '192.0.2.1', 8080, `a1 ${gateway4('a')}`],
    ['the world', out4, 80, 'outside 192.0.2.1'],
  ])('a container asking %s (%s port %i) gets "%s"', async (_, host, port, want) => {
    const timeoutMs = want === 'nothing' ? 600 : 5000
    expect(await world.agents.a2.ask({ protocol: 'tcp', host, port, timeoutMs })).toBe(want)
  })
})

describe('sctp', () => {
  it('is redirected to the container port, with a right checksum', async () => {
    // The kernel here has no SCTP sockets, so a hand-made INIT goes over raw IP (protocol 132, RFC 9260).
    const receiver = spawn('ip', ['netns', 'exec', world.netnsOf.a1, 'tcpdump', '-lnni', 'eth0', '-c1', '-v', 'sctp'])
    let seen = ''
    receiver.stdout.on('data', data => {
      seen += data
    })
    await new Promise<void>(resolve => receiver.stderr.on('data', d => String(d).includes('listening') && resolve()))
    const ended = new Promise(resolve => receiver.on('close', resolve))
    execFileSync('ip', ['netns', 'exec', world.netnsOf.outside, 'socat', '-u', '-', 'IP4-SENDTO:192.0.2.1:132'], {
      input: sctpInit(5000, 7777),
    })
    await ended
    expect(seen).toContain('192.0.2.9.5000 > 10.20.0.2.7000: sctp')
    expect(seen).not.toContain('bad cksum')
  })
})
