import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { ClusterIpam } from '../../src/ipam/cluster.js'
import { MemoryStore } from '../../src/store/memory.js'
import type { Store } from '../../src/store/store.js'
import { keysOf, memoryWorld } from '../helpers/cluster-ipam.js'

/** What a host does with its stores ends with it, at any await: a crash. */
class Life {
  #dead = false
  #end!: (how: 'died') => void
  readonly #ended = new Promise<'died'>(resolve => {
    this.#end = resolve
  })

  die(): void {
    this.#dead = true
    this.#end('died')
  }

  store(store: Store): Store {
    const until = <T>(work: () => Promise<T>): Promise<T> =>
      this.#dead ? new Promise(() => {}) : work().finally(() => (this.#dead ? new Promise(() => {}) : undefined))
    return {
      get: key => until(() => store.get(key)),
      list: prefix => until(() => store.list(prefix)),
      txn: (conditions, operations) => until(() => store.txn(conditions, operations)),
      watch: (prefix, revision, signal) => store.watch(prefix, revision, signal),
      lease: ttlMs => store.lease(ttlMs),
      close: () => store.close(),
    }
  }

  run<T>(work: Promise<T>): Promise<T | 'died'> {
    return Promise.race([work, this.#ended])
  }
}

interface Host {
  name: string
  local: MemoryStore
  life: Life
  ipam: ClusterIpam
}

const step = fc.record({
  do: fc.oneof(
    { weight: 5, arbitrary: fc.constant('next' as const) },
    { weight: 2, arbitrary: fc.constant('named' as const) },
    { weight: 2, arbitrary: fc.constant('this' as const) },
    { weight: 2, arbitrary: fc.constant('claim' as const) },
    { weight: 6, arbitrary: fc.constant('release' as const) },
    { weight: 1, arbitrary: fc.constant('resync' as const) },
    { weight: 1, arbitrary: fc.constant('crash' as const) },
  ),
  host: fc.nat({ max: 2 }),
  offset: fc.nat({ max: 15 }),
  pause: fc.nat({ max: 12 }),
})
/** For each call of the shared store. */
const faults = fc.array(
  fc.oneof(
    { weight: 8, arbitrary: fc.constant(undefined) },
    { weight: 1, arbitrary: fc.constant('before' as const) },
    { weight: 1, arbitrary: fc.constant('after' as const) },
  ),
  { maxLength: 150 },
)

test('hosts that interleave, crash and get no answers give no address twice, and after resync none is leaked', async () => {
  const seen = { given: 0, unavailable: 0, crashes: 0, releases: 0 }
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom('10.50.0.0/29', '10.50.0.0/28', '10.50.0.0/20', 'fd00::/64'),
      fc.array(step, { minLength: 4, maxLength: 60 }),
      faults,
      fc.integer({ min: 1, max: 12 }),
      async (subnet, steps, schedule, atOnce) => {
        const world = memoryWorld()
        const open = async (name: string, local: MemoryStore): Promise<Host> => {
          const life = new Life()
          const ipam = await world.host(name, { shared: life.store(world.shared) }, life.store(local))
          return { name, local, life, ipam }
        }
        const hosts = await Promise.all(['a', 'b', 'c'].map(name => open(name, new MemoryStore())))
        const id = await world.pool(hosts[0]!.ipam, subnet)
        const first = world.shared.calls
        world.shared.fault = ({ nth }) => schedule[nth - first - 1]
        /** by address: owner and host, from the answer of the request to the begin of the release */
        const given = new Map<string, string>()

        const run = async (n: number) => {
          const { do: what, host: at, offset, pause } = steps[n]!
          for (let i = 0; i < pause; i++) await null
          const { ipam, life, name, local } = hosts[at]!
          const address = subnet.includes(':') ? `fd00::${offset.toString(16)}` : `10.50.0.${offset}`
          const owner = `e${n}`
          if (what === 'crash') {
            seen.crashes++
            life.die()
            hosts[at] = await open(name, local)
          } else if (what === 'resync') {
            const lost = await life.run(ipam.resync().catch(e => void expect(e.kind).toBe('Unavailable')))
            // who died when somebody else turned out to have it was not answered, and finds that again
            if (Array.isArray(lost))
              expect(lost.filter(one => given.get(one.address) === `${one.owner} ${name}`)).toEqual([])
          } else if (what === 'release') {
            const own = [...given].filter(([, holder]) => holder.endsWith(` ${name}`))
            const [mine, holder] = own[offset % Math.max(1, own.length)] ?? []
            if (mine === undefined || holder === undefined) return
            seen.releases++
            given.delete(mine)
            await life.run(ipam.releaseAddress(id, mine, holder.split(' ')[0]))
          } else {
            const spec = {
              owner,
              ...(what === 'named' && { name: `n${offset % 3}` }),
              ...(what === 'this' && { address }),
            }
            const work =
              what === 'claim'
                ? ipam.claim(id, address, owner).then(() => address)
                : ipam.requestAddress(id, spec).then(cidr => cidr.split('/')[0]!)
            const got = await life.run(
              work.catch(error => {
                expect(['Conflict', 'InvalidParameter', 'Unavailable']).toContain(error.kind)
                if (error.kind === 'Unavailable') seen.unavailable++
                return undefined
              }),
            )
            if (got === undefined || got === 'died') return
            seen.given++
            expect(given.get(got)).toBeUndefined()
            given.set(got, `${owner} ${name}`)
          }
        }
        for (let i = 0; i < steps.length; i += atOnce)
          await Promise.all(Array.from({ length: Math.min(atOnce, steps.length - i) }, (_, k) => run(i + k)))

        world.shared.fault = () => undefined
        for (const { ipam, name } of hosts) {
          // as at start-up: what no endpoint has is released
          for (const { address, owner } of ipam.addresses(id))
            if (given.get(address) !== `${owner} ${name}`) await ipam.releaseAddress(id, address, owner)
          expect(await ipam.resync()).toEqual([])
        }
        const want = [...given].map(([address, holder]) => `${address} ${holder}`).sort()
        expect((await world.stored()).sort()).toEqual(want)
        const revision = async (store: Store) => (await store.list('')).revision
        for (const { ipam, name, local } of hosts) {
          const own = [...given].filter(([, holder]) => holder.endsWith(` ${name}`)).map(([address]) => address)
          const keys = own.map(address => `cluster-ipam/address/${id}/${address}`)
          expect(await keysOf(local, '')).toEqual(keys.sort())
          const before = [await revision(world.shared), await revision(local)]
          expect(await ipam.resync()).toEqual([])
          expect([await revision(world.shared), await revision(local)]).toEqual(before)
        }
      },
    ),
    { numRuns: 600 },
  )
  console.log(seen)
  for (const count of Object.values(seen)) expect(count).toBeGreaterThan(100)
})

