import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { addresses, Host } from '../helpers/host.js'
import { until } from '../helpers/machine.js'
import { ask, isClosed, startServe } from '../helpers/vantage.js'

// A host that has other firewalls: what tsnet accepts gets through, and nothing else of theirs is changed.

let host: Host
let since: string

beforeAll(async () => {
  host = await Host.startWithTsnet()
  await startServe(host.outside, 'outside', ['80/tcp'])
  await setUp()
})
afterAll(() => host?.stop())

async function setUp(): Promise<void> {
  host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24', '--subnet', 'fd00:30::/64')
  host.tsnet('sandbox', 'create', 'box')
  host.tsnet('connect', 'lab', 'box', '-p', '8080:80')
  await startServe(host, 'box', ['80/tcp'], host.sandbox('box'))
}
beforeEach(() => {
  since = new Date().toISOString()
})

const reaches = (): boolean[] => [
  ask(host.outside, 'tcp', addresses.host4, 8080)?.name === 'box',
  ask(host.sandbox('box'), 'tcp', addresses.beyond4, 80)?.name === 'outside',
  ask(host.outside, 'tcp', addresses.host6, 8080)?.name === 'box',
  ask(host.sandbox('box'), 'tcp', addresses.beyond6, 80)?.name === 'outside',
]
const closed = (): boolean[] => [
  isClosed(host.outside, 'tcp', addresses.host4, 8080),
  isClosed(host.sandbox('box'), 'tcp', addresses.beyond4, 80),
  isClosed(host.outside, 'tcp', addresses.host6, 8080),
  isClosed(host.sandbox('box'), 'tcp', addresses.beyond6, 80),
]
const all = [true, true, true, true]
const iptables = (program: string, ...lines: string[]): void => {
  for (const line of lines) host.run(program, '-w', ...line.split(' '))
}
const rulesOf = (program: string): string[] => host.run(program, '-w', '-S').trim().split('\n')
const isOurs = (rule: string): boolean => rule.includes('tsnet')
const words = (): string => host.tsnet('events', '--format', 'json', '--since', since, '--until', '0s')

