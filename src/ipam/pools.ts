import { createHash, randomBytes } from 'node:crypto'
import type { Family } from '../cnm/types.js'
import { conflict, invalid, notFound } from '../errors.js'
import {
  bitsOf,
  type Cidr,
  contains,
  formatAddress,
  formatCidr,
  overlaps,
  parseCidr,
  parseHostCidr,
} from '../net/cidr.js'
import { nameOwner } from './book.js'
import type { Pool, PoolSpec } from './types.js'

/** `base` cut into subnets with prefix length `size`. */
export interface DefaultPool {
  base: string
  size: number
}

/**
 * Where IPv4 pools come from when nobody names a subnet: 4,096 subnets of 254 addresses, then as many again. Docker's 31 big ones
 * run out, and a /24 holds more endpoints than most networks have. 10.208.0.0/12 comes first because few use it: not Docker
 * (172.17.0.0/16 and up, 192.168.0.0/16, Swarm 10.0.0.0/24 and up), podman (10.88, 10.89), k3s (10.42, 10.43), kubeadm (10.96/12),
 * flannel (10.244), nor the low ends of 10.0.0.0/8 where sites and clouds begin. 172.16.0.0/12 is the reserve: shared with
 * Docker, whose bridges the check against the host's networks steps around.
 */
const ipv4Pools: readonly DefaultPool[] = [
  { base: '10.208.0.0/12', size: 24 },
  { base: '172.16.0.0/12', size: 24 },
]

/**
 * The same for global networks: 256 subnets of 4,094 addresses, because many hosts put their endpoints into one. It is beside
 * the local pools and in none of the ranges above, so that a network that is made global later finds no local one in its way.
 */
const globalIpv4Pools: readonly DefaultPool[] = [{ base: '10.192.0.0/12', size: 20 }]

/** The site's own IPv6 /48 (RFC 4193: fd, 40 bits peculiar to the site, 16 bits of subnet number), as Docker derives it. */
function ulaPool(siteId: string): DefaultPool {
  const globalId = createHash('sha256').update(siteId).digest('hex').slice(0, 10)
  return { base: `${formatAddress(6, BigInt(`0xfd${globalId}`) << 80n)}/48`, size: 64 }
}

/** The default pools, checked. Those given replace ours for their families. */
export function defaultPools(hostId: string, given: readonly DefaultPool[] = []): DefaultPool[] {
  const families = new Set(
    given.map(({ base, size }) => {
      const { family, prefixLength } = parseCidr(base, 'default pool')
      if (!Number.isInteger(size) || size < prefixLength || size > bitsOf(family))
        throw invalid(
          `default pool ${base} cannot be cut into subnets of /${size}; use ${prefixLength} to ${bitsOf(family)}`,
        )
      return family
    }),
  )
  return [...given, ...(families.has(4) ? [] : ipv4Pools), ...(families.has(6) ? [] : [ulaPool(hostId)])]
}

/** The default pools of global networks, the same on every host of the cluster. */
export const globalDefaultPools = (clusterId: string): DefaultPool[] => [...globalIpv4Pools, ulaPool(clusterId)]

/** The first default subnet that overlaps nothing of `taken`. */
export function chooseSubnet(family: Family, pools: readonly DefaultPool[], taken: readonly Cidr[]): Cidr {
  const ordered = taken.filter(t => t.family === family).sort((a, b) => (a.first < b.first ? -1 : 1))
  const own = pools.filter(pool => parseCidr(pool.base).family === family)
  for (const { base, size } of own) {
    const { first, last } = parseCidr(base)
    const step = 1n << BigInt(bitsOf(family) - size)
    let start = first
    // One pass: whatever overlaps the candidate moves it behind its end, and the next in order is compared with that.
    for (const { first: from, last: to } of ordered)
      if (from < start + step && to >= start) start += ((to - start) / step + 1n) * step
    if (start + step - 1n <= last) return { family, prefixLength: size, first: start, last: start + step - 1n }
  }
  const bases = own.map(p => `${p.base} in /${p.size}s`).join(', ')
  throw conflict(`no IPv${family} subnet is left of the default pools (${bases}); free a network, or name a subnet`)
}

/**
 * What a chosen subnet must keep clear of on the host. The default route does not count: it overlaps everything.
 * A subnet that the user names is not held against these: macvlan's is the subnet of the parent's LAN, and a bridge that exists
 * already has its own subnet on it. Whether it would cut the host off depends on the driver, which can ask `hostOverlap`.
 */
