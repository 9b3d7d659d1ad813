import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { addresses, Host } from '../helpers/host.js'
import { until } from '../helpers/machine.js'
import { attachTo, hostAddresses, hostRoutes, lan, lan6, range } from '../helpers/macvlan.js'
import { pings } from '../helpers/vantage.js'

// Macvlan networks after a crash, after a reboot, and while their parent comes and goes under them.

let host: Host
let settled: string

const { outside4 } = addresses

beforeAll(async () => {
  host = await Host.startWithTsnet('--repair', 'off')
  host.tsnet('network', 'create', 'lan', ...lan, ...lan6, ...range, '-o', 'host_access=true')
  host.tsnet('network', 'create', 'alone', '--driver', 'macvlan', '--subnet', '10.66.0.0/24', '-o', 'host_access=true')
  attachTo(host, 'lan', 'a')
  attachTo(host, 'lan', 'b')
  attachTo(host, 'alone', 'a')
  attachTo(host, 'alone', 'b')
})
afterAll(() => host?.stop())
beforeEach(() => {
  settled = meaning()
})

/** Links are listed in the order in which they were made, and endpoints in that of their random ids. */
const byText = (a: unknown, b: unknown): number => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)

/** What there is, without what a kernel numbers anew and without MAC addresses of the host's own links. */
function meaning(): string {
  const inside = ['a', 'b'].map(sandbox => ({
    links: host
      .json('ip', '-j', '-d', '-n', sandbox, 'addr')
      .map(({ ifname, mtu, address, flags, linkinfo, addr_info }) => [
        ifname,
        mtu,
        address,
        (flags as string[]).includes('UP'),
        linkinfo,
        (addr_info as Record<string, unknown>[])
          .filter(({ scope }) => scope === 'global')
          .map(({ local, prefixlen }) => `${local}/${prefixlen}`),
      ])
      .sort(byText),
    routes: host.run('ip', '-n', sandbox, 'route').split('\n').sort(),
  }))
  const own = [...host.links()]
    .filter(([name]) => name.startsWith('mv'))
    .map(([name, { mtu, ifalias, linkinfo }]) => [name, mtu, ifalias, linkinfo])
    .sort(byText)
  const shown = ['lan', 'alone'].map(network => hostAddresses(host, network))
  const endpoints = host.tsnetJson('ps').sort(byText)
  return JSON.stringify({ inside, own, routes: hostRoutes(host).sort(), shown, endpoints }, null, 1)
}

/** Both networks carry what they should: each other, the LAN, the host. */
function works(): boolean {
  const box = host.sandbox('a')
  const [lan4, lan6] = hostAddresses(host, 'lan')
  return (
    [outside4, '198.51.100.66', lan4!, lan6!, '10.66.0.3', '10.66.0.1'].every(address => pings(box, address)) &&
    ['198.51.100.65', '198.51.100.66', '10.66.0.2'].every(address => pings(host, address))
  )
}

const linksOf = (sandbox: string): string[] =>
  host.json('ip', '-j', '-n', sandbox, 'link').map(({ ifname }) => String(ifname))

test('both networks work to begin with', () => {
  expect(works()).toBe(true)
})

describe('a daemon that is started again', () => {
  test.each(['KILL', 'TERM'] as const)('after SIG%s changes nothing where everything is right', async signal => {
    // duplicate address detection ends by itself, and lifetimes run
    const addresses = () => host.run('ip', 'addr').replace(/valid_lft.*| tentative/g, '')
    const before = addresses()
    await (signal === 'KILL' ? host.killTsnet() : host.stopTsnet())
    await host.startTsnet('--repair', 'off')
    expect(meaning()).toBe(settled)
    expect(addresses()).toBe(before)
    expect(host.tsnet('reconcile', '--dry-run')).toBe('')
  })

  test('after a reboot brings everything back as it was', async () => {
    await host.killTsnet()
    host.run('ip', '-all', 'netns', 'delete')
    for (const name of host.links().keys()) if (/^mv/.test(name)) host.tryRun('ip', 'link', 'delete', name)
    host.run('nft', 'flush', 'ruleset')
    host.run('rm', '-rf', '/run/tsnet', '/run/docker')
    await host.startTsnet('--repair', 'off')
    expect(meaning()).toBe(settled)
    await until('everything to be reached', works)
    expect(host.tsnet('reconcile', '--dry-run')).toBe('')
  })

  test('removes the link that a crash left in a sandbox before its endpoint was recorded', async () => {
    await host.killTsnet()
    const inside = ['netns', 'b', 'group', '0x746e', 'type', 'macvlan', 'mode', 'bridge']
    host.run('ip', 'link', 'add', 'eth7', 'link', 'uplink0', ...inside)
    host.run('ip', 'link', 'add', 'theirs', 'link', 'uplink0', 'netns', 'b', 'type', 'macvlan', 'mode', 'bridge')
    await host.startTsnet('--repair', 'off')
    expect(linksOf('b')).toEqual(expect.arrayContaining(['eth0', 'eth1', 'theirs']))
    expect(linksOf('b')).not.toContain('eth7')
    host.run('ip', '-n', 'b', 'link', 'delete', 'theirs')
    expect(meaning()).toBe(settled)
  })
})

