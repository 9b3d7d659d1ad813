import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import type { PortBinding } from '../cnm/types.js'
import { messageOf } from '../errors.js'
import type { Log } from '../log.js'
import { holds } from '../net/subnets.js'
import { type Conntrack, type Flow, type FlowFilter, trackedProtocols } from '../netlink/conntrack.js'
import { readSysctl } from '../netlink/sysctl.js'
import { familyOf, isUnspecified } from '../ports/address.js'
import { clash } from '../ports/spec.js'
import { isRouted } from './rules.js'

/** How long requests that are under way when their port moves to another container may take to end. */
const graceMs = 1_000
/** between two lists of flows */
const pauseMs = 50

interface Ending {
  binding: PortBinding
  which: (flow: Flow) => boolean
}

/**
 * Flows of published ports. The kernel decides where a flow goes by its first packet and then remembers, so a flow that is
 * under way would go on to where a port led before. Failures are logged and nothing else: the port is right all the same.
 */
export class Flows {
  readonly #conntrack: Conntrack
  readonly #log: Log
  /** addresses of this host */
  readonly #hostAddresses: () => ReadonlySet<string>
  /** flows that end with the next list */
  #next: { ending: Ending[]; done: Promise<void> } | undefined
  #current: Promise<void> = Promise.resolve()
  /** to which connections may have begun before they were there */
  readonly #begun: (() => PortBinding[])[] = []

  constructor(conntrack: Conntrack, hostAddresses: () => ReadonlySet<string>, log: Log) {
    this.#conntrack = conntrack
    this.#hostAddresses = hostAddresses
    this.#log = log
  }

