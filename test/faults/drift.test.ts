import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { linkGroup } from '../../src/marks.js'
import { parsePortSpec } from '../../src/ports/spec.js'
import { driftState } from '../helpers/drift-judge.js'
import { EventReader, type Told } from '../helpers/event-reader.js'
import { Host } from '../helpers/host.js'
import { until } from '../helpers/machine.js'
import { random } from '../helpers/random.js'

// What another program changes of ours is as it was within a second, the events say what was changed and what was done, and
// nothing of anybody else's is ever touched.

let host: Host
let bridge: string
let port: string
let lan: string
let reader: EventReader
const figures = { made: 0, repaired: 0, slowestMs: 0 }
const seed = Number(process.env.TSNET_TEST_SEED ?? Date.now() % 1_000_000)
const below = random(seed)
/** in the long form, more */
const rounds = Number(process.env.TSNET_DRIFT_ROUNDS ?? 5)

beforeAll(async () => {
  host = await Host.startWithTsnet()
  host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24', '--subnet', 'fd00:30::/64')
  const onUplink = ['-o', 'parent=uplink0', '-o', 'host_access=true']
  host.tsnet('network', 'create', 'lan', '--driver', 'macvlan', '--subnet', '10.31.0.0/24', ...onUplink)
  for (const [sandbox, network] of Object.entries({ box: 'lab', other: 'lab', far: 'lan' })) {
    host.tsnet('sandbox', 'create', sandbox)
    host.tsnet('connect', network, sandbox, ...(sandbox === 'box' ? ['-p', '8080:80'] : []))
  }
  const [box] = host.tsnetJson('sandbox', 'inspect', 'box') as { endpoints: { hostLink: string }[] }[]
  port = box?.endpoints[0]?.hostLink ?? ''
  const names = [...host.links().keys()]
  bridge = names.find(name => name.startsWith('br-')) ?? ''
  lan = names.find(name => name.startsWith('mvh')) ?? ''
  reader = await EventReader.open(host)
})
afterAll(async () => {
  reader?.close()
  await host?.stop()
  const { made, repaired, slowestMs } = figures
  console.log(
    `${made} drifts made, ${repaired} repaired, the slowest after ${slowestMs} ms, ${made - repaired} lost, seed ${seed}`,
  )
})

const sandboxes = ['box', 'other', 'far']
const perBridge = ['ipv4.conf.LINK.route_localnet', 'ipv6.conf.LINK.disable_ipv6', 'ipv6.conf.LINK.accept_ra']
const state = (): string =>
  driftState(host, sandboxes, [
    ...['net.ipv4.ip_forward', 'net.ipv6.conf.all.forwarding', `net.ipv4.conf.${lan}.arp_ignore`],
    ...perBridge.map(name => `net.${name.replace('LINK', bridge)}`),
  ])
const reconcile = (dryRun: boolean): string[] =>
  host.request<{ changes: string[] }>('POST', '/reconcile', { dryRun }).changes

/** Names stand for what has another name on each run. */
const named = (text: string): string =>
  text.replaceAll('BRIDGE', bridge).replaceAll('PORT', port).replaceAll('LAN', lan)

