import type { Element } from '../firewall/elements.js'
import type { Firewall } from '../firewall/firewall.js'
import type { Kernel, Link, Route } from '../netlink/kernel.js'
import { diff } from '../reconcile.js'
import { isMarked } from './mark.js'

/**
 * Bridges behind which other programs keep containers or machines of their own: docker0, virbr0, lxdbr0. What our
 * sandboxes send there is no business of ours to accept: without our mark, the other program's rules decide. A bridge
 * that leads out of this host is none of them: it has a port that is hardware, or a route by a gateway.
 */
export function otherBridges(links: readonly Link[], routes: readonly Route[]): string[] {
  const uplinks = new Set<number | undefined>([
    ...routes.filter(route => route.via !== undefined).map(route => route.index),
    ...links.filter(link => link.kind === undefined).map(link => link.master),
  ])
  return links
    .filter(link => link.kind === 'bridge' && !isMarked(link) && !uplinks.has(link.index))
    .map(link => link.name)
}

export const otherBridgeElements = (kernel: Kernel): Element[] =>
  otherBridges(kernel.links(), kernel.routes()).map(link => ({ set: 'others', link }))

/** Keeps the firewall's set of them right between two reconciles. */
export class OtherBridges {
  readonly #kernel: Kernel
  readonly #firewall: Firewall
  #known: Element[] = []
  #pending: Promise<void> | undefined

  constructor(kernel: Kernel, firewall: Firewall) {
    this.#kernel = kernel
    this.#firewall = firewall
  }

  /** Calls that come while one waits share it: links appear in bursts. */
  refresh(): Promise<void> {
    this.#pending ??= Promise.resolve().then(() => {
      this.#pending = undefined
      return this.#apply()
    })
    return this.#pending
  }

  async #apply(): Promise<void> {
    const now = otherBridgeElements(this.#kernel)
    const name = (element: Element): string => JSON.stringify(element)
    const plan = diff(now, this.#known, { want: name, have: name }, () => true)
    this.#known = now
    if (plan.add.length > 0 || plan.remove.length > 0)
      await this.#firewall.apply({ add: plan.add, delete: plan.remove })
  }
}
