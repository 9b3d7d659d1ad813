import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { expectAgreement } from '../helpers/cluster-judge.js'
import { attachOnEach, eachLeavesAllAsFound, expectAllReach, expectReach } from '../helpers/cluster-tidy.js'
import { type ClusterHost, ClusterWorld } from '../helpers/cluster-world.js'
import { EventReader } from '../helpers/event-reader.js'
import { until } from '../helpers/machine.js'
import { expectRefused } from '../helpers/tidy-host.js'
import { pings } from '../helpers/vantage.js'

// Looking after a network of many hosts: what is wrong on which of them, hosts that move, die and are removed.

let world: ClusterWorld
let h1: ClusterHost
let h2: ClusterHost
let h3: ClusterHost

beforeAll(async () => {
  world = await ClusterWorld.start()
  ;[h1, h2, h3] = [world.host(1), world.host(2), world.host(3)]
})
afterAll(() => world?.stop())

const found = eachLeavesAllAsFound(() => world)

function blueOnAll(...options: string[]) {
  h1.tsnet('network', 'create', 'blue', '--driver', 'overlay', '--subnet', '10.50.0.0/24', ...options)
  return attachOnEach(world.hosts, 'blue')
}

/** The link of a kind that blue has on a host, as the kernel names it. */
const linkOf = (host: ClusterHost, kind: 'bridge' | 'vxlan'): string => {
  const { id } = host.request<{ id: string }>('GET', '/networks/blue')
  return `${kind === 'bridge' ? 'br' : 'vx'}-${id.slice(0, 12)}`
}

const eventsSince = (host: ClusterHost, since: string): string =>
  host.tsnet('events', '--since', since, '--until', '0s')

