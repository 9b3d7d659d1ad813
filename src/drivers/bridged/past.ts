/** Of one network; beyond that, all addresses are taken for known. A /16 has no more. */
const remembered = 1 << 16

/**
 * Addresses that neighbours may remember, by the network's id: those that somebody has had there before. Who has one of them now must be
 * announced to every port of the bridge, which is dear; where nobody had it, nobody remembers anything. Of a network that was there before
 * this process, the past is not known.
 */
export class Past {
  /** undefined: not known */
  readonly #had = new Map<string, Set<string> | undefined>()

  /** A network is here, whose past is known if it is made now. Fine for one that was seen already. */
  see(networkId: string, isNew: boolean): void {
    if (!this.#had.has(networkId)) this.#had.set(networkId, isNew ? new Set() : undefined)
  }

  forget(networkId: string): void {
    this.#had.delete(networkId)
  }

  /** Somebody who had these plain addresses leaves. */
  add(networkId: string, addresses: readonly string[]): void {
    const had = this.#had.get(networkId)
    for (const address of addresses) had?.add(address)
    if (had !== undefined && had.size > remembered) this.#had.set(networkId, undefined)
  }

  mayHave(networkId: string, address: string): boolean {
    return this.#had.get(networkId)?.has(address) ?? true
  }
}
