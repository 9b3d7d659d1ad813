import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { PoolOptions, PoolRunnerInitializer, PoolWorker, WorkerRequest } from 'vitest/node'

const throwaway = fileURLToPath(new URL('../../scripts/throwaway', import.meta.url))

/** Node.js ends when Vitest goes away or has no more use for it, whatever a test has left running in it. */
const endWithParent = 'const { exit } = process; process.once("disconnect", () => exit.call(process, 0))'

/** How long a machine may take to remove what was made on it. */
const stopTimeoutMs = 10_000

/** As Vitest's own pool of processes, one a test file, but each is on a machine of its own. */
class ThrowawayWorker implements PoolWorker {
  readonly name = throwawayPool.name
  readonly cacheFs = true
  readonly #options: PoolOptions
  #child!: ChildProcess

  constructor(options: PoolOptions) {
    this.#options = options
  }

  async start(): Promise<void> {
    const { distPath, env, execArgv, project } = this.#options
    const hook = ['--import', `data:text/javascript,${encodeURIComponent(endWithParent)}`]
    const entry = join(distPath, 'workers/forks.js')
    this.#child = fork('--own-tmp', [process.execPath, ...execArgv, ...hook, entry], {
      execPath: throwaway,
      execArgv: [],
      env,
      stdio: 'pipe',
      serialization: 'advanced',
    })
    // many files are tried at a time, and all print to one stream
    const { outputStream, errorStream } = project.vitest.logger
    this.#child.stdout?.on('data', chunk => outputStream.write(chunk))
    this.#child.stderr?.on('data', chunk => errorStream.write(chunk))
  }

  async stop(): Promise<void> {
    const child = this.#child
    if (child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, 'exit')
    const timer = setTimeout(() => child.kill('SIGKILL'), stopTimeoutMs)
    if (child.connected) child.disconnect()
    await gone
    clearTimeout(timer)
  }

  on(event: string, callback: (arg: unknown) => void): void {
    this.#child.on(event, callback)
  }

  off(event: string, callback: (arg: unknown) => void): void {
    this.#child.off(event, callback)
  }

  send(message: WorkerRequest): void {
    this.#child.send(message)
  }

  deserialize(data: unknown): unknown {
    return data
  }
}

/** For suites that change the machine: their files run beside each other and leave nothing to one another. */
export const throwawayPool: PoolRunnerInitializer = {
  name: 'throwaway',
  createPoolWorker: options => new ThrowawayWorker(options),
}
