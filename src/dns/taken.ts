import { readFileSync } from 'node:fs'
import { inNetns, type Netns } from '../netlink/netns.js'

/**
 * Whether any UDP socket of a namespace is bound to this IPv4 address. Docker's resolver has 127.0.0.11 but a port of its
 * own, to which the container's firewall sends port 53: binding the port would succeed, and be of no use to anybody.
 */
export function takenBySomebody(netns: Netns, address: string): boolean {
  const rows = inNetns(netns, () => readFileSync('/proc/thread-self/net/udp', 'utf8'))
  return rows.includes(` ${hexOf(address)}:`)
}

/** As proc_pid_net(5) has it: one word in the machine's order, which is little endian. */
const hexOf = (address: string): string =>
  address
    .split('.')
    .reverse()
    .map(byte => Number(byte).toString(16).toUpperCase().padStart(2, '0'))
    .join('')
