import type { Family } from '../cnm/types.js'
import { addressOf } from '../net/subnets.js'
import type { Kernel } from '../netlink/kernel.js'
import { addressFlags } from '../netlink/tables.js'
import { isPrivate } from '../ports/address.js'
import type { PublishDefault } from '../ports/default.js'
import { isMarked } from './mark.js'
import { otherBridges } from './other-bridges.js'

/**
 * The host's addresses for a `-p` that names none, as they are now; undefined: all of them, whatever they will be.
 * lan: an address that is nobody else's in the whole world is not reached from everywhere in it, so it is the private ones
 * (RFC 1918, RFC 4193), wherever the default route goes. Those of bridges to containers are left out, ours and other programs':
 * a container finds the port at the host's own. IPv6 addresses that change by themselves every day are left out too.
 */
export function defaultHosts(kernel: Kernel, where: PublishDefault): Record<Family, string[]> | undefined {
  if (where === 'any') return undefined
  const loopback = { 4: ['127.0.0.1'], 6: ['::1'] }
  if (where === 'loopback') return loopback
  const links = kernel.links()
  const inner = new Set(otherBridges(kernel))
  const outer = new Set(links.filter(link => !isMarked(link) && !inner.has(link.name)).map(({ index }) => index))
  const usable = kernel
    .addresses()
    .filter(({ index, family, flags, deprecated, dadFailed }) => {
      const passing = family === 6 && (flags & addressFlags.temporary) !== 0
      return outer.has(index) && !passing && !deprecated && !dadFailed
    })
    .map(({ address }) => addressOf(address))
    .filter(isPrivate)
  const own = (family: Family) => usable.filter(address => address.includes(':') === (family === 6)).sort()
  return { 4: [...own(4), ...loopback[4]], 6: [...own(6), ...loopback[6]] }
}
