import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { DoctorReport } from '../../src/cnm/diagnosis.js'
import { type ClusterHost, ClusterWorld, underlay } from '../helpers/cluster-world.js'
import { explained, FaultCount } from '../helpers/faults.js'
import { repo, until } from '../helpers/machine.js'

// What explain and doctor say of ways between hosts: when all is well, and of faults that are made on the way.

let world: ClusterWorld
let h1: ClusterHost
const count = new FaultCount()
const reconcile = `${process.execPath} ${repo}/dist/tsnet.js reconcile`

beforeAll(async () => {
  world = await ClusterWorld.start({ hosts: 2 })
  h1 = world.host(1)
  h1.tsnet('network', 'create', 'blue', '--driver', 'overlay', '--subnet', '10.50.0.0/24')
  for (const host of world.hosts) host.attach('blue', `c${host.n}`)
  await until('c1 to reach c2', () => explained(h1, 'c1', 'c2').works, 15_000)
})
afterAll(async () => {
  count.print('two hosts')
  await world?.stop()
})

const doctor = (): DoctorReport => h1.request<DoctorReport>('GET', '/doctor')
const wrong = (): string[] =>
  doctor()
    .checks.filter(({ state }) => state !== 'ok')
    .map(({ what, words }) => `${what}: ${words}`)

const vxlan = (): string => {
  const { id } = h1.request<{ id: string }>('GET', '/networks/blue')
  return `vx-${id.slice(0, 12)}`
}
const macOf = (host: ClusterHost): string => host.request<{ mac: string }[]>('GET', '/endpoints')[0]!.mac

describe('when all is well', () => {
  test('explain walks to the other host and back, and the probe is answered', () => {
    const got = explained(h1, 'c1', 'c2')
    expect(got.hops.filter(({ state }) => state !== 'ok')).toEqual([])
    const words = got.hops.map(hop => `${hop.what}: ${hop.words}`).join('\n')
    expect(words).toContain(`is behind ${underlay.host4(2)}, host h2, as the cluster has it`)
    expect(words).toContain(`host h2: ${underlay.host4(2)} answers, to packets of 1500 bytes too`)
    expect(got.probe?.result).toBe('answered')
  })

  test('doctor says so of etcd and of the way to the other host too', () => {
    const { ok, checks } = doctor()
    expect(wrong()).toEqual([])
    expect(ok).toBe(true)
    const words = checks.map(check => `${check.what}: ${check.words}`).join('\n')
    expect(words).toMatch(/etcd: member 192\.0\.2\.101:2379 is well, etcd \d/)
    expect(words).toContain(`host h2: ${underlay.host4(2)} answers, to packets of 1500 bytes too`)
  })
})

describe('a prepared fault is named', () => {
  test("another program's drop, of a network of many hosts too", () => {
    h1.run('nft', 'table inet fw { chain f { type filter hook forward priority 5; policy drop; }; }')
    expect(wrong().join('\n')).toMatch(
      /network blue: another program's firewall drops its packets: table inet fw, chain f/,
    )
    h1.run('nft', 'delete', 'table', 'inet', 'fw')
    expect(wrong()).toEqual([])
  })

  test('a stale forwarding entry', async () => {
    await count.judge(h1, {
      name: 'stale FDB entry between hosts',
      make: `bridge fdb replace ${macOf(world.host(2))} dev ${vxlan()} dst 192.0.2.77 self static`,
      mend: reconcile,
      ...{ from: 'c1', to: 'c2' },
      cause:
        /^a stale forwarding entry \(FDB\) of vx-\w+ sends frames for \S+, which is c2, to 192\.0\.2\.77 instead of 192\.0\.2\.2, host h2$/,
      fix: /^tsnet reconcile$/,
    })
  })

  test('an MTU hole in the vxlan link', async () => {
    await count.judge(h1, {
      ...{ name: 'wrong MTU of the vxlan', make: `ip link set ${vxlan()} mtu 1300`, mend: reconcile },
      ...{ from: 'c1', to: 'c2' },
      cause: /MTU 1300 instead of 1450: larger packets vanish there/,
    })
  })

  test('an MTU hole between the hosts, which doctor finds as well', async () => {
    await count.judge(h1, {
      ...{ name: 'wrong MTU between hosts', make: 'ip link set uplink0 mtu 1400', mend: 'true' },
      ...{ from: 'c1', to: 'c2', well: ['c1', 'host'] },
      cause: /^packets of 1500 bytes, which the network's MTU 1450 needs, do not get to 192\.0\.2\.2$/,
    })
    expect(wrong().join('\n')).toMatch(
      /network blue: its MTU is 1450, and uplink0 has room for 1350 bytes in a VXLAN packet/,
    )
    h1.run('ip', 'link', 'set', 'uplink0', 'mtu', '1500')
    await until('all to be well', () => explained(h1, 'c1', 'c2').works && doctor().ok, 15_000)
  })

  test('etcd that does not answer: what is known goes on working, what is not known is said to be so', async () => {
    world.cut(world.etcdPlace(0))
    try {
      await count.judge(h1, {
        ...{ name: 'etcd unreachable', from: 'c1', to: 'c9' },
        cause: /is called c9, and what is on other hosts now is not known: .*etcd/,
        fix: /^tsnet doctor$/,
      })
      const got = explained(h1, 'c1', 'c2')
      expect(got.works).toBe(true)
      expect(got.hops.find(({ what }) => what === 'etcd')).toMatchObject({ state: 'warn' })
      expect(wrong().join('\n')).toMatch(/etcd: etcd does not answer at 192\.0\.2\.101:2379/)
    } finally {
      world.mend()
    }
    await until('all to be well', () => doctor().ok, 30_000)
  })
})
