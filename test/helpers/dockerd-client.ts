import { Agent, request } from 'node:http'
import type { Socket } from 'node:net'

export interface PluginReply {
  status: number
  contentType: string | undefined
  text: string
  body: Record<string, unknown>
}

/**
 * Calls a plugin as dockerd does (moby pkg/plugins/client.go and transport/http.go): POST with an Accept header and no
 * Content-Type, a pool of six connections that live on, and after a broken connection the same call again from the
 * buffer that the first try has emptied. (Its pause between tries, 1 s and more, is left out.)
 */
export class DockerdClient {
  readonly #agent = new Agent({ keepAlive: true, maxFreeSockets: 6 })
  /** every connection ever opened */
  readonly sockets = new Set<Socket>()

  constructor(readonly socketPath: string) {}

  /** One try with exactly this body. */
  send(method: string, body: string | Buffer, headers: Record<string, string> = {}): Promise<PluginReply> {
    return new Promise((resolve, reject) => {
      const sent = request(
        {
          socketPath: this.socketPath,
          path: `/${method}`,
          method: 'POST',
          agent: this.#agent,
          headers: {
            Host: 'plugin.moby.localhost',
            Accept: 'application/vnd.docker.plugins.v1.2+json',
            ...('Transfer-Encoding' in headers ? {} : { 'Content-Length': Buffer.byteLength(body) }),
            ...headers,
          },
        },
        reply => {
          const chunks: Buffer[] = []
          reply.on('data', chunk => chunks.push(chunk))
          reply.on('error', reject)
          reply.on('end', () => {
            const text = Buffer.concat(chunks).toString()
            const contentType = reply.headers['content-type']
            try {
              resolve({ status: reply.statusCode ?? 0, contentType, text, body: JSON.parse(text) })
            } catch (error) {
              reject(
                new Error(`${method} was answered ${reply.statusCode} with ${JSON.stringify(text)}`, { cause: error }),
              )
            }
          })
        },
      )
      sent.on('socket', socket => this.sockets.add(socket))
      sent.on('error', reject)
      sent.end(body)
    })
  }

  /** As dockerd: the answer, or the error that the user of docker reads. `null` arguments are an empty body. */
  async call(method: string, args: object | null = null): Promise<Record<string, unknown>> {
    const body = args === null ? '' : `${JSON.stringify(args)}\n`
    const reply = await this.send(method, body).catch(() => this.send(method, ''))
    if (reply.status !== 200) throw new Error(`${method}: ${reply.body.Err || reply.text}`)
    const error = method.startsWith('IpamDriver.') ? reply.body.Error : reply.body.Err
    if (error) throw new Error(`remote: ${error}`)
    return reply.body
  }

  /** Cut every connection, whatever is going on. */
  cut(): void {
    for (const socket of this.sockets) socket.destroy()
  }

  close(): void {
    this.#agent.destroy()
  }
}
