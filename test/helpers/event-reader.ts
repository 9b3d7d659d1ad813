import { type ClientRequest, request } from 'node:http'
import { socketPath } from './host.js'
import { type Machine, until } from './machine.js'

export interface Told {
  time: string
  type: string
  action: string
  words: string
}

/** What the daemon of a machine tells of, as it comes. */
export class EventReader {
  readonly #told: Told[] = []
  readonly #request: ClientRequest
  #isOpen = false

  private constructor(machine: Machine) {
    let rest = ''
    this.#request = request({ socketPath: machine.path(socketPath), path: '/v1/events', agent: false }, response => {
      this.#isOpen = true
      response.setEncoding('utf8').on('data', (text: string) => {
        const lines = (rest + text).split('\n')
        rest = lines.pop() ?? ''
        for (const line of lines) if (line.trim() !== '') this.#told.push(JSON.parse(line) as Told)
      })
      response.on('error', () => undefined) // the daemon has ended, or we have
    })
    this.#request.on('error', () => undefined).end()
  }

  static async open(machine: Machine): Promise<EventReader> {
    const reader = new EventReader(machine)
    await until('the events', () => reader.#isOpen)
    return reader
  }

  /** What has been told so far; what is told later than now is `after` that many. */
  get count(): number {
    return this.#told.length
  }
  after(count: number): Told[] {
    return this.#told.slice(count)
  }

  close(): void {
    this.#request.destroy()
  }
}
