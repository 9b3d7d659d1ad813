import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Ipam } from '../../src/ipam/ipam.js'
import { MemoryStore } from '../../src/store/memory.js'

describe('addresses', () => {
  test('parallel requests never give the same address twice, whatever is released meanwhile', async () => {
    const step = fc.record({
      request: fc.boolean(),
      offset: fc.nat({ max: 15 }),
      explicit: fc.boolean(),
      pause: fc.nat({ max: 3 }),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.constantFrom(0, 10), async (steps, coolDownMs) => {
        const store = new MemoryStore()
        const ipam = new Ipam({ store, coolDownMs, hostSubnets: () => [], hostId: 'h' })
        const { id } = await ipam.requestPool({ family: 4, subnet: '10.0.0.0/28', owner: 'network n' })
        const holders = new Map<string, number>()
        const run = async ({ request, offset, explicit, pause }: (typeof steps)[number], n: number) => {
          for (let i = 0; i < pause; i++) await null
          const address = `10.0.0.${offset}`
          if (request) {
            const spec = { owner: `e${n}`, name: `n${offset % 3}`, ...(explicit && { address }) }
            const got = await ipam
              .requestAddress(id, spec)
              .catch(e => expect(['Conflict', 'InvalidParameter']).toContain(e.kind))
            if (typeof got !== 'string') return
            expect(holders.has(got)).toBe(false)
            holders.set(got, n)
          } else {
            const holder = holders.get(`${address}/28`)
            if (holder === undefined) return
            // From now on somebody else may have it.
            holders.delete(`${address}/28`)
            await ipam.releaseAddress(id, address, `e${holder}`)
          }
        }
        await Promise.all(steps.map(run))
        const want = [...holders].map(([cidr, n]) => ({ address: cidr.split('/')[0], owner: `e${n}` }))
        const got = ipam.addresses(id).map(({ address, owner }) => ({ address, owner }))
        expect(got).toHaveLength(want.length)
        expect(got).toEqual(expect.arrayContaining(want))
        const reopened = new Ipam({ store, coolDownMs, hostSubnets: () => [], hostId: 'h' })
        await reopened.load()
        expect(reopened.addresses(id)).toEqual(ipam.addresses(id))
      }),
      { numRuns: 300 },
    )
  })

  test('a call that fails at the store gives nothing away twice, before and after a restart', async () => {
    const commands = fc.array(fc.record({ request: fc.boolean(), offset: fc.nat({ max: 7 }) }), {
      minLength: 4,
      maxLength: 30,
    })
    await fc.assert(
      fc.asyncProperty(
        commands,
        fc.nat({ max: 40 }),
        fc.constantFrom('before', 'after'),
        async (steps, failing, when) => {
          const store = new MemoryStore()
          const open = async () => {
            const ipam = new Ipam({ store, coolDownMs: 0, hostSubnets: () => [], hostId: 'h' })
            await ipam.load()
            return ipam
          }
          let ipam = await open()
          const { id } = await ipam.requestPool({ family: 4, subnet: '10.0.0.0/29', owner: 'network n' })
          const first = store.calls
          store.fault = ({ nth }) => (nth === first + failing ? (when as 'before' | 'after') : undefined)
          const given = new Map<string, string>()
          const play = async () => {
            for (const [n, { request, offset }] of steps.entries()) {
              if (request) {
                const got = await ipam
                  .requestAddress(id, { owner: `e${n}` })
                  .catch(e => expect(['Conflict', 'Unavailable']).toContain(e.kind))
                if (typeof got !== 'string') continue
                expect(given.has(got)).toBe(false)
                given.set(got, `e${n}`)
              } else {
                const address = `10.0.0.${offset}`
                const released = await ipam.releaseAddress(id, address).then(
                  () => true,
                  () => false,
                )
                if (released) given.delete(`${address}/29`)
                // Lost answer: it may be free already, so it is nobody's until the release is repeated.
                else if (
                  !(await ipam.releaseAddress(id, address).then(
                    () => true,
                    e => e.kind === 'InvalidParameter',
                  ))
                )
                  throw new Error('repeat failed')
                else given.delete(`${address}/29`)
              }
            }
          }
          await play()
          store.fault = () => undefined
          for (const [cidr, owner] of given) expect((await ipam.holder(id, cidr.split('/')[0]!))?.owner).toBe(owner)
          ipam = await open()
          for (const [cidr, owner] of given) expect((await ipam.holder(id, cidr.split('/')[0]!))?.owner).toBe(owner)
          await play()
        },
      ),
      { numRuns: 400 },
    )
  })
})
