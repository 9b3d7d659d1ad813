import { inNetns, type Netns } from '../netlink/netns.js'
import { nftHere } from './libnftables.js'

/** Ours inside of sandboxes; the host's is another. */
const table = 'ip tsnet_dns'

export interface Redirect {
  /** IPv4 address of the namespace's own */
  address: string
  port: number
  /** where it is really answered, at the same address */
  to: { udp: number; tcp: number }
}

/**
 * Inside a namespace, what its programs send to a port of an address arrives at other ports of it: the port itself stays
 * free, for a program that binds it on every address. As Docker does for its resolver. Replaces what was there before.
 * @throws {NftError} also where the library is missing
 */
export function ensureRedirect(netns: Netns, { address, port, to }: Redirect): void {
  const rule = (protocol: 'udp' | 'tcp'): string =>
    `ip daddr ${address} ${protocol} dport ${port} dnat to ${address}:${to[protocol]}`
  const commands = `
    create table ${table}
    table ${table} {
      chain output {
        type nat hook output priority -100; policy accept;
        ${rule('udp')}
        ${rule('tcp')}
      }
    }`
  inNetns(netns, () => {
    try {
      nftHere(commands)
    } catch {
      // One is there. Not deleted blindly: after a deletion the kernel makes whoever closes the socket wait for an RCU
      // grace period, 20 ms on the main thread for every new sandbox.
      nftHere(`delete table ${table}\n${commands}`)
    }
  })
}

/** Absent is fine. */
export function deleteRedirect(netns: Netns): void {
  inNetns(netns, () => nftHere(`add table ${table}; delete table ${table}`))
}
