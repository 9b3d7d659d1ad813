import type { Protocol } from '../cnm/types.js'
import { conflict, invalid, notImplemented, unavailable } from '../errors.js'
import { familyOf, isUnspecified } from '../ports/address.js'
import { protocols } from '../ports/spec.js'
import type { ProxyTarget } from './connections.js'
import { type Listener, type ListenRequest, listen } from './listener.js'
import { programHolding } from './port-holder.js'

export interface PortPlace {
  protocol: Protocol
  hostIp: string
  port: number
}

export interface HeldPort extends PortPlace {
  owner: string
  /** absent: chosen, not yet held for a container */
  target: ProxyTarget | undefined
  /** may be that of the same port in the other family, too */
  listener: Listener
}

/** Who has which port of the host: the register of what this process has bound for its endpoints. */
export class HeldPorts {
  readonly #makeRoom: (hostIp: string, port: number) => void
  readonly #nameOf: (owner: string) => string
  readonly #held = new Map<number, HeldPort[]>()

  /** As `HostPorts` has them. */
  constructor(makeRoom: (hostIp: string, port: number) => void, nameOf: (owner: string) => string) {
    this.#makeRoom = makeRoom
    this.#nameOf = nameOf
  }

  find(protocol: Protocol, hostIp: string, port: number): HeldPort | undefined {
    return this.#at({ protocol, port }).find(held => held.hostIp === hostIp)
  }

  /** A held port that leaves no room for this one: the same address, or either is every address of the family. */
  clash({ hostIp, ...port }: PortPlace): HeldPort | undefined {
    return this.#at(port).find(
      held =>
        held.hostIp === hostIp ||
        (familyOf(held.hostIp) === familyOf(hostIp) && (isUnspecified(held.hostIp) || isUnspecified(hostIp))),
    )
  }

  /**
   * Bind a port for an owner, at each of the addresses, which are what one socket can hold.
   * @param nameHolder whether a conflict is to name the program that has the port, for which all of /proc is read
   * @throws {NetError} Conflict, InvalidParameter (no address of this host), Unavailable (too many sockets), NotImplemented
   */
  bind({ protocol, hostIps, port }: ListenRequest, owner: string, nameHolder: boolean): HeldPort[] {
    const places = hostIps.map(hostIp => ({ protocol, hostIp, port }))
    for (const place of places) {
      const other = this.clash(place)
      if (other) throw conflict(`${describe(place)} is in use by endpoint ${this.#nameOf(other.owner)}`)
      this.#makeRoom(place.hostIp, port)
    }
    try {
      const listener = listen({ protocol, hostIps, port })
      const made = places.map((place): HeldPort => ({ ...place, owner, target: undefined, listener }))
      const others = this.#held.get(keyOf({ protocol, port }))
      if (others === undefined) this.#held.set(keyOf({ protocol, port }), [...made])
      else others.push(...made)
      return made
    } catch (error) {
      throw explain(error, { protocol, hostIp: hostIps[0] ?? '', port }, nameHolder)
    }
  }

  /** Let them go; a socket that was for others too stays with those. Dropped already is fine. */
  drop(dropped: readonly HeldPort[]): void {
    for (const held of dropped) this.#forget(held)
    for (const held of dropped) {
      const [left] = this.#at(held).filter(({ listener }) => listener === held.listener)
      if (left === undefined) held.listener.close()
      else this.#narrow(left)
    }
  }

  dropAll(): void {
    this.drop(this.all())
  }

  all(): HeldPort[] {
    return [...this.#held.values()].flat()
  }

  /** Somebody may take it in the instant that it is nobody's; then it is not held any more, as the next look at everything says. */
  #narrow(held: HeldPort): void {
    try {
      held.listener.narrow(held.hostIp)
    } catch {
      this.#forget(held)
    }
  }

  #forget(held: HeldPort): void {
    const rest = this.#at(held).filter(other => other !== held)
    if (rest.length > 0) this.#held.set(keyOf(held), rest)
    else this.#held.delete(keyOf(held))
  }

  #at(port: Pick<PortPlace, 'protocol' | 'port'>): readonly HeldPort[] {
    return this.#held.get(keyOf(port)) ?? none
  }
}

const none: readonly HeldPort[] = []

/** One number is looked up quicker than words, of which a range has thousands. */
const keyOf = ({ protocol, port }: Pick<PortPlace, 'protocol' | 'port'>): number =>
  protocols.indexOf(protocol) * 65_536 + port
export const describe = ({ protocol, hostIp, port }: PortPlace): string => `port ${port}/${protocol} on ${hostIp}`

/** What the system's error means to the user. */
function explain(error: unknown, held: PortPlace, nameHolder: boolean): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  const { protocol, hostIp, port } = held
  if (code === 'EADDRINUSE') {
    // Looking for the holder reads all of /proc: not while trying one port after another.
    const holder = (nameHolder && programHolding(protocol, hostIp, port)) || 'another program'
    return conflict(`${describe(held)} is in use by ${holder}`, { cause: error })
  }
  if (code === 'EADDRNOTAVAIL' || code === 'EINVAL')
    return invalid(`${describe(held)}: ${hostIp} is no address of this host that a port can be published on`, {
      cause: error,
    })
  if (code === 'EMFILE' || code === 'ENFILE')
    return unavailable(
      `${describe(held)}: the daemon holds as many ports as it may have open files (ulimit -n), but for those it works with`,
      { cause: error },
    )
  if (code === 'EAFNOSUPPORT') return notImplemented(`${describe(held)}: this host has no IPv6`, { cause: error })
  return error
}
