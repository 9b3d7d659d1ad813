import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { expectAgreement } from '../helpers/cluster-judge.js'
import { expectReach } from '../helpers/cluster-tidy.js'
import { type ClusterHost, ClusterWorld } from '../helpers/cluster-world.js'
import { random } from '../helpers/random.js'

// An etcd of three members and three hosts that connect and disconnect without a pause, and a fault every two seconds. At the
// end etcd and the kernels agree on every host, and everything is attached whose `connect` was answered, and nothing else.

/** `scripts/test --long` sets two minutes. */
const seconds = Number(process.env.TSNET_FAULT_SECONDS ?? 20)
const seed = Number(process.env.TSNET_TEST_SEED ?? Date.now() % 1_000_000)
const sandboxesPerHost = 6
const networks = { blue: '10.50.0.0/24', red: '10.60.0.0/24' }

let world: ClusterWorld

beforeAll(async () => {
  world = await ClusterWorld.start({ etcd: 3, options: ['--log-level', 'warn'] })
})
afterAll(() => world?.stop())

/** One host's user: attaches and detaches at random, and remembers what it was answered. */
class User {
  /** `SANDBOX NETWORK`: addresses, for every attachment that was answered */
  readonly attached = new Map<string, string[]>()
  /** answers that nobody should get, whatever happens to etcd */
  readonly wrong: string[] = []
  readonly count = { done: 0, unavailable: 0, slowestMs: 0 }
  readonly #random: (below: number) => number

  constructor(
    readonly host: ClusterHost,
    userSeed: number,
  ) {
    this.#random = random(userSeed)
  }

  async work(until: () => boolean): Promise<void> {
    for (let i = 1; i <= sandboxesPerHost; i++)
      expect((await this.host.api('POST', '/sandboxes', { name: this.#sandbox(i) })).status).toBe(201)
    while (!until()) {
      await this.#step()
      await sleep(this.#random(40))
    }
  }

  #sandbox = (i: number): string => `${this.host.name}-${i}`

  async #step(): Promise<void> {
    const sandbox = this.#sandbox(1 + this.#random(sandboxesPerHost))
    const network = Object.keys(networks)[this.#random(2)]!
    const key = `${sandbox} ${network}`
    const verb = this.attached.has(key) ? 'disconnect' : 'connect'
    const before = Date.now()
    const { status, body } = await this.host.api('POST', `/networks/${network}/${verb}`, { sandbox })
    this.count.slowestMs = Math.max(this.count.slowestMs, Date.now() - before)
    if (verb === 'connect' && status === 503) this.count.unavailable++
    else if (status >= 300) this.wrong.push(`${verb} ${key}: ${status} ${JSON.stringify(body)}`)
    else this.count.done++
    if (verb === 'disconnect') this.attached.delete(key)
    else if (status === 201) this.attached.set(key, (body as { addresses: string[] }).addresses)
  }
}

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
]

test(
  `etcd and all kernels agree after ${seconds} seconds of faults (seed ${seed}), and no attachment is lost`,
  async () => {
    for (const [name, subnet] of Object.entries(networks))
      world.host(1).tsnet('network', 'create', name, '--driver', 'overlay', '--subnet', subnet)
    const users = world.hosts.map((host, i) => new User(host, seed + i))
    let over = false
    const working = Promise.all(users.map(user => user.work(() => over)))
    const end = Date.now() + seconds * 1000
    for (let turn = 0; Date.now() < end; turn++) {
      const [next] = [sleep(2000)]
      await pick(faults, turn)[1](turn)
      await next
    }
    over = true
    await working
    await world.etcd.ready()

    await expectAgreement(world, 60_000)
    expect(users.flatMap(user => user.wrong)).toEqual([])
    for (const user of users) await expectAttached(user)
    await expectNeighbours(users)
    for (const { count } of users) {
      expect(count.done).toBeGreaterThan(seconds)
      expect(count.slowestMs).toBeLessThan(4500) // 3 s, and a machine that is busy
    }
  },
  (seconds + 150) * 1000,
)

/** The daemon and the namespaces have what was answered, and nothing else. */
async function expectAttached({ host, attached }: User): Promise<void> {
  interface Row {
    sandbox: string
    network: string
    addresses: string[]
    host?: string
  }
  const rows = ((await host.api('GET', '/endpoints')).body as Row[]).filter(
    row => (row.host ?? host.name) === host.name,
  )
  const lines = (all: Iterable<[string, string[]]>): string[] =>
    [...all].map(([key, addresses]) => `${key} ${addresses}`).sort()
  expect(lines(rows.map(row => [`${row.sandbox} ${row.network}`, row.addresses]))).toEqual(lines(attached))
  for (let i = 1; i <= sandboxesPerHost; i++) {
    const name = `${host.name}-${i}`
    const inside = host.json<{ addr_info: { local: string; scope: string }[] }[]>('ip', '-j', '-n', name, '-4', 'addr')
    const got = inside.flatMap(({ addr_info }) => addr_info.filter(({ scope }) => scope === 'global'))
    const want = [...attached].filter(([key]) => key.startsWith(`${name} `)).flatMap(([, addresses]) => addresses)
    expect(got.map(({ local }) => local).sort()).toEqual(want.map(address => address.split('/')[0]).sort())
  }
}

/** One sandbox of each host on each network reaches all others of the network. */
async function expectNeighbours(users: readonly User[]): Promise<void> {
  for (const network of Object.keys(networks)) {
    const places = users.map(({ host, attached }) => ({
      host,
      here: [...attached].filter(([key]) => key.endsWith(` ${network}`)),
    }))
    const addresses = places.flatMap(({ here }) => here.map(([, [address]]) => address!.split('/')[0]!))
    for (const { host, here } of places)
      if (here[0]) await expectReach(host.sandbox(here[0][0].split(' ')[0]!), ...addresses)
  }
}
