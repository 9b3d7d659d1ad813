import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { addresses, Host } from '../helpers/host.js'
import { until } from '../helpers/machine.js'
import { ask, isClosed, startServe } from '../helpers/vantage.js'

// The daemon with `--firewall iptables`, by both kernel sides of iptables: the same behaviour, kept whole, and nothing left behind.

describe.each(['nft', 'legacy'])('iptables-%s', variant => {
  let host: Host
  let since: string
  const programs = [`iptables-${variant}`, `ip6tables-${variant}`]
  const saved = (): string[] =>
    programs.flatMap(program => host.run(`${program}-save`).split('\n')).filter(line => line.startsWith('-A '))
  /** nothing depends on the order of elements in a chain */
  const sorted = (): string => saved().sort().join('\n')
  const ours = (): string[] => saved().filter(line => line.includes('TSNET-'))
  const events = (): string => host.tsnet('events', '--format', 'json', '--since', since, '--until', '0s')

  beforeAll(async () => {
    host = await Host.start()
    host.run('ln', '-sf', `/usr/sbin/iptables-${variant}`, '/etc/alternatives/iptables')
    await host.startTsnet('--firewall', 'iptables')
    await startServe(host.outside, 'outside', ['80/tcp'])
    host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24', '--subnet', 'fd00:30::/64')
    host.tsnet('network', 'create', 'other', '--subnet', '10.31.0.0/24')
    host.tsnet('network', 'create', 'shut', '--internal', '--subnet', '10.32.0.0/24')
    for (const [box, network] of [
      ['one', 'lab'],
      ['two', 'lab'],
      ['far', 'other'],
      ['in', 'shut'],
    ] as const) {
      host.tsnet('sandbox', 'create', box)
      host.tsnet('connect', network, box, ...(box === 'one' ? ['-p', '8080:80', '-p', '127.0.0.1:8081:80'] : []))
      await startServe(host, box, ['80/tcp'], host.sandbox(box))
    }
  })
  afterAll(() => host?.stop())
  beforeEach(() => {
    since = new Date().toISOString()
  })

  const serves = (): unknown => [
    ask(host.outside, 'tcp', addresses.host4, 8080),
    ask(host.outside, 'tcp', addresses.host6, 8080),
    ask(host, 'tcp', '127.0.0.1', 8081)?.name,
    ask(host.sandbox('two'), 'tcp', '10.30.0.2', 80)?.peer,
    ask(host.sandbox('one'), 'tcp', addresses.beyond4, 80)?.peer,
    ask(host.sandbox('one'), 'tcp', addresses.beyond6, 80)?.peer,
    ask(host.sandbox('far'), 'tcp', addresses.host4, 8080),
  ]
  const want = [
    { name: 'one', peer: addresses.outside4 },
    { name: 'one', peer: addresses.outside6 },
    'one',
    '10.30.0.3',
    addresses.host4,
    addresses.host6,
    { name: 'one', peer: '10.31.0.2' },
  ]

  test('publishes, masquerades and isolates as nftables does, without a table of nftables', () => {
    expect(serves()).toEqual(want)
    expect(isClosed(host.sandbox('far'), 'tcp', '10.30.0.2', 80)).toBe(true)
    expect(isClosed(host.sandbox('in'), 'tcp', addresses.outside4, 80)).toBe(true)
    expect(isClosed(host.outside, 'tcp', addresses.host4, 8081)).toBe(true)
    expect(host.tsnetRules()).toEqual([])
    expect(host.tsnet('reconcile')).toBe('')
  })

  test.each([
    ['-F', 'filter'],
    ['-F TSNET-GATE', 'filter'],
    ['-F', 'nat'],
    ['-D FORWARD 1', 'filter'],
    ['-I TSNET-GATE -j DROP', 'filter'],
  ])('is whole again soon after `iptables %s` in table %s', async (command, table) => {
    const before = sorted()
    host.run(programs[0]!, '-w', '-t', table, ...command.split(' '))
    const at = Date.now()
    await until('the rules to be as they were', () => sorted() === before)
    console.log(`${programs[0]} -t ${table} ${command}: whole again after ${Date.now() - at} ms, as we see it`)
    const told = /"type":"host","action":"damage"[\s\S]*"type":"reconcile","action":"change"/
    await until('the repair to be told, which follows it', () => told.test(events()))
    expect(serves()).toEqual(want)
  })

  test('stays before chains that dockerd puts first, after DOCKER-USER', async () => {
    for (const line of [
      '-P FORWARD DROP',
      '-N DOCKER-USER',
      '-N DOCKER',
      '-A DOCKER -j DROP',
      '-I FORWARD -j DOCKER',
      '-I FORWARD -j DOCKER-USER',
    ])
      host.run(programs[0]!, '-w', ...line.split(' '))
    const order = () =>
      host
        .run(programs[0]!, '-S', 'FORWARD')
        .trim()
        .split('\n')
        .map(rule => rule.split(' ').at(-1))
    await until('our rules in their place', () => String(order()) === 'DROP,DOCKER-USER,TSNET-FORWARD,DOCKER')
    expect(serves()).toEqual(want)
    expect(host.run(programs[0]!, '-S', 'FORWARD')).toContain('-P FORWARD DROP')
  })

  test('a daemon that is started again finds nothing to do', async () => {
    const before = sorted()
    await host.stopTsnet()
    await host.startTsnet('--firewall', 'iptables')
    expect(sorted()).toBe(before)
    const [log = ''] = host
      .logOf('tsnet')
      .split(/^--- .*$/m)
      .slice(-1)
    expect(log).not.toMatch(/firewall (table|rules)|to the firewall/)
  })

  test('another backend takes over without a gap that a client sees, and leaves nothing of the former one, both ways', async () => {
    await host.stopTsnet()
    await host.startTsnet('--firewall', 'nftables')
    expect(ours()).toEqual([])
    expect(host.tsnetRules().length).toBeGreaterThan(0)
    await until('FORWARD to accept', () => ask(host.outside, 'tcp', addresses.host4, 8080)?.name === 'one')
    expect(serves()).toEqual(want)
    await host.stopTsnet()
    await host.startTsnet('--firewall', 'iptables')
    expect(host.tsnetRules()).toEqual([])
    expect(ours().length).toBeGreaterThan(0)
    expect(serves()).toEqual(want)
    expect(host.tsnet('reconcile')).toBe('')
  })

  test('what goes takes its rules with it', () => {
    const port = () => saved().filter(line => line.includes('8080'))
    expect(port().length).toBeGreaterThan(0)
    host.tsnet('sandbox', 'rm', 'one')
    expect(port()).toEqual([])
    host.tsnet('sandbox', 'rm', 'two', 'far', 'in')
    host.tsnet('network', 'rm', 'lab', 'other', 'shut')
    expect(saved().filter(line => line.includes('br-'))).toEqual([])
    expect(isClosed(host.outside, 'tcp', addresses.host4, 8080)).toBe(true)
  })
})
