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
