import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { expectAgreement } from '../helpers/cluster-judge.js'
import type { ClusterUser } from '../helpers/cluster-user.js'
import { expectAllKept, expectNeighbours, expectNothingLeft, figures, startUsers } from '../helpers/cluster-users.js'
import { type ClusterHost, ClusterWorld } from '../helpers/cluster-world.js'
import { random } from '../helpers/random.js'

// Daemons are killed while their users attach and detach. Whatever was answered holds; what was not is done or not done,
// and nothing is in between.

/** `scripts/test --long` sets two minutes. */
const seconds = Number(process.env.TSNET_FAULT_SECONDS ?? 20)
const seed = Number(process.env.TSNET_TEST_SEED ?? Date.now() % 1_000_000)

let world: ClusterWorld

beforeAll(async () => {
  world = await ClusterWorld.start({ options: ['--log-level', 'warn'] })
})
afterAll(() => world?.stop())

/** Users work, their daemon is killed and started, they learn what came of their last questions, and so on. */
async function suffer(host: ClusterHost, users: readonly ClusterUser[], until: number): Promise<number> {
  const chance = random(seed + 100 * host.n)
  for (let kills = 0; ; kills++) {
    let over = false
    const working = Promise.all(users.map(user => user.work(() => over)))
    await sleep(100 + chance(1500))
    const isLast = Date.now() > until
    over = isLast
    if (isLast) {
      await working
      return kills
    }
    await host.killTsnet()
    over = true
    await working
    await host.startTsnet()
    for (const user of users) await user.settle()
    for (const user of users) await user.expectKept()
  }
}

test(
  `what was answered holds, and nothing else stays, after ${seconds} seconds in which daemons are killed (seed ${seed})`,
  async () => {
    const users = await startUsers(world, seed)
    const end = Date.now() + seconds * 1000
    const kills = await Promise.all(
      world.hosts.map(host =>
        suffer(
          host,
          users.filter(user => user.host === host),
          end,
        ),
      ),
    )
    const last = performance.now()
    await expectAgreement(world, 60_000)
    const convergedMs = Math.round(performance.now() - last)
    expect(users.flatMap(user => user.wrong)).toEqual([])
    await expectAllKept(world, users)
    await expectNeighbours(users)
    await expectNothingLeft(world)
    console.info(`${figures(users)}; ${kills.join(' + ')} kills; agreement ${convergedMs} ms after the last operation`)
    for (const { count } of users) expect(count.slowestMs).toBeLessThan(20_000) // 3 s, and a machine that is busy
  },
  (seconds + 150) * 1000,
)