const drifts: [command: string, said: string, done: string][] = [
  ['ip link set BRIDGE down', 'link BRIDGE was set down', 'bring bridge BRIDGE up'],
  ['ip link delete BRIDGE', 'link BRIDGE was deleted', 'create bridge BRIDGE'],
  ['ip addr del 10.30.0.1/24 dev BRIDGE', 'address 10.30.0.1/24 was removed from BRIDGE', 'add address 10.30.0.1/24'],
  [
    'ip addr del fd00:30::1/64 dev BRIDGE',
    'address fd00:30::1/64 was removed from BRIDGE',
    'add address fd00:30::1/64',
  ],
  ['ip addr add 10.99.0.1/24 dev BRIDGE', 'address 10.99.0.1/24 was added to BRIDGE', 'remove address 10.99.0.1/24'],
  ['ip link set BRIDGE mtu 1400', 'MTU of BRIDGE was changed to 1400', 'set MTU 1500 on bridge BRIDGE'],
  ['ip link set BRIDGE address 02:00:00:00:00:99', 'MAC address of BRIDGE was changed', 'set MAC address'],
  ['ip link set PORT nomaster', 'PORT was taken from its bridge', 'set master, port of PORT'],
  ['ip link set PORT down', 'link PORT was set down', 'set up of PORT'],
  ['ip link set PORT mtu 1400', 'MTU of PORT was changed to 1400', 'set mtu of PORT'],
  ['ip link set PORT alias theirs', 'alias of PORT was changed', 'set alias of PORT'],
  // as one whose making is cut short
  [`ip link set PORT alias theirs group ${linkGroup}`, 'alias of PORT was changed', 'set alias, group of PORT'],
  ['bridge link set dev PORT isolated on', 'settings of bridge port PORT were changed', 'set port of PORT'],
  ['ip link set PORT type bridge_slave hairpin off', 'settings of', 'set port of PORT'],
  ['ip link delete PORT', 'link PORT was deleted', 'create link eth0 of network lab in sandbox box'],
  ['sysctl -qw net.ipv4.ip_forward=0', 'sysctls of', 'set net.ipv4.ip_forward to 1'],
  ['sysctl -qw net.ipv6.conf.all.forwarding=0', 'sysctls of', 'set net.ipv6.conf.all.forwarding to 1'],
  ['sysctl -qw net.ipv4.conf.BRIDGE.route_localnet=0', 'sysctls of network lab', 'route_localnet to 1'],
  [
    'sysctl -qw net.ipv6.conf.BRIDGE.disable_ipv6=1',
    'address fd00:30::1/64 was removed from BRIDGE',
    'disable_ipv6 to 0',
  ],
  ['sysctl -qw net.ipv6.conf.BRIDGE.accept_ra=1', 'sysctls of network lab', 'accept_ra to 0'],
  ['nft flush ruleset', 'deleted the table inet tsnet', 'load the firewall table'],
  ['nft delete element inet tsnet bridges { "BRIDGE" }', 'deleted elements', 'add 1 elements'],
  ['ip -n box link set eth0 down', 'link eth0 was set down', 'bring eth0 up'],
  [
    'ip -n box addr del 10.30.0.2/24 dev eth0',
    'address 10.30.0.2/24 was removed from eth0',
    'add address 10.30.0.2/24',
  ],
  ['ip -n box route del default', 'route 0.0.0.0/0 by eth0 was deleted', 'route 0.0.0.0/0 via 10.30.0.1'],
  ['ip -n box link set eth0 mtu 1400', 'MTU of eth0 was changed to 1400', 'set MTU 1500 on eth0'],
  ['ip -n box link set eth0 address 02:00:00:00:00:98', 'MAC address of eth0 was changed', 'set MAC address'],
  ['ip -n other link delete eth0', 'was deleted', 'create link eth0 of network lab in sandbox other'],
  ['ip -n far link delete eth0', 'link eth0 was deleted', 'create link eth0 of network lan in sandbox far'],
  ['ip link delete LAN', 'link LAN was deleted', 'create link LAN'],
  ['ip link set LAN down', 'link LAN was set down', 'bring LAN up'],
  ['ip route del 10.31.0.2 dev LAN', 'route 10.31.0.2/32 by LAN was deleted', 'route 10.31.0.2/32 by LAN'],
  ['sysctl -qw net.ipv4.conf.LAN.arp_ignore=0', 'sysctls of network lan', 'arp_ignore to 1'],
]

/** A change of somebody else's; `"` is for a shell of ours. */
const change = (command: string): void => void host.tryRun('sh', '-c', named(command).replaceAll('"', '\\"'))
let before: string
const untilAsBefore = (): Promise<unknown> =>
  until('all to be as before', () => state() === before, 15_000).catch(() => {
    expect(JSON.parse(state()), `seed ${seed}`).toEqual(JSON.parse(before))
  })

/** Returns what was told of it, once it is put right. */
async function makeDrift(command: string, done: string): Promise<string> {
  const from = reader.count
  const told = () => reader.after(from)
  figures.made++
  change(command)
  const at = Date.now()
  const isRepair = ({ type, words }: Told) => type === 'reconcile' && words.includes(named(done))
  await until('the repair to be told', () => told().some(isRepair), 15_000)
  await untilAsBefore()
  const repair = told().findLast(({ type }) => type === 'reconcile')
  figures.repaired++
  figures.slowestMs = Math.max(figures.slowestMs, Date.parse(repair?.time ?? '') - at)
  expect(told().filter(({ action }) => action === 'failure')).toEqual([])
  const damage = told().filter(({ type, action }) => type === 'host' && action === 'damage')
  return damage.map(({ words }) => words).join('\n')
}

