import { execFileSync } from 'node:child_process'
import { afterEach, beforeAll } from 'vitest'
import { type CliWorld, eachHasCli } from './cli-world.js'
import { makeNetns, needRoot, netnsPath, removeNetns, sweep } from './netns.js'

/** Each test of a file has a command line, and a sandbox whose namespace is real: `take` gets both, the sandbox by its name. */
export function eachHasNetns(prefix: string, take: (world: CliWorld, name: string) => void): void {
  let ns: string
  beforeAll(() => {
    needRoot()
    sweep(prefix)
  })
  eachHasCli(async world => {
    world.cnm.namespaces = {
      create: name => void execFileSync('ip', ['netns', 'add', name]),
      delete: name => removeNetns(name),
    }
    ns = makeNetns(prefix)
    await world.cnm.createSandbox({ name: ns, netns: netnsPath(ns) })
    take(world, ns)
  })
  afterEach(() => removeNetns(ns))
}
