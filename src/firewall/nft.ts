import type { ElementsChange } from '../netlink/nft-elements.js'

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

/** The same, with a quicker way for elements. */
export interface Nftables extends Runner {
  /** Elements of sets and maps, in this order, as one transaction: costs what they are, whatever there is. Throws NftError. */
  change(changes: readonly ElementsChange[]): void
}

/** nft refused. The message is the first thing that it said and the command that it said it of; it goes on, often about the same. */
export class NftError extends Error {
  override readonly name = 'NftError'
  constructor(readonly details: string) {
    const [why = details, command] = details.split('\n').map(line => line.trim())
    super(command ? `${why} (nft: ${command.slice(0, longestCommand)})` : why)
  }
}

/** A transaction may be megabytes. */
const longestCommand = 160
