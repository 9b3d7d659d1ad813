import type { Protocol } from '../cnm/types.js'
import { closeHeldSocket, droppedAt, openHeldSocket } from '../netlink/held-socket.js'
import { unwatch, watch } from '../netlink/readable.js'
import { type Admission, admit } from '../netlink/socket-filter.js'
import { familyOf, isUnspecified } from '../ports/address.js'
import { type Carrier, ConnectionCarrier, type ProxyTarget } from './connections.js'
import { DatagramCarrier } from './datagrams.js'
import { isRouted } from './rules.js'

/** A host port that is ours: bound, and listened on where the protocol knows that. */
export interface Listener {
  /**
   * From now on what comes to this one of its addresses and the kernel cannot redirect is carried there by us. Everything else
   * that comes is dropped.
   */
  serve(hostIp: string, target: ProxyTarget): void
  /** Have the port at this one of its addresses alone. For an instant it is nobody's. Throws as `listen`: then it is closed. */
  narrow(hostIp: string): void
  /** Whether anybody has come who was dropped; true also where it is not known. */
  hasDropped(): boolean
  close(): void
}

export interface ListenRequest {
  protocol: Protocol
  /** one, or every address of both families: then one socket is bound for both */
  hostIps: readonly string[]
  port: number
}

/** Addresses that one socket can hold. */
export function socketsFor(hostIps: readonly string[]): string[][] {
  const every = hostIps.filter(isUnspecified)
  if (every.length < 2) return hostIps.map(hostIp => [hostIp])
  return [every, ...hostIps.filter(hostIp => !isUnspecified(hostIp)).map(hostIp => [hostIp])]
}

/**
 * Bind a host port in the namespace of the main thread. What comes before its container is known, or while somebody has
 * taken the rules away, finds nobody: it is sent again, and then the rules are there. Throws the system's error: EADDRINUSE,
 * EADDRNOTAVAIL.
 */
export function listen({ protocol, hostIps, port }: ListenRequest): Listener {
  // the kernel's SCTP may be missing: the port is ours among our own endpoints, which the caller's register sees to
  if (protocol === 'sctp') return heldByNobody
  return new HeldListener(protocol, hostIps, port)
}

const nothing = (): void => undefined
const heldByNobody: Listener = { serve: nothing, narrow: nothing, hasDropped: () => true, close: nothing }

class HeldListener implements Listener {
  readonly #protocol: 'tcp' | 'udp'
  readonly #port: number
  #fd: number | undefined
  #admitted: Admission = 'nothing'
  #target: ProxyTarget | undefined
  /** None before the first one comes: to most of a range's ports nobody ever does. */
  #carrier: Carrier | undefined

  constructor(protocol: 'tcp' | 'udp', hostIps: readonly string[], port: number) {
    this.#protocol = protocol
    this.#port = port
    const [hostIp = '', other] = hostIps
    const both = other !== undefined
    this.#fd = openHeldSocket(protocol, { address: both ? '::' : hostIp, port }, both)
  }

  serve(hostIp: string, target: ProxyTarget): void {
    // from IPv4 the kernel redirects everything, also where the socket is for IPv6 as well
    if (familyOf(hostIp) === 4) return
    this.#target = target
    this.#carrier?.leadTo(target)
    // what the kernel leaves to us: all, or of what it redirects what comes by ::1 and from link-local neighbours
    this.#admit(isRouted({ hostIp, containerIp: target.containerIp }) ? 'unrouted' : 'ipv6')
  }

  narrow(hostIp: string): void {
    const admitted = this.#admitted
    this.#closeSocket()
    try {
      this.#fd = openHeldSocket(this.#protocol, { address: hostIp, port: this.#port })
    } catch (error) {
      this.close()
      throw error
    }
    if (familyOf(hostIp) === 4) {
      this.#carrier?.close()
      this.#carrier = undefined
      return
    }
    this.#carrier?.hear(this.#fd)
    this.#admit(admitted)
  }

  hasDropped(): boolean {
    return this.#fd !== undefined && droppedAt(this.#fd) > 0
  }

  close(): void {
    this.#carrier?.close()
    this.#closeSocket()
  }

  #admit(wanted: Admission): void {
    if (this.#fd === undefined || wanted === this.#admitted) return
    if (this.#admitted === 'nothing') watch(this.#fd, () => this.#take())
    admit(this.#fd, wanted)
    this.#admitted = wanted
  }

  #take(): void {
    if (this.#target === undefined) return
    if (this.#carrier === undefined) {
      this.#carrier = this.#protocol === 'tcp' ? new ConnectionCarrier() : new DatagramCarrier()
      this.#carrier.leadTo(this.#target)
      this.#carrier.hear(this.#fd)
    }
    this.#carrier.take()
  }

  #closeSocket(): void {
    if (this.#fd === undefined) return
    this.#carrier?.hear(undefined)
    unwatch(this.#fd)
    closeHeldSocket(this.#fd)
    this.#fd = undefined
    this.#admitted = 'nothing'
  }
}
