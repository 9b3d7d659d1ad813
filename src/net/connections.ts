import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { Server as TlsServer } from 'node:tls'

/** What a request in flight gets to finish before its connection is cut. */
const drainMs = 5_000

/** Within which a client has to say what it wants. Given to http.createServer: none of it can be changed later. */
export const patience = {
  /** from the first byte, or from the connection, to the end of the headers */
  headersTimeout: 10_000,
  /** to the end of the body */
  requestTimeout: 30_000,
  /** how often that is looked at: each server wakes the processor for it */
  connectionsCheckingInterval: 5_000,
} as const

export interface ConnectionOptions {
  /** how many clients may be connected */
  max: number
  /** the body of an answer that no handler gives */
  refusal(status: number, message: string): object
}

/** What is asked on a connection and not answered to its end. */
type InFlight = Map<ServerResponse, IncomingMessage>

/**
 * Bound the connections of a server and answer what never becomes a request. When there are too many, the one goes that
 * has longest been idle, or slow in sending its request or reading its answer: so slow clients cost each other their
 * places, and nobody else.
 * @returns how to close the server: at once for a connection on which nothing is asked, else when its answer is out.
 * (Node's closeIdleConnections() spares a connection that never sent a request, and dockerd keeps such ones.)
 */
export function keepConnections(server: Server, { max, refusal }: ConnectionOptions): () => Promise<void> {
  // in the order in which they were last of use
  const connections = new Map<Socket, InFlight>()
  /** of TLS: clients that have not shown their certificate yet, the oldest first */
  const handshaking = new Set<Socket>()
  let closing = false
  const touch = (socket: Socket): InFlight => {
    const inFlight: InFlight = connections.get(socket) ?? new Map()
    connections.delete(socket)
    connections.set(socket, inFlight)
    return inFlight
  }
  const refuse = (socket: Socket, status: number, message: string): void => {
    if (socket.writable) socket.write(httpText(status, refusal(status, message)))
    // once that is out, and whatever else the client would say
    socket.destroySoon()
  }
  const isTls = server instanceof TlsServer
  if (isTls) {
    server.on('connection', (socket: Socket) => {
      const [oldest] = handshaking
      if (handshaking.size >= max) oldest?.destroy()
      handshaking.add(socket)
      socket.once('close', () => handshaking.delete(socket))
    })
    server.on('tlsClientError', (_error: Error, socket: Socket) => socket.destroy())
  }
  server.on(isTls ? 'secureConnection' : 'connection', (socket: Socket) => {
    for (const under of handshaking) if (isOver(under, socket)) handshaking.delete(under)
    if (connections.size >= max) {
      const victim = [...connections].find(([, inFlight]) => isReplaceable(inFlight))?.[0]
      if (victim === undefined) return refuse(socket, 503, `${max} clients are being served: try again later`)
      connections.delete(victim)
      victim.destroy()
    }
    touch(socket)
    socket.once('close', () => connections.delete(socket))
  })
  server.prependListener('request', (request: IncomingMessage, response: ServerResponse) => {
    const { socket } = request
    touch(socket).set(response, request)
    response.once('close', () => {
      const inFlight = connections.get(socket)
      inFlight?.delete(response)
      if (inFlight === undefined) return
      if (closing && inFlight.size === 0) socket.destroySoon()
      else touch(socket)
    })
  })
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    // an answer that has begun cannot become another
    const begun = [...(connections.get(socket)?.keys() ?? [])].some(response => response.headersSent)
    if (begun || error.code === 'ECONNRESET') socket.destroy()
    else refuse(socket, ...complaintOf(error))
  })
  return async () => {
    closing = true
    const closed = new Promise<void>(resolve => server.close(() => resolve()))
    for (const [socket, inFlight] of connections) if (inFlight.size === 0) socket.destroy()
    for (const socket of handshaking) socket.destroy()
    const cut = setTimeout(() => server.closeAllConnections(), drainMs)
    await closed
    clearTimeout(cut)
  }
}

/** Nothing is being done for it: it is idle, or slow in sending what it wants, or in reading what it got. */
const isReplaceable = (inFlight: InFlight): boolean =>
  [...inFlight].every(([response, request]) => !request.complete || response.writableEnded)

/** A TLS socket says the addresses of the TCP socket that it is on, and no two connections have the same. */
const isOver = (under: Socket, socket: Socket): boolean =>
  socket.remotePort === under.remotePort && socket.remoteAddress === under.remoteAddress

function complaintOf({ code, message }: NodeJS.ErrnoException): [status: number, message: string] {
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return [408, 'the request did not come within its time']
  if (code === 'HPE_HEADER_OVERFLOW') return [431, 'the headers are larger than 16 KiB']
  return [400, `this is not HTTP: ${message}`]
}

const reasons: Record<number, string> = {
  400: 'Bad Request',
  408: 'Request Timeout',
  431: 'Request Header Fields Too Large',
  503: 'Service Unavailable',
}

function httpText(status: number, body: object): string {
  const text = JSON.stringify(body)
  const head = ['Content-Type: application/json', `Content-Length: ${Buffer.byteLength(text)}`, 'Connection: close']
  return `${[`HTTP/1.1 ${status} ${reasons[status]}`, ...head, '', text].join('\r\n')}`
}
