import { Address6 } from 'ip-address'

/** One endpoint as names see it. */
export interface Member {
  /** every name it is found by on this network: its own, its sandbox's, its aliases. The first is the one that its address tells. */
  names: readonly string[]
  /** plain addresses */
  addresses: readonly string[]
}

/** Who is who on one network. Names are compared without case, and are found alone and before the network's name: `web`, `web.lab`. */
export class Zone {
  readonly #byName = new Map<string, string[]>()
  #byReverse: Map<string, string> | undefined

  constructor(
    readonly network: string,
    readonly members: readonly Member[],
  ) {
    for (const { names, addresses } of members)
      for (const name of new Set(names.map(each => each.toLowerCase()))) {
        const known = this.#byName.get(name)
        if (known === undefined) this.#byName.set(name, [...addresses])
        else known.push(...addresses)
      }
  }

  /** The addresses of both families that a name has, of every endpoint that has it; undefined where nobody does. */
  addressesOf(name: string): readonly string[] | undefined {
    const asked = name.toLowerCase()
    const suffix = `.${this.network.toLowerCase()}`
    return (
      this.#byName.get(asked) ?? (asked.endsWith(suffix) ? this.#byName.get(asked.slice(0, -suffix.length)) : undefined)
    )
  }

  /** The full name, `web.lab`, behind `2.0.30.10.in-addr.arpa` or its like under ip6.arpa. */
  nameOf(reverse: string): string | undefined {
    this.#byReverse ??= new Map(
      this.members.flatMap(({ names, addresses }) =>
        addresses.map((address): [string, string] => [reverseOf(address), `${names[0]}.${this.network}`]),
      ),
    )
    return this.#byReverse.get(reverse.toLowerCase())
  }
}

/** RFC 1035 3.5, RFC 3596 2.5 */
const reverseOf = (address: string): string =>
  address.includes(':')
    ? new Address6(address).reverseForm().replace(/\.$/, '')
    : `${address.split('.').reverse().join('.')}.in-addr.arpa`
