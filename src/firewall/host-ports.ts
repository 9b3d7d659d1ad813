import { existsSync, readFileSync } from 'node:fs'
import type { PortBinding, PortRange, Protocol } from '../cnm/types.js'
import { conflict, invalid, NetError, notImplemented, unavailable } from '../errors.js'
import { familyOf, isUnspecified } from '../ports/address.js'
import { formatRange, sizeOf } from '../ports/spec.js'
import { withUndo } from '../undo.js'
import type { ProxyTarget } from './connections.js'
import { type Listener, listen } from './listener.js'
import { programHolding } from './port-holder.js'

export interface PortRequest {
  protocol: Protocol
  /** the port must be free on all of them */
  hostIps: readonly string[]
  /** absent: the kernel's ephemeral ports */
  range?: PortRange
  /** how many consecutive ports */
  size: number
  /** ports not to choose, because they are asked for by number */
  avoid?: ReadonlySet<number>
  owner: string
}

interface PortPlace {
  protocol: Protocol
  hostIp: string
  port: number
}

interface HeldPort extends PortPlace {
  owner: string
  /** absent: chosen, not yet held for a container */
  target: ProxyTarget | undefined
  listener: Listener
}

/** Ports bound before the event loop gets its turn again: some milliseconds' worth. */
const portsAtOnce = 500

/**
 * The host's ports that are ours while published: really bound, so that no other program takes them, by sockets that drop
 * what comes but for the little that the kernel cannot redirect (listener.ts). Be aware: SCTP is held among our own endpoints only.
 */
export class HostPorts {
  readonly #makeRoom: (hostIp: string, port: number) => void
  readonly #nameOf: (owner: string) => string
  readonly #held = new Map<string, HeldPort[]>()
  #nextEphemeral = 0

  /**
   * @param makeRoom lets go of ports that this process itself has for something less than publishing
   * @param nameOf what an owner is called now: dockerd tells us a container's name only after its ports are published
   */
  constructor(makeRoom: (hostIp: string, port: number) => void = () => {}, nameOf = (owner: string) => owner) {
    this.#makeRoom = makeRoom
    this.#nameOf = nameOf
  }