describe('drift', () => {
  beforeEach(async () => {
    before ||= state()
    await untilAsBefore()
  })

  test.each(drifts)('`%s` is told and put right', async (command, said, done) => {
    // what comes right after our own repair of something else is told together with that, and perhaps not in all words
    for (let attempt = 1; ; attempt++) {
      await new Promise(resolve => setTimeout(resolve, 300))
      const damage = await makeDrift(command, done)
      if (attempt < 3 && !damage.includes(named(said))) continue
      expect(damage).toContain(named(said))
      break
    }
    expect(reconcile(true)).toEqual([])
  })

  test('of a sandbox while its bridge goes too is put right, however the two fall together', async () => {
    for (const seconds of [0, 0.02, 0.04, 0.06]) {
      change(`ip -n other link delete eth0; sleep ${seconds}; ip link delete BRIDGE`)
      await untilAsBefore()
    }
  })

  test('of a sandbox whose namespace was made again is put right', async () => {
    host.run('ip', 'netns', 'delete', 'box')
    reconcile(false)
    const from = reader.count
    const isRepaired = () => reader.after(from).some(({ words }) => words.includes('set MTU 1500 on eth0'))
    // not so often that it is taken for a fight, in which it would be left as it is
    for (let tries = 0; tries < 15 && !isRepaired(); tries++) {
      change('ip -n box link set eth0 mtu 1400')
      await until('a repair in the new namespace', isRepaired, 1500).catch(() => undefined)
    }
    expect(isRepaired()).toBe(true)
    await untilAsBefore()
  })

  test('of several kinds at once is put right', async () => {
    for (let round = 0; round < rounds; round++) {
      const several = Array.from({ length: 2 + below(3) }, () => drifts[below(drifts.length)]?.[0] ?? '')
      figures.made += several.length
      change(several.join('; '))
      await untilAsBefore()
      figures.repaired += several.length
      expect(reconcile(true), `seed ${seed}: ${several.join('; ')}`).toEqual([])
    }
  })
})

test('what we change ourselves is told nobody as damage, and a daemon that has nothing to do does nothing', async () => {
  const since = new Date().toISOString()
  for (let i = 0; i < 3; i++) {
    host.request('POST', '/networks', { name: `own${i}`, ipv6: true })
    host.request('POST', `/networks/own${i}/connect`, { sandbox: 'box', ports: [parsePortSpec(`90${i}0:80`)] })
    host.request('POST', `/networks/own${i}/disconnect`, { sandbox: 'box' })
    host.request('DELETE', `/networks/own${i}`)
  }
  const [pid = ''] = host.run('pgrep', '-f', 'tsnet.js daemon').split('\n')
  const ticks = (): number => {
    const fields = readFileSync(host.path(`/proc/${pid}/stat`), 'utf8')
      .replace(/^.*\) /, '')
      .split(' ')
    return Number(fields[11]) + Number(fields[12])
  }
  await new Promise(resolve => setTimeout(resolve, 1_000))
  // what was repaired before is perhaps told only now
  const told = reader.after(0).filter(({ time }) => time >= since)
  expect(told.filter(({ type }) => type === 'host' || type === 'reconcile')).toEqual([])
  const ticksBefore = ticks()
  await new Promise(resolve => setTimeout(resolve, 2_000))
  console.log(`idle for 2 s: ${(ticks() - ticksBefore) * 10} ms of a processor`)
  expect(ticks() - ticksBefore).toBeLessThan(100)
})

test('whoever flips something back again and again is told of, and gets ever less attention', async () => {
  const from = reader.count
  const fight = () => reader.after(from).find(({ action }) => action === 'fight')
  const peace = join(host.dir, 'peace')
  const flips = host.start(
    'sh',
    '-c',
    `while sleep 0.05; do ip link set ${bridge} down; test ! -e ${peace} || exit 0; done`,
  )
  await until('a fight', fight, 60_000)
  host.run('touch', peace)
  await flips
  expect(fight()?.words).toBe('another program changes network lab again and again: left alone for 1 s')
  expect(host.logOf('tsnet')).toContain('another program changes network lab again and again')
  await until('peace', () => host.run('ip', '-br', 'link', 'show', bridge).includes('UP'), 70_000)
})

