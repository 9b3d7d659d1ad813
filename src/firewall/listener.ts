import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import type { Protocol } from '../cnm/types.js'
import { familyOf } from '../ports/address.js'

/** Where connections go that the kernel cannot send there. */
export interface ProxyTarget {
  containerIp: string
  containerPort: number
}

/** A host port that is ours: bound, and listened on where the protocol knows that. */
export interface Listener {
  close(): Promise<void>
}

export interface ListenRequest {
  protocol: Protocol
  hostIp: string
  port: number
  /** asked at every connection: a port may be held before its container is known */
  target(): ProxyTarget | undefined
}

/** Bind a host port in the namespace of the main thread. Throws the system's error: EADDRINUSE, EADDRNOTAVAIL. */
export function listen(request: ListenRequest): Promise<Listener> {
  if (request.protocol === 'tcp') return listenTcp(request)
  if (request.protocol === 'udp') return bindUdp(request)
  // Node has no SCTP sockets: the port is ours among our own endpoints, which the caller's register sees to.
  return Promise.resolve({ close: async () => {} })
}

/**
 * The listener is also the proxy for what nft did not redirect: connections to ::1, and from one address family to the other.
 * The container sees those come from its gateway.
 */
async function listenTcp({ hostIp, port, target }: ListenRequest): Promise<Listener> {
  const open = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true, noDelay: true }, client => {
    const to = target()
    if (to === undefined) return void client.destroy()
    const container = connect({ host: to.containerIp, port: to.containerPort, allowHalfOpen: true, noDelay: true })
    join(client, container, open)
    join(container, client, open)
  })
  server.listen({ host: hostIp, port, ipv6Only: true, exclusive: true })
  await once(server, 'listening')
  return {
    async close() {
      const closed = once(server, 'close')
      server.close()
      for (const socket of open) socket.destroy()
      await closed
    },
  }
}

/** Carry one direction of a proxied connection; whatever ends one socket badly ends the other. */
function join(from: Socket, to: Socket, open: Set<Socket>): void {
  open.add(from)
  from.pipe(to)
  from.on('error', () => to.destroy())
  from.on('close', () => {
    open.delete(from)
    if (from.errored) to.destroy()
  })
}

async function bindUdp({ hostIp, port }: ListenRequest): Promise<Listener> {
  const six = familyOf(hostIp) === 6
  const socket = createSocket({ type: six ? 'udp6' : 'udp4', ipv6Only: six })
  socket.bind({ address: hostIp, port, exclusive: true })
  await once(socket, 'listening')
  socket.on('error', () => {})
  return {
    async close() {
      const closed = once(socket, 'close')
      socket.close()
      await closed
    },
  }
}
