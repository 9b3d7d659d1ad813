import { beforeAll, describe, expect, test } from 'vitest'
import { addresses } from './host.js'
import { four, type ModesWorld, net4, six } from './modes-world.js'
import { pings } from './vantage.js'

const { host4, host6, outside4, outside6, beyond4, beyond6 } = addresses
const modes = (mode: string) => ({ gateway_mode_ipv4: mode, gateway_mode_ipv6: mode })

/** What networks of every gateway mode let through, by real connections; by a daemon with these options. */
export function gatewayModes(get: () => ModesWorld, ...daemonOptions: string[]): void {
  let world: ModesWorld
  beforeAll(() => {
    world = get()
  })

  test('nat: published ports at the address of the host, nothing at that of the endpoint', async () => {
    world.expectPaths(world.host.outside, {
      [`tcp ${host4} 8080`]: `lab1 ${outside4}`,
      [`tcp ${four(30)} 80`]: 'nothing',
      [`tcp ${six(30)} 80`]: 'nothing',
    })
    expect([pings(world.host.outside, four(30), 1), pings(world.host.outside, six(30), 1)]).toEqual([false, false])
  })

  describe('routed', () => {
    beforeAll(async () => {
      world.network('open', 31, modes('routed'))
      await world.box('open1', 'open', '8081:80', '53/udp', '8001-8005:8001-8005')
    })

    test('published ports are reached at the address of the endpoint, the others not, and pings are answered', async () => {
      expect(world.bindings('open1').sort()).toEqual(
        [
          `${four(31)}:80->80/tcp`,
          `${four(31)}:53->53/udp`,
          `${four(31)}:8001-8005->8001-8005/tcp`,
          `[${six(31)}]:80->80/tcp`,
          `[${six(31)}]:53->53/udp`,
          `[${six(31)}]:8001-8005->8001-8005/tcp`,
        ].sort(),
      )
      world.expectPaths(world.host.outside, {
        [`tcp ${four(31)} 80`]: `open1 ${outside4}`,
        [`tcp ${six(31)} 80`]: `open1 ${outside6}`,
        [`udp ${four(31)} 53`]: `open1 ${outside4}`,
        [`udp ${six(31)} 53`]: `open1 ${outside6}`,
        [`tcp ${four(31)} 8001`]: `open1 ${outside4}`,
        [`tcp ${four(31)} 8000`]: 'nothing',
        [`tcp ${six(31)} 8000`]: 'nothing',
        [`tcp ${host4} 8081`]: 'nothing',
      })
      expect([pings(world.host.outside, four(31)), pings(world.host.outside, six(31))]).toEqual([true, true])
    })

    test('other networks reach what is published, with their own addresses', async () => {
      world.expectPaths(world.host.sandbox('lab1'), {
        [`tcp ${four(31)} 80`]: `open1 ${four(30)}`,
        [`tcp ${six(31)} 80`]: `open1 ${six(30)}`,
        [`tcp ${four(31)} 8000`]: 'nothing',
      })
      world.expectPaths(world.host.sandbox('open1'), {
        [`tcp ${four(30)} 80`]: 'nothing',
        [`tcp ${host4} 8080`]: `lab1 ${four(31)}`,
        // out of the host with its own address as well
        [`tcp ${beyond4} 80`]: `outside ${four(31)}`,
        [`tcp ${beyond6} 80`]: `outside ${six(31)}`,
      })
      world.expectPaths(world.host, { [`tcp ${four(31)} 8000`]: `open1 ${four(31, 1)}` })
    })

    test('publish add and rm open and close ports, several of one and those of some clients too', async () => {
      const target = `tcp ${four(31)} 8000`
      world.publish('open1', '8000', { from: [outside4] })
      world.expectPaths(world.host.outside, { [target]: `open1 ${outside4}`, [`tcp ${six(31)} 8000`]: 'nothing' })
      world.expectPaths(world.host.sandbox('lab1'), { [target]: 'nothing' })
      // beside it another that leads to the same port, and ranges that share some
      world.publish('open1', '7990-8003')
      world.expectPaths(world.host.sandbox('lab1'), { [target]: `open1 ${four(30)}` })
      world.settled()
      world.unpublish('open1', '7990-8003')
      world.expectPaths(world.host.sandbox('lab1'), {
        [target]: 'nothing',
        [`tcp ${four(31)} 8001`]: `open1 ${four(30)}`,
      })
      world.expectPaths(world.host.outside, { [target]: `open1 ${outside4}` })
      world.unpublish('open1', '8000')
      world.expectPaths(world.host.outside, { [target]: 'nothing' })
      world.settled()
    })

    test('one family alone: the other has ports of the host', async () => {
      world.network('half', 34, { 'com.docker.network.bridge.gateway_mode_ipv6': 'routed' })
      await world.box('half1', 'half', '8084:80')
      expect(world.bindings('half1')).toEqual(['0.0.0.0:8084->80/tcp', `[${six(34)}]:80->80/tcp`])
      world.expectPaths(world.host.outside, {
        [`tcp ${host4} 8084`]: `half1 ${outside4}`,
        [`tcp ${six(34)} 80`]: `half1 ${outside6}`,
        [`tcp ${four(34)} 80`]: 'nothing',
        [`tcp ${host6} 8084`]: 'nothing',
      })
      expect([pings(world.host.outside, four(34), 1), pings(world.host.outside, six(34))]).toEqual([false, true])
    })

    test('with icc off, endpoints do not meet by way of the gateway', async () => {
      world.network('apart', 35, { icc: 'false', ...modes('routed') })
      await world.box('apart1', 'apart', '80')
      await world.box('apart2', 'apart')
      world.host.run(...world.host.sandbox('apart2').argv, 'ip', 'route', 'add', `${four(35)}/32`, 'via', four(35, 1))
      world.expectPaths(world.host.sandbox('apart2'), { [`tcp ${four(35)} 80`]: 'nothing' })
      world.expectPaths(world.host.sandbox('lab1'), { [`tcp ${four(35)} 80`]: `apart1 ${four(30)}` })
    })

    test('who names an address of the host is told that the port would not be there', () => {
      expect(world.refusal('publish', 'add', 'open1', '127.0.0.1:8089:8000')).toMatch(
        /^2 tsnet: .*port 127.0.0.1:8089:8000: network open routes IPv4, so the port would be open at 10.31.0.2 instead of 127.0.0.1/,
      )
    })

    test('all of it lasts through a restart of the daemon', async () => {
      const before = world.bindings('open1')
      await world.host.killTsnet()
      world.host.run('sh', '-c', 'nft delete table inet tsnet 2>/dev/null || true')
      await world.host.startTsnet(...daemonOptions)
      expect(world.bindings('open1')).toEqual(before)
      world.expectPaths(world.host.outside, {
        [`tcp ${four(31)} 80`]: `open1 ${outside4}`,
        [`tcp ${four(31)} 8000`]: 'nothing',
      })
      world.settled()
    })
  })

  test('nat-unprotected: published ports at the address of the host, and every port at that of the endpoint', async () => {
    world.network('bare', 32, modes('nat-unprotected'))
    await world.box('bare1', 'bare', '8082:80')
    world.expectPaths(world.host.outside, {
      [`tcp ${host4} 8082`]: `bare1 ${outside4}`,
      [`tcp ${host6} 8082`]: `bare1 ${outside6}`,
      [`tcp ${four(32)} 8000`]: `bare1 ${outside4}`,
      [`tcp ${six(32)} 8000`]: `bare1 ${outside6}`,
      [`udp ${four(32)} 53`]: `bare1 ${outside4}`,
    })
    expect([pings(world.host.outside, four(32)), pings(world.host.outside, six(32))]).toEqual([true, true])
    world.expectPaths(world.host.sandbox('lab1'), { [`tcp ${four(32)} 8000`]: `bare1 ${four(30)}` })
    world.expectPaths(world.host.sandbox('bare1'), {
      [`tcp ${beyond4} 80`]: `outside ${host4}`,
      [`tcp ${four(30)} 80`]: 'nothing',
    })
  })

  test('isolated: endpoints meet each other, and not even the host', async () => {
    expect(world.refusal('network', 'create', 'shut', '-o', 'gateway_mode_ipv4=isolated')).toMatch(
      /^2 tsnet: .*gateway_mode_ipv4=isolated is for --internal networks alone/,
    )
    world.network('shut', 33, { internal: 'true', bridge: 'br-shut', ...modes('isolated') })
    await world.box('shut1', 'shut')
    await world.box('shut2', 'shut')
    expect(world.host.run('ip', '-br', 'addr', 'show', 'br-shut').trim().split(/\s+/)).toEqual(['br-shut', 'UP'])
    // no gateway, so its addresses are there to be given out
    expect(world.host.tsnet('ps')).toContain(`${four(33, 1)}/24`)
    world.expectPaths(world.host.sandbox('shut2'), {
      [`tcp ${four(33, 1)} 80`]: `shut1 ${four(33, 2)}`,
      [`tcp ${six(33, 1)} 80`]: `shut1 ${six(33, 2)}`,
    })
    // a host with a route to it, and a sandbox that knows where the host is
    world.network('inner', 40, { internal: 'true' })
    await world.box('inner1', 'inner')
    world.host.run('ip', 'route', 'add', net4(33), 'dev', 'br-shut')
    for (const name of ['shut2', 'inner1'])
      world.host.run(...world.host.sandbox(name).argv, 'ip', 'route', 'add', `${host4}/32`, 'dev', 'eth0')
    const target = `tcp ${host4} 4000`
    world.expectPaths(world.host.sandbox('inner1'), { [target]: `host ${four(40)}` })
    world.expectPaths(world.host.sandbox('shut2'), { [target]: 'nothing' })
    world.host.run('ip', 'route', 'del', net4(33))
    world.settled()
  })
}
