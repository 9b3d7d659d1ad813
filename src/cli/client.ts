import { Agent, type IncomingMessage, type RequestOptions, request } from 'node:http'
import { createInterface } from 'node:readline'
import { forbidden, isErrorKind, NetError, unavailable } from '../errors.js'
import { readTlsFiles } from '../net/tls.js'
import type { Target } from './target.js'

/** The REST API as the CLI uses it. The connection stays open between calls, without keeping the process alive. */
export class Client {
  #sender: Promise<Sender> | undefined

  constructor(readonly target: Target) {}

  get<T>(...path: string[]): Promise<T> {
    return this.#call<T>('GET', path)
  }

  post<T>(path: string[], body: object = {}): Promise<T> {
    return this.#call<T>('POST', path, body)
  }

  async delete(...path: string[]): Promise<void> {
    await this.#call('DELETE', path)
  }

  async deleteWith(path: string[], body: object): Promise<void> {
    await this.#call('DELETE', path, body)
  }

  /** Call `read` with each object that the daemon sends, until it ends the stream or `signal` aborts. */
  async follow<T>(
    path: string,
    query: Record<string, string>,
    read: (object: T) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const words = new URLSearchParams(query).toString()
    const { send } = await this.#open()
    await new Promise<void>((resolve, reject) => {
      const failed = (error: NodeJS.ErrnoException) => (signal.aborted ? resolve() : reject(this.#explain(error)))
      const options = { path: `/v1/${path}${words && `?${words}`}`, agent: false as const, signal }
      const outgoing = send(options, response => {
        if (response.statusCode !== 200) {
          let text = ''
          response.setEncoding('utf8').on('data', (part: string) => {
            text += part
          })
          response.on('end', () => {
            try {
              this.#answerOf('GET', response.statusCode ?? 0, text)
            } catch (error) {
              reject(error)
            }
          })
          return
        }
        const lines = createInterface({ input: response })
        lines.on('line', line => read(JSON.parse(line) as T))
        lines.on('close', resolve)
        response.on('error', failed)
      })
      outgoing.on('error', failed)
      outgoing.end()
    })
  }

  async #call<T>(method: string, path: string[], body?: object): Promise<T> {
    const { status, text } = await this.#send(method, `/v1/${path.map(encodeURIComponent).join('/')}`, body)
    return this.#answerOf(method, status, text)
  }

  #answerOf<T>(method: string, status: number, text: string): T {
    let answer: unknown
    try {
      answer = text === '' ? undefined : JSON.parse(text)
    } catch (error) {
      throw unavailable(`what answers on ${this.target.name} is not a tsnet daemon`, { cause: error })
    }
    if (status < 300) return answer as T
    const { kind, message } = (answer as { error?: { kind?: unknown; message?: unknown } } | undefined)?.error ?? {}
    if (isErrorKind(kind)) throw new NetError(kind, String(message))
    throw unavailable(`what answers on ${this.target.name} is not a tsnet daemon: it says ${status} to ${method}`)
  }

  async #send(method: string, path: string, body?: object): Promise<{ status: number; text: string }> {
    const { send, agent } = await this.#open()
    const payload = body === undefined ? undefined : JSON.stringify(body)
    // without the length Node sends the body of a DELETE as if it were the next request
    const headers =
      payload === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }
    return new Promise((resolve, reject) => {
      const failed = (error: NodeJS.ErrnoException) => reject(this.#explain(error))
      const outgoing = send({ method, path, headers, agent }, response => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (part: string) => {
          text += part
        })
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
        response.on('error', failed)
      })
      outgoing.on('error', failed)
      outgoing.end(payload)
    })
  }

  #open(): Promise<Sender> {
    this.#sender ??= senderTo(this.target)
    return this.#sender
  }

  #explain(error: NodeJS.ErrnoException): NetError {
    const path = this.target.name
    if ('tcp' in this.target)
      return unavailable(`the daemon on ${path} cannot be reached: ${error.message}`, { cause: error })
    switch (error.code) {
      case 'ENOENT':
      case 'ENOTDIR':
      case 'ECONNREFUSED':
        return unavailable(
          `no daemon answers on ${path}: start it as root with "tsnet daemon", or name its socket with --socket or TSNET_SOCKET`,
          { cause: error },
        )
      case 'EACCES':
      case 'EPERM':
        return forbidden(`no permission to use ${path}: it takes root or a member of group docker`, { cause: error })
      case 'ECONNRESET':
      case 'EPIPE':
        return unavailable(`the daemon on ${path} ended the connection before it had answered`, { cause: error })
      default:
        return unavailable(`the daemon on ${path} cannot be reached: ${error.message}`, { cause: error })
    }
  }
}

/** How requests get to the daemon. */
interface Sender {
  send(options: RequestOptions, answered: (response: IncomingMessage) => void): ReturnType<typeof request>
  agent: Agent
}

const agentOptions = { keepAlive: true, maxSockets: 1 }

/** What TLS needs is loaded only where it is used. @throws {NetError} InvalidParameter: a file that cannot be read */
async function senderTo(target: Target): Promise<Sender> {
  if ('socketPath' in target) {
    const { socketPath } = target
    const agent = new Agent(agentOptions)
    return { agent, send: (options, answered) => request({ socketPath, ...options }, answered) }
  }
  const https = await import('node:https')
  const place = { ...target.tcp, ...readTlsFiles(target.tls), minVersion: 'TLSv1.2' } as const
  const agent = new https.Agent(agentOptions)
  return { agent, send: (options, answered) => https.request({ ...place, ...options }, answered) }
}
