import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Check, DoctorReport } from '../../src/cnm/diagnosis.js'
import { Host } from '../helpers/host.js'
import { until } from '../helpers/machine.js'

// What doctor says of a real host: nothing where all is well, and of each fault what is wrong and what to do.

let host: Host
/** what a test has broken, by the commands that mend it */
const undo: string[] = []

beforeAll(async () => {
  host = await Host.startWithTsnet()
  host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24')
  host.tsnet('sandbox', 'create', 'box')
  host.tsnet('connect', 'lab', 'box', '-p', '8080:80')
})
afterAll(() => host?.stop())
afterEach(() => {
  for (const command of undo.splice(0).reverse()) host.run('sh', '-c', command)
})

function look(): DoctorReport & { wrong: Check[] } {
  const { status, stdout } = host.tryTsnet('--format', 'json', 'doctor')
  const report = JSON.parse(stdout) as DoctorReport
  expect(status).toBe(report.ok ? 0 : 1)
  return { ...report, wrong: report.checks.filter(({ state }) => state !== 'ok') }
}

const breakIt = (command: string, repair: string): void => {
  undo.push(repair)
  host.run('sh', '-c', command)
}

describe('doctor', () => {
  test('finds nothing on a host where all is well, and says what it looked at', () => {
    const { ok, wrong, checks } = look()
    expect(wrong).toEqual([])
    expect(ok).toBe(true)
    const what = new Set(checks.map(each => each.what))
    expect([...what].sort()).toEqual(
      ['conntrack', 'daemon', 'disk', 'dockerd', 'firewall', 'kernel', 'mtu', 'plugin', 'records', 'sysctl'].sort(),
    )
    expect(host.tsnet('doctor')).toMatch(/\d+ ok, 0 to look at, 0 wrong$/)
  })

  test("another program's drop is named with table, chain and rule, and the fix is that rule's remedy", () => {
    breakIt(
      "nft 'table inet fw { chain f { type filter hook forward priority 5; policy drop; }; }'",
      'nft delete table inet fw',
    )
    const [found] = look().wrong
    expect(found).toMatchObject({ state: 'fail', what: 'network lab' })
    expect(found?.words).toContain('table inet fw, chain f: policy drop')
    host.run('sh', '-c', String(found?.fix))
    expect(look().wrong).toEqual([])
  })

  test('a route that takes the subnet away from its bridge, and an MTU that the uplink has no room for', () => {
    const id = host.tsnet('network', 'create', 'big', '--subnet', '10.31.0.0/24', '-o', 'mtu=9000')
    const bridge = `br-${id.slice(0, 12)}`
    host.run(
      'sh',
      '-c',
      `ip route change 10.31.0.0/24 dev ${bridge} metric 100 || ip route add 10.31.0.0/24 dev ${bridge} metric 100`,
    )
    host.run(
      'sh',
      '-c',
      `ip route del 10.31.0.0/24 dev ${bridge} metric 0 2>/dev/null || true; ip route add 10.31.0.0/24 dev uplink0`,
    )
    const { wrong } = look()
    expect(wrong.map(({ state, words }) => `${state} ${words}`)).toEqual([
      `fail the host sends packets for 10.31.0.0/24 by uplink0 instead of ${bridge}, so they do not arrive`,
      'warn its MTU is 9000, and uplink0, by which packets leave the host, has 1500: larger ones are cut up or sent back',
    ])
    host.run('ip', 'route', 'del', '10.31.0.0/24', 'dev', 'uplink0')
    host.tsnet('network', 'rm', 'big')
  })

  test('forwarding that is off, and what is not as recorded', async () => {
    await host.stopTsnet()
    breakIt('sysctl -qw net.ipv4.ip_forward=0', 'sysctl -qw net.ipv4.ip_forward=1')
    const { ok, wrong } = look()
    expect(ok).toBe(false)
    expect(wrong.map(({ what, fix }) => [what, fix])).toEqual([
      ['daemon', 'systemctl start tsnet    # or: tsnet daemon'],
      ['sysctl', 'sysctl -w net.ipv4.ip_forward=1'],
      ['plugin', expect.stringContaining('tsnet daemon')],
    ])
    await host.startTsnet()
    await until('all to be well again', () => look().ok, 15_000)
  })
})
