import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { afterEach, expect, test } from 'vitest'
import { isMember, keys, type OnNetwork } from '../../src/cluster/keys.js'
import { MemoryStore } from '../../src/store/memory.js'
import { endpointOf, networkOf, remoteOf, TestHost, until } from '../helpers/hosts-in-memory.js'

const networks = [networkOf('blue', '10.50.0.0/16'), networkOf('red', '10.60.0.0/16')]
const hostNames = ['h1', 'h2', 'h3']
const endpointOfHost = (network: number, host: number, n: number) =>
  endpointOf(networks[network]!, `e${host}${n}`, `10.${50 + 10 * network}.${host}.${n + 2}`)

const which = { host: fc.nat({ max: 2 }), network: fc.nat({ max: 1 }), n: fc.nat({ max: 3 }) }
const order = { recordedFirst: fc.boolean(), gapMs: fc.nat({ max: 15 }) }
const step = fc.record({
  do: fc.oneof(
    { weight: 6, arbitrary: fc.record({ op: fc.constant('connect' as const), ...which, ...order }) },
    {
      weight: 5,
      arbitrary: fc.record({ op: fc.constant('disconnect' as const), ...which, ...order }),
    },
    { weight: 1, arbitrary: fc.record({ op: fc.constant('leave' as const), ...which }) },
    { weight: 2, arbitrary: fc.record({ op: fc.constant('mend' as const), host: which.host }) },
    { weight: 2, arbitrary: fc.record({ op: fc.constant('cut' as const), host: which.host }) },
    {
      weight: 1,
      arbitrary: fc.record({
        op: fc.constant('lose' as const),
        host: which.host,
        answers: fc.integer({ min: 1, max: 3 }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ op: fc.constant('late' as const), host: which.host, ms: fc.nat({ max: 5 }) }) },
    { weight: 1, arbitrary: fc.record({ op: fc.constant('restart' as const), host: which.host }) },
    { weight: 1, arbitrary: fc.record({ op: fc.constant('forget' as const), ...which }) },
  ),
  waitMs: fc.option(fc.nat({ max: 8 }), { nil: undefined, freq: 3 }),
})

const runs = Number(process.env.RUNS ?? 60)
let hosts: TestHost[] = []
afterEach(async () => {
  for (const host of hosts) await host.cluster.close()
  hosts = []
})

/** One thing after the other for every endpoint and for every host's membership, as the controller's locks have it. */
class Turns {
  readonly #tails = new Map<string, Promise<unknown>>()
  take(key: string, work: () => Promise<unknown>): void {
    this.#tails.set(
      key,
      (this.#tails.get(key) ?? Promise.resolve()).then(work).catch(() => {}),
    )
  }
  async all(): Promise<void> {
    await Promise.all(this.#tails.values())
  }
}

test(
  'whatever happens to the lines and the daemons: in the end all hosts see what each of them has, and nothing else is left',
  async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async steps => {
        const shared = new MemoryStore()
        hosts = hostNames.map(name => new TestHost(shared, name))
        for (const host of hosts) await (await host.start()).up()
        for (const network of networks) await hosts[0]!.cluster.createNetwork(network, [])
        await until(
          () => hosts.every(host => host.cluster.networks().length === 2),
          () => 'all know the networks',
        )
        const turns = new Turns()
        for (const { do: now, waitMs } of steps) {
          const host = hosts[now.host]!
          if (now.op === 'cut') host.line.cut()
          else if (now.op === 'mend') host.line.mend()
          else if (now.op === 'lose') host.line.loseAnswers = now.answers
          else if (now.op === 'late') host.line.lateMs = now.ms
          else if (now.op === 'restart') {
            await turns.all()
            await host.restart()
          } else if (now.op === 'forget') {
            const endpoint = endpointOfHost(now.network, now.host, now.n)
            await shared.txn([], [{ type: 'delete', key: keys.endpoint(endpoint.networkId, endpoint.id) }])
          } else if (now.op === 'leave') {
            turns.take(`${now.host}/${now.network}`, async () => {
              const { id } = networks[now.network]!
              if (![...host.endpoints.values()].some(endpoint => endpoint.networkId === id)) await host.leave(id)
            })
          } else {
            const endpoint = endpointOfHost(now.network, now.host, now.n)
            turns.take(`${now.host}/${now.network}`, () => host[now.op](endpoint, now))
          }
          if (waitMs !== undefined) await sleep(waitMs)
        }
        await turns.all()
        for (const { line } of hosts) {
          line.mend()
          line.loseAnswers = 0
          line.lateMs = 0
        }
        for (const host of hosts) await host.up()
        await agree(shared)
        for (const host of hosts) await host.cluster.close()
      }),
      { numRuns: runs },
    )
  },
  runs * 2_000,
)

async function agree(shared: MemoryStore): Promise<void> {
  const check = async (): Promise<void> => {
    const { entries } = await shared.list<OnNetwork>('net/')
    const got = entries.filter(({ value }) => !isMember(value)).map(({ value }) => value)
    const want = hosts.flatMap(host =>
      [...host.endpoints.values()].map(endpoint => ({
        ...endpoint,
        host: host.name,
        sandbox: `sandbox-of-${endpoint.name}`,
      })),
    )
    expect(sorted(got)).toEqual(sorted(want))
    const members = entries.map(({ value }) => value).filter(isMember)
    const wantMembers = hosts.flatMap(host => networks.flatMap(({ id }) => host.cluster.member(id) ?? []))
    expect(sorted(members)).toEqual(sorted(wantMembers))
    for (const host of hosts) {
      expect((await host.local.list('network-attempt/')).entries).toEqual([])
      const own = (await host.local.list('member/')).entries.length
      expect(own).toBe(networks.filter(({ id }) => host.cluster.member(id) !== undefined).length)
      for (const { id } of networks) {
        const remotes = host.cluster.remotes(id)
        if (host.cluster.member(id) === undefined) expect(remotes).toBeUndefined()
        else
          expect(sorted(remotes ?? [])).toEqual(
            sorted(
              hosts
                .filter(other => other !== host)
                .flatMap(other =>
                  [...other.endpoints.values()]
                    .filter(endpoint => endpoint.networkId === id)
                    .map(endpoint => remoteOf(endpoint, other.cluster.underlay().vtep)),
                ),
            ),
          )
      }
    }
  }
  let failure: unknown
  await until(
    async () => {
      failure = await check().then(
        () => undefined,
        error => error,
      )
      return failure === undefined
    },
    () => String(failure instanceof Error ? failure.message : failure),
  )
}

/** As text with the properties in one order, in one order. */
const sorted = (all: readonly unknown[]): string[] => all.map(one => JSON.stringify(ordered(one))).sort()
const ordered = (one: unknown): unknown =>
  typeof one !== 'object' || one === null || Array.isArray(one)
    ? one
    : Object.entries(one).sort(([a], [b]) => (a < b ? -1 : 1))
