import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Cnm, DockerDoor } from '../cnm/cnm.js'
import { messageOf } from '../errors.js'
import type { Log } from '../log.js'
import { type ConnectionOptions, patience } from '../net/connections.js'
import { type Group, listenUnix, type UnixServer } from '../net/unix-server.js'
import { type Call, methods } from './methods.js'

const contentType = 'application/vnd.docker.plugins.v1.2+json'
/** Every port of tcp and udp published and exposed comes in one body of 14 MB; a smaller limit would refuse that container. */
const maxBodyBytes = 16 * 1024 * 1024
/** dockerd keeps idle connections for 30 s (go-connections, sockets.go): we must not be the one that hangs up first. */
const keepAliveTimeoutMs = 40_000
/** dockerd waits without end, holding its locks, so a slow call is worth a line before it is over. */
const slowMs = 5_000

export interface PluginDeps {
  cnm: Pick<Cnm, 'docker'>
  log: Log
  /** `/run/docker/plugins/NAME.sock`: dockerd knows the plugin by the file's name */
  socketPath: string
  group?: Group
  /** the descriptor of a socket that listens at the path already */
  inherited?: number
}

/** One dockerd, but one that starts containers by the hundred. */
const connections: ConnectionOptions = { max: 512, refusal: (_status, message) => ({ Err: message, Error: message }) }

/**
 * Docker's plugin protocol on a unix socket, 0660, in a directory for root alone. Call it when everything can be
 * answered: from that moment on dockerd may ask. Throws Conflict if another daemon has the socket.
 */
export async function createPluginServer({ cnm, log, socketPath, group, inherited }: PluginDeps): Promise<UnixServer> {
  const server = createPluginHttp(cnm.docker, log)
  return listenUnix(server, socketPath, {
    ...{ mode: 0o660, connections },
    ...(group !== undefined && { group }),
    ...(inherited !== undefined && { inherited }),
  })
}

/**
 * How a failure is told (moby daemon/libnetwork/drivers/remote/driver.go, pkg/plugins/client.go):
 * what a handler refuses goes as 200 with the sentence in both keys, `Err` for the network side and `Error` for IPAM;
 * the user of docker reads it as `remote: SENTENCE`, and no kind of error can cross. A status other than 200 reads
 * `NetworkDriver.Join: SENTENCE`, and is for requests that never reached a handler. 404 is for unknown methods alone:
 * on Program- and RevokeExternalConnectivity dockerd takes it for success.
 */
function createPluginHttp(docker: DockerDoor, log: Log): Server {
  // without a framework: its routing and body parser were a quarter of a small call's time, and dockerd makes nine of a container's life
  const server = createServer(patience, (request, response) => {
    const exchange = beginExchange(request, response, log)
    handle(request, exchange, docker).catch(error =>
      refuse(exchange, error instanceof Unreadable ? error.status : 500, error),
    )
  })
  server.keepAliveTimeout = keepAliveTimeoutMs
  return server
}

/** One request and its answer, for the log. */
interface Exchange {
  response: ServerResponse
  log: Log
  method: string
  startMs: number
  /** ids of what it is about, once they are read */
  about: object
  slow: NodeJS.Timeout
}

function beginExchange({ url = '' }: IncomingMessage, response: ServerResponse, log: Log): Exchange {
  const exchange: Exchange = {
    response,
    log,
    method: (url.split('?', 1)[0] ?? '').slice(1, 101),
    startMs: performance.now(),
    about: {},
    slow: setTimeout(() => {
      const { method, about } = exchange
      log.warn({ method, ...about }, `dockerd has been waiting for this answer for ${slowMs / 1000} s`)
    }, slowMs),
  }
  return exchange
}

/** A request that nobody can read: it never reaches a handler. */
class Unreadable extends Error {
  constructor(
    readonly status: 400 | 413,
    message: string,
  ) {
    super(message)
  }
}

/** dockerd sends no Content-Type, so every body is ours to read. */
function bodyOf(request: IncomingMessage): Promise<Buffer> {
  // a small one could unpack to any size
  if ((request.headers['content-encoding'] ?? 'identity') !== 'identity')
    return Promise.reject(new Unreadable(400, 'the body is compressed'))
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let bytes = 0
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes <= maxBodyBytes) chunks.push(chunk)
      else reject(new Unreadable(413, `the body is larger than ${maxBodyBytes} bytes`))
    })
    request.on('end', () => resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)))
    request.on('close', () => reject(new Unreadable(400, 'the request was cut off')))
    request.on('error', reject)
  })
}

async function handle(request: IncomingMessage, exchange: Exchange, docker: DockerDoor): Promise<void> {
  const method = request.method === 'POST' ? methods.get(exchange.method) : undefined
  if (method === undefined) return refuse(exchange, 404, `there is no method ${exchange.method}`)
  const body = await bodyOf(request)
  let call: Call
  try {
    call = method(body)
  } catch (error) {
    return refuse(exchange, 400, error)
  }
  exchange.about = idsOf(call.request)
  try {
    answer(exchange, 200, await call.run(docker))
  } catch (error) {
    refuse(exchange, 200, error)
  }
}

function refuse(exchange: Exchange, status: number, error: unknown): void {
  const message = messageOf(error)
  answer(exchange, status, { Err: message, Error: message }, message)
}

/** The one place where an answer leaves: always a JSON object, always a line in the log. */
function answer(exchange: Exchange, status: number, body: object, error?: string): void {
  const { response, log, method, startMs, about, slow } = exchange
  clearTimeout(slow)
  const durationMs = Math.round((performance.now() - startMs) * 1000) / 1000
  const fields = { method, ...about, status, durationMs }
  if (error !== undefined) log.warn({ ...fields, error }, 'refused a call of dockerd')
  else if (response.destroyed) log.warn(fields, 'did what dockerd asked, but it had hung up before the answer')
  else log.debug(fields, 'answered dockerd')
  const text = JSON.stringify(body)
  response.writeHead(status, { 'Content-Type': contentType, 'Content-Length': Buffer.byteLength(text) }).end(text)
}

/** Of the identifiers in a request those that it has, in our words. */
function idsOf(request: object): object {
  const { NetworkID, EndpointID, PoolID } = request as Record<string, unknown>
  return {
    ...(NetworkID !== undefined && { network: NetworkID }),
    ...(EndpointID !== undefined && { endpoint: EndpointID }),
    ...(PoolID !== undefined && { pool: PoolID }),
  }
}