describe('overlay verify', () => {
  const verify = (host: ClusterHost) => host.tryTsnet('overlay', 'verify', 'blue')
  /** Lines below the matrix. */
  const faults = (): string[] => {
    const { status, stdout } = verify(h1)
    expect(status).toBe(1)
    return stdout.trim().split('\n').slice(4)
  }

  test('says of every host that all is well, asked on any of them, whatever else is on those', async () => {
    await expectAllReach(blueOnAll('--subnet', 'fd00:50::/64'))
    h2.tsnet('network', 'create', 'red', '--driver', 'overlay', '--subnet', '10.60.0.0/24')
    h2.tsnet('network', 'create', 'local')
    h1.attach('red', 'c1')
    h2.attach('red', 'c2')
    h2.attach('local', 'c2')
    for (const host of world.hosts)
      expect(verify(host)).toMatchObject({
        status: 0,
        stdout: [
          'HOST   STATE   LINKS   MTU   FDB   NEIGHBOURS   REACH',
          ...['h1', 'h2', 'h3'].map(name => `${name}     up      ok      ok    ok    ok           ok`),
          '',
        ].join('\n'),
      })
  })

  const macOf = (host: ClusterHost): string =>
    host.request<{ mac: string }[]>('GET', '/endpoints').map(({ mac }) => mac)[0]!
  /** What somebody does to h2, and what verify says of it. */
  const damages = ([one]: ReturnType<typeof blueOnAll>): [command: string[], fault: unknown][] => {
    const [vxlan, bridge] = [linkOf(h2, 'vxlan'), linkOf(h2, 'bridge')]
    const [address] = one!.known
    const wrong = ['lladdr', '02:00:00:00:00:99', 'dev', bridge, 'nud', 'permanent']
    return [
      [
        ['bridge', 'fdb', 'del', macOf(h3), 'dev', vxlan, 'self'],
        expect.stringMatching(`^h2: not done: bridge fdb .*${macOf(h3)} .*dst ${h3.ip4}`),
      ],
      [
        ['bridge', 'fdb', 'replace', macOf(h3), 'dev', vxlan, 'self', 'static', 'dst', h1.ip4],
        expect.stringMatching(`^h2: not done: bridge fdb .*${macOf(h3)} .*dst ${h3.ip4}`),
      ],
      [
        ['ip', 'neigh', 'replace', address!, ...wrong],
        expect.stringMatching(`^h2: not done: ip neigh.* ${address} .*${macOf(h1)}`),
      ],
      [
        ['ip', 'neigh', 'del', address!, 'dev', bridge],
        expect.stringMatching(`^h2: not done: ip neigh.* ${address} .*${macOf(h1)}`),
      ],
      [['ip', 'link', 'set', vxlan, 'mtu', '1300'], `h2: ${vxlan} has MTU 1300 instead of 1450`],
      [['ip', 'link', 'del', vxlan], expect.stringMatching(/^h2: not done: create vxlan/)],
    ]
  }

  test('finds nothing wrong where another program changed entries and links: they are put right by themselves', async () => {
    const places = blueOnAll()
    await expectAllReach(places)
    const reader = await EventReader.open(h2)
    for (const [command] of damages(places)) {
      const from = reader.count
      h2.run(...command)
      const did = (what: string) => reader.after(from).some(({ action }) => action === what)
      await until(`the repair of ${command.join(' ')}`, () => did('damage') && did('change'))
    }
    reader.close()
    await until('all to be well', () => verify(h1).status === 0)
    expect(h2.request<{ changes: string[] }>('POST', '/reconcile', { dryRun: true }).changes).toEqual([])
    await expectAllReach(places)
  })

  test('names the host and what is wrong there, until reconcile on that host has mended it', async () => {
    await h2.stopTsnet()
    await h2.startTsnet('--repair', 'off')
    const places = blueOnAll()
    await expectAllReach(places)
    for (const [command, fault] of damages(places)) {
      h2.run(...command)
      expect(faults()).toContainEqual(fault)
      h2.request('POST', '/reconcile', { dryRun: false })
    }
    expect(verify(h1).status).toBe(0)
    await expectAllReach(places)
    await h2.stopTsnet()
    await h2.startTsnet()
  })

  test('names a host that others do not reach, and one whose daemon does not run', async () => {
    const places = blueOnAll()
    await expectAllReach(places)
    world.cut(h1, h2)
    const said = faults()
    world.mend()
    expect(said.filter(line => line.includes('no answer from'))).toEqual([
      expect.stringMatching(/^h1: no answer from host h2 at 10\.50\.0\./),
      expect.stringMatching(/^h2: no answer from host h1 at 10\.50\.0\./),
    ])
    await h3.stopTsnet()
    expect(faults()).toEqual([expect.stringMatching(/^h3: the daemon has not been heard of/)])
    await h3.startTsnet()
    await until('all to be well', () => verify(h1).status === 0)
  })
})

