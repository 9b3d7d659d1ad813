import { createServer, type IncomingMessage, type Server } from 'node:http'

export interface FakeDockerNetwork {
  Id: string
  Name: string
  Driver: string
  Options: Record<string, string> | null
}

/** dockerd's API as far as networks go, in memory; the shapes are those that dockerd 20.10.24 answers with. */
export class FakeDockerd {
  version = { Version: '20.10.24', ApiVersion: '1.41' }
  networks: FakeDockerNetwork[] = []
  /** bodies of POST /networks/create */
  readonly created: Record<string, unknown>[] = []
  /** the next network is refused with this status and message */
  refuseNext: [status: number, message: string] | undefined

  private constructor(readonly server: Server) {}

  static async start(socketPath: string): Promise<FakeDockerd> {
    const server = createServer()
    const fake = new FakeDockerd(server)
    server.on('request', async (request, response) => {
      const [status, body] = fake.#answer(request.method ?? '', request.url ?? '', await textOf(request))
      response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(body)}\n`)
    })
    await new Promise<void>(resolve => server.listen(socketPath, resolve))
    return fake
  }

  close(): Promise<void> {
    return new Promise(resolve => this.server.close(() => resolve()))
  }

  #answer(method: string, url: string, text: string): [number, unknown] {
    const { pathname, searchParams } = new URL(url, 'http://docker')
    const path = pathname.replace(/^\/v[\d.]+/, '')
    if (path === '/version') return [200, this.version]
    if (method === 'GET' && path === '/networks') {
      const { name: [name = ''] = [] } = JSON.parse(searchParams.get('filters') ?? '{}') as { name?: string[] }
      return [200, this.networks.filter(({ Name }) => Name.includes(name))]
    }
    if (method !== 'POST' || path !== '/networks/create') return [404, { message: 'page not found' }]
    const refused = this.refuseNext
    this.refuseNext = undefined
    if (refused !== undefined) return [refused[0], { message: refused[1] }]
    const body = JSON.parse(text) as Record<string, unknown> & Omit<FakeDockerNetwork, 'Id'>
    this.created.push(body)
    const Id = String(this.created.length).repeat(64).slice(0, 64)
    this.networks.push({ Id, Name: body.Name, Driver: body.Driver, Options: body.Options })
    return [201, { Id, Warning: '' }]
  }
}

async function textOf(request: IncomingMessage): Promise<string> {
  let text = ''
  for await (const part of request.setEncoding('utf8')) text += part
  return text
}
