import type { Element } from './elements.js'
import type { Runner } from './runner.js'

/** Our one nftables table, `table inet tsnet`, as data: the rules never change, only the elements of its sets and maps do. */
export interface Firewall {
  /**
   * See that the static table is there, whole and of our version; a missing, damaged or older one is replaced in one transaction
   * that also puts back `keep` (absent: every element of the old table that still means something).
   */
  ensure(keep?: readonly Element[]): Promise<{ created: boolean }>
  /** Every element that the kernel has. */
  list(): Promise<Element[]>
  /**
   * One transaction: first the deletes, by key, then the adds. Adding what is there and deleting what is not are fine;
   * adding a key that is there with another value replaces the value.
   */
  apply(change: FirewallChange): Promise<void>
  /** Our table is gone afterwards; absent is fine. Equivalent to `nft delete table inet tsnet`. */
  delete(): Promise<void>
}

export interface FirewallChange {
  add: readonly Element[]
  delete: readonly Element[]
}

export declare function createFirewall(runner: Runner): Firewall