describe('hosts', () => {
  /** h3's daemon with these instead of the world's address for the others. */
  async function restart(advertise: string): Promise<void> {
    h3.clusterOptions[h3.clusterOptions.indexOf('--advertise') + 1] = advertise
    await h3.stopTsnet()
    await h3.startTsnet()
  }
  /** As systems with systemd have it, the second address of a subnet does not go with the first. */
  function replaceAddress(before: string, after: string): void {
    h3.run('sysctl', '-qw', 'net.ipv4.conf.uplink0.promote_secondaries=1')
    h3.run('ip', 'addr', 'add', `${after}/24`, 'dev', 'uplink0')
    h3.run('ip', 'addr', 'del', `${before}/24`, 'dev', 'uplink0')
  }
  const vtepOf = (name: string): string | undefined =>
    h1.request<{ name: string; vtep: string }[]>('GET', '/hosts').find(host => host.name === name)?.vtep

  test('that advertise a link are followed when its address is replaced by another', async () => {
    await restart('uplink0')
    const places = blueOnAll()
    await expectAllReach(places)
    const moved = '192.0.2.33'
    replaceAddress(h3.ip4, moved)
    await until('h1 to know the new address', () => vtepOf('h3') === moved, 30_000)
    await expectAllReach(places)
    await expectAgreement(world)
    for (const [host, address] of [
      [h1, moved],
      [h3, h1.ip4],
    ] as const)
      expect(host.run('bridge', 'fdb', 'show', 'dev', linkOf(host, 'vxlan'))).toContain(`dst ${address}`)
    expect(h1.run('bridge', 'fdb')).not.toContain(`dst ${h3.ip4} `)

    replaceAddress(moved, h3.ip4)
    await until('h1 to know the old one again', () => vtepOf('h3') === h3.ip4, 30_000)
    await expectAllReach(places)
    await restart(h3.ip4)
  })

  test('that die are removed with all that they had, and are new when they come back', async () => {
    const places = blueOnAll()
    await expectAllReach(places)
    const [lost] = places[2]!.known
    await world.destroy(h3)
    expectRefused(h1, 5, 'h3', 'host', 'rm', 'h3')
    await until('h3 to be down', () => h1.tryTsnet('host', 'rm', 'h3').status === 0, 30_000)
    expect(h2.request<{ name: string }[]>('GET', '/hosts').map(({ name }) => name)).toEqual(['h1', 'h2'])
    await expectAgreement(world)
    expect(pings(h1.sandbox('c1'), 'c3', 1)).toBe(false)
    expect(h2.attach('blue', 'heir', '--ip', lost!)).toEqual([lost])
    await expectReach(h1.sandbox('c1'), lost!, 'heir')

    h3 = await world.bring(3)
    found.set('h3', h3.snapshot())
    h3.attach('blue', 'c3')
    await expectReach(h3.sandbox('c3'), lost!, 'c1', 'heir')
    await expectAgreement(world)
  })

  test('say in their events when the store goes and comes', async () => {
    const since = new Date().toISOString()
    await world.etcd.members[0]!.kill()
    await until('h1 to notice', () => eventsSince(h1, since).includes('cluster down'), 20_000)
    world.etcd.members[0]!.start()
    await world.etcd.ready()
    await until('h1 to notice', () => eventsSince(h1, since).includes('cluster up'), 20_000)
    const said = h1
      .tsnet('--format', 'json', 'events', '--since', since, '--until', '0s')
      .split('\n')
      .map(line => JSON.parse(line) as { type: string; action: string; name: string; words: string })
      .filter(({ type }) => type === 'cluster')
    expect(said.map(({ action, name }) => [action, name])).toEqual([
      ['down', 'h1'],
      ['up', 'h1'],
    ])
    expect(said[0]!.words).toMatch(/etcd.* does not answer/)
  })
})

test.each([
  ['true', 'reaches every host'],
  ['false', 'reaches nobody on other hosts'],
])('with flood=%s what is sent to everybody %s', async (flood, _) => {
  const places = blueOnAll('-o', `flood=${flood}`)
  await expectAllReach(places)
  const listen = `listen-${flood}`
  for (const { host, name } of places)
    await host.serve(listen, ...host.sandbox(name).argv, 'socat', '-u', 'UDP4-RECV:5000,reuseaddr', 'STDOUT')
  for (const { at } of places)
    await until('the listener', () => at.tryRun('ss', '-Hlun', 'sport = :5000').stdout !== '')
  const say = (word: string, to: string): string =>
    h1.run(...h1.sandbox('c1').argv, 'sh', '-c', `echo ${word} | socat -u - UDP4-DATAGRAM:${to}:5000,broadcast`)
  say('everybody', '10.50.0.255')
  const others = places.slice(1)
  const heard = () => others.map(({ host }) => host.logOf(listen).includes('everybody'))
  if (flood === 'true') await until('all to hear it', () => heard().every(Boolean))
  // what is sent to one address comes later than what was sent before to all
  for (const { host, known } of others) {
    say('you', known[0]!)
    await until(`${host.name} to hear it`, () => host.logOf(listen).includes('you'))
  }
  expect(heard()).toEqual([flood === 'true', flood === 'true'])
  for (const { host } of places) await host.end(listen)
})
