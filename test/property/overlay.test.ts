import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Remote } from '../../src/cnm/driver.js'
import { Remotes } from '../../src/drivers/overlay/remotes.js'

// However the news of other hosts come, the entries are those of what is left.

const remote: fc.Arbitrary<Remote> = fc.record({
  mac: fc.constantFrom('02:00:00:00:00:01', '02:00:00:00:00:02', '02:00:00:00:00:03'),
  addresses: fc.uniqueArray(fc.constantFrom('10.0.0.1', '10.0.0.2', 'fd00::1'), { maxLength: 2 }),
  vtep: fc.constantFrom('192.0.2.1', '192.0.2.2'),
})
/** Of those that are there the numbered ones go, and new ones come; told as what differs or as all of it. */
const step = fc.record({
  gone: fc.array(fc.nat(5), { maxLength: 3 }),
  come: fc.array(remote, { maxLength: 3 }),
  all: fc.boolean(),
})

/** No two of them alike. */
const unlike = (remotes: Remote[]): Remote[] => [...new Map(remotes.map(each => [JSON.stringify(each), each])).values()]

test('changes of remotes add up to the entries of what is there in the end', () => {
  fc.assert(
    fc.property(fc.array(remote, { maxLength: 6 }), fc.array(step, { maxLength: 8 }), (first, steps) => {
      const told = new Remotes(first)
      const entries = { vtep: new Map(told.entries(new Set()).vteps), mac: new Map(told.entries(new Set()).macs) }
      let there = unlike(first)
      for (const { gone, come, all } of steps) {
        const going = there.filter((_, i) => gone.includes(i))
        const staying = there.filter((_, i) => !gone.includes(i))
        const before = all ? there : going
        const after = all ? [...staying, ...come] : come
        for (const { what, key, before: had, after: now } of told.update(before, after)) {
          expect(entries[what].get(key)).toBe(had)
          if (now === undefined) entries[what].delete(key)
          else entries[what].set(key, now)
        }
        // what is told again is there once
        there = unlike([...staying, ...come])
        expect(entries).toEqual({ vtep: told.entries(new Set()).vteps, mac: told.entries(new Set()).macs })
        const keys = (lists: Remote[]) => [
          new Set(lists.map(({ mac }) => mac)),
          new Set(lists.flatMap(({ addresses }) => addresses)),
        ]
        expect([new Set(entries.vtep.keys()), new Set(entries.mac.keys())]).toEqual(keys(there))
      }
    }),
    { numRuns: 2000 },
  )
})

test('of two that have an address the one that came last has it, until it goes', () => {
  fc.assert(
    fc.property(fc.shuffledSubarray([0, 1, 2], { minLength: 3 }), order => {
      const all = [0, 1, 2].map(
        (i): Remote => ({ mac: `02:00:00:00:00:0${i}`, addresses: ['10.0.0.1'], vtep: '192.0.2.1' }),
      )
      const told = new Remotes([])
      for (const i of order) told.update([], [all[i]!])
      const left = [...order]
      while (left.length > 0) {
        expect(told.entries(new Set()).macs.get('10.0.0.1')).toBe(all[left.at(-1)!]!.mac)
        told.update([all[left.pop()!]!], [])
      }
      expect(told.entries(new Set())).toEqual({ vteps: new Map(), macs: new Map() })
    }),
  )
})

test('what is told although it was looked at already is there once, and goes at once', () => {
  const remote = { mac: '02:42:0a:32:00:09', addresses: ['10.50.0.9'], vtep: '192.0.2.11' }
  const remotes = new Remotes([remote])
  expect(remotes.update([], [remote])).toEqual([])
  expect(remotes.update([remote], []).map(({ key, after }) => [key, after])).toEqual([
    [remote.mac, undefined],
    ['10.50.0.9', undefined],
  ])
  expect(remotes.entries(new Set()).vteps.size).toBe(0)
})
