import { Agent, request } from 'node:http'
import { createInterface } from 'node:readline'
import { forbidden, isErrorKind, NetError, unavailable } from '../errors.js'

/** The REST API as the CLI uses it. The connection stays open between calls, without keeping the process alive. */
export class Client {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 })

  constructor(readonly socketPath: string) {}

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
    await new Promise<void>((resolve, reject) => {
      const failed = (error: NodeJS.ErrnoException) => (signal.aborted ? resolve() : reject(this.#explain(error)))
      const options = {
        socketPath: this.socketPath,
        path: `/v1/${path}${words && `?${words}`}`,
        agent: false as const,
        signal,
      }
      const outgoing = request(options, response => {
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
      throw unavailable(`what answers on ${this.socketPath} is not a tsnet daemon`, { cause: error })
    }
    if (status < 300) return answer as T
    const { kind, message } = (answer as { error?: { kind?: unknown; message?: unknown } } | undefined)?.error ?? {}
    if (isErrorKind(kind)) throw new NetError(kind, String(message))
    throw unavailable(`what answers on ${this.socketPath} is not a tsnet daemon: it says ${status} to ${method}`)
  }

  #send(method: string, path: string, body?: object): Promise<{ status: number; text: string }> {
    const payload = body === undefined ? undefined : JSON.stringify(body)
    // without the length Node sends the body of a DELETE as if it were the next request
    const headers =
      payload === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }
    return new Promise((resolve, reject) => {
      const failed = (error: NodeJS.ErrnoException) => reject(this.#explain(error))
      const outgoing = request({ socketPath: this.socketPath, method, path, headers, agent: this.#agent }, response => {
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

  #explain(error: NodeJS.ErrnoException): NetError {
    const path = this.socketPath
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
