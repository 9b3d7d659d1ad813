import fc from 'fast-check'
import { expect, it } from 'vitest'
import type { PortSpec } from '../../src/cnm/types.js'
import { kindOf } from '../../src/errors.js'
import { canonicalAddress } from '../../src/ports/address.js'
import { formatPortSpec, parsePortSpec } from '../../src/ports/spec.js'

const address = fc.oneof(fc.ipV4(), fc.ipV6()).map(canonicalAddress)
const spec = fc
  .record({
    protocol: fc.constantFrom('tcp', 'udp', 'sctp'),
    hostIp: fc.option(address, { nil: undefined }),
    size: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 2000 })),
    hostSize: fc.integer({ min: 1, max: 2000 }),
    host: fc.option(fc.integer({ min: 1, max: 63535 }), { nil: undefined }),
    container: fc.integer({ min: 1, max: 63535 }),
  })
  .map(({ protocol, hostIp, size, hostSize, host, container }): PortSpec => {
    const range = (first: number, count: number) => ({ first, last: first + count - 1 })
    return {
      protocol: protocol as PortSpec['protocol'],
      ...(hostIp !== undefined && { hostIp }),
      ...(host !== undefined && { hostPort: range(host, size === 1 ? hostSize : size) }),
      containerPort: range(container, size),
    }
  })

it('every port spec is read back from its text', () => {
  fc.assert(
    fc.property(spec, want => {
      expect(parsePortSpec(formatPortSpec(want))).toEqual(want)
    }),
  )
})

it('any text is either read or refused as an invalid parameter', () => {
  const text = fc.oneof(fc.string(), fc.stringMatching(/^[[\]0-9a-f:.\-/tcpud]*$/))
  fc.assert(
    fc.property(text, given => {
      try {
        const parsed = parsePortSpec(given)
        expect(parsePortSpec(formatPortSpec(parsed))).toEqual(parsed)
      } catch (error) {
        expect(kindOf(error)).toBe('InvalidParameter')
      }
    }),
    { numRuns: 2000 },
  )
})
