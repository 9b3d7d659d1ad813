import { rootCertificates } from 'node:tls'
import type { ConnectionPool } from 'etcd3/lib/connection-pool.js'
import { type EtcdOptions, readTls } from './etcd-url.js'

type Service = Parameters<ConnectionPool['withConnection']>[0]
type Connection = Parameters<Parameters<ConnectionPool['withConnection']>[1]>[0]
type Answered<T> = (error: Error | null, response: T) => void
interface Call {
  cancel(): void
}

/** A request and answers to it, in order, until it is cancelled. */
export interface Answers<T> extends Call, AsyncIterable<T> {
  write(request: unknown): void
  on(event: 'error' | 'end', listener: (error?: Error) => void): unknown
}

/** What a service's client has, by name: typed by the .proto file at run time only. */
type Methods = Record<string, (...args: unknown[]) => unknown>

export interface Method {
  service: Service
  name: string
  /** A stream of requests, of which we send one and take the first answer. */
  stream?: boolean
  /** Not behind others that wait their turn. */
  urgent?: boolean
}

export interface CallOptions {
  timeoutMs: number
  /** Of whoever has logged in. */
  token: string | undefined
  signal: AbortSignal
}

/**
 * Answers may be of any size: etcd limits requests only. Without proxies, of which grpc-js takes what the environment names.
 * A connection without a sign of life is found dead after 8 s at the latest (etcd refuses pings more often than every 5 s);
 * most are found sooner, see EtcdClient.
 */
const channelOptions = {
  'grpc.max_receive_message_length': -1,
  'grpc.max_send_message_length': -1,
  'grpc.keepalive_time_ms': 6_000,
  'grpc.keepalive_timeout_ms': 2_000,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1_000,
  'grpc.enable_http_proxy': 0,
  'grpc.service_config_disable_resolution': 1,
}

/** A connection to one member of etcd, made with the first call, and never used again once it was ended. */
export class Member {
  readonly #pool: ConnectionPool
  readonly #clients = new Set<Connection['client']>()
  readonly #calls = new Set<Call>()
  /** When it last answered, on the clock of `performance.now()`. */
  heardMs = Number.NEGATIVE_INFINITY
  /** A log-in under way, for all calls that wait for it. */
  login: Promise<string> | undefined
  #ended = false

  private constructor(
    readonly endpoint: string,
    pool: ConnectionPool,
  ) {
    this.#pool = pool
  }

  static async create(endpoint: string, { tls }: EtcdOptions): Promise<Member> {
    // Loaded when it is needed: a host that keeps its objects in lmdb only does without gRPC.
    const { ConnectionPool } = await import('etcd3/lib/connection-pool.js')
    const hosts = [`${tls ? 'https' : 'http'}://${endpoint}`]
    return new Member(endpoint, new ConnectionPool({ hosts, grpcOptions: channelOptions, ...credentials(tls) }))
  }

  get ended(): boolean {
    return this.#ended
  }

  /** @throws what gRPC says; see etcd-errors.ts */
  async call<T>(method: Method, request: object, { timeoutMs, token, signal }: CallOptions): Promise<T> {
    const { methods, metadata } = await this.#open(method.service, token)
    const options = { deadline: Date.now() + timeoutMs }
    let call: Call | undefined
    const cancel = () => call?.cancel()
    signal.addEventListener('abort', cancel)
    try {
      signal.throwIfAborted()
      const response = await new Promise<T>((resolve, reject) => {
        const answered: Answered<T> = (error, response) => (error ? reject(error) : resolve(response))
        if (method.stream) {
          const answers = methods[method.name]!(metadata, options) as Answers<T>
          call = answers
          first(answers, request).then(resolve, reject)
        } else call = methods[method.name]!(request, metadata, options, answered) as Call
        this.#calls.add(call)
      })
      this.heardMs = performance.now()
      return response
    } finally {
      signal.removeEventListener('abort', cancel)
      if (call) this.#calls.delete(call)
    }
  }

  /** Answers without end. Whoever reads them cancels. */
  async stream<T>({ service, name }: Method, token: string | undefined): Promise<Answers<T>> {
    const { methods, metadata } = await this.#open(service, token)
    const answers = methods[name]!(metadata, {}) as Answers<T>
    this.#calls.add(answers)
    // What reads it gets the error too; one that comes when nobody reads any more must not end the process.
    answers.on('error', () => this.#calls.delete(answers))
    answers.on('end', () => this.#calls.delete(answers))
    return answers
  }

  /** Cut it off: whatever is under way fails. */
  end(): void {
    this.#ended = true
    for (const call of this.#calls) call.cancel()
    for (const client of this.#clients) client.close()
    this.#calls.clear()
    this.#clients.clear()
  }

  async #open(service: Service, token: string | undefined) {
    const { client, metadata } = await this.#pool.withConnection(service, connection => connection)
    if (this.#ended) {
      client.close()
      throw new Error(`the connection to ${this.endpoint} was given up`)
    }
    this.#clients.add(client)
    // A member that has lost the others refuses at once, and ends its streams, instead of letting us wait.
    metadata.set('hasleader', 'true')
    if (token) metadata.set('token', token)
    return { methods: client as unknown as Methods, metadata }
  }
}

async function first<T>(answers: Answers<T>, request: object): Promise<T> {
  answers.on('error', () => {})
  try {
    answers.write(request)
    for await (const answer of answers) return answer
    throw new Error('etcd ended the stream without an answer')
  } finally {
    answers.cancel()
  }
}

function credentials(tls: EtcdOptions['tls']) {
  if (!tls) return {}
  const { ca, cert, key } = readTls(tls)
  return {
    credentials: {
      rootCertificate: ca ?? Buffer.from(rootCertificates.join('\n')),
      ...(key && { privateKey: key }),
      ...(cert && { certChain: cert }),
    },
  }
}