test('pools that hosts ask for and release at once never overlap, and after resync none is leaked', async () => {
  const step = fc.record({
    host: fc.nat({ max: 2 }),
    release: fc.boolean(),
    third: fc.option(fc.nat({ max: 3 }), { nil: undefined }),
    pause: fc.nat({ max: 8 }),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), faults, async (steps, schedule) => {
      const world = memoryWorld()
      const locals = [0, 1, 2].map(() => new MemoryStore())
      const hosts = await Promise.all(locals.map((local, i) => world.host(`h${i}`, {}, local)))
      world.shared.fault = ({ nth }) => schedule[nth - 1]
      const given = new Map<string, number>()
      const run = async ({ host, release, third, pause }: (typeof steps)[number]) => {
        for (let i = 0; i < pause; i++) await null
        const mine = [...given].find(([, holder]) => holder === host)?.[0]
        if (release && mine !== undefined) {
          given.delete(mine)
          return await hosts[host]!.releasePool(mine)
        }
        const subnet = third === undefined ? undefined : `10.50.${third}.0/${third % 2 ? 24 : 23}`
        const spec = { family: 4, owner: `network n${given.size}`, ...(subnet && { subnet }) } as const
        const got = await hosts[host]!.requestPool(spec).catch(
          e => void expect(['Conflict', 'Unavailable']).toContain(e.kind),
        )
        if (got) given.set(got.id, host)
      }
      for (let i = 0; i < steps.length; i += 5) await Promise.all(steps.slice(i, i + 5).map(run))
      world.shared.fault = () => undefined
      for (const host of hosts) await host.resync()
      const { entries } = await world.shared.list<{ id: string; subnet: string }>('ipam/pool/')
      expect(entries.map(({ value }) => value.id).sort()).toEqual([...given.keys()].sort())
      for (const { value } of entries) {
        const prober = await world.host('prober')
        const error = await prober.requestPool({ family: 4, subnet: value.subnet, owner: 'probe' }).catch(e => e)
        expect(error.kind).toBe('Conflict')
      }
      const subnets = entries.map(({ value }) => value.subnet.split('/')[0]!)
      expect(new Set(subnets).size).toBe(subnets.length)
      for (const [i, local] of locals.entries()) {
        const own = [...given].filter(([, holder]) => holder === i).map(([id]) => `cluster-ipam/pool/${id}`)
        expect(await keysOf(local, '')).toEqual(own.sort())
      }
    }),
    { numRuns: 300 },
  )
})