const hostCidrs = (hostSubnets: readonly string[]): Cidr[] =>
  hostSubnets.map(text => parseHostCidr(text, 'host subnet')).filter(cidr => cidr.prefixLength > 0)

const chooseFreeSubnet = (
  spec: PoolSpec,
  pools: readonly DefaultPool[],
  inUse: readonly Cidr[],
  hostSubnets: readonly string[],
): Cidr => {
  const avoid = (spec.avoid ?? []).map(text => parseHostCidr(text, 'subnet to avoid'))
  return chooseSubnet(spec.family, pools, [...inUse, ...avoid, ...hostCidrs(hostSubnets)])
}

/** Subnet and range as the user wrote them, checked against each other. */
function parsePool({ family, subnet: text, range: rangeText }: PoolSpec & { subnet: string }): {
  subnet: Cidr
  range?: Cidr
} {
  const subnet = parseCidr(text)
  if (subnet.family !== family) throw invalid(`subnet ${text} is not IPv${family}`)
  if (rangeText === undefined) return { subnet }
  const range = parseCidr(rangeText, 'range')
  if (!contains(subnet, range)) throw invalid(`range ${rangeText} is not inside subnet ${text}`)
  return { subnet, range }
}

/** A pool that is there already. */
export interface Taken<P extends Pool = Pool> {
  pool: P
  subnet: Cidr
}

/** The pool that a spec asks for once more, where it says that this is fine. */
export function samePool<P extends Pool>(spec: PoolSpec, taken: readonly Taken<P>[]): P | undefined {
  if (!spec.sameIsFine || spec.subnet === undefined) return undefined
  const subnet = formatCidr(parseCidr(spec.subnet))
  const range = spec.range && formatCidr(parseCidr(spec.range, 'range'))
  const same = taken
    .map(({ pool }) => pool)
    .filter(pool => pool.subnet === subnet && (range === undefined || pool.range === range))
  return same.find(pool => pool.owner === spec.owner) ?? same[0]
}

/** The pool to be made for a spec. @throws {NetError} as requestPool of Addresses */
export function planPool(
  spec: PoolSpec,
  taken: readonly Taken[],
  pools: readonly DefaultPool[],
  hostSubnets: () => string[],
): Pool {
  const { subnet, range } =
    spec.subnet === undefined
      ? choosePool(spec, taken, pools, hostSubnets)
      : explicitPool({ ...spec, subnet: spec.subnet }, taken)
  return {
    id: randomBytes(8).toString('hex'),
    family: spec.family,
    subnet: formatCidr(subnet),
    ...(range && { range: formatCidr(range) }),
    ...(spec.shared && { shared: true }),
    ...(spec.scope === 'global' && { scope: 'global' }),
    owner: spec.owner,
    createdAt: new Date().toISOString(),
  }
}

function explicitPool(spec: PoolSpec & { subnet: string }, taken: readonly Taken[]): { subnet: Cidr; range?: Cidr } {
  const parsed = parsePool(spec)
  const mayShare = (pool: Pool) => spec.shared && pool.shared && pool.subnet === formatCidr(parsed.subnet)
  for (const { pool, subnet: other } of taken)
    if (overlaps(other, parsed.subnet) && !mayShare(pool)) throw overlap(spec.subnet, pool)
  return parsed
}

function choosePool(
  spec: PoolSpec,
  taken: readonly Taken[],
  pools: readonly DefaultPool[],
  hostSubnets: () => string[],
): { subnet: Cidr; range?: Cidr } {
  if (spec.range !== undefined) throw invalid(`range ${spec.range} needs the subnet that it is part of`)
  const inUse = taken.map(({ subnet }) => subnet)
  return { subnet: chooseFreeSubnet(spec, pools, inUse, hostSubnets()) }
}

/** What a subnet must not overlap, of pools that do not share theirs. */
export const overlapping = <P extends Pool>(subnet: string, others: readonly Taken<P>[]): P | undefined => {
  const cidr = parseCidr(subnet)
  return others.find(other => overlaps(other.subnet, cidr))?.pool
}

export const toTaken = <P extends Pool>(pool: P): Taken<P> => ({ pool, subnet: parseCidr(pool.subnet) })

export const overlap = (subnet: string, other: Pool) =>
  conflict(`subnet ${subnet} overlaps ${nameOwner(other)} (${other.subnet})`)

export const noPool = (poolId: string) => notFound(`address pool ${poolId} does not exist`)
