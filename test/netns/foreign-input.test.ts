import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { addresses, Host } from '../helpers/host.js'
import { until } from '../helpers/machine.js'
import { ask, isClosed, startServe } from '../helpers/vantage.js'

// Other firewalls that drop what comes to the host itself for our networks, and a real firewalld.

let host: Host
let bridge: string
const gateway = '10.30.0.1'

beforeAll(async () => {
  host = await Host.startWithTsnet()
  await startServe(host.outside, 'outside', ['80/tcp'])
  host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24', '--subnet', 'fd00:30::/64')
  host.tsnet('sandbox', 'create', 'box')
  host.tsnet('connect', 'lab', 'box', '-p', '8080:80')
  await startServe(host, 'box', ['80/tcp'], host.sandbox('box'))
  bridge = [...host.links().keys()].find(name => name.startsWith('br-')) ?? ''
})
afterAll(() => host?.stop())

const obstacles = (): string[] => (host.tsnetJson('network', 'inspect', 'lab')[0]?.obstacles ?? []) as string[]
const doctor = () =>
  JSON.parse(host.tryTsnet('doctor', '--format', 'json').stdout) as {
    checks: { words: string; state: string; fix?: string }[]
  }
const fixesOf = (chain: string): string[] => [
  ...new Set(doctor().checks.flatMap(({ words, fix }) => (words.includes(chain) && fix !== undefined ? [fix] : []))),
]
/** The name server at the gateway, asked from the sandbox: not by way of 127.0.0.11, which passes no firewall. */
const resolves = (): boolean =>
  host.sandbox('box').tryRun('nslookup', '-timeout=1', '-retry=0', 'box', gateway).stdout.includes('10.30.0.2')
const want = (name: string, what: string): string[] => [
  `${name}: ${what} (to the resolver at ${gateway}: iifname "${bridge}" udp dport 53)`,
  `${name}: ${what} (to the resolver at fd00:30::1: iifname "${bridge}" udp dport 53)`,
]

describe('a firewall that drops in INPUT', () => {
  test('by nftables: resolver and [::1] are named until they are let in, by the commands that doctor says', async () => {
    expect(resolves()).toBe(true)
    expect(obstacles()).toEqual([])
    const chain = '{ type filter hook input priority 0; policy drop; }'
    host.run(
      'nft',
      `add table inet theirs; add chain inet theirs input ${chain}; add rule inet theirs input meta l4proto { icmp, ipv6-icmp } accept`,
    )
    await until('the obstacle', () => obstacles().length > 0)
    const name = 'table inet theirs, chain input'
    expect(obstacles()).toEqual([
      ...want(name, 'policy drop'),
      `${name}: policy drop (to ports published at [::1]: iifname "lo" ip6 daddr ::1)`,
    ])
    expect([resolves(), isClosed(host, 'tcp', '::1', 8080)]).toEqual([false, true])
    expect(host.logOf('tsnet')).toContain('(to ports published at [::1]')
    for (const fix of fixesOf(name)) host.run('sh', '-c', fix)
    await until('no obstacle', () => obstacles().length === 0)
    // and answers to the daemon itself, which asks the container for whoever came by [::1]
    host.run('nft', 'add rule inet theirs input ct state established,related accept')
    expect([resolves(), ask(host, 'tcp', '::1', 8080)?.name]).toEqual([true, 'box'])
    host.run('nft', 'delete table inet theirs')
  })

  test.each(['nft', 'legacy'])('by iptables-%s', async kind => {
    const iptables = (line: string): void => {
      for (const program of [`iptables-${kind}`, `ip6tables-${kind}`]) host.run(program, '-w', ...line.split(' '))
    }
    const names = kind === 'nft' ? ['table ip filter', 'table ip6 filter'] : ['iptables-legacy', 'ip6tables-legacy']
    iptables('-A INPUT -i lo -j ACCEPT')
    iptables('-P INPUT DROP')
    await until('the obstacle', () => obstacles().length === 2)
    expect(obstacles()).toEqual(names.map((name, i) => want(`${name}, chain INPUT`, 'policy drop')[i]))
    expect(resolves()).toBe(false)
    for (const fix of names.flatMap(fixesOf)) host.run('sh', '-c', fix)
    await until('no obstacle', () => obstacles().length === 0)
    expect(resolves()).toBe(true)
    iptables('-P INPUT ACCEPT')
    iptables('-F INPUT')
  })
})

describe('firewalld', () => {
  afterEach(() => host.end('firewalld'))

  test('lets published ports in; what it drops besides is named, and passes once the bridge is in its trusted zone', async () => {
    host.run('sh', '-c', 'mkdir -p /run/dbus && dbus-daemon --system --fork --nopidfile')
    await host.serve('firewalld', 'firewalld', '--nofork', '--nopid')
    await until('firewalld', () => host.tryRun('firewall-cmd', '--state').status === 0, 30_000)
    await until('its rules', () => obstacles().length > 0)
    expect(obstacles()).toEqual([
      'table inet firewalld, chain filter_FORWARD: reject (out of the network)',
      ...want('table inet firewalld, chain filter_INPUT', 'reject'),
    ])
    const reaches = (): (string | undefined)[] => [
      ask(host.outside, 'tcp', addresses.host4, 8080)?.name,
      ask(host.outside, 'tcp', addresses.host6, 8080)?.name,
      ask(host, 'tcp', '::1', 8080)?.name,
      ask(host.sandbox('box'), 'tcp', addresses.beyond4, 80)?.name,
      ask(host.sandbox('box'), 'tcp', addresses.beyond6, 80)?.name,
    ]
    expect([...reaches(), resolves()]).toEqual(['box', 'box', 'box', undefined, undefined, false])
    const [fix, ...others] = fixesOf('table inet firewalld')
    expect(others).toEqual([])
    host.run('sh', '-c', fix!)
    await until('no obstacle', () => obstacles().length === 0)
    expect([...reaches(), resolves()]).toEqual(['box', 'box', 'box', 'outside', 'outside', true])
    // what it reloads is its own: ours is as it was
    host.run('firewall-cmd', '--complete-reload')
    expect(reaches()).toEqual(['box', 'box', 'box', 'outside', 'outside'])
    expect(host.tsnet('reconcile', '--dry-run')).not.toContain('firewall')
  })
})
