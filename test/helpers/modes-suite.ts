import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { EndpointView } from '../../src/cnm/specs.js'
import { formatBinding } from '../../src/ports/spec.js'
import { addresses, Host } from './host.js'
import type { Vantage } from './vantage.js'
import { askAll, pings, startServe } from './vantage.js'

const { host4, host6, outside4, outside6, beyond4, beyond6 } = addresses
const net4 = (n: number): string => `10.${n}.0.0/24`
const net6 = (n: number): string => `fd00:${n}::/64`
const four = (n: number, last = 2): string => `10.${n}.0.${last}`
const six = (n: number, last = 2): string => `fd00:${n}::${last}`

/** What networks of every gateway mode let through, by real connections; by a daemon with these options. The machine outside has routes to all of them. */
export function gatewayModes(...daemonOptions: string[]): void {
  let host: Host
  let outside: Vantage

  beforeAll(async () => {
    host = await Host.start()
    outside = host.outside
    await host.startTsnet(...daemonOptions)
    for (const n of [30, 31, 32, 33, 34, 35, 36]) {
      host.outside.run('ip', 'route', 'add', net4(n), 'via', host4)
      host.outside.run('ip', 'route', 'add', net6(n), 'via', host6)
    }
    await startServe(host.outside, 'outside', ['80/tcp'])
    await startServe(host, 'host', ['4000/tcp'])
    network('lab', 30)
    await box('lab1', 'lab', '-p', '8080:80')
  })
  afterAll(() => host?.stop())

  const network = (name: string, n: number, ...options: string[]) =>
    host.tsnet('network', 'create', name, '--subnet', net4(n), '--subnet', net6(n), ...options)
  const modes = (mode: string) => ['-o', `gateway_mode_ipv4=${mode}`, '-o', `gateway_mode_ipv6=${mode}`]
  async function box(name: string, on: string, ...options: string[]): Promise<void> {
    host.tsnet('sandbox', 'create', name)
    host.tsnet('connect', on, name, ...options)
    await startServe(host, name, ['80/tcp', '8000/tcp', '8001/tcp', '53/udp'], host.sandbox(name))
  }
  const bindings = (name: string): string[] =>
    host
      .tsnetJson<EndpointView[]>('ps')
      .find(endpoint => endpoint.name === name)!
      .bindings.map(formatBinding)
  const refusal = (...args: string[]) => {
    const { status, stderr } = host.tryTsnet(...args)
    return `${status} ${stderr.trim()}`
  }
  const settled = () => expect(host.tsnet('reconcile', '--dry-run')).toBe('')

  /** Each line is a target and what answers there: `lab1 10.30.0.3` is a server and the client's address as it sees it. */
  async function expectPaths(from: Vantage, want: Record<string, string>): Promise<void> {
    const got = await askAll(from, Object.keys(want))
    // silence is asked for once; an answer gets the time that a busy machine needs
    const late = Object.keys(want).filter(target => got[target] === 'nothing' && want[target] !== 'nothing')
    for (let tries = 0; late.length > 0 && tries < 5; tries++) {
      const again = await askAll(from, late)
      Object.assign(got, again)
      late.splice(0, late.length, ...late.filter(target => again[target] === 'nothing'))
    }
    expect(got).toEqual(want)
  }

  test('nat: published ports at the address of the host, nothing at that of the endpoint', async () => {
    await expectPaths(outside, {
      [`tcp ${host4} 8080`]: `lab1 ${outside4}`,
      [`tcp ${four(30)} 80`]: 'nothing',
      [`tcp ${six(30)} 80`]: 'nothing',
    })
    expect([pings(outside, four(30)), pings(outside, six(30))]).toEqual([false, false])
  })

  describe('routed', () => {
    beforeAll(async () => {
      network('open', 31, ...modes('routed'))
      await box('open1', 'open', '-p', '8081:80', '-p', '53/udp', '-p', '8001-8005:8001-8005')
    })

    test('published ports are reached at the address of the endpoint, the others not, and pings are answered', async () => {
      expect(bindings('open1').sort()).toEqual(
        [
          `${four(31)}:80->80/tcp`,
          `${four(31)}:53->53/udp`,
          `${four(31)}:8001-8005->8001-8005/tcp`,
          `[${six(31)}]:80->80/tcp`,
          `[${six(31)}]:53->53/udp`,
          `[${six(31)}]:8001-8005->8001-8005/tcp`,
        ].sort(),
      )
      await expectPaths(outside, {
        [`tcp ${four(31)} 80`]: `open1 ${outside4}`,
        [`tcp ${six(31)} 80`]: `open1 ${outside6}`,
        [`udp ${four(31)} 53`]: `open1 ${outside4}`,
        [`udp ${six(31)} 53`]: `open1 ${outside6}`,
        [`tcp ${four(31)} 8001`]: `open1 ${outside4}`,
        [`tcp ${four(31)} 8000`]: 'nothing',
        [`tcp ${six(31)} 8000`]: 'nothing',
        [`tcp ${host4} 8081`]: 'nothing',
      })
      expect([pings(outside, four(31)), pings(outside, six(31))]).toEqual([true, true])
    })

    test('other networks reach what is published, with their own addresses', async () => {
      await expectPaths(host.sandbox('lab1'), {
        [`tcp ${four(31)} 80`]: `open1 ${four(30)}`,
        [`tcp ${six(31)} 80`]: `open1 ${six(30)}`,
        [`tcp ${four(31)} 8000`]: 'nothing',
      })
      await expectPaths(host.sandbox('open1'), {
        [`tcp ${four(30)} 80`]: 'nothing',
        [`tcp ${host4} 8080`]: `lab1 ${four(31)}`,
        // out of the host with its own address as well
        [`tcp ${beyond4} 80`]: `outside ${four(31)}`,
        [`tcp ${beyond6} 80`]: `outside ${six(31)}`,
      })
      await expectPaths(host, { [`tcp ${four(31)} 8000`]: `open1 ${four(31, 1)}` })
    })

    test('publish add and rm open and close ports, several of one and those of some clients too', async () => {
      const target = `tcp ${four(31)} 8000`
      host.tsnet('publish', 'add', 'open1', '8000', '--from', outside4)
      await expectPaths(outside, { [target]: `open1 ${outside4}`, [`tcp ${six(31)} 8000`]: 'nothing' })
      await expectPaths(host.sandbox('lab1'), { [target]: 'nothing' })
      // beside it another that leads to the same port, and ranges that share some
      host.tsnet('publish', 'add', 'open1', '7990-8003')
      await expectPaths(host.sandbox('lab1'), { [target]: `open1 ${four(30)}` })
      settled()
      host.tsnet('publish', 'rm', 'open1', '7990-8003')
      await expectPaths(host.sandbox('lab1'), {
        [target]: 'nothing',
        [`tcp ${four(31)} 8001`]: `open1 ${four(30)}`,
      })
      await expectPaths(outside, { [target]: `open1 ${outside4}` })
      host.tsnet('publish', 'rm', 'open1', '8000')
      await expectPaths(outside, { [target]: 'nothing' })
      settled()
    })

    test('one family alone: the other has ports of the host', async () => {
      network('half', 34, '-o', 'com.docker.network.bridge.gateway_mode_ipv6=routed')
      await box('half1', 'half', '-p', '8084:80')
      expect(bindings('half1')).toEqual(['0.0.0.0:8084->80/tcp', `[${six(34)}]:80->80/tcp`])
      await expectPaths(outside, {
        [`tcp ${host4} 8084`]: `half1 ${outside4}`,
        [`tcp ${six(34)} 80`]: `half1 ${outside6}`,
        [`tcp ${four(34)} 80`]: 'nothing',
        [`tcp ${host6} 8084`]: 'nothing',
      })
      expect([pings(outside, four(34)), pings(outside, six(34))]).toEqual([false, true])
    })

    test('with icc off, endpoints do not meet by way of the gateway', async () => {
      network('apart', 35, '-o', 'icc=false', ...modes('routed'))
      await box('apart1', 'apart', '-p', '80')
      await box('apart2', 'apart')
      host.run(...host.sandbox('apart2').argv, 'ip', 'route', 'add', `${four(35)}/32`, 'via', four(35, 1))
      await expectPaths(host.sandbox('apart2'), { [`tcp ${four(35)} 80`]: 'nothing' })
      await expectPaths(host.sandbox('lab1'), { [`tcp ${four(35)} 80`]: `apart1 ${four(30)}` })
    })

    test('who names an address of the host is told that the port would not be there', () => {
      expect(refusal('publish', 'add', 'open1', '127.0.0.1:8089:8000')).toMatch(
        /^2 tsnet: .*port 127.0.0.1:8089:8000: network open routes IPv4, so the port would be open at 10.31.0.2 instead of 127.0.0.1/,
      )
    })

    test('all of it lasts through a restart of the daemon', async () => {
      const before = bindings('open1')
      await host.killTsnet()
      host.run('sh', '-c', 'nft delete table inet tsnet 2>/dev/null || true')
      await host.startTsnet(...daemonOptions)
      expect(bindings('open1')).toEqual(before)
      await expectPaths(outside, { [`tcp ${four(31)} 80`]: `open1 ${outside4}`, [`tcp ${four(31)} 8000`]: 'nothing' })
      settled()
    })
  })

  test('nat-unprotected: published ports at the address of the host, and every port at that of the endpoint', async () => {
    network('bare', 32, ...modes('nat-unprotected'))
    await box('bare1', 'bare', '-p', '8082:80')
    await expectPaths(outside, {
      [`tcp ${host4} 8082`]: `bare1 ${outside4}`,
      [`tcp ${host6} 8082`]: `bare1 ${outside6}`,
      [`tcp ${four(32)} 8000`]: `bare1 ${outside4}`,
      [`tcp ${six(32)} 8000`]: `bare1 ${outside6}`,
      [`udp ${four(32)} 53`]: `bare1 ${outside4}`,
    })
    expect([pings(outside, four(32)), pings(outside, six(32))]).toEqual([true, true])
    await expectPaths(host.sandbox('lab1'), { [`tcp ${four(32)} 8000`]: `bare1 ${four(30)}` })
    await expectPaths(host.sandbox('bare1'), {
      [`tcp ${beyond4} 80`]: `outside ${host4}`,
      [`tcp ${four(30)} 80`]: 'nothing',
    })
  })

  test('isolated: endpoints meet each other, and not even the host', async () => {
    expect(refusal('network', 'create', 'shut', ...modes('isolated'))).toMatch(
      /^2 tsnet: .*gateway_mode_ipv4=isolated is for --internal networks alone/,
    )
    network('shut', 33, '--internal', '-o', 'bridge=br-shut', ...modes('isolated'))
    await box('shut1', 'shut')
    await box('shut2', 'shut')
    expect(host.run('ip', '-br', 'addr', 'show', 'br-shut').trim().split(/\s+/)).toEqual(['br-shut', 'UP'])
    // no gateway, so its addresses are there to be given out
    expect(host.tsnet('ps')).toContain(`${four(33, 1)}/24`)
    await expectPaths(host.sandbox('shut2'), {
      [`tcp ${four(33, 1)} 80`]: `shut1 ${four(33, 2)}`,
      [`tcp ${six(33, 1)} 80`]: `shut1 ${six(33, 2)}`,
    })
    // a host with a route to it, and a sandbox that knows where the host is
    network('inner', 36, '--internal', '-o', 'bridge=br-inner')
    await box('inner1', 'inner')
    host.run('ip', 'route', 'add', net4(33), 'dev', 'br-shut')
    for (const name of ['shut2', 'inner1'])
      host.run(...host.sandbox(name).argv, 'ip', 'route', 'add', `${host4}/32`, 'dev', 'eth0')
    const target = `tcp ${host4} 4000`
    await expectPaths(host.sandbox('inner1'), { [target]: `host ${four(36)}` })
    await expectPaths(host.sandbox('shut2'), { [target]: 'nothing' })
    host.run('ip', 'route', 'del', net4(33))
    settled()
  })
}
