import { type Element, tableOf } from './elements.js'
import type { Firewall } from './firewall.js'

/**
 * The rules, by whichever backend, and the spoof guard beside them as one firewall. Each has a table or chains of its own,
 * so a change of both is two transactions; a join changes the guard alone, a published port the rules alone.
 */
export function withSpoofGuard(rules: Firewall, guard: Firewall): Firewall {
  const parts = [
    { firewall: rules, has: (element: Element) => tableOf(element.set) === 'inet' },
    { firewall: guard, has: (element: Element) => tableOf(element.set) === 'bridge' },
  ]
  return {
    async ensure(keep) {
      let created = false
      for (const { firewall, has } of parts) created = (await firewall.ensure(keep?.filter(has))).created || created
      return { created }
    },
    async check() {
      const [first, second] = [await rules.check(), await guard.check()]
      return {
        elements: [...first.elements, ...second.elements],
        faults: [...first.faults, ...second.faults.map(fault => `spoof guard: ${fault}`)],
      }
    },
    async apply(change) {
      for (const { firewall, has } of parts)
        await firewall.apply({ add: change.add.filter(has), delete: change.delete.filter(has) })
    },
    async delete() {
      for (const { firewall } of parts) await firewall.delete()
    },
  }
}