  /**
   * Bind the binding's host ports; `owner` is the endpoint's id. Held already for the same container port, or chosen
   * by the same owner: fine. Taken by anybody else = Conflict that names them; no address of this host = InvalidParameter.
   */
  hold(binding: PortBinding, owner: string): Promise<void> {
    return withUndo(async undo => {
      const { protocol, hostIp } = binding
      for (const [i, { port, target }] of portsOf(binding).entries()) {
        if (i % portsAtOnce === portsAtOnce - 1) await turn()
        const mine = this.#find(protocol, hostIp, port)
        if (mine && mine.owner === owner && (mine.target === undefined || sameTarget(mine.target, target))) {
          serve(mine, owner, target)
          continue
        }
        serve(this.#bind({ protocol, hostIp, port, owner }), owner, target)
        undo.add(`hold port ${port}`, () => this.#drop(protocol, hostIp, port))
      }
    })
  }

  /**
   * As `hold`, for ports that may be held for another endpoint: those become this binding's without being let go in
   * between. Returns what gives them back.
   */
  async takeOver(binding: PortBinding, owner: string): Promise<() => void> {
    const before: { held: HeldPort; owner: string; target: ProxyTarget | undefined }[] = []
    const giveBack = () => {
      for (const { held, owner, target } of before) serve(held, owner, target)
    }
    for (const { port, target } of portsOf(binding)) {
      const held = this.#find(binding.protocol, binding.hostIp, port)
      if (held === undefined) continue
      before.push({ held, owner: held.owner, target: held.target })
      serve(held, owner, target)
    }
    try {
      await this.hold(binding, owner)
      return giveBack
    } catch (error) {
      giveBack()
      throw error
    }
  }

  /** Every one of the binding's host ports is held for it. */
  isHeld(binding: PortBinding): boolean {
    return portsOf(binding).every(({ port, target }) => {
      const held = this.#find(binding.protocol, binding.hostIp, port)
      return held?.target !== undefined && sameTarget(held.target, target)
    })
  }

  /** Whether somebody may have come to one of the binding's host ports and was dropped. Of what is not held any more, nobody asks. */
  hasDropped(binding: PortBinding): boolean {
    // to ask each of so many takes longer than to take it for granted
    if (binding.size > portsAtOnce) return true
    const { protocol, hostIp } = binding
    return portsOf(binding).some(({ port }) => this.#find(protocol, hostIp, port)?.listener.hasDropped() === true)
  }

  /**
   * Let the binding's host ports go but for those that `kept` has too, and end the connections that came through the
   * proxy. Not held, or held for another = fine.
   */
  async release(binding: PortBinding, kept: readonly PortBinding[] = []): Promise<void> {
    const { protocol, hostIp } = binding
    const staying = kept.filter(other => other.protocol === protocol && other.hostIp === hostIp)
    for (const [i, { port, target }] of portsOf(binding).entries()) {
      if (i % portsAtOnce === portsAtOnce - 1) await turn()
      if (staying.some(other => hasHostPort(other, port))) continue
      const held = this.#find(protocol, hostIp, port)
      if (held && (held.target === undefined || sameTarget(held.target, target))) this.#drop(protocol, hostIp, port)
    }
  }

  /**
   * Choose consecutive ports that are free on every address, and bind them until they are held or released. Returns the first.
   * None free = Conflict.
   */
  async choose(request: PortRequest): Promise<number> {
    const { protocol, hostIps, size } = request
    const range = request.range ?? ephemeralRange()
    const candidates = sizeOf(range) - size + 1
    // Ephemeral ports go round, so that one just released is not given to another at once.
    const start = request.range ? 0 : this.#nextEphemeral % Math.max(candidates, 1)
    for (let i = 0; i < candidates; i++) {
      const first = range.first + ((start + i) % candidates)
      if (i % portsAtOnce === portsAtOnce - 1) await turn()
      if (!this.#tryPorts(request, first)) continue
      if (!request.range) this.#nextEphemeral = first + size - range.first
      return first
    }
    throw conflict(`no free port in ${formatRange(range)}/${protocol} on ${hostIps.join(' and ')}`)
  }

  /** Release everything: the daemon stops. */
  close(): void {
    for (const { protocol, hostIp, port } of [...this.#held.values()].flat()) this.#drop(protocol, hostIp, port)
  }

  /** Bind all of `size` ports from `first` on all addresses; false, and nothing bound, when one of them is taken. */
  #tryPorts({ protocol, hostIps, size, avoid, owner }: PortRequest, first: number): boolean {
    const wanted = Array.from({ length: size }, (_, i) => first + i).flatMap(port =>
      hostIps.map(hostIp => ({ protocol, hostIp, port, owner })),
    )
    if (wanted.some(p => avoid?.has(p.port) || this.#clash(p.protocol, p.hostIp, p.port))) return false
    const bound: typeof wanted = []
    try {
      for (const port of wanted) {
        this.#bind(port, false)
        bound.push(port)
      }
      return true
    } catch (error) {
      for (const { hostIp, port } of bound) this.#drop(protocol, hostIp, port)
      if (error instanceof NetError && error.kind === 'Conflict') return false
      throw error
    }
  }

  #bind(want: Omit<HeldPort, 'listener' | 'target'>, nameHolder = true): HeldPort {
    const { protocol, hostIp, port } = want
    const other = this.#clash(protocol, hostIp, port)
    if (other) throw conflict(`${describe(want)} is in use by endpoint ${this.#nameOf(other.owner)}`)
    this.#makeRoom(hostIp, port)
    try {
      const held: HeldPort = { ...want, target: undefined, listener: listen(want) }
      const key = keyOf(protocol, port)
      const others = this.#held.get(key)
      if (others === undefined) this.#held.set(key, [held])
      else others.push(held)
      return held
    } catch (error) {
      throw explain(error, want, nameHolder)
    }
  }

  #drop(protocol: Protocol, hostIp: string, port: number): void {
    const held = this.#find(protocol, hostIp, port)
    if (!held) return
    held.listener.close()
    this.#forget(held)
  }

  #forget(held: HeldPort): void {
    const key = keyOf(held.protocol, held.port)
    const rest = (this.#held.get(key) ?? []).filter(h => h !== held)
    if (rest.length > 0) this.#held.set(key, rest)
    else this.#held.delete(key)
  }

  #find(protocol: Protocol, hostIp: string, port: number): HeldPort | undefined {
    return this.#held.get(keyOf(protocol, port))?.find(held => held.hostIp === hostIp)
  }

  /** A held port that leaves no room for this one: the same address, or either is every address of the family. */
  #clash(protocol: Protocol, hostIp: string, port: number): HeldPort | undefined {
    return this.#held
      .get(keyOf(protocol, port))
      ?.find(
        held =>
          held.hostIp === hostIp ||
          (familyOf(held.hostIp) === familyOf(hostIp) && (isUnspecified(held.hostIp) || isUnspecified(hostIp))),
      )
  }
}

/** Whether this host speaks IPv6 at all (false when booted with ipv6.disable=1). */
export const hostHasIpv6 = (): boolean => existsSync('/proc/net/if_inet6')

/** The ports that the kernel itself gives to whoever asks for none (man 7 ip). */
function ephemeralRange(): PortRange {
  const [first = 32768, last = 60999] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8')
    .trim()
    .split(/\s+/)
    .map(Number)
  return { first, last }
}

const keyOf = (protocol: Protocol, port: number): string => `${protocol} ${port}`
const describe = ({ protocol, hostIp, port }: PortPlace): string => `port ${port}/${protocol} on ${hostIp}`

/** Give a held port to an owner and, where it is known, a container. */
function serve(held: HeldPort, owner: string, target: ProxyTarget | undefined): void {
  Object.assign(held, { owner, target })
  if (target !== undefined) held.listener.serve(target)
}

const turn = (): Promise<void> => new Promise(resolve => setImmediate(resolve))
const sameTarget = (a: ProxyTarget, b: ProxyTarget): boolean =>
  a.containerIp === b.containerIp && a.containerPort === b.containerPort

const portsOf = ({
  hostPort,
  containerIp,
  containerPort,
  size,
  direct,
}: PortBinding): { port: number; target: ProxyTarget }[] =>
  Array.from({ length: direct ? 0 : size }, (_, i) => ({
    port: hostPort + i,
    target: { containerIp, containerPort: containerPort + i },
  }))

const hasHostPort = ({ hostPort, size }: PortBinding, port: number): boolean =>
  port >= hostPort && port < hostPort + size

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
    return unavailable(`${describe(held)}: the daemon has as many sockets as it may (ulimit -n)`, { cause: error })
  if (code === 'EAFNOSUPPORT') return notImplemented(`${describe(held)}: this host has no IPv6`, { cause: error })
  return error
}
