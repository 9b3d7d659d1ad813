import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Allocator } from '../../src/ipam/allocator.js'
import { Ipam } from '../../src/ipam/ipam.js'
import { cidrAt, formatCidr, parseCidr } from '../../src/net/cidr.js'
import { MemoryStore } from '../../src/store/memory.js'

describe('pools', () => {
  test('whatever is requested and released, at once or not, no two overlap, and the store holds them', async () => {
    const step = fc.record({
      release: fc.boolean(),
      subnet: fc.option(fc.record({ at: fc.nat({ max: 63 }), length: fc.integer({ min: 26, max: 32 }) }), {
        nil: undefined,
      }),
      which: fc.nat({ max: 5 }),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async steps => {
        const store = new MemoryStore()
        const deps = {
          store,
          hostSubnets: () => ['10.0.0.9/30'],
          hostId: 'h',
          defaultPools: [{ base: '10.0.0.0/26', size: 29 }],
        }
        const ipam = new Ipam(deps)
        const run = async ({ release, subnet, which }: (typeof steps)[number]) => {
          const pool = ipam.pools()[which]
          if (release && pool) return ipam.releasePool(pool.id)
          const text = subnet && formatCidr(cidrAt(4, 0x0a000000n + BigInt(subnet.at), subnet.length))
          await ipam
            .requestPool({ family: 4, owner: 'network n', ...(text && { subnet: text }) })
            .catch(e => expect(e.kind).toBe('Conflict'))
          return undefined
        }
        for (let i = 0; i < steps.length; i += 4) await Promise.all(steps.slice(i, i + 4).map(run))
        const cidrs = ipam
          .pools()
          .map(p => parseCidr(p.subnet))
          .sort((a, b) => (a.first < b.first ? -1 : 1))
        for (const [i, cidr] of cidrs.entries()) if (i > 0) expect(cidr.first > cidrs[i - 1]!.last).toBe(true)
        const reopened = new Ipam(deps)
        await reopened.load()
        expect(reopened.pools()).toEqual(ipam.pools())
      }),
    )
  })

  test('a release that is cut short leaves nothing that the next start does not remove', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 8 }), fc.constantFrom('before', 'after'), async (failing, when) => {
        const store = new MemoryStore()
        const ipam = new Ipam({ store, hostSubnets: () => [], hostId: 'h' })
        const { id } = await ipam.requestPool({ family: 4, subnet: '10.0.0.0/22', owner: 'network n' })
        for (let i = 0; i < 150; i++) await ipam.requestAddress(id, { owner: `e${i}`, name: `n${i}` })
        await ipam.releaseAddress(id, '10.0.0.7')
        const first = store.calls
        store.fault = ({ nth }) => (nth === first + failing ? (when as 'before' | 'after') : undefined)
        await ipam.releasePool(id).catch(e => expect(e.kind).toBe('Unavailable'))
        store.fault = () => undefined
        const after = new Ipam({ store, hostSubnets: () => [], hostId: 'h' })
        await after.load()
        const keys = (await store.list('ipam/')).entries.map(e => e.key)
        if (after.pools().length === 0) expect(keys).toEqual(['ipam/pools'])
        else expect(after.addresses(id)).toHaveLength(149)
      }),
    )
  })
})

describe('65,536 allocations', () => {
  test('cost the same each: so many words of the tree, so many calls of the store, one write', async () => {
    const store = new MemoryStore()
    const ipam = new Ipam({ store, hostSubnets: () => [], hostId: 'h' })
    const { id } = await ipam.requestPool({ family: 4, subnet: '10.0.0.0/15', owner: 'network n' })
    const times: number[] = []
    for (let block = 0; block < 16; block++) {
      const calls = store.calls
      const start = performance.now()
      for (let i = 0; i < 4096; i++) await ipam.requestAddress(id, { owner: 'e' })
      times.push(((performance.now() - start) * 1000) / 4096)
      expect(store.calls - calls).toBe(4096)
    }
    expect(await ipam.requestAddress(id, { owner: 'e' })).toBe('10.1.0.1/15')
    console.log(
      `µs per requestAddress on the memory store, by block of 4,096: ${times.map(t => t.toFixed(0)).join(' ')}`,
    )
  })

  test.each(['10.0.0.0/16', 'fd00::/64'])('in %s look at no more words for the last than for the first', subnet => {
    const cidr = parseCidr(subnet)
    const allocator = new Allocator(cidr, 0)
    let looks = 0
    const get = Map.prototype.get
    Map.prototype.get = function (key) {
      looks++
      return get.call(this, key)
    }
    const worst: number[] = []
    const start = performance.now()
    try {
      for (let block = 0; block < 16; block++) {
        let most = 0
        for (let i = 0; i < (block === 15 ? 4094 : 4096); i++) {
          looks = 0
          allocator.takeNext({ span: cidr }, 0)
          most = Math.max(most, looks)
        }
        worst.push(most)
      }
    } finally {
      Map.prototype.get = get
    }
    const us = ((performance.now() - start) * 1000) / 65534
    console.log(`${subnet}: ${us.toFixed(2)} µs per choice; most words looked at, by block: ${worst.join(' ')}`)
    // Up and down the tree once, and the words to mark: three for each level of five bits.
    const levels = Math.ceil((subnet.includes(':') ? 64 : 16) / 5)
    expect(Math.max(...worst)).toBeLessThanOrEqual(3 * levels)
    expect(Math.min(...worst)).toBeGreaterThan(0)
  })
})
