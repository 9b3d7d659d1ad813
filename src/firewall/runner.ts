import { messageOf, unavailable } from '../errors.js'
import { libnftablesRunner } from './libnftables.js'
import type { Runner } from './nft.js'
import { nftExecRunner } from './nft-exec.js'

export type RunnerChoice = 'auto' | Runner['name']

/** The library where it loads, else the program, each tried with a harmless command; neither = Unavailable, saying what to install. */
export async function openRunner(choice: RunnerChoice = 'auto'): Promise<Runner> {
  const makers: { name: Runner['name']; make(): Runner }[] = [
    { name: 'libnftables', make: () => libnftablesRunner() },
    { name: 'nft', make: () => nftExecRunner() },
  ]
  const failures: string[] = []
  for (const { name, make } of makers) {
    if (choice !== 'auto' && choice !== name) continue
    try {
      const runner = make()
      await runner.run('list tables')
      return runner
    } catch (error) {
      failures.push(`${name}: ${messageOf(error)}`)
    }
  }
  throw unavailable(
    `the firewall needs nftables: install the package libnftables1 (or nftables, for the nft program) (${failures.join('; ')})`,
  )
}
