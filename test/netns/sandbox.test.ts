import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { addresses, Host } from '../helpers/host.js'
import { eachLeavesAsFound, expectRefused, removeEverything } from '../helpers/tidy-host.js'
import { pings } from '../helpers/vantage.js'

// What is inside of a sandbox: judged by `ip` and by packets.

let host: Host

beforeAll(async () => {
  host = await Host.startWithTsnet()
})
afterAll(() => host?.stop())

eachLeavesAsFound(
  () => host,
  () => removeEverything(host),
)

const inside = (sandbox: string, ...command: string[]): string => host.run('ip', 'netns', 'exec', sandbox, ...command)
const refused = (...args: [status: number, message: string, ...string[]]): void => expectRefused(host, ...args)

interface Route {
  dst: string
  gateway?: string
  dev: string
  metric?: number
}
const routes = (sandbox: string, family: '-4' | '-6'): Route[] =>
  host.json<Route[]>('ip', '-j', '-n', sandbox, family, 'route').filter(({ dst }) => !dst.startsWith('fe80'))

describe('an attachment', () => {
  beforeEach(() => {
    host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24', '--ipv6', '--subnet', 'fd00:30::/64')
    host.tsnet('sandbox', 'create', 'box')
  })

  test('has no tentative address when the command returns, the link-local one included', () => {
    host.tsnet('connect', 'lab', 'box')
    expect(inside('box', 'ip', '-6', 'addr', 'show', 'dev', 'eth0', 'tentative')).toBe('')
    expect(inside('box', 'ip', '-6', '-br', 'addr', 'show', 'dev', 'eth0')).toMatch(/fd00:30::2\/64 fe80::/)
    expect(pings(host.sandbox('box'), 'fd00:30::1')).toBe(true)
  })

  test('with an address that another one had a moment ago is reached at once, whatever neighbours remember', () => {
    host.tsnet('sandbox', 'create', 'other')
    host.tsnet('sandbox', 'create', 'old')
    host.tsnet('connect', 'lab', 'other')
    for (let round = 0; round < 3; round++) {
      host.tsnet('connect', 'lab', 'old', '--ip', '10.30.0.77', '--ip6', 'fd00:30::77')
      for (const address of ['10.30.0.77', 'fd00:30::77']) expect(pings(host.sandbox('other'), address)).toBe(true)
      const before = inside('other', 'ip', 'neigh', 'show', '10.30.0.77', 'dev', 'eth0')
      host.tsnet('disconnect', 'lab', 'old')
      host.tsnet('connect', 'lab', 'box', '--ip', '10.30.0.77', '--ip6', 'fd00:30::77')
      const mac = host.tsnetJson<{ mac: string; sandbox: string }[]>('ps').find(({ sandbox }) => sandbox === 'box')!.mac
      expect(before).not.toContain(mac)
      // no question was asked meanwhile: the neighbour was told
      for (const address of ['10.30.0.77', 'fd00:30::77']) {
        expect(inside('other', 'ip', 'neigh', 'show', address, 'dev', 'eth0')).toContain(mac)
        expect(pings(host.sandbox('other'), address)).toBe(true)
      }
      host.tsnet('disconnect', 'lab', 'box')
    }
  })

  test('has the settings, the neighbours and the metric that were asked for, and reconcile keeps them', () => {
    const flags = [
      ...['-o', 'sysctls=net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.IFNAME.hop_limit=33'],
      ...['-o', 'neighbours=10.30.0.9=02:00:00:00:00:09,fd00:30::9=02:00:00:00:00:09', '-o', 'metric=50'],
    ]
    host.tsnet('connect', 'lab', 'box', '--ifname', 'lan.7', '--route', '10.99.0.0/16,10.30.0.9', ...flags)
    const state = () => [
      inside('box', 'cat', '/proc/sys/net/ipv4/conf/lan.7/log_martians', '/proc/sys/net/ipv6/conf/lan.7/hop_limit'),
      inside('box', 'ip', 'neigh', 'show', 'nud', 'permanent')
        .split('\n')
        .map(line => line.trim())
        .sort(),
      routes('box', '-4').map(({ dst, metric }) => [dst, metric]),
      routes('box', '-6').map(({ dst, metric }) => [dst, metric]),
    ]
    const want = [
      '1\n33\n',
      [
        '',
        '10.30.0.9 dev lan.7 lladdr 02:00:00:00:00:09 PERMANENT',
        'fd00:30::9 dev lan.7 lladdr 02:00:00:00:00:09 PERMANENT',
      ],
      [
        ['default', 50],
        ['10.30.0.0/24', undefined],
        ['10.99.0.0/16', 50],
      ],
      [
        ['fd00:30::/64', 256],
        ['default', 50],
      ],
    ]
    expect(state()).toEqual(want)
    expect(host.tsnet('reconcile')).toBe('')
    inside('box', 'sysctl', '-qw', 'net.ipv4.conf.lan/7.log_martians=0')
    inside('box', 'ip', 'neigh', 'del', '10.30.0.9', 'dev', 'lan.7')
    inside('box', 'ip', 'route', 'del', 'default')
    expect(host.tsnet('reconcile').split('\n')).toHaveLength(1)
    expect(state()).toEqual(want)
  })

  test.each([
    ['sysctls=net.ipv4.ip_forward=1', 'belongs to the interface alone'],
    ['sysctls=net.ipv4.conf.IFNAME.no_such_key=1', 'no sysctl net.ipv4.conf.eth0.no_such_key'],
    ['gw_priorty=1', 'did you mean gw_priority?'],
    ['neighbours=10.30.0.9', 'must be NAME=VALUE'],
  ])('with -o %s is refused, and nothing is left of it', (text, message) => {
    const status = message.startsWith('no sysctl') ? 4 : 2
    refused(status, message, 'connect', 'lab', 'box', '-o', text)
    expect(inside('box', 'ip', '-br', 'link')).toMatch(/^lo[^\n]*\n$/)
    host.tsnet('connect', 'lab', 'box')
    expect(inside('box', 'ip', '-br', 'addr', 'show', 'dev', 'eth0')).toContain('10.30.0.')
  })
})

