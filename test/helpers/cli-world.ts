import type { ChildProcess } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'vitest'
import { createApiServer } from '../../src/api/server.js'
import { noLog } from '../../src/log.js'
import { type BuiltCli, buildCli, type Ran, type RunOptions, runCli, startCli } from './built-cli.js'
import { FakeCnm } from './fake-cnm.js'
import { fakeDiagnosis } from './fake-diagnosis.js'

/** The command line before the real API, behind which stands a fake controller. */
export class CliWorld {
  private constructor(
    readonly cli: BuiltCli,
    /** a folder for this test's files, which all users may enter */
    readonly dir: string,
    readonly socketPath: string,
    readonly cnm: FakeCnm,
    readonly server: { close(): Promise<void> },
  ) {}

  static async start(cli: BuiltCli): Promise<CliWorld> {
    const dir = mkdtempSync(join(tmpdir(), 'tsnet-cli-'))
    chmodSync(dir, 0o755)
    const socketPath = join(dir, 'api.sock')
    const cnm = new FakeCnm()
    const server = await createApiServer({
      cnm,
      diagnosis: fakeDiagnosis,
      log: noLog,
      socketPath,
      version: { version: '9.8.7', plugin: 'netplug', dockerSocket: join(dir, 'docker.sock') },
    })
    return new CliWorld(cli, dir, socketPath, cnm, server)
  }

  async close(): Promise<void> {
    await this.server.close()
    rmSync(this.dir, { recursive: true })
  }

  /** Run a command to its end. */
  tsnet(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
    return runCli(this.cli, args, this.#withSocket(options))
  }

  /** Start a command, with pipes as its stdio. */
  start(args: readonly string[], options: RunOptions = {}): ChildProcess {
    return startCli(this.cli, args, this.#withSocket(options))
  }

  /** Run a command that must do well and say nothing on stderr; returns its stdout. */
  async output(...args: string[]): Promise<string> {
    const got = await this.tsnet(args)
    expect(got).toMatchObject({ status: 0, stderr: '' })
    return got.stdout
  }

  /** Run a command that must fail with one line on stderr, which is `tsnet: MESSAGE` or matches. */
  async refuse(status: number, message: string | RegExp, ...args: string[]): Promise<void> {
    const got = await this.tsnet(args)
    expect(got.stderr).toMatch(/^tsnet: [^\n]+\n$/)
    if (typeof message === 'string') expect(got.stderr).toBe(`tsnet: ${message}\n`)
    else expect(got.stderr).toMatch(message)
    expect(got).toMatchObject({ status, stdout: '' })
  }

  #withSocket({ env, ...rest }: RunOptions): RunOptions {
    return { ...rest, env: { TSNET_SOCKET: this.socketPath, ...env } }
  }
}

/** Each test of a file has a command line and a controller of its own, which `take` gets. */
export function eachHasCli(take: (world: CliWorld) => unknown): void {
  let cli: BuiltCli
  let world: CliWorld
  beforeAll(() => {
    cli = buildCli()
  })
  afterAll(() => cli.remove())
  beforeEach(async () => {
    world = await CliWorld.start(cli)
    await take(world)
  })
  afterEach(() => world.close())
}
