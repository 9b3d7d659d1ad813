import { existsSync } from 'node:fs'
import { type IncomingMessage, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import type { DockerNames } from '../cnm/names.js'
import { messageOf } from '../errors.js'
import type { Log } from '../log.js'
import { everySeconds } from '../ticks.js'

// dockerd never tells a network plugin what its networks and containers are called. Its API does (docs.docker.com/reference/api/engine).
// It must not be asked from within a plugin call, which dockerd waits for with its locks held: here nothing waits for us.

export interface DockerWatchOptions {
  /** of dockerd's API: /var/run/docker.sock */
  socketPath: string
  /** Whether a network of Docker's is ours; others are none of our business. */
  knows: (networkId: string) => boolean
  learned: (names: DockerNames) => Promise<void>
  log: Log
}

/** Pauses between tries to reach dockerd: each twice the one before. A try costs little, and containers have no names until one succeeds. */
const firstRetryMs = 250
const longestRetryMs = 1_000
/** How long dockerd may take to tell of one container: it may be busy starting it. */
const askMs = 60_000

const attachments = z.record(
  z.string(),
  z.object({
    NetworkID: z.string(),
    EndpointID: z.string(),
    Aliases: z.array(z.string()).nullish(),
    /** since 25.0: the name, the aliases and the container's short id */
    DNSNames: z.array(z.string()).nullish(),
  }),
)
const listedContainers = z.array(
  z.object({ Id: z.string(), Names: z.array(z.string()), NetworkSettings: z.object({ Networks: attachments }) }),
)
const container = z.object({ Name: z.string(), NetworkSettings: z.object({ Networks: attachments }) })
const listedNetworks = z.array(z.object({ Id: z.string(), Name: z.string() }))
const event = z.object({
  Type: z.string(),
  Action: z.string(),
  Actor: z.object({ ID: z.string(), Attributes: z.record(z.string(), z.string()).nullish() }),
})

/** Follows dockerd's events for as long as it is open; dockerd may be absent, come and go. */
export class DockerWatch {
  readonly #options: DockerWatchOptions
  readonly #stop = new AbortController()
  readonly #ended: Promise<void>

  constructor(options: DockerWatchOptions) {
    this.#options = options
    this.#ended = this.#run()
  }

  async close(): Promise<void> {
    this.#stop.abort()
    await this.#ended
  }

  async #run(): Promise<void> {
    let pauseMs = firstRetryMs
    let told = ''
    while (!this.#stop.signal.aborted) {
      try {
        // most hosts without Docker have no such socket either, and to look costs a hundredth of a try to connect
        if (!existsSync(this.#options.socketPath)) throw new Error(`there is no ${this.#options.socketPath}`)
        await this.#follow(() => {
          pauseMs = firstRetryMs
          told = ''
        })
      } catch (error) {
        const reason = messageOf(error)
        // a host without Docker is a usual one: said once, and quietly
        if (reason !== told && !this.#stop.signal.aborted)
          this.#options.log.info(
            { socket: this.#options.socketPath, reason },
            "names of Docker's containers are not known",
          )
        told = reason
      }
      await pause(pauseMs, this.#stop.signal)
      pauseMs = Math.min(pauseMs * 2, longestRetryMs)
    }
  }

  /** From the first event on, so that nothing is missed between what is listed and what follows. */
  async #follow(connected: () => void): Promise<void> {
    const filters = JSON.stringify({
      type: ['container', 'network'],
      event: ['rename', 'connect', 'create', 'destroy'],
    })
    const stream = await this.#open(`/events?filters=${encodeURIComponent(filters)}`)
    try {
      connected()
      await this.#learnAll()
      for await (const line of linesOf(stream)) await this.#happened(line)
    } finally {
      stream.destroy()
    }
  }

  async #learnAll(): Promise<void> {
    const networks = listedNetworks.parse(await this.#ask('/networks'))
    const ours = networks.filter(({ Id }) => this.#options.knows(Id))
    await this.#learned({ networks: ours.map(({ Id, Name }) => ({ id: Id, name: Name })), endpoints: [] })
    for (const { Id, NetworkSettings } of listedContainers.parse(await this.#ask('/containers/json')))
      if (Object.values(NetworkSettings.Networks).some(({ NetworkID }) => this.#options.knows(NetworkID)))
        await this.#learnContainer(Id)
    await this.#learnWhichAre()
  }

  /** The stopped ones too: what is not among them has been removed. */
  async #learnWhichAre(): Promise<void> {
    const all = listedContainers.parse(await this.#ask('/containers/json?all=1'))
    const containers = all.flatMap(({ Names }) => Names.map(name => name.replace(/^\//, '')))
    await this.#learned({ networks: [], endpoints: [], containers })
  }

  async #happened(line: string): Promise<void> {
    const { Type, Action, Actor } = event.parse(JSON.parse(line))
    if (Type === 'network' && !this.#options.knows(Actor.ID)) return
    const attributes = Actor.Attributes ?? {}
    if (Type === 'network' && Action === 'create' && attributes.name !== undefined)
      await this.#learned({ networks: [{ id: Actor.ID, name: attributes.name }], endpoints: [] })
    else if (Type === 'network' && Action === 'connect' && attributes.container !== undefined)
      await this.#learnContainer(attributes.container)
    else if (Type === 'container' && Action === 'rename') await this.#learnContainer(Actor.ID)
    else if (Type === 'container' && Action === 'destroy') await this.#learnWhichAre()
  }

  async #learnContainer(id: string): Promise<void> {
    const found = await this.#ask(`/containers/${encodeURIComponent(id)}/json`)
    // removed meanwhile
    if (found === undefined) return
    const { Name, NetworkSettings } = container.parse(found)
    const name = Name.replace(/^\//, '')
    const endpoints = Object.values(NetworkSettings.Networks)
      .filter(({ NetworkID, EndpointID }) => EndpointID !== '' && this.#options.knows(NetworkID))
      .map(({ EndpointID, Aliases, DNSNames }) => ({
        id: EndpointID,
        name,
        aliases: [...new Set([...(Aliases ?? []), ...(DNSNames ?? [])])].filter(alias => alias !== name),
      }))
    await this.#learned({ networks: [], endpoints })
  }

  /** Nothing that goes wrong on our side is a reason to ask dockerd again. */
  async #learned(names: DockerNames): Promise<void> {
    if (names.networks.length + names.endpoints.length === 0 && names.containers === undefined) return
    try {
      await this.#options.learned(names)
    } catch (error) {
      this.#options.log.error({ err: error }, "could not take over Docker's names")
    }
  }

  /** The answer's JSON; undefined where there is no such thing. */
  async #ask(path: string): Promise<unknown> {
    const response = await this.#open(path, askMs)
    let text = ''
    for await (const chunk of response.setEncoding('utf8')) text += chunk
    if (response.statusCode === 404) return undefined
    return JSON.parse(text)
  }

  #open(path: string, timeoutMs?: number): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const { socketPath } = this.#options
      const signals = [this.#stop.signal, ...(timeoutMs === undefined ? [] : [AbortSignal.timeout(timeoutMs)])]
      const sent = request({ socketPath, path, headers: { host: 'docker' }, signal: AbortSignal.any(signals) })
      sent.on('error', reject)
      sent.on('response', response => {
        if (response.statusCode === 200 || response.statusCode === 404) return resolve(response)
        response.resume()
        reject(new Error(`dockerd answered ${response.statusCode} to GET ${path}`))
      })
      sent.end()
    })
  }
}

/** Where there is no Docker this goes on for good, so in the end it is no wake-up of its own. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (ms < longestRetryMs) return sleep(ms, undefined, { signal, ref: false }).catch(() => {})
  return new Promise(resolve => {
    const done = (): void => {
      stopWaiting()
      signal.removeEventListener('abort', done)
      resolve()
    }
    const stopWaiting = everySeconds(longestRetryMs / 1000, done)
    signal.addEventListener('abort', done)
  })
}

async function* linesOf(stream: IncomingMessage): AsyncGenerator<string> {
  let rest = ''
  for await (const chunk of stream.setEncoding('utf8')) {
    rest += chunk
    const lines = rest.split('\n')
    rest = lines.pop() ?? ''
    yield* lines.filter(line => line.trim() !== '')
  }
}
