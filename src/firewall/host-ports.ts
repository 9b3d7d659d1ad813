import { existsSync, readFileSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import type { PortBinding, PortRange, Protocol } from '../cnm/types.js'
import { conflict, NetError } from '../errors.js'
import { familyOf, isUnspecified } from '../ports/address.js'
import { formatRange } from '../ports/spec.js'
import { withUndo } from '../undo.js'
import type { ProxyTarget } from './connections.js'
import { describe, type HeldPort, HeldPorts } from './held-ports.js'
import { socketsFor } from './listener.js'

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

/** For how long ports are bound and let go before the event loop gets its turn again; the kernel wants some 10 us for each. */
const turnMs = 3
const mostAsked = 500

class Turns {
  #began = performance.now()

  isOver(): boolean {
    return performance.now() - this.#began >= turnMs
  }

  async next(): Promise<void> {
    await setImmediate()
    this.#began = performance.now()
  }
}

/**
 * The host's ports that are ours while published: really bound, so that no other program takes them, by sockets that drop
 * what comes but for the little that the kernel cannot redirect (listener.ts). Be aware: SCTP is held among our own endpoints only.
 */
export class HostPorts {
  readonly #held: HeldPorts
  #nextEphemeral = 0

  /**
   * @param makeRoom lets go of ports that this process itself has for something less than publishing
   * @param nameOf what an owner is called now: dockerd tells us a container's name only after its ports are published
   */
  constructor(makeRoom: (hostIp: string, port: number) => void = () => {}, nameOf = (owner: string) => owner) {
    this.#held = new HeldPorts(makeRoom, nameOf)
  }

  /**
   * Bind the binding's host ports; `owner` is the endpoint's id. Held already for the same container port, or chosen
   * by the same owner: fine. Taken by anybody else = Conflict that names them; no address of this host = InvalidParameter.
   * Where the same ports of the other family are among `others`, which the owner is to have too, they are chosen for it by the way.
   */
  hold(binding: PortBinding, owner: string, others: readonly PortBinding[] = []): Promise<void> {
    const { protocol, hostIp } = binding
    const bound: HeldPort[] = []
    return withUndo(async undo => {
      undo.add(`hold port ${binding.hostPort}`, () => this.#letGo(bound))
      const turns = new Turns()
      const twin = others.find(other => isTwin(binding, other))
      for (const { port, target } of portsOf(binding)) {
        if (turns.isOver()) await turns.next()
        const mine = this.#held.find(protocol, hostIp, port)
        if (mine && mine.owner === owner && (mine.target === undefined || sameTarget(mine.target, target))) {
          serve(mine, owner, target)
          continue
        }
        const made = this.#bind(binding, port, owner, twin)
        bound.push(...made)
        for (const held of made) if (held.hostIp === hostIp) serve(held, owner, target)
      }
    })
  }

  /**
   * As `hold`, for ports that may be held for another endpoint: those become this binding's without being let go in
   * between. Returns what gives them back.
   */
  async takeOver(binding: PortBinding, owner: string, others: readonly PortBinding[] = []): Promise<() => void> {
    const before: { held: HeldPort; owner: string; target: ProxyTarget | undefined }[] = []
    const giveBack = () => {
      for (const { held, owner, target } of before) serve(held, owner, target)
    }
    const turns = new Turns()
    for (const { port, target } of portsOf(binding)) {
      if (turns.isOver()) await turns.next()
      const held = this.#held.find(binding.protocol, binding.hostIp, port)
      if (held === undefined) continue
      before.push({ held, owner: held.owner, target: held.target })
      serve(held, owner, target)
    }
    try {
      await this.hold(binding, owner, others)
      return giveBack
    } catch (error) {
      giveBack()
      throw error
    }
  }

  /** Every one of the binding's host ports is held for it. */
  isHeld(binding: PortBinding): boolean {
    return portsOf(binding).every(({ port, target }) => {
      const held = this.#held.find(binding.protocol, binding.hostIp, port)
      return held?.target !== undefined && sameTarget(held.target, target)
    })
  }

  /** Whether somebody may have come to one of the binding's host ports and was dropped. Of what is not held any more, nobody asks. */
  hasDropped(binding: PortBinding): boolean {
    // to ask each of so many takes longer than to take it for granted
    if (binding.size > mostAsked) return true
    const { protocol, hostIp } = binding
    return portsOf(binding).some(({ port }) => this.#held.find(protocol, hostIp, port)?.listener.hasDropped() === true)
  }

  /**
   * Let the bindings' host ports go but for those that `kept` has too, and end the connections that came through the
   * proxy. Not held, or held for another = fine.
   */
  async release(bindings: readonly PortBinding[], kept: readonly PortBinding[] = []): Promise<void> {
    const turns = new Turns()
    for (const binding of bindings) {
      const together = bindings.filter(other => other === binding || isTwin(binding, other))
      for (let i = 0; i < binding.size; i++) {
        if (turns.isOver()) await turns.next()
        this.#held.drop(together.flatMap(other => this.#ownAt(i, other, kept)))
      }
    }
  }

  /** What is held for the port at this place of a binding's range, and for none that is kept. */
  #ownAt(i: number, binding: PortBinding, kept: readonly PortBinding[]): HeldPort[] {
    const { protocol, hostIp, hostPort, containerIp, containerPort, direct } = binding
    const port = hostPort + i
    if (direct || kept.some(k => k.protocol === protocol && k.hostIp === hostIp && hasHostPort(k, port))) return []
    const held = this.#held.find(protocol, hostIp, port)
    const isOwn = !held?.target || sameTarget(held.target, { containerIp, containerPort: containerPort + i })
    return held && isOwn ? [held] : []
  }

  async #letGo(bound: readonly HeldPort[]): Promise<void> {
    const turns = new Turns()
    for (const [i, { listener }] of bound.entries()) {
      if (bound[i - 1]?.listener === listener) continue
      if (turns.isOver()) await turns.next()
      this.#held.drop(bound.slice(i, i + 2).filter(held => held.listener === listener))
    }
  }

  /**
   * Choose consecutive ports that are free on every address, and bind them until they are held or released. Returns the first.
   * None free = Conflict.
   */
  async choose(request: PortRequest): Promise<number> {
    const { protocol, hostIps, size } = request
    const range = request.range ?? ephemeralRange()
    const lastFirst = range.last - size + 1
    // Ephemeral ports go round, so that one just released is not given to another at once.
    const start = request.range ? range.first : Math.max(range.first, this.#nextEphemeral)
    const turns = new Turns()
    for (const [from, to] of [
      [Math.min(start, lastFirst + 1), lastFirst],
      [range.first, Math.min(start - 1, lastFirst)],
    ] as const)
      for (let first = from; first <= to; ) {
        const taken = await this.#tryPorts(request, first, turns)
        if (taken !== undefined) {
          first = taken + 1
          continue
        }
        if (!request.range) this.#nextEphemeral = first + size
        return first
      }
    throw conflict(`no free port in ${formatRange(range)}/${protocol} on ${hostIps.join(' and ')}`)
  }

  /** Let go of the ports that are held for none of these bindings; returns what they are, in words. `dryRun`: say it only. */
  releaseOthers(bindings: readonly PortBinding[], { dryRun }: { dryRun: boolean }): string[] {
    const wanted = new Map(
      bindings.flatMap(b => portsOf(b).map(({ port, target }) => [describe({ ...b, port }), target] as const)),
    )
    const others = this.#held.all().filter(held => {
      const target = wanted.get(describe(held))
      return target === undefined || held.target === undefined || !sameTarget(target, held.target)
    })
    if (!dryRun) this.#held.drop(others)
    return others.map(describe)
  }

  /** Release everything: the daemon stops. */
  close(): void {
    this.#held.dropAll()
  }

  /** Bind all of `size` ports from `first` on all addresses; when one of them is taken, nothing is bound, and it is returned. */
  async #tryPorts(request: PortRequest, first: number, turns: Turns): Promise<number | undefined> {
    const bound: HeldPort[] = []
    try {
      // from the last one: every try that would have the taken port is passed over
      for (let port = first + request.size - 1; port >= first; port--) {
        if (turns.isOver()) await turns.next()
        if (this.#tryPort(request, port, bound)) continue
        await this.#letGo(bound)
        return port
      }
      return undefined
    } catch (error) {
      await this.#letGo(bound)
      throw error
    }
  }

  /** Adds to `bound`; false: taken. */
  #tryPort({ protocol, hostIps, avoid, owner }: PortRequest, port: number, bound: HeldPort[]): boolean {
    if (avoid?.has(port) || hostIps.some(hostIp => this.#held.clash({ protocol, hostIp, port }))) return false
    try {
      for (const together of socketsFor(hostIps))
        bound.push(...this.#held.bind({ protocol, hostIps: together, port }, owner, false))
      return true
    } catch (error) {
      if (error instanceof NetError && error.kind === 'Conflict') return false
      throw error
    }
  }

  /** By one socket for the same port at every address of the other family, where that is wanted and can be. */
  #bind(binding: PortBinding, port: number, owner: string, twin: PortBinding | undefined): HeldPort[] {
    const { protocol, hostIp } = binding
    if (twin !== undefined && this.#held.find(protocol, twin.hostIp, port) === undefined)
      try {
        return this.#held.bind({ protocol, hostIps: [hostIp, twin.hostIp], port }, owner, false)
      } catch {
        // on its own it may do, or says better why not
      }
    return this.#held.bind({ protocol, hostIps: [hostIp], port }, owner, true)
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

/** Give a held port to an owner and, where it is known, a container. */
function serve(held: HeldPort, owner: string, target: ProxyTarget | undefined): void {
  Object.assign(held, { owner, target })
  if (target !== undefined) held.listener.serve(held.hostIp, target)
}

/** The same ports at every address of the other family. */
const isTwin = (a: PortBinding, b: PortBinding): boolean =>
  a.protocol === b.protocol &&
  a.hostPort === b.hostPort &&
  a.size === b.size &&
  familyOf(a.hostIp) !== familyOf(b.hostIp) &&
  [a, b].every(({ hostIp, direct }) => isUnspecified(hostIp) && !direct)

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