describe("a network's own routes", () => {
  test('are in every sandbox that can use them', () => {
    const option = 'routes=10.90.0.0/16,10.30.0.250;fd00:90::/32,fd00:30::250;10.91.0.0/16'
    host.tsnet(
      'network',
      'create',
      'dual',
      '--subnet',
      '10.30.0.0/24',
      '--ipv6',
      '--subnet',
      'fd00:30::/64',
      '-o',
      option,
    )
    host.tsnet('sandbox', 'create', 'box')
    host.tsnet('connect', 'dual', 'box')
    expect(routes('box', '-4')).toMatchObject([
      { dst: 'default' },
      { dst: '10.30.0.0/24' },
      { dst: '10.90.0.0/16', gateway: '10.30.0.250' },
      { dst: '10.91.0.0/16', dev: 'eth0' },
    ])
    expect(routes('box', '-6')).toEqual(
      expect.arrayContaining([expect.objectContaining({ dst: 'fd00:90::/32', gateway: 'fd00:30::250' })]),
    )
  })

  test.each([
    ['routes=10.90.0.0/16,10.31.0.1', 'next hop 10.31.0.1 is in no subnet of network lab (10.30.0.0/24)'],
    ['routes=fd00::/64', 'network lab has no IPv6 subnet, which fd00::/64 needs'],
    ['routes=0.0.0.0/0,10.30.0.1', "the default route is the gateway's"],
    ['routes=10.90.0.1/16', 'it should be 10.90.0.0/16'],
    ['routes=fd00::/64,10.30.0.1', 'of the other family'],
  ])('%s is refused', (option, message) =>
    refused(2, message, 'network', 'create', 'lab', '--subnet', '10.30.0.0/24', '-o', option),
  )
})

test('the default route moves as networks come and go, and is never missing while two could have it', () => {
  for (const [name, net] of [
    ['one', 30],
    ['two', 31],
  ])
    host.tsnet('network', 'create', `${name}`, '--subnet', `10.${net}.0.0/24`, '--ipv6', '--subnet', `fd00:${net}::/64`)
  host.tsnet('sandbox', 'create', 'box')
  host.tsnet('connect', 'one', 'box')
  const script = `while [ ! -e ${host.dir}/stop ]; do for a in ${addresses.beyond4} ${addresses.beyond6}; do
    ip route get $a >/dev/null 2>&1 || echo lost $a; done; echo looked; done >${host.dir}/looks`
  const watcher = host.start('ip', 'netns', 'exec', 'box', 'sh', '-c', script)
  const gateways = (): (string | undefined)[] =>
    (['-4', '-6'] as const).map(family => routes('box', family).find(({ dst }) => dst === 'default')?.gateway)
  for (let round = 0; round < 5; round++) {
    host.tsnet('connect', 'two', 'box', '-o', 'gw_priority=1', ...(round % 2 === 0 ? [] : ['-o', 'metric=77']))
    expect(gateways()).toEqual(['10.31.0.1', 'fd00:31::1'])
    host.tsnet('disconnect', 'two', 'box')
    expect(gateways()).toEqual(['10.30.0.1', 'fd00:30::1'])
  }
  host.run('touch', `${host.dir}/stop`)
  return watcher.then(() => {
    const looks = host.run('cat', `${host.dir}/looks`).trim().split('\n')
    expect(looks.filter(line => line !== 'looked')).toEqual([])
    expect(looks.length).toBeGreaterThan(50)
  })
})
