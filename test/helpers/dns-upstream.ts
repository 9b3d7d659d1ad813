import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

export const upstreamProgram = fileURLToPath(new URL('./dns-upstream.mjs', import.meta.url))

/** A name server of the outside world (dns-upstream.mjs) as a process of this machine. */
export class Upstream {
  /** the questions that came, such as `udp plain.example A` */
  readonly asked: string[] = []

  private constructor(
    readonly label: string,
    readonly process: ChildProcess,
  ) {}

  static async start(label: string, port: number, ...addresses: string[]): Promise<Upstream> {
    const child = spawn(process.execPath, [upstreamProgram, label, String(port), ...addresses], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const upstream = new Upstream(label, child)
    await new Promise<void>((resolve, reject) => {
      child.once('exit', code => reject(new Error(`upstream ${label} ended with ${code}`)))
      createInterface({ input: child.stdout! }).on('line', line => {
        if (line === 'ready') resolve()
        else upstream.asked.push(line.slice(label.length + 1))
      })
    })
    return upstream
  }

  async stop(): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return
    const gone = once(this.process, 'exit')
    this.process.kill()
    await gone
  }
}
