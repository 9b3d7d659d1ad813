import { messageOf, unavailable } from '../errors.js'

/** Whatever can run nft commands in the daemon's network namespace: the library in this process, or its twin, the `nft` program. */
export interface Runner {
  readonly name: 'libnftables' | 'nft'
  /**
   * Run commands in nft's own syntax, all of them as one transaction: either everything happens or nothing.
   * Returns what `nft -j` prints: JSON text for a `list`, else ''. Throws NftError with nft's own words.
   */
  run(commands: string): Promise<string>
  close(): void
}

/** nft refused; the message is its own, the first line says why. */
export class NftError extends Error {
  override readonly name = 'NftError'
}

export type RunnerChoice = 'auto' | Runner['name']

/** The library where it loads, else the program, each tried with a harmless command; neither = Unavailable, saying what to install. */
export async function openRunner(choice: RunnerChoice = 'auto'): Promise<Runner> {
  const makers: { name: Runner['name']; make(): Promise<Runner> }[] = [
    { name: 'libnftables', make: async () => (await import('./libnftables.js')).libnftablesRunner() },
    { name: 'nft', make: async () => (await import('./nft-exec.js')).nftExecRunner() },
  ]
  const failures: string[] = []
  for (const { name, make } of makers) {
    if (choice !== 'auto' && choice !== name) continue
    try {
      const runner = await make()
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
