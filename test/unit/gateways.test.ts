import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { byPreference, type Candidate, electGateway } from '../../src/cnm/gateways.js'

interface Offer {
  name: string
  priority?: number
  internal?: boolean
  gateways: (4 | 6)[]
}

const candidate = ({ name, priority = 0, internal = false, gateways }: Offer) =>
  ({
    network: { name, internal },
    endpoint: { options: { gw_priority: priority } },
    attachment: { gateways: Object.fromEntries(gateways.map(family => [family, `${name}-${family}`])) },
  }) as unknown as Candidate

const order = (...offers: Offer[]): string[] => byPreference(offers.map(candidate)).map(({ network }) => network.name)
const elected = (family: 4 | 6, ...offers: Offer[]): string | undefined =>
  electGateway(offers.map(candidate), family)?.network.name

describe('the way out of a sandbox', () => {
  test("goes by priority first, then by Docker's order: not internal, both families, the name", () => {
    const plain = { name: 'b', gateways: [4] as (4 | 6)[] }
    expect(order(plain, { name: 'a', gateways: [4] })).toEqual(['a', 'b'])
    expect(order(plain, { name: 'z', gateways: [4, 6] })).toEqual(['z', 'b'])
    expect(order({ name: 'a', internal: true, gateways: [] }, plain)).toEqual(['b', 'a'])
    expect(order(plain, { name: 'z', gateways: [4], priority: 1 })).toEqual(['z', 'b'])
    expect(order({ name: 'a', gateways: [4], priority: -1 }, plain)).toEqual(['b', 'a'])
  })

  test('is found for each family by itself', () => {
    const four = { name: 'four', gateways: [4] as (4 | 6)[], priority: 5 }
    const six = { name: 'six', gateways: [6] as (4 | 6)[] }
    expect([elected(4, four, six), elected(6, four, six)]).toEqual(['four', 'six'])
    expect(elected(6, four)).toBeUndefined()
  })

  test('does not depend on the order in which networks came', () => {
    const offer = fc.record({
      name: fc.string({ minLength: 1, maxLength: 3 }),
      priority: fc.integer({ min: -2, max: 2 }),
      internal: fc.boolean(),
      gateways: fc.uniqueArray(fc.constantFrom<4 | 6>(4, 6)),
    })
    const offers = fc.uniqueArray(offer, { selector: ({ name }) => name, maxLength: 6 })
    fc.assert(
      fc.property(offers, fc.constantFrom<4 | 6>(4, 6), (given, family) => {
        const want = elected(family, ...given)
        expect(elected(family, ...[...given].reverse())).toBe(want)
        // nobody who has a gateway of the family is better by the first rule
        const best = given.find(({ name }) => name === want)
        const able = given.filter(({ gateways }) => gateways.includes(family))
        expect(best === undefined).toBe(able.length === 0)
        if (best !== undefined) expect(best.priority).toBe(Math.max(...able.map(({ priority }) => priority)))
      }),
    )
  })
})
