import type { Protocol } from '../cnm/types.js'
import { droppedAt, openHeldSocket } from '../netlink/held-socket.js'
import { close } from '../netlink/libc.js'
import { type Admission, admit } from '../netlink/socket-filter.js'
import { familyOf } from '../ports/address.js'
import { type Carrier, ConnectionCarrier, type ProxyTarget } from './connections.js'
import { DatagramCarrier } from './datagrams.js'
import { isRouted } from './rules.js'

/** A host port that is ours: bound, and listened on where the protocol knows that. */
export interface Listener {
  /** From now on what the kernel cannot redirect is carried there by us. Everything else that comes here is dropped. */
  serve(target: ProxyTarget): void
  /** Whether anybody has come who was dropped; true also where it is not known. */
  hasDropped(): boolean
  close(): void
}

export interface ListenRequest {
  protocol: Protocol
  hostIp: string
  port: number
}

/**
 * Bind a host port in the namespace of the main thread. What comes before its container is known, or while somebody has
 * taken the rules away, finds nobody: it is sent again, and then the rules are there. Throws the system's error: EADDRINUSE,
 * EADDRNOTAVAIL.
 */
export function listen({ protocol, hostIp, port }: ListenRequest): Listener {
  // the kernel's SCTP may be missing: the port is ours among our own endpoints, which the caller's register sees to
  if (protocol === 'sctp') return { serve: () => undefined, hasDropped: () => true, close: () => undefined }
  const fd = openHeldSocket(protocol, { address: hostIp, port })
  let carrier: Carrier | undefined
  let admitted: Admission = 'nothing'
  return {
    serve(target) {
      const wanted = admissionOf(hostIp, target.containerIp)
      if (wanted !== 'nothing') carrier ??= protocol === 'tcp' ? new ConnectionCarrier(fd) : new DatagramCarrier(fd)
      carrier?.leadTo(target)
      if (wanted !== admitted) admit(fd, wanted)
      admitted = wanted
    },
    hasDropped: () => droppedAt(fd) > 0,
    close() {
      carrier?.close()
      close(fd)
    },
  }
}

/** What the kernel leaves to us: all or nothing but for `::`, by which ::1 and link-local neighbours come as well. */
function admissionOf(hostIp: string, containerIp: string): Admission {
  if (!isRouted({ hostIp, containerIp })) return 'everything'
  return familyOf(hostIp) === 6 ? 'unrouted' : 'nothing'
}
