import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { NumberSet } from '../../src/ipam/allocator.js'
import { chooseSubnet } from '../../src/ipam/pools.js'
import { cidrAt, formatAddress, formatCidr, parseAddress, parseCidr } from '../../src/net/cidr.js'

describe('arithmetic', () => {
  const anyAddress = fc.oneof(
    fc.bigInt({ min: 0n, max: 2n ** 32n - 1n }).map(value => ({ family: 4 as const, value })),
    fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }).map(value => ({ family: 6 as const, value })),
    fc.nat({ max: 127 }).map(bit => ({ family: 6 as const, value: 1n << BigInt(bit) })),
  )

  test('an address and a subnet come back from their texts', () => {
    fc.assert(
      fc.property(anyAddress, fc.nat({ max: 128 }), ({ family, value }, length) => {
        expect(parseAddress(formatAddress(family, value))).toEqual({ family, value })
        const cidr = cidrAt(family, value, Math.min(length, family === 4 ? 32 : 128))
        expect(parseCidr(formatCidr(cidr))).toEqual(cidr)
        expect(value >= cidr.first && value <= cidr.last).toBe(true)
      }),
    )
  })

  test('a chosen subnet is the lowest of the default ones that overlaps nothing', () => {
    const base = { base: '10.0.0.0/24', size: 28 }
    const taken = fc.array(
      fc
        .record({ value: fc.nat({ max: 511 }), length: fc.integer({ min: 22, max: 32 }) })
        .map(({ value, length }) => cidrAt(4, 0x0a000000n + BigInt(value), length)),
      { maxLength: 12 },
    )
    fc.assert(
      fc.property(taken, cidrs => {
        const free = [...Array(16).keys()]
          .map(i => cidrAt(4, 0x0a000000n + BigInt(i * 16), 28))
          .find(candidate => cidrs.every(c => c.last < candidate.first || candidate.last < c.first))
        if (free) expect(chooseSubnet(4, [base], cidrs)).toEqual(free)
        else expect(() => chooseSubnet(4, [base], cidrs)).toThrow('no IPv4 subnet is left')
      }),
    )
  })
})

describe('a number set', () => {
  test('does what a Set does, and finds the next number it lacks', () => {
    const command = fc.record({ add: fc.boolean(), from: fc.nat({ max: 2047 }), count: fc.nat({ max: 100 }) })
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 11 }), fc.array(command, { maxLength: 60 }), (bits, commands) => {
        const size = 2 ** bits
        const set = new NumberSet(bits)
        const model = new Set<number>()
        for (const { add, from, count } of commands) {
          for (let n = from % size; n < Math.min(size, (from % size) + count); n++) {
            add ? set.add(BigInt(n)) : set.delete(BigInt(n))
            add ? model.add(n) : model.delete(n)
          }
          let want = from % size
          expect(set.has(BigInt(want))).toBe(model.has(want))
          while (model.has(want)) want++
          const got = set.nextAbsent(BigInt(from % size))
          // Beyond the size the tree may have spare numbers, which its user bounds.
          if (want < size) expect(got).toBe(BigInt(want))
          else expect(got === undefined || got >= size).toBe(true)
        }
      }),
    )
  })

  test('finds gaps anywhere in an IPv6 /64 in a few steps', () => {
    const set = new NumberSet(64)
    const top = 2n ** 64n - 1n
    for (let i = 0n; i < 5000n; i++) set.add(top - i)
    expect(set.nextAbsent(top)).toSatisfy(n => n === undefined || n > top)
    expect(set.nextAbsent(top - 5000n)).toBe(top - 5000n)
    set.delete(top - 7n)
    expect(set.nextAbsent(top - 4999n)).toBe(top - 7n)
  })
})