test('what is not repaired at once is listed in words by reconcile --dry-run, which changes nothing', async () => {
  reader.close()
  await host.stopTsnet()
  await host.startTsnet('--repair', 'off')
  await untilAsBefore()
  for (const command of [
    'ip link set BRIDGE down',
    'ip addr del 10.30.0.1/24 dev BRIDGE',
    'ip link set PORT nomaster',
    'sysctl -qw net.ipv4.conf.BRIDGE.route_localnet=0',
    'ip -n box route del default',
    'ip link delete LAN',
  ])
    change(command)
  const damaged = state()
  const said = host.tsnet('reconcile', '--dry-run')
  for (const words of [
    'bring bridge BRIDGE up',
    'add address 10.30.0.1/24 to bridge BRIDGE',
    'set master, port of PORT',
    'route_localnet to 1',
    'route 0.0.0.0/0 via 10.30.0.1 by eth0',
    'create link LAN',
  ])
    expect(said).toContain(named(words))
  expect(state()).toBe(damaged)
  host.tsnet('reconcile')
  await untilAsBefore()
  expect(host.tsnet('reconcile', '--dry-run')).toBe('')
  await host.stopTsnet()
  await host.startTsnet()
})

test('a macvlan network whose parent was removed comes back with it', async () => {
  host.run('ip', 'link', 'delete', 'uplink0')
  host.plugIn()
  const isThere = () => host.run('ip', '-n', 'far', '-br', 'link').includes('eth0') && reconcile(true).length === 0
  await until('the sandbox to have its link', isThere)
})

test('foreign links, tables and namespaces beside ours stay as they are, whatever we make, repair and remove', async () => {
  const hex = (): string => Array.from({ length: 12 }, () => below(16).toString(16)).join('')
  const foreign: string[] = []
  const make = (name: string, ...how: string[]): void => {
    foreign.push(name)
    host.run('ip', 'link', 'add', name, ...how)
    if (below(2) === 0) host.run('ip', 'link', 'set', name, 'up')
    if (below(2) === 0) host.run('ip', 'addr', 'add', `10.${100 + foreign.length}.0.1/24`, 'dev', name)
    if (below(3) === 0) host.run('ip', 'link', 'set', name, 'alias', ['theirs', 'tsne', 'docker:x'][below(3)] ?? '')
  }
  const kinds = [
    () => make(`br-${hex()}`, 'type', 'bridge'),
    () => make(`tsn${hex()}`, 'type', 'veth', 'peer', 'name', `tsp${hex()}`),
    () => make(`vx-${hex()}`, 'type', 'vxlan', 'id', String(1 + below(1000)), 'dstport', '4790'),
    () => make(`v${hex().slice(0, 8)}`, 'type', 'veth', 'peer', 'name', `w${hex().slice(0, 8)}`),
  ]
  for (let i = 0; i < 10; i++) kinds[below(kinds.length)]?.()
  const tables = ['inet tsnet_not', 'ip theirs', `inet t${hex()}`]
  for (const table of tables)
    host.run(
      'nft',
      `add table ${table}; add chain ${table} c { type filter hook output priority 7; }; add rule ${table} c counter`,
    )
  host.run('ip', 'netns', 'add', 'theirs')
  host.run('ip', '-n', 'theirs', 'link', 'add', 'tsn0', 'type', 'veth', 'peer', 'name', 'eth0')
  const dump = (): string =>
    JSON.stringify([
      foreign.map(name =>
        host.run(
          'sh',
          '-c',
          `ip -d addr show ${name} | sed 's/_timer *[0-9.]*//g; /inet6 fe80/,+1d; s/ state [A-Z]*//; s/<[^>]*>//'`,
        ),
      ),
      tables.map(table => host.run('nft', 'list', 'table', ...table.split(' ')).replace(/packets \d+ bytes \d+/g, '')),
      host.run('ip', '-n', 'theirs', '-o', 'link').replace(/ state .*/g, ''),
    ])
  const all = dump()
  host.request('POST', '/networks', { name: 'beside' })
  host.request('POST', '/sandboxes', { name: 'guest' })
  host.request('POST', '/networks/beside/connect', { sandbox: 'guest', ports: [parsePortSpec('9999:80')] })
  for (const [command] of drifts.filter(([command]) => !command.includes('flush') && below(3) === 0)) change(command)
  await until('all of ours to be right', () => reconcile(true).length === 0, 15_000)
  reconcile(false)
  host.request('DELETE', '/sandboxes/guest')
  host.request('DELETE', '/networks/beside')
  expect(dump(), `seed ${seed}`).toBe(all)
})
