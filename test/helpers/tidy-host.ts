import { join } from 'node:path'
import { afterEach, beforeEach, expect } from 'vitest'
import type { BareHost } from './host.js'
import { repo } from './machine.js'

/** `node dist/tsnet.js ARGS`, for other commands to run. */
export const tsnetArgv = (...args: string[]): string[] => [process.execPath, join(repo, 'dist/tsnet.js'), ...args]

/** The command fails with this exit code and a message that contains this. */
export const expectRefused = (host: BareHost, status: number, message: string, ...args: string[]): void =>
  expect(host.tryTsnet(...args)).toMatchObject({ status, stderr: expect.stringContaining(message) })

/** Every sandbox, those first that share another one's namespace, and every network. */
export function removeEverything(host: BareHost): void {
  const sandboxes = host.request<{ name: string; shares?: unknown }[]>('GET', '/sandboxes')
  for (const shared of [true, false])
    for (const { name, shares } of sandboxes)
      if ((shares !== undefined) === shared) host.request('DELETE', `/sandboxes/${name}`)
  host.request('POST', '/networks/prune')
}

/** Every sandbox and every network that nobody uses, as a user would remove them. */
export function removeByCommands(host: BareHost): void {
  const sandboxes = host.tsnet('-q', 'sandbox', 'ls').split('\n').filter(Boolean)
  if (sandboxes.length > 0) host.tsnet('sandbox', 'rm', ...sandboxes)
  host.tsnet('network', 'prune')
}

/** Each test of a file leaves the host as it found it, once `tidy` has removed what the test made. */
export function eachLeavesAsFound(host: () => BareHost, tidy: () => unknown = () => {}): void {
  let found: string
  beforeEach(() => {
    found = host().snapshot()
  })
  afterEach(async () => {
    await tidy()
    expect(host().snapshot()).toBe(found)
  })
}
