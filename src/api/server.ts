import { randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import express, { type NextFunction, type Request, type Response } from 'express'
import { httpStatusOf, invalid, kindOf, messageOf, notFound, unavailable } from '../errors.js'
import type { Log } from '../log.js'
import { type ConnectionOptions, patience } from '../net/connections.js'
import type { TcpAddress, TlsFiles } from '../net/tls.js'
import { listenTls, type TlsServer } from '../net/tls-server.js'
import { type Group, listenUnix } from '../net/unix-server.js'
import { type Deps, type Route, routes } from './routes.js'
import { parseBody } from './schemas.js'

/** The largest body that is read. A network with every option set is a few kilobytes. */
const maxBodyBytes = 1 << 20

/** Host names are the longest of what may be asked for; `HOST/NAME` is less than this too. */
const maxRef = 512
/** A reader of events keeps its connection for as long as it likes, so they may not have all of them. */
const maxReaders = 128
const connections: ConnectionOptions = {
  max: 512,
  refusal: (status, message) => ({ error: { kind: status === 503 ? 'Unavailable' : 'InvalidParameter', message } }),
}

export interface ApiServerDeps extends Deps {
  log: Log
  socketPath: string
  /** who may use the socket, besides root */
  group?: Group
  /** the descriptor of a socket that listens at the path already */
  inherited?: number
  /** where the API listens besides */
  tcp?: { address: TcpAddress; tls: TlsFiles }
}

export interface ApiServer {
  /** Take certificates that were replaced. @throws {NetError} InvalidParameter: all stays as it was */
  renewTls(files: TlsFiles): void
  close(): Promise<void>
}

/**
 * Serve the REST API on a unix socket, readable and writable for root and a group (docker: who can speak to it can already
 * become root through dockerd), and where it is wanted on TCP with certificates on both sides.
 * Errors are `{ "error": { "kind", "message" } }` with the status of src/errors.ts.
 */
export async function createApiServer(deps: ApiServerDeps): Promise<ApiServer> {
  const { socketPath, group, inherited, tcp } = deps
  const app = createApp(deps, routes)
  const unix = await listenUnix(createServer(patience, app), socketPath, {
    ...{ mode: 0o660, groupEnters: true, connections },
    ...(group !== undefined && { group }),
    ...(inherited !== undefined && { inherited }),
  })
  let tls: TlsServer | undefined
  try {
    if (tcp !== undefined) tls = await listenTls(app, tcp.address, tcp.tls, connections)
  } catch (error) {
    await unix.close()
    throw error
  }
  return {
    renewTls: files => tls?.renew(files),
    close: async () => void (await Promise.all([unix.close(), tls?.close()])),
  }
}

/** The application without its socket. `table` is a parameter so that a test can add a row that fails. */
export function createApp(deps: Deps & { log: Log }, table: readonly Route[]): express.Express {
  const app = express()
  app.disable('x-powered-by')
  app.disable('etag')
  app.use((_request, response, next) => {
    response.locals.operation = randomUUID().slice(0, 8)
    response.locals.startedMs = performance.now()
    next()
  })
  // Any content type: curl says x-www-form-urlencoded unless told otherwise.
  app.use(express.json({ limit: maxBodyBytes, type: () => true, strict: false }))
  const readers = new Set<Response>()
  for (const row of table) app[row.method](row.path, handle(deps, row, readers))
  app.use((request: Request) => {
    throw notFound(`there is no ${request.method} ${request.path}`)
  })
  app.use((error: unknown, request: Request, response: Response, _next: NextFunction) => {
    answerError(deps.log, request, response, refusalOf(error))
  })
  return app
}

type Readers = Set<Response>
const handle =
  (deps: Deps & { log: Log }, row: Route, readers: Readers) => async (request: Request, response: Response) => {
    const sent = row.method === 'get' ? request.query : request.body
    const body = row.body === undefined ? undefined : parseBody(row.body, sent === undefined ? {} : sent)
    const gone = new AbortController()
    response.once('close', () => {
      if (!response.writableFinished) gone.abort()
    })
    const ref = String(request.params.ref ?? '')
    if (ref.length > maxRef) throw invalid(`a name or id is at most ${maxRef} characters long`)
    const result = await row.handler(deps, { ref, body, signal: gone.signal })
    const status = result === undefined ? 204 : (row.status ?? 200)
    response.status(status)
    if (result === undefined) response.end()
    else if (isIterated(result)) await keepReader(readers, response, () => sendLines(response, result))
    else response.json(result)
    deps.log.info(fieldsOf(response, { outcome: 'ok' }), `${request.method} ${request.path}`)
  }

const isIterated = (result: unknown): result is AsyncIterable<unknown> =>
  typeof result === 'object' && result !== null && Symbol.asyncIterator in result

async function keepReader(readers: Readers, response: Response, send: () => Promise<void>): Promise<void> {
  if (readers.size >= maxReaders) throw unavailable(`there are ${maxReaders} readers of events already`)
  readers.add(response)
  try {
    await send()
  } finally {
    readers.delete(response)
  }
}

/** Each object when it comes, at the pace at which the client reads; ends when the objects do or the client goes. */
async function sendLines(response: Response, objects: AsyncIterable<unknown>): Promise<void> {
  response.type('application/x-ndjson').flushHeaders()
  for await (const object of objects) {
    if (response.destroyed) return
    if (!response.write(`${JSON.stringify(object)}\n`)) await drained(response)
  }
  response.end()
}

const drained = (response: Response): Promise<void> =>
  new Promise(resolve => {
    const done = (): void => {
      response.off('drain', done).off('close', done)
      resolve()
    }
    response.on('drain', done).on('close', done)
  })

function answerError(log: Log, request: Request, response: Response, error: unknown): void {
  const kind = kindOf(error)
  response.status(httpStatusOf(error)).json({ error: { kind, message: messageOf(error) } })
  const fields = fieldsOf(response, { outcome: kind, error: messageOf(error) })
  // A refusal is the caller's affair; our own failure is ours, and needs its stack.
  if (kind !== 'Internal') log.info(fields, `${request.method} ${request.path}`)
  else
    log.error(
      { ...fields, stack: error instanceof Error ? error.stack : undefined },
      `${request.method} ${request.path}`,
    )
}

const fieldsOf = (response: Response, fields: object): object => ({
  operation: response.locals.operation,
  status: response.statusCode,
  ms: Math.round((performance.now() - response.locals.startedMs) * 10) / 10,
  ...fields,
})

/** What express and body-parser throw at a bad request carries a 4xx status and no kind of ours. */
function refusalOf(error: unknown): unknown {
  const { status, type } = (error ?? {}) as { status?: number; type?: string }
  if (type === 'entity.too.large') return invalid(`the body is larger than ${maxBodyBytes} bytes`)
  if (type === 'entity.parse.failed') return invalid(`the body is not JSON: ${messageOf(error)}`)
  if (status !== undefined && status >= 400 && status < 500) return invalid(messageOf(error))
  return error
}