describe.each([
  ['iptables-nft', ['iptables-nft', 'ip6tables-nft']],
  ['iptables-legacy', ['iptables-legacy', 'ip6tables-legacy']],
])('%s', (_kind, programs) => {
  afterEach(async () => {
    const lines = ['-P FORWARD ACCEPT', '-P INPUT ACCEPT', '-F', '-X']
    const isBare = (program: string): boolean =>
      lines.every(line => host.tryRun(program, '-w', ...line.split(' ')).status === 0)
    // the daemon may put its rule back in between, and then the chains are in use
    for (const program of programs) await until(`${program} to be bare`, () => isBare(program), 5000)
  })
  const settled = (): Promise<unknown> =>
    until('our rule in every FORWARD', () => programs.every(program => rulesOf(program).some(isOurs)))

  test('FORWARD DROP, as dockerd sets it: published and outbound connections work within a second or so, and nothing else changes', async () => {
    for (const program of programs)
      iptables(program, '-P FORWARD DROP', '-N DOCKER-USER', '-A FORWARD -j DOCKER-USER', '-A DOCKER-USER -j RETURN')
    const before = programs.map(rulesOf).map(rules => rules.filter(rule => !isOurs(rule)))
    await settled()
    expect(reaches()).toEqual(all)
    for (const [i, program] of programs.entries()) {
      const rules = rulesOf(program)
      expect(rules.filter(rule => !isOurs(rule))).toEqual(before[i])
      const forward = rules.filter(rule => rule.startsWith('-A FORWARD'))
      expect(forward.map(rule => rule.split(' ').at(-1))).toEqual(['DOCKER-USER', 'ACCEPT'])
    }
    expect(words()).toContain('iptables accepts in ip filter FORWARD')
  })

  test('what an administrator drops in DOCKER-USER stays dropped', async () => {
    for (const program of programs) iptables(program, '-P FORWARD DROP', '-N DOCKER-USER', '-A FORWARD -j DOCKER-USER')
    iptables(programs[0]!, '-A DOCKER-USER -p tcp --dport 80 -j DROP')
    await settled()
    // our rule, there since the chain is, gives way to one that came after it
    await until('the port to be closed', () => isClosed(host.outside, 'tcp', addresses.host4, 8080))
    await until('the other family to pass', () => ask(host.outside, 'tcp', addresses.host6, 8080)?.name === 'box')
  })

  test('a firewall like ufw: INPUT and FORWARD drop, with chains of its own that let through what is established', async () => {
    for (const program of programs)
      iptables(
        program,
        ...['-P FORWARD DROP', '-P INPUT DROP', '-A INPUT -i lo -j ACCEPT', '-N ufw-before', '-N ufw-reject'],
        ...['-A FORWARD -j ufw-before', '-A FORWARD -j ufw-reject'],
        ...['-A ufw-before -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT', '-A ufw-reject -j REJECT'],
        `-A INPUT -p ${program.startsWith('ip6') ? 'ipv6-icmp' : 'icmp'} -j ACCEPT`,
      )
    await settled()
    expect(reaches()).toEqual(all)
    // what was never ours stays theirs
    expect(isClosed(host.outside, 'tcp', addresses.host4, 22)).toBe(true)
  })

  test('flushed by somebody, our rule is back within a second or two', async () => {
    for (const program of programs) iptables(program, '-P FORWARD DROP')
    await settled()
    since = new Date().toISOString()
    for (const program of programs) iptables(program, '-F')
    const at = performance.now()
    await settled()
    console.log(`${programs[0]} -F: our rule is back after ${(performance.now() - at).toFixed(0)} ms`)
    for (const family of ['ip', 'ip6']) expect(words()).toContain(`iptables accepts in ${family} filter FORWARD`)
    expect(reaches()).toEqual(all)
  })

  test('the last network takes our rule with it, the next one brings it back', async () => {
    for (const program of programs) iptables(program, '-P FORWARD DROP')
    await settled()
    host.tsnet('sandbox', 'rm', 'box')
    host.tsnet('network', 'rm', 'lab')
    await until('our rule to go', () => !programs.flatMap(rulesOf).some(isOurs))
    for (const program of programs) expect(rulesOf(program)).toContain('-P FORWARD DROP')
    await setUp()
    expect(reaches()).toEqual(all)
  })
})

describe('a table of nftables that drops', () => {
  afterEach(() => {
    host.tryRun('nft', 'delete', 'table', 'inet', 'theirs')
  })
  const obstacles = () => (host.tsnetJson('network', 'inspect', 'lab')[0]?.obstacles ?? []) as string[]

  test('is left alone, and named by network inspect, the log and an event until it is gone', async () => {
    expect(obstacles()).toEqual([])
    const theirs =
      'add table inet theirs; add chain inet theirs forward { type filter hook forward priority 0; policy drop; }'
    host.run('nft', `${theirs}; add rule inet theirs forward ct state established accept`)
    const want = ['(out of the network)', '(to published ports)'].map(
      where => `table inet theirs, chain forward: policy drop ${where}`,
    )
    await until('the obstacle', () => obstacles().length > 0)
    expect(obstacles()).toEqual(want)
    expect(closed()).toEqual(all)
    expect(words()).toContain(want[0])
    expect(host.logOf('tsnet')).toContain(want[1])
    host.run('nft', 'insert rule inet theirs forward meta mark & 0x800000 == 0x800000 accept')
    await until('no obstacle', () => obstacles().length === 0)
    expect(reaches()).toEqual(all)
  })

  test('by a rule is named with the rule', async () => {
    host.run(
      'nft',
      'add table inet theirs; add chain inet theirs fw { type filter hook forward priority -50; }; add rule inet theirs fw counter reject',
    )
    await until('the obstacle', () => obstacles().length > 0)
    expect(obstacles()[0]).toBe('table inet theirs, chain fw: reject (out of the network)')
  })
})
