import { readFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { inNetns, type Netns } from '../netlink/netns.js'

/**
 * Whether port 53 of a loopback address is to be had in a namespace that is not of our making: `down` is no loopback to
 * listen on (the kernel lets it be bound all the same, where the namespace never had an address, and then replies from another).
 *
 * `taken` is any UDP socket on the address: Docker's resolver has 127.0.0.11 but a port of its own, to which the container's
 * firewall sends port 53; binding the port would succeed, and be of no use to anybody.
 */
export function loopbackState(netns: Netns, address: string): 'free' | 'taken' | 'down' {
  return inNetns(netns, () => {
    // links that are up, with their addresses
    const up = Object.values(networkInterfaces()).some(list => list?.some(each => each.address === '127.0.0.1'))
    if (!up) return 'down'
    return readFileSync('/proc/thread-self/net/udp', 'utf8').includes(` ${hexOf(address)}:`) ? 'taken' : 'free'
  })
}

/** As proc_pid_net(5) has it: one word in the machine's order, which is little endian. */
const hexOf = (address: string): string =>
  address
    .split('.')
    .reverse()
    .map(byte => Number(byte).toString(16).toUpperCase().padStart(2, '0'))
    .join('')
