import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Ipam } from '../../src/ipam/ipam.js'
import { formatAddress, hostSpan, intersect, parseCidr } from '../../src/net/cidr.js'
import { MemoryStore } from '../../src/store/memory.js'

const coolDownMs = 10

/** The rules in the plainest words: look at every address of the subnet, one after the other. */
class Model {
  readonly taken = new Map<bigint, { owner: string; name: string | undefined }>()
  readonly names = new Map<string, bigint>()
  #cooling: { value: bigint; readyAt: number }[] = []
  #lastSerial: bigint | undefined
  constructor(
    readonly hosts: bigint[],
    readonly choosable: bigint[],
  ) {}

  choose(now: number, serial: boolean, anywhere: boolean): bigint | undefined {
    this.#cooling = this.#cooling.filter(c => c.readyAt > now)
    const from = anywhere ? this.hosts : this.choosable
    const free = from.filter(v => !this.taken.has(v) && !this.#cooling.some(c => c.value === v))
    const last = this.#lastSerial
    const after = serial && last !== undefined ? free.find(v => v > last) : undefined
    const value = after ?? free[0] ?? this.#cooling.find(c => from.includes(c.value))?.value
    if (serial && value !== undefined) this.#lastSerial = value
    return value
  }

  take(value: bigint, owner: string, name?: string): void {
    this.#cooling = this.#cooling.filter(c => c.value !== value)
    this.taken.set(value, { owner, name })
  }

  release(value: bigint, now: number): void {
    const holder = this.taken.get(value)
    if (!holder) return
    this.taken.delete(value)
    this.#cooling.push({ value, readyAt: now + coolDownMs })
    if (holder.name !== undefined) this.names.set(holder.name, value)
  }

  restart(): void {
    this.#cooling = []
    this.#lastSerial = undefined
  }
}

describe('addresses', () => {
  const command = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({ do: fc.constant('next' as const), serial: fc.boolean(), anywhere: fc.boolean() }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('named' as const), name: fc.constantFrom('a', 'b', 'c') }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('this' as const), offset: fc.nat({ max: 70_000 }) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('claim' as const), offset: fc.nat({ max: 70_000 }) }) },
    { weight: 4, arbitrary: fc.record({ do: fc.constant('release' as const), offset: fc.nat({ max: 70_000 }) }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.nat({ max: 12 }) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('restart' as const) }) },
  )
  const pool = fc.constantFrom(
    { subnet: '10.0.0.0/28' },
    { subnet: '10.0.0.0/29' },
    { subnet: '10.0.0.0/29', range: '10.0.0.4/30' },
    { subnet: '10.0.0.0/27', range: '10.0.0.8/30' },
    { subnet: '10.0.0.0/26' },
    { subnet: '10.0.0.2/31' },
    { subnet: '10.0.0.2/32' },
    { subnet: 'fd00::/124' },
    { subnet: 'fd00::/124', range: 'fd00::/127' },
    { subnet: 'fd00::2/127' },
    { subnet: 'fd00::2/128' },
  )

  test('any sequence of requests and releases gives what a look at every address gives, and the store holds it', async () => {
    await fc.assert(
      fc.asyncProperty(pool, fc.array(command, { maxLength: 80 }), async ({ subnet, range }, commands) => {
        let now = 0
        const store = new MemoryStore()
        const open = async () => {
          const ipam = new Ipam({ store, now: () => now, coolDownMs, hostSubnets: () => [], hostId: 'h' })
          await ipam.load()
          return ipam
        }
        let ipam = await open()
        const cidr = parseCidr(subnet)
        const { family } = cidr
        const { id } = await ipam.requestPool({ family, subnet, owner: 'network n', ...(range && { range }) })
        const all = (first: bigint, last: bigint) =>
          Array.from({ length: Number(last - first) + 1 }, (_, i) => first + BigInt(i))
        const hosts = hostSpan(cidr)
        const chosen = intersect(range ? parseCidr(range) : cidr, hosts)
        const model = new Model(all(hosts.first, hosts.last), all(chosen.first, chosen.last))
        const at = (offset: number) => cidr.first + (BigInt(offset) % (cidr.last - cidr.first + 1n))
        const text = (value: bigint) => formatAddress(family, value)

        for (const [step, command] of commands.entries()) {
          const owner = `e${step}`
          if (command.do === 'wait') now += command.ms
          else if (command.do === 'restart') {
            ipam = await open()
            model.restart()
          } else if (command.do === 'release') {
            const value = at(command.offset)
            await ipam.releaseAddress(id, text(value)).catch(e => expect(e.kind).toBe('InvalidParameter'))
            model.release(value, now)
          } else if (command.do === 'this' || command.do === 'claim') {
            const value = at(command.offset)
            const work =
              command.do === 'this'
                ? ipam.requestAddress(id, { owner, address: text(value) })
                : ipam.claim(id, text(value), owner)
            const got = await work.then(
              () => 'given',
              e => e.kind,
            )
            const want = !model.hosts.includes(value)
              ? 'InvalidParameter'
              : model.taken.has(value)
                ? 'Conflict'
                : 'given'
            expect(got).toBe(want)
            if (want === 'given') model.take(value, owner)
          } else {
            const name = command.do === 'named' ? command.name : undefined
            const remembered = name === undefined ? undefined : model.names.get(name)
            const { serial = false, anywhere = false } = command.do === 'next' ? command : {}
            const want =
              remembered !== undefined && !model.taken.has(remembered)
                ? remembered
                : model.choose(now, serial, anywhere)
            const got = await ipam
              .requestAddress(id, { owner, serial, anywhere, ...(name !== undefined && { name }) })
              .catch(e => e.kind)
            expect(got).toBe(want === undefined ? 'Conflict' : `${text(want)}/${cidr.prefixLength}`)
            if (want !== undefined) model.take(want, owner, name)
          }
          const held = [...model.taken].sort(([a], [b]) => (a < b ? -1 : 1))
          const want = held.map(([value, { owner, name }]) => ({
            address: text(value),
            owner,
            ...(name !== undefined && { name }),
          }))
          expect(ipam.addresses(id)).toEqual(want)
        }
        const reopened = await open()
        expect(reopened.pools()).toEqual(ipam.pools())
        expect(reopened.addresses(id)).toEqual(ipam.addresses(id))
      }),
      { numRuns: 400 },
    )
  })
})
