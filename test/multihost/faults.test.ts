import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { expectAgreement } from '../helpers/cluster-judge.js'
import { expectAllKept, expectNeighbours, expectNothingLeft, figures, startUsers } from '../helpers/cluster-users.js'
import { ClusterWorld } from '../helpers/cluster-world.js'

// An etcd of three members and three hosts that connect and disconnect without a pause, and a fault every two seconds. At the
// end etcd and the kernels agree on every host, and everything is attached whose `connect` was answered, and nothing else.

/** `scripts/test --long` sets two minutes. */
const seconds = Number(process.env.TSNET_FAULT_SECONDS ?? 20)
const seed = Number(process.env.TSNET_TEST_SEED ?? Date.now() % 1_000_000)
let world: ClusterWorld

beforeAll(async () => {
  world = await ClusterWorld.start({ etcd: 3, options: ['--log-level', 'warn'] })
})
afterAll(() => world?.stop())

const pick = <T>(all: readonly T[], turn: number): T => all[turn % all.length]!

/** What goes wrong, by turns; each ends with everything mended. */
const faults: [string, (turn: number) => Promise<void>][] = [
  [
    'the leader is killed',
    async () => {
      const leader = await world.etcd.leader()
      await leader.kill()
      await sleep(1000)
      leader.start()
    },
  ],
  [
    'a host is cut off from everything',
    async turn => {
      const host = pick(world.hosts, turn)
      world.cut(host)
      await sleep(1200)
      world.mend(host)
    },
  ],
  [
    'two members of three are killed',
    async turn => {
      const members = [pick(world.etcd.members, turn), pick(world.etcd.members, turn + 1)]
      for (const member of members) await member.kill()
      await sleep(1200)
      for (const member of members) member.start()
    },
  ],
  [
    'the revisions are compacted that a watcher has missed',
    async turn => {
      const host = pick(world.hosts, turn)
      world.cut(host, ...world.etcd.members.map((_, i) => world.etcdPlace(i)))
      await sleep(900)
      await world.etcd.ready()
      await world.etcd.compact()
      world.mend(host)
    },
  ],
  [
    'the leader answers nobody',
    async () => {
      const leader = await world.etcd.leader()
      leader.pause()
      await sleep(1200)
      leader.resume()
    },
  ],
  [
    'the leader answers nobody for longer than anybody waits, and then what was asked of it meanwhile',
    async () => {
      const leader = await world.etcd.leader()
      leader.pause()
      await sleep(4500)
      leader.resume()
    },
  ],
]

test(
  `etcd and all kernels agree after ${seconds} seconds of faults (seed ${seed}), and no attachment is lost`,
  async () => {
    const users = await startUsers(world, seed)
    let over = false
    const working = Promise.all(users.map(user => user.work(() => over)))
    const end = Date.now() + seconds * 1000
    let turn = 0
    for (; Date.now() < end; turn++) {
      const [next] = [sleep(2000)]
      await pick(faults, turn)[1](turn)
      await next
    }
    const lastFault = performance.now()
    over = true
    await working
    await world.etcd.ready()

    await expectAgreement(world, 60_000)
    const convergedMs = Math.round(performance.now() - lastFault)
    expect(users.flatMap(user => user.wrong)).toEqual([])
    await expectAllKept(world, users)
    await expectNeighbours(users)
    await expectNothingLeft(world)
    console.info(`${figures(users)}; ${turn} faults; agreement ${convergedMs} ms after the last one`)
    for (const { count } of users) {
      expect(count.done).toBeGreaterThan(seconds)
      expect(count.slowestMs).toBeLessThan(20_000) // 3 s for each question to etcd, of which a connect has several
    }
  },
  (seconds + 150) * 1000,
)
