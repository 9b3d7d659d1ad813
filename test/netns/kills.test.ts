import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { EndpointView } from '../../src/cnm/specs.js'
import { Host, socketPath } from '../helpers/host.js'
import { LocalUser } from '../helpers/local-user.js'
import { until } from '../helpers/machine.js'
import { random } from '../helpers/random.js'

// The daemon is killed at any instant, again and again. What was answered is there and works, everything else is gone.

/** `scripts/soak` sets 300. */
const kills = Number(process.env.TSNET_KILLS ?? 10)
const seed = Number(process.env.TSNET_TEST_SEED ?? Date.now() % 1_000_000)

let host: Host
let bare: string

beforeAll(async () => {
  host = await Host.startWithTsnet('--log-level', 'warn')
  bare = host.snapshot()
})
afterAll(() => host?.stop())

test(
  `${kills} times kill -9: what was answered holds, and nothing else stays (seed ${seed})`,
  async () => {
    const users = Array.from({ length: 6 }, (_, i) => new LocalUser(host.path(socketPath), i + 1, seed))
    const chance = random(seed)
    for (let kill = 1; kill <= kills; kill++) {
      let over = false
      const working = Promise.all(users.map(user => user.work(() => over)))
      const answers = sum(users, 'answered') + chance(25)
      await until('answers', () => sum(users, 'answered') >= answers, 60_000)
      await sleep(chance(30))
      await host.killTsnet()
      over = true
      await working
      await host.startTsnet('--log-level', 'warn')
      await Promise.all(users.map(user => user.settle()))
      expect([`after kill ${kill}`, ...users.flatMap(user => user.wrong)]).toEqual([`after kill ${kill}`])
      expectKernel()
      if (kill % 50 === 0) console.info(`${kill} kills survived so far`)
    }
    expect([host.tsnet('reconcile'), host.tsnet('reconcile', '--dry-run')]).toEqual(['', ''])
    for (const user of users) await user.leave()
    expect(users.flatMap(user => user.wrong)).toEqual([])
    expect(host.snapshot()).toBe(bare)
    const [answered, unanswered] = [sum(users, 'answered'), sum(users, 'unanswered')]
    console.info(`${answered} operations answered, ${unanswered} not, ${kills} kills survived, 0 lost`)
  },
  // of no meaning but that it ends: on a busy machine a kill and a start take ten times what they take on a quiet one
  (60 + 20 * kills) * 1000,
)

const sum = (users: readonly LocalUser[], of: keyof LocalUser['count']): number =>
  users.reduce((all, { count }) => all + count[of], 0)

interface InsideLink {
  ifname: string
  addr_info: { local: string; prefixlen: number; scope: string }[]
}

/** Every endpoint's address is in its sandbox, and its ports are in the firewall; nothing else is in either. */
function expectKernel(): void {
  const endpoints = host.request<EndpointView[]>('GET', '/endpoints')
  const wantInside = endpoints.map(({ sandbox, ifname, addresses }) => `${sandbox} ${ifname} ${addresses[0]}`)
  const sandboxes = host.request<{ name: string }[]>('GET', '/sandboxes')
  const gotInside = sandboxes.flatMap(({ name }) =>
    host
      .json<InsideLink[]>('ip', '-j', '-n', name, '-4', 'addr')
      .flatMap(({ ifname, addr_info }) =>
        addr_info
          .filter(({ scope }) => scope === 'global')
          .map(({ local, prefixlen }) => `${name} ${ifname} ${local}/${prefixlen}`),
      ),
  )
  expect(gotInside.sort()).toEqual(wantInside.sort())
  const published = JSON.stringify(host.tsnetRules().filter(object => 'map' in object))
  for (const { bindings } of endpoints) for (const { hostPort } of bindings) expect(published).toContain(`${hostPort}`)
  const ports = new Set(endpoints.flatMap(({ bindings }) => bindings.map(({ hostPort }) => `${hostPort}`)))
  expect(new Set(published.match(/\b20[1-6]\d\d\b/g) ?? [])).toEqual(ports)
}
