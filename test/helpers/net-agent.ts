import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const program = fileURLToPath(new URL('./net-agent.mjs', import.meta.url))

export interface Question {
  protocol: 'tcp' | 'udp'
  host: string
  port: number
  timeoutMs?: number
  /** source address; for udp */
  from?: string
}

/** A process in a namespace that serves and asks (net-agent.mjs). */
export class NetAgent {
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, (reply: string) => void>()
  #next = 1

  constructor(readonly netns: string) {
    this.#child = spawn('ip', ['netns', 'exec', netns, process.execPath, program], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    createInterface({ input: this.#child.stdout! }).on('line', line => {
      const { id, reply } = JSON.parse(line) as { id: number; reply: string }
      this.#waiting.get(id)?.(reply)
      this.#waiting.delete(id)
    })
  }

  /** Answer whoever asks with `NAME SOURCE`. */
  async listen(protocol: 'tcp' | 'udp', port: number, name: string): Promise<void> {
    const reply = await this.#command({ op: 'listen', protocol, port, name })
    if (reply !== 'listening') throw new Error(`${this.netns} ${protocol} ${port}: ${reply}`)
  }

  /** What the server says: `NAME SOURCE`, or `refused`, or `nothing`. */
  ask(question: Question): Promise<string> {
    return this.#command({ op: 'ask', timeoutMs: 700, ...question })
  }

  /** The sources that have asked here, whether or not an answer could reach them. */
  async seen(): Promise<string[]> {
    return (await this.#command({ op: 'seen' })).split(' ')
  }

  close(): void {
    this.#child.stdin?.end()
  }

  #command(command: object): Promise<string> {
    const id = this.#next++
    return new Promise(resolve => {
      this.#waiting.set(id, resolve)
      this.#child.stdin?.write(`${JSON.stringify({ id, ...command })}\n`)
    })
  }
}
