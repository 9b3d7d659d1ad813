import { messageOf, unavailable } from '../errors.js'
import { NetlinkError } from '../netlink/netlink-error.js'
import { NftElements } from '../netlink/nft-elements.js'
import { libnftablesRunner } from './libnftables.js'
import { type Nftables, NftError, type Runner } from './nft.js'
import { nftExecRunner } from './nft-exec.js'

export type RunnerChoice = 'auto' | Runner['name']

/** The library where it loads, else the program, each tried with a harmless command; neither = Unavailable, saying what to install. */
export async function openRunner(choice: RunnerChoice = 'auto'): Promise<Nftables> {
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
      return withElements(runner)
    } catch (error) {
      failures.push(`${name}: ${messageOf(error)}`)
    }
  }
  throw unavailable(
    `the firewall needs nftables: install the package libnftables1 (or nftables, for the nft program) (${failures.join('; ')})`,
  )
}

/** Elements go straight to the kernel: both kinds of runner read all tables before they change an element of one. */
function withElements(runner: Runner): Nftables {
  const elements = NftElements.open()
  return {
    name: runner.name,
    run: commands => runner.run(commands),
    change(changes) {
      try {
        elements.apply(changes)
      } catch (error) {
        if (!(error instanceof NetlinkError)) throw new NftError(messageOf(error))
        throw new NftError(`${error.reason}\n${error.op}`)
      }
    },
    close() {
      elements.close()
      runner.close()
    },
  }
}
