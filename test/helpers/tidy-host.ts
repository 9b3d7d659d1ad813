import { join } from 'node:path'
import { expect } from 'vitest'
import type { BareHost } from './host.js'
import { repo } from './machine.js'

/** `node dist/tsnet.js ARGS`, for other commands to run. */
export const tsnetArgv = (...args: string[]): string[] => [process.execPath, join(repo, 'dist/tsnet.js'), ...args]

/** The command fails with this exit code and a message that contains this. */
export const expectRefused = (host: BareHost, status: number, message: string, ...args: string[]): void =>
  expect(host.tryTsnet(...args)).toMatchObject({ status, stderr: expect.stringContaining(message) })

/** By the command line: every sandbox, those first that share another one's namespace, and every network. */
export function removeEverything(host: BareHost): void {
  const sandboxes = host.tsnetJson<{ name: string; shares?: unknown }[]>('sandbox', 'ls')
  for (const shared of [true, false]) {
    const names = sandboxes.filter(({ shares }) => (shares !== undefined) === shared).map(({ name }) => name)
    if (names.length > 0) host.tsnet('sandbox', 'rm', ...names)
  }
  host.tsnet('network', 'prune')
}
