import { afterAll, beforeAll, expect, test } from 'vitest'
import { Host } from '../helpers/host.js'
import { until } from '../helpers/machine.js'
import { pings } from '../helpers/vantage.js'

// A sandbox that comes back has its addresses again, and another MAC address: its neighbours must not go on writing to the old one,
// nor its port of the bridge drop what comes, until the kernel has noticed that the cable has two ends.

let host: Host
beforeAll(async () => {
  host = await Host.startWithTsnet()
  host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24', '--ipv6', '--subnet', 'fd00:30::/64')
  for (const name of ['a', 'b']) host.tsnet('sandbox', 'create', name)
  host.tsnet('connect', 'lab', 'a')
})
afterAll(() => host?.stop())

const addresses = ['10.30.0.9', 'fd00:30::9']

test('one that is connected again with its addresses is reached by the first packet', () => {
  const a = host.sandbox('a')
  for (let round = 1; round <= 3; round++) {
    host.tsnet('connect', 'lab', 'b', '--ip', '10.30.0.9', '--ip6', 'fd00:30::9')
    const mac = host.json('ip', '-j', '-n', 'b', 'link', 'show', 'eth0')[0]!.address
    const known = JSON.parse(a.tryRun('ip', '-j', 'neigh').stdout) as { dst: string; lladdr?: string }[]
    const wrong = known.filter(({ dst, lladdr }) => addresses.includes(dst) && lladdr !== mac)
    expect([round, wrong]).toEqual([round, []])
    // one echo request each
    expect([round, ...addresses.map(address => pings(a, address))]).toEqual([round, true, true])
    host.tsnet('disconnect', 'lab', 'b')
  }
})

test('its port forwards when connect answers', () => {
  for (let round = 1; round <= 3; round++) {
    host.tsnet('connect', 'lab', 'b')
    const ports = host.json('bridge', '-j', 'link').map(({ state }) => state)
    expect([round, ports]).toEqual([round, ['forwarding', 'forwarding']])
    host.tsnet('disconnect', 'lab', 'b')
  }
})

test('an address is announced where somebody may remember who had it before, and nowhere else', async () => {
  const neighbours = () => JSON.parse(host.run('ip', '-j', '-n', 'a', 'neigh')) as { dst: string }[]
  /** `a` learns nothing of a neighbour but by an announcement. */
  const hears = (address: string): boolean => {
    host.run('ip', '-n', 'a', 'neigh', 'flush', 'all')
    host.request('POST', '/networks/lab/connect', { sandbox: 'b', ip: address })
    const heard = neighbours().some(({ dst }) => dst === address)
    host.request('POST', '/networks/lab/disconnect', { sandbox: 'b' })
    return heard
  }
  host.sandbox('a').tryRun('sysctl', '-qw', 'net.ipv4.conf.eth0.arp_accept=1')
  const fresh = hears('10.30.0.20')
  const again = hears('10.30.0.20')
  const [bridge] = host.json('ip', '-j', 'link', 'show', 'type', 'bridge')
  host.run('ip', 'link', 'delete', String(bridge!.ifname))
  await until('the bridge to be put back', () => pings(host.sandbox('a'), '10.30.0.1'))
  const onNewBridge = [hears('10.30.0.20'), hears('10.30.0.21')]
  await host.stopTsnet()
  await host.startTsnet()
  const afterRestart = hears('10.30.0.22')
  expect({ fresh, again, onNewBridge, afterRestart }).toEqual({
    fresh: false,
    again: true,
    onNewBridge: [true, false],
    afterRestart: true,
  })
})
