import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { Host } from '../helpers/host.js'
import { pings } from '../helpers/vantage.js'

// A namespace that somebody else made, with links, addresses and routes of its own, comes back as it was.

let host: Host
const ns = 'theirs'

beforeAll(async () => {
  host = await Host.startWithTsnet()
  host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24', '--ipv6', '--subnet', 'fd00:30::/64')
})
afterAll(() => host?.stop())

const inside = (...command: string[]): string => host.run('ip', 'netns', 'exec', ns, ...command)

beforeEach(() => {
  const made = `ip netns add ${ns}; ip netns exec ${ns} sysctl -qw net.ipv6.conf.default.accept_dad=0
    ip -n ${ns} link add own0 mtu 1400 type veth peer name own1
    ip -n ${ns} link set own1 up; ip -n ${ns} link set own0 up
    ip -n ${ns} addr add 192.0.2.5/24 dev own0; ip -n ${ns} addr add 2001:db8:5::5/64 dev own0 nodad
    ip -n ${ns} route add 203.0.113.0/24 via 192.0.2.1 metric 5; ip -n ${ns} -6 route add 2001:db8:7::/48 via 2001:db8:5::1
    ip -n ${ns} rule add from 192.0.2.5 table 77; ip -n ${ns} route add default via 192.0.2.9 table 77
    ip netns exec ${ns} sysctl -qw net.ipv4.conf.own0.log_martians=1 net.ipv6.conf.default.hop_limit=31`
  host.run('sh', '-ec', made)
})
afterEach(() => {
  const names = host.tsnet('-q', 'sandbox', 'ls').split('\n').filter(Boolean)
  if (names.length > 0) host.tsnet('sandbox', 'rm', ...names)
  host.run('ip', 'netns', 'del', ns)
})

/** Everything that the namespace has: links, addresses, every route of every table, rules, neighbours that stay, settings. */
function snapshot(): string {
  const stable = (key: string, value: unknown): unknown =>
    /^(stats64|.*_life_time|cacheinfo)$/.test(key) ? undefined : value
  const json = (...args: string[]) => host.json('ip', '-j', '-d', '-n', ns, ...args)
  const routes = ['-4', '-6'].map(family => json(family, 'route', 'show', 'table', 'all'))
  const rules = ['-4', '-6'].map(family => json(family, 'rule'))
  const settings = inside('sh', '-c', 'sysctl -a -r "^net\\.(ipv4|ipv6)\\." 2>/dev/null | grep -v stable_secret')
  return JSON.stringify(
    { links: json('addr'), routes, rules, neighbours: json('neigh', 'show', 'nud', 'permanent'), settings },
    stable,
    1,
  )
}

describe.each([
  ['path', () => ['--netns', `/run/netns/${ns}`]],
  ['pid', () => ['--pid', holder()]],
])('a namespace adopted by %s', (_how, flags) => {
  test('is given back as it was found', () => {
    const before = snapshot()
    host.tsnet('sandbox', 'create', 'mine', ...flags())
    expect(snapshot()).toBe(before)
    host.tsnet(
      'connect',
      'lab',
      'mine',
      '--route',
      '10.99.0.0/16,10.30.0.9',
      '-o',
      'neighbours=10.30.0.9=02:00:00:00:00:09',
    )
    expect(pings({ tryRun: (...command) => host.tryRun('ip', 'netns', 'exec', ns, ...command) }, '10.30.0.1')).toBe(
      true,
    )
    expect(inside('ip', 'route')).toMatch(/^203\.0\.113\.0\/24 via 192\.0\.2\.1 dev own0 metric 5/m)
    host.tsnet('disconnect', 'lab', 'mine')
    expect(snapshot()).toBe(before)
    host.tsnet('connect', 'lab', 'mine')
    host.tsnet('sandbox', 'rm', 'mine')
    expect(snapshot()).toBe(before)
  })

  test('whose loopback is down keeps it down', () => {
    host.tsnet('sandbox', 'create', 'mine', ...flags())
    host.tsnet('connect', 'lab', 'mine')
    expect(inside('ip', '-br', 'link', 'show', 'lo')).toMatch(/DOWN/)
  })

  test('with a default route of its own keeps that; ours stands behind it and takes over when it goes', () => {
    inside('ip', 'route', 'add', 'default', 'via', '192.0.2.1')
    inside('ip', '-6', 'route', 'add', 'default', 'via', '2001:db8:5::1')
    const before = snapshot()
    host.tsnet('sandbox', 'create', 'mine', ...flags())
    host.tsnet('connect', 'lab', 'mine')
    const way = () => [
      inside('ip', 'route', 'get', '198.18.0.1'),
      inside('ip', '-6', 'route', 'get', '2001:db8:ffff::1'),
    ]
    for (const route of way()) expect(route).toMatch(/dev own0/)
    expect(host.tsnet('reconcile')).toBe('')
    inside('ip', 'route', 'del', 'default', 'via', '192.0.2.1')
    inside('ip', '-6', 'route', 'del', 'default', 'via', '2001:db8:5::1')
    for (const route of way()) expect(route).toMatch(/dev eth0/)
    inside('ip', 'route', 'add', 'default', 'via', '192.0.2.1')
    inside('ip', '-6', 'route', 'add', 'default', 'via', '2001:db8:5::1')
    host.tsnet('sandbox', 'rm', 'mine')
    expect(snapshot()).toBe(before)
  })

  test.each([
    ['the name of a link that is there', ['--ifname', 'own0'], 'already has an interface own0'],
    [
      'a route that is there',
      ['--route', '203.0.113.0/24,10.30.0.9', '-o', 'metric=5'],
      'already has a route to 203.0.113.0/24',
    ],
  ])('refuses %s, and is as before', (_what, options, message) => {
    host.tsnet('sandbox', 'create', 'mine', ...flags())
    const before = snapshot()
    expect(host.tryTsnet('connect', 'lab', 'mine', ...options)).toMatchObject({
      status: 5,
      stderr: expect.stringContaining(message),
    })
    expect(snapshot()).toBe(before)
  })

  test('refuses a network whose subnet it is connected to already, and is as before', () => {
    inside('ip', 'addr', 'add', '10.30.0.99/24', 'dev', 'own0')
    host.tsnet('sandbox', 'create', 'mine', ...flags())
    const before = snapshot()
    expect(host.tryTsnet('connect', 'lab', 'mine')).toMatchObject({
      status: 5,
      stderr: expect.stringContaining('sandbox mine already reaches 10.30.0.0/24 by own0'),
    })
    expect(snapshot()).toBe(before)
  })

  test('is not adopted twice, nor is the namespace of the host', () => {
    host.tsnet('sandbox', 'create', 'mine', ...flags())
    const again = host.tryTsnet('sandbox', 'create', 'twin', '--netns', `/var/run/netns/${ns}`)
    expect(again).toMatchObject({ status: 5, stderr: expect.stringContaining('share it with container:mine') })
    const own = host.tryTsnet('sandbox', 'create', 'self', '--pid', '1')
    expect(own).toMatchObject({ status: 3, stderr: expect.stringContaining('the namespace of the host itself') })
  })
})

/** A process in the namespace; it ends with the machine. */
function holder(): string {
  const pid = host.run('sh', '-c', `ip netns exec ${ns} sleep 600 >/dev/null 2>&1 & echo $!`).trim()
  // ip itself is in the namespace only once it has become the command
  host.run('sh', '-c', `until [ "$(cat /proc/${pid}/comm)" = sleep ]; do :; done`)
  return pid
}
