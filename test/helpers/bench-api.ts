import { Agent, request } from 'node:http'
import { parsePortSpec } from '../../src/ports/spec.js'
import { type Host, socketPath } from './host.js'

/** A client that keeps its connections, as dockerd keeps its own to a plugin; refusals throw. */
export class BenchApi {
  readonly #agent: Agent

  /** `atOnce`: of what is asked beyond that, each waits for the answer to another. */
  constructor(
    readonly host: Host,
    atOnce = 16,
  ) {
    this.#agent = new Agent({ keepAlive: true, maxSockets: atOnce })
  }

  call<T = unknown>(method: 'GET' | 'POST' | 'DELETE', path: string, body?: unknown): Promise<T> {
    const options = { socketPath: this.host.path(socketPath), method, path: `/v1${path}`, agent: this.#agent }
    return new Promise((resolve, reject) => {
      const outgoing = request(options, response => {
        let got = ''
        response.setEncoding('utf8').on('data', (part: string) => {
          got += part
        })
        response.on('end', () => {
          if ((response.statusCode ?? 0) < 300) resolve((got === '' ? undefined : JSON.parse(got)) as T)
          else reject(new Error(`${method} ${path} was answered ${response.statusCode} ${got}`))
        })
      })
      outgoing.on('error', reject)
      outgoing.end(body === undefined ? undefined : JSON.stringify(body))
    })
  }

  connect(network: string, sandbox: string, port?: number): Promise<unknown> {
    const ports = port === undefined ? {} : { ports: [parsePortSpec(`${port}:80`)] }
    return this.call('POST', `/networks/${network}/connect`, { sandbox, ...ports })
  }

  disconnect(network: string, sandbox: string): Promise<unknown> {
    return this.call('POST', `/networks/${network}/disconnect`, { sandbox })
  }

  /** `size` ports of the host from `hostPort` on, onto those from `containerPort` on. */
  publish(endpoint: string, hostPort: number, containerPort: number, size = 1): Promise<unknown> {
    return this.#port('publish', endpoint, hostPort, containerPort, size)
  }

  unpublish(endpoint: string, hostPort: number, containerPort: number, size = 1): Promise<unknown> {
    return this.#port('unpublish', endpoint, hostPort, containerPort, size)
  }

  #port(verb: string, endpoint: string, hostPort: number, containerPort: number, size: number): Promise<unknown> {
    const range = (first: number) => ({ first, last: first + size - 1 })
    const port = { protocol: 'tcp', hostPort: range(hostPort), containerPort: range(containerPort) }
    return this.call('POST', `/endpoints/${endpoint}/${verb}`, { port })
  }

  close(): void {
    this.#agent.destroy()
  }
}

/** Do `work` for each of `items`, so many at a time; the milliseconds that each took, in their order. */
export async function inParallel<T>(
  items: readonly T[],
  atOnce: number,
  work: (item: T) => Promise<unknown>,
): Promise<number[]> {
  const times: number[] = Array.from({ length: items.length })
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < items.length) {
      const i = next++
      const begin = performance.now()
      await work(items[i]!)
      times[i] = performance.now() - begin
    }
  }
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker))
  return times
}
