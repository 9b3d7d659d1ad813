import { randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import express, { type NextFunction, type Request, type Response } from 'express'
import { httpStatusOf, invalid, kindOf, messageOf, notFound } from '../errors.js'
import type { Log } from '../log.js'
import { listenUnix } from '../net/unix-server.js'
import { type Deps, type Route, routes } from './routes.js'
import { parseBody } from './schemas.js'

/** The largest body that is read. A network with every option set is a few kilobytes. */
const maxBodyBytes = 1 << 20

export interface ApiServerDeps extends Deps {
  log: Log
  socketPath: string
}

/**
 * Serve the REST API on a unix socket, readable and writable for root and group docker: who can speak to it can already
 * become root through dockerd. Errors are `{ "error": { "kind", "message" } }` with the status of src/errors.ts.
 */
export async function createApiServer(deps: ApiServerDeps): Promise<{ close(): Promise<void> }> {
  const server = createServer(createApp(deps, routes))
  return await listenUnix(server, deps.socketPath, { mode: 0o660, group: 'docker' })
}

/** The application without its socket. `table` is a parameter so that a test can add a row that fails. */
export function createApp(deps: Deps & { log: Log }, table: readonly Route[]): express.Express {
  const app = express()
  app.disable('x-powered-by')
  app.disable('etag')
  app.use((_request, response, next) => {
    response.locals.operation = randomBytes(4).toString('hex')
    response.locals.startedMs = performance.now()
    next()
  })
  // Any content type: curl says x-www-form-urlencoded unless told otherwise.
  app.use(express.json({ limit: maxBodyBytes, type: () => true, strict: false }))
  for (const row of table) app[row.method](row.path, handle(deps, row))
  app.use((request: Request) => {
    throw notFound(`there is no ${request.method} ${request.path}`)
  })
  app.use((error: unknown, request: Request, response: Response, _next: NextFunction) => {
    answerError(deps.log, request, response, refusalOf(error))
  })
  return app
}

const handle = (deps: Deps & { log: Log }, row: Route) => async (request: Request, response: Response) => {
  const sent = row.method === 'get' ? request.query : request.body
  const body = row.body === undefined ? undefined : parseBody(row.body, sent === undefined ? {} : sent)
  const gone = new AbortController()
  response.once('close', () => gone.abort())
  const result = await row.handler(deps, { ref: String(request.params.ref ?? ''), body, signal: gone.signal })
  const status = result === undefined ? 204 : (row.status ?? 200)
  response.status(status)
  if (result === undefined) response.end()
  else if (isIterated(result)) await sendLines(response, result)
  else response.json(result)
  deps.log.info(fieldsOf(response, { outcome: 'ok' }), `${request.method} ${request.path}`)
}

const isIterated = (result: unknown): result is AsyncIterable<unknown> =>
  typeof result === 'object' && result !== null && Symbol.asyncIterator in result

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
