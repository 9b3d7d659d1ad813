import type { Element } from '../firewall/elements.js'
import type { Firewall } from '../firewall/firewall.js'
import type { Kernel } from '../netlink/kernel.js'
import { isMarked } from './mark.js'

/**
 * Bridges behind which other programs keep containers or machines of their own: docker0, virbr0, lxdbr0. What our
 * sandboxes send there is no business of ours to accept: without our mark, the other program's rules decide. A bridge
 * that leads out of this host is none of them: it has a port that is hardware, or a route by a gateway.
 */
export function otherBridges(kernel: Kernel): string[] {
  const bridges = kernel.links({ kind: 'bridge' }).filter(link => !isMarked(link))
  // lists that are long where there are many endpoints, for few bridges or none
  if (bridges.length === 0) return []
  const routed = new Set(kernel.routes().flatMap(({ via, index }) => (via === undefined ? [] : index)))
  const leadsOut = (bridge: number): boolean =>
    routed.has(bridge) || kernel.links({ master: bridge }).some(port => port.kind === undefined)
  return bridges.filter(({ index }) => !leadsOut(index)).map(({ name }) => name)
}

/** The firewall's set of them. */
export class OtherBridges {
  readonly #kernel: Kernel
  readonly #firewall: Firewall
  /** everything that may be in the set, by name of the link */
  #present = new Map<string, Element>()
  #applied = ''
  #pending: Promise<void> | undefined

  constructor(kernel: Kernel, firewall: Firewall) {
    this.#kernel = kernel
    this.#firewall = firewall
  }

  /** What the set should hold now. */
  wanted(): Element[] {
    const elements = otherBridges(this.#kernel).map((link): Element & { link: string } => ({ set: 'others', link }))
    for (const element of elements) this.#present.set(element.link, element)
    return elements
  }

  /** Make it so, between two reconciles. Calls that come while one waits share it: links appear in bursts. */
  refresh(): Promise<void> {
    this.#pending ??= Promise.resolve().then(() => {
      this.#pending = undefined
      return this.#apply()
    })
    return this.#pending
  }

  async #apply(): Promise<void> {
    const add = this.wanted()
    const names = add.map(element => JSON.stringify(element)).join()
    const gone = [...this.#present.values()].filter(element => !add.includes(element))
    if (gone.length === 0 && names === this.#applied) return
    await this.#firewall.apply({ add, delete: gone })
    this.#present = new Map([...this.#present].filter(([, element]) => add.includes(element)))
    this.#applied = names
  }
}
