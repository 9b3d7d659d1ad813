import { execFileSync, spawn } from 'node:child_process'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Firewall } from '../../src/firewall/firewall.js'
import { HostPorts } from '../../src/firewall/host-ports.js'
import { bindingElements, networkElements } from '../../src/firewall/rules.js'
import { enterNetnsForGood, openNetns } from '../../src/netlink/netns.js'
import { bindings, out4, paths } from './firewall-paths.js'
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
} from './firewall-world.js'
import { needRoot, netnsPath, run } from './netns.js'
import { sctpInit } from './sctp.js'

export interface PathSuite {
  world(): World
  /** frames of bridges pass through IP rules too, as dockerd has it */
  bridgeNetfilter(on: boolean): void
  /** a test for every path */
  describePaths(): void
}

/** Real connections over every path of a host whose firewall is `makeFirewall`'s; `beside` adds tests before the last ones change things. */
export function firewallPaths(makeFirewall: () => Promise<Firewall>, beside: (suite: PathSuite) => void): void {
  let world: World
  let firewall: Firewall
  const held = new HostPorts()

  beforeAll(async () => {
    needRoot()
    world = makeWorld()
    // From here on this process is the daemon of that host; other machines are reached through `ip netns exec`.
    enterNetnsForGood(openNetns(netnsPath(world.host)))
    firewall = await makeFirewall()
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
    for (const port of [9000, 9001, 9002, 9100, 9102, 9200, 9202])
      await world.agents.a1.listen('tcp', port, `a1:${port}`)
    await world.agents.outside.listen('tcp', 80, 'outside')
    await world.agents.host.listen('tcp', 4000, 'host')
    await world.agents.host.listen('udp', 4000, 'host')
  })

  afterAll(async () => {
    await held.close()
    world?.close()
  })

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

  beside({ world: () => world, bridgeNetfilter, describePaths })

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
}
