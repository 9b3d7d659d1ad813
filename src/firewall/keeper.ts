import { libnftablesRunner } from './libnftables.js'
import type { Runner } from './nft.js'

/**
 * A second table without a say: as long as it is there, the kernel goes on replacing the addresses of the connections that it
 * knows. It is there while `nft flush ruleset` has taken our rules away, because it has an owner (linux/netfilter/nf_tables.h,
 * NFT_TABLE_F_OWNER, since Linux 5.12): nobody else can take it away, and with our socket it goes by itself.
 */
export const keeperName = 'tsnet_keeper'

const commands = `
  table inet ${keeperName} {
    flags owner
    chain prerouting { type nat hook prerouting priority dstnat; policy accept; ct status dnat accept; }
    chain input { type nat hook input priority 100; policy accept; }
    chain output { type nat hook output priority -100; policy accept; }
    chain postrouting { type nat hook postrouting priority srcnat; policy accept; }
  }`

/** Put it there. @throws {NftError} where the kernel knows no owners, or there is no libnftables */
export async function openKeeper(): Promise<{ close(): void }> {
  const runner: Runner = libnftablesRunner()
  try {
    await runner.run(commands)
    return runner
  } catch (error) {
    runner.close()
    throw error
  }
}
