import { SocketAddress } from 'node:net'
import { exclude, include } from './sets.js'

/** One endpoint as names see it. */
export interface Member {
  /** every name it is found by on this network: its own, its sandbox's, its aliases. The first is the one that its address tells. */
  names: readonly string[]
  /** plain addresses */
  addresses: readonly string[]
}

/**
 * Who is who on one network. Names are compared without case, and are found alone and before the network's name: `web`,
 * `web.lab`. A member comes and goes at the cost of its own names, however many others there are.
 */
export class Zone {
  readonly #byName = new Map<string, Set<Member>>()
  readonly #byAddress = new Map<string, Set<Member>>()

  constructor(
    public network: string,
    members: readonly Member[],
  ) {
    for (const member of members) this.add(member)
  }

  add(member: Member): void {
    for (const name of member.names) include(this.#byName, name.toLowerCase(), member)
    for (const address of member.addresses) include(this.#byAddress, canonical(address), member)
  }

  remove(member: Member): void {
    for (const name of member.names) exclude(this.#byName, name.toLowerCase(), member)
    for (const address of member.addresses) exclude(this.#byAddress, canonical(address), member)
  }

  get isEmpty(): boolean {
    return this.#byName.size === 0
  }

  /** The addresses of both families that a name has, of every endpoint that has it; undefined where nobody does. */
  addressesOf(name: string): readonly string[] | undefined {
    const asked = name.toLowerCase()
    const suffix = `.${this.network.toLowerCase()}`
    const found =
      this.#byName.get(asked) ?? (asked.endsWith(suffix) ? this.#byName.get(asked.slice(0, -suffix.length)) : undefined)
    return found && [...found].flatMap(({ addresses }) => addresses)
  }

  /** The full name, `web.lab`, behind `2.0.30.10.in-addr.arpa` or its like under ip6.arpa. */
  nameOf(reverse: string): string | undefined {
    const address = addressOfReverse(reverse.toLowerCase())
    const [member] = (address === undefined ? undefined : this.#byAddress.get(address)) ?? []
    return member && `${member.names[0]}.${this.network}`
  }
}

/** The one of the many texts of an IPv6 address that the C library writes. */
const canonical = (address: string): string =>
  address.includes(':') ? new SocketAddress({ address, family: 'ipv6' }).address : address

/** RFC 1035 3.5, RFC 3596 2.5; undefined for what is no whole address. */
function addressOfReverse(name: string): string | undefined {
  const v4 = /^((?:\d{1,3}\.){4})in-addr\.arpa$/.exec(name)?.[1]
  if (v4 !== undefined) return v4.split('.').reverse().join('.').slice(1)
  const v6 = /^((?:[0-9a-f]\.){32})ip6\.arpa$/.exec(name)?.[1]
  if (v6 === undefined) return undefined
  const digits = v6.replaceAll('.', '').split('').reverse().join('')
  return canonical(digits.replace(/(.{4})(?=.)/g, '$1:'))
}