describe('tsnet reconcile', () => {
  test.each<[string, string[]]>([
    ["the host's own link is gone", ['sh', '-c', 'ip link delete $(ls /sys/class/net | grep ^mvh | head -n1)']],
    ["the host's own link is down", ['sh', '-c', 'ip link set $(ls /sys/class/net | grep ^mvh | head -n1) down']],
    [
      "the host's own address is gone",
      ['sh', '-c', 'ip addr flush dev $(ls /sys/class/net | grep ^mvh | head -n1) scope global'],
    ],
    ['a route to an endpoint is gone', ['ip', 'route', 'del', '198.51.100.65']],
    ["a sandbox's link is gone", ['ip', '-n', 'b', 'link', 'delete', 'eth0']],
    ["a sandbox's link is down", ['ip', '-n', 'b', 'link', 'set', 'eth0', 'down']],
    ['the link under the isolated network is gone', ['sh', '-c', 'ip link delete $(ls /sys/class/net | grep ^mvl)']],
    ['an end of it is down', ['sh', '-c', 'ip link set $(ls /sys/class/net | grep ^mvp) down']],
  ])('repairs it when %s, and says so before and while it does', async (_what, damage) => {
    host.run(...damage)
    const announced = host.tsnet('reconcile', '--dry-run')
    expect(announced).not.toBe('')
    expect(host.tsnet('reconcile', '--dry-run')).toBe(announced)
    // what one stage makes is what the next one looks at, so doing it may say more than announcing it
    expect(host.tsnet('reconcile').split('\n')).toEqual(expect.arrayContaining(announced.split('\n')))
    expect(host.tsnet('reconcile', '--dry-run')).toBe('')
    expect(meaning()).toBe(settled)
    await until('everything to be reached', works)
  })
})

describe('the parent', () => {
  test('that is down is reported in words, and nothing is repaired that is not broken', async () => {
    host.run('ip', 'link', 'set', 'uplink0', 'down')
    expect(host.tryTsnet('reconcile').stderr).toMatch(
      'parent uplink0 of network lan is down: its endpoints reach nobody until it is up',
    )
    host.run('ip', 'link', 'set', 'uplink0', 'up')
    host.run('ip', 'addr', 'replace', `${addresses.host6}/64`, 'dev', 'uplink0', 'nodad')
    await until('everything to be reached', works)
    host.tsnet('reconcile')
    expect(host.tsnet('reconcile', '--dry-run')).toBe('')
    expect(meaning()).toBe(settled)
  })

  test('that has another name is missing; what is attached works on, and a new sandbox is refused', async () => {
    host.run('ip', 'link', 'set', 'uplink0', 'name', 'renamed0')
    const missing =
      'parent uplink0 of network lan is missing: endpoints may be cut off, and new ones are refused, until a link of that name is back and tsnet reconcile has run'
    expect(host.tryTsnet('reconcile').stderr).toMatch(missing)
    host.tsnet('sandbox', 'create', 'late')
    expect(host.tryTsnet('connect', 'lan', 'late')).toMatchObject({
      status: 4,
      stderr: 'tsnet: connect sandbox late to network lan: parent uplink0 of network lan is missing\n',
    })
    host.tsnet('sandbox', 'rm', 'late')
    expect(works()).toBe(true)
    host.run('ip', 'link', 'set', 'renamed0', 'name', 'uplink0')
    expect(host.tsnet('reconcile', '--dry-run')).toBe('')
    expect(meaning()).toBe(settled)
  })

  test('that is removed takes its links along, which is reported; all is repaired when it is back', async () => {
    host.run('ip', 'link', 'delete', 'uplink0')
    expect(linksOf('a')).toEqual(['lo', 'eth1'])
    const got = host.tryTsnet('reconcile')
    expect(got.stderr).toMatch('parent uplink0 of network lan is missing')
    expect(got.status).not.toBe(0)
    await host.killTsnet()
    await host.startTsnet('--repair', 'off')
    expect(host.tsnet('-q', 'network', 'ls')).not.toBe('')
    host.plugIn()
    host.tsnet('reconcile')
    expect(host.tsnet('reconcile', '--dry-run')).toBe('')
    expect(meaning()).toBe(settled)
    await until('everything to be reached', works)
  })

  test('that is missing lets its network be removed', () => {
    host.run('ip', 'link', 'add', 'gone0', 'type', 'veth', 'peer', 'name', 'gone1')
    host.tsnet('network', 'create', 'gone', '--driver', 'macvlan', '-o', 'parent=gone0', '-o', 'host_access=true')
    host.run('ip', 'link', 'delete', 'gone0')
    host.tsnet('network', 'rm', 'gone')
    expect(meaning()).toBe(settled)
  })
})