  /**
   * End the flows that came by these bindings; `which` of them: all. The kernel looks at its whole table for one list of flows,
   * which is 10 ms of a core: who comes while it does, or soon after, shares the next one.
   */
  end(bindings: readonly PortBinding[], which: (flow: Flow) => boolean = () => true): Promise<void> {
    const routed = bindings.filter(isRouted)
    if (routed.length === 0) return Promise.resolve()
    if (this.#next === undefined) {
      const ending: Ending[] = []
      const done = this.#current.then(async () => {
        // those who need not wait for it are answered first
        await turn()
        this.#next = undefined
        await this.#endAll(ending)
      })
      this.#next = { ending, done }
      this.#current = done.then(() => sleep(pauseMs))
    }
    for (const binding of routed) this.#next.ending.push({ binding, which })
    return this.#next.done
  }

  async #endAll(ending: readonly Ending[]): Promise<void> {
    const byAddress = new Map<string, Ending[]>()
    for (const end of ending) {
      const { containerIp } = end.binding
      const known = byAddress.get(containerIp)
      if (known === undefined) byAddress.set(containerIp, [end])
      else known.push(end)
    }
    const isOver = (flow: Flow): boolean =>
      byAddress.get(flow.reply.source)?.some(({ binding, which }) => cameBy(flow, binding) && which(flow)) === true
    for (const family of [4, 6] as const) {
      const [first, ...others] = [...byAddress.keys()].filter(address => familyOf(address) === family)
      if (first !== undefined) await this.#delete(others.length === 0 ? { answeredBy: first } : { family }, isOver)
    }
  }

  /**
   * The same for bindings in whose place there are others now. Where a port leads elsewhere, datagrams do so at once and
   * connections end after the time that a request takes; where it leads to the same place, those end who may not come any more.
   */
  async endReplaced(replaced: readonly PortBinding[], now: readonly PortBinding[]): Promise<void> {
    const staying = replaced.filter(old => now.some(binding => leadsToTheSame(old, binding)))
    const moved = replaced.filter(old => !staying.includes(old))
    const connections = moved.filter(({ protocol }) => protocol === 'tcp')
    if (connections.length > 0) setTimeout(() => void this.end(connections), graceMs).unref()
    await this.end(moved.filter(({ protocol }) => protocol !== 'tcp'))
    await this.end(staying, flow => !now.some(binding => isFor(flow, binding) && mayCome(flow, binding)))
  }

  /**
   * Forget what came to the host itself before these bindings were there: nobody who goes on sending would ever be let in.
   * Of connections only those that nobody has answered, which were dropped where the port was held: they try again after a
   * second, so that is not waited for, and all bindings of a moment share the kernel's look at its table.
   * @param mayHaveCome whether any may have been dropped there: mostly none was, and then nobody need look
   */
  async endEarlier(
    bindings: readonly PortBinding[],
    mayHaveCome: (binding: PortBinding) => boolean = () => true,
  ): Promise<void> {
    await this.#endBegun(bindings.filter(isUdp))
    const connections = bindings.filter(binding => !isUdp(binding) && isRouted(binding))
    if (connections.length === 0) return
    // asked later: a packet that passed before the rules were there may still be on its way to the socket
    const look = () => void this.#endBegun(this.#begun.splice(0).flatMap(those => those()))
    if (this.#begun.length === 0) setTimeout(look, pauseMs)
    this.#begun.push(() => connections.filter(mayHaveCome))
  }

  async #endBegun(bindings: readonly PortBinding[]): Promise<void> {
    const routed = bindings.filter(isRouted)
    if (routed.length === 0) return
    const addresses = this.#hostAddresses()
    for (const family of new Set(routed.map(({ hostIp }) => familyOf(hostIp)))) {
      const own = routed.filter(({ hostIp }) => familyOf(hostIp) === family)
      const [datagrams, connections] = [own.filter(isUdp), own.filter(binding => !isUdp(binding))]
      const isEarlier = (flow: Flow) =>
        isUnchanged(flow) && addresses.has(flow.original.target) && own.some(binding => isFor(flow, binding))
      if (connections.length > 0) await this.#delete({ unanswered: family }, isEarlier)
      if (datagrams.length === 0) continue
      const [only] = datagrams.length === 1 && datagrams[0]?.size === 1 ? datagrams : []
      const filter = { family, protocol: trackedProtocols.udp, ...(only && { targetPort: only.hostPort }) }
      await this.#delete(filter, isEarlier)
    }
  }

  /**
   * The rules were away for a moment: forget what began then and has no answer, because nothing was done about its addresses.
   * What is sent again begins anew. `subnets` are those of our networks.
   */
  async endUnchanged(bindings: readonly PortBinding[], subnets: readonly string[]): Promise<void> {
    await this.#endBegun(bindings)
    for (const family of [4, 6] as const) {
      const own = subnets.filter(subnet => familyOf(subnet) === family)
      const isFromUs = (flow: Flow) => isUnchanged(flow) && own.some(subnet => holds(subnet, flow.original.source))
      if (own.length > 0) await this.#delete({ unanswered: family }, isFromUs)
    }
  }

  async #delete(filter: FlowFilter, which: (flow: Flow) => boolean): Promise<void> {
    try {
      if (readSysctl(undefined, 'net.netfilter.nf_conntrack_count') === '0') return
      const ended = await this.#conntrack.delete(filter, which)
      if (ended > 0) this.#log.debug({ ended, ...filter }, 'ended flows of published ports')
    } catch (error) {
      this.#log.warn({ ...filter, reason: messageOf(error) }, 'could not end the flows of published ports')
    }
  }
}

/** The flow was let in by the binding, and nothing else has the same host port. */
const cameBy = (flow: Flow, binding: PortBinding): boolean =>
  isFor(flow, binding) &&
  flow.reply.source === binding.containerIp &&
  flow.reply.sourcePort - binding.containerPort === flow.original.targetPort - binding.hostPort

const leadsToTheSame = (a: PortBinding, b: PortBinding): boolean =>
  clash(a, b) && a.containerIp === b.containerIp && a.containerPort - a.hostPort === b.containerPort - b.hostPort

const mayCome = ({ original }: Flow, { from }: PortBinding): boolean =>
  from === undefined || from.some(source => holds(source, original.source))

const isUdp = ({ protocol }: PortBinding): boolean => protocol === 'udp'

/** Nothing was done about its addresses. */
const isUnchanged = ({ original, reply }: Flow): boolean =>
  reply.source === original.target && reply.target === original.source

const isFor = ({ protocol, original }: Flow, { protocol: name, hostIp, hostPort, size }: PortBinding): boolean =>
  protocol === trackedProtocols[name] &&
  original.targetPort >= hostPort &&
  original.targetPort < hostPort + size &&
  (isUnspecified(hostIp) || original.target === hostIp)
