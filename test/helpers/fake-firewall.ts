import { type Element, formatElement, keyOf, overlaps } from '../../src/firewall/elements.js'
import type { Firewall, FirewallChange } from '../../src/firewall/firewall.js'
import { NftError } from '../../src/firewall/nft.js'

/**
 * A Firewall in memory that refuses what nft refuses: elements without a table, intervals that overlap, words that are no
 * address, port or link. `failNext` makes the next transaction fail, with nothing done.
 */
export class FakeFirewall implements Firewall {
  #table: Map<string, Element> | undefined
  #failure: Error | undefined

  async ensure(keep?: readonly Element[]): Promise<{ created: boolean }> {
    this.#fail()
    if (this.#table) return { created: false }
    this.#table = new Map()
    await this.apply({ add: keep ?? [], delete: [] })
    return { created: true }
  }

  async check(): Promise<{ elements: Element[]; faults: string[] }> {
    const elements = [...(this.#table ?? new Map<string, Element>()).values()]
    return { elements, faults: this.#table ? [] : ['it is missing'] }
  }

  async apply(change: FirewallChange): Promise<void> {
    if (change.add.length + change.delete.length === 0) return
    this.#fail()
    if (!this.#table) throw new NftError('Error: No such file or directory')
    const next = new Map(this.#table)
    for (const element of change.delete) next.delete(keyOf(element))
    for (const element of change.add) {
      formatElement(element)
      const clash = [...next.values()].find(other => overlaps(other, element) && keyOf(other) !== keyOf(element))
      if (clash) throw new NftError(`Error: Could not process rule: File exists (${keyOf(clash)})`)
      next.set(keyOf(element), element)
    }
    this.#table = next
  }

  async delete(): Promise<void> {
    this.#fail()
    this.#table = undefined
  }

  failNext(error: Error): void {
    this.#failure = error
  }

  /** The whole state, a line for each element, in a stable order: `publish4_any 6 . 8080 : 10.30.0.2 . 80`. */
  toString(): string {
    if (!this.#table) return 'no table'
    return [...this.#table.values()]
      .map(element => `${element.set} ${formatElement(element)}`)
      .sort()
      .join('\n')
  }

  #fail(): void {
    const failure = this.#failure
    this.#failure = undefined
    if (failure) throw failure
  }
}
