import { createServer, type Server } from 'node:http'
import express, { type Request, type Response } from 'express'
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
  const app = express().disable('x-powered-by')
  app.use((request: Request, response: Reply, next: () => void) => {
    response.locals.exchange = beginExchange(request, log)
    next()
  })
  // dockerd sends no Content-Type, so every body is ours to parse.
  const readBody = express.raw({ type: () => true, limit: maxBodyBytes, inflate: false })
  app.post('/:method', readBody, (request: Request, response: Reply) => handle(request, response, docker))
  app.use((_request: Request, response: Reply) => refuseUnknown(response))
  app.use((error: unknown, _request: Request, response: Reply, _next: unknown) =>
    refuse(response, statusOf(error), error),
  )
  const server = createServer(patience, app)
  server.keepAliveTimeout = keepAliveTimeoutMs
  return server
}

/** One request and its answer, for the log. */
interface Exchange {
  log: Log
  method: string
  startMs: number
  /** ids of what it is about, once they are read */
  about: object
  slow: NodeJS.Timeout
}
type Reply = Response<unknown, { exchange: Exchange }>

function beginExchange(request: Request, log: Log): Exchange {
  const exchange: Exchange = {
    log,
    method: request.path.slice(1, 101),
    startMs: performance.now(),
    about: {},
    slow: setTimeout(() => {
      const { method, about } = exchange
      log.warn({ method, ...about }, `dockerd has been waiting for this answer for ${slowMs / 1000} s`)
    }, slowMs),
  }
  return exchange
}

async function handle(request: Request, response: Reply, docker: DockerDoor): Promise<void> {
  const { exchange } = response.locals
  const method = methods.get(exchange.method)
  if (method === undefined) return refuseUnknown(response)
  let call: Call
  try {
    call = method(Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0))
  } catch (error) {
    return refuse(response, 400, error)
  }
  exchange.about = idsOf(call.request)
  try {
    answer(response, 200, await call.run(docker))
  } catch (error) {
    refuse(response, 200, error)
  }
}

const refuseUnknown = (response: Reply): void =>
  refuse(response, 404, `there is no method ${response.locals.exchange.method}`)

function refuse(response: Reply, status: number, error: unknown): void {
  const message = messageOf(error)
  answer(response, status, { Err: message, Error: message }, message)
}

/** The one place where an answer leaves: always a JSON object, always a line in the log. */
function answer(response: Reply, status: number, body: object, error?: string): void {
  const { log, method, startMs, about, slow } = response.locals.exchange
  clearTimeout(slow)
  const durationMs = Math.round((performance.now() - startMs) * 1000) / 1000
  const fields = { method, ...about, status, durationMs }
  if (error !== undefined) log.warn({ ...fields, error }, 'refused a call of dockerd')
  else if (response.destroyed) log.warn(fields, 'did what dockerd asked, but it had hung up before the answer')
  else log.debug(fields, 'answered dockerd')
  response.statusCode = status
  response.setHeader('Content-Type', contentType)
  response.end(JSON.stringify(body))
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

/** express and its body parser mark their errors with a status; what has none is our own fault. */
function statusOf(error: unknown): 400 | 413 | 500 {
  const status = error instanceof Error && 'status' in error ? Number(error.status) : 500
  return status === 413 ? 413 : status >= 400 && status < 500 ? 400 : 500
}
