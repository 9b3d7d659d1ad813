import { notImplemented } from '../errors.js'
import type { Store } from '../store/store.js'
import type { AddressSpec, Allocation, Pool, PoolSpec } from './types.js'

export type { AddressSpec, Allocation, Pool, PoolSpec } from './types.js'

export interface IpamDeps {
  store: Store
  /** milliseconds, as Date.now() */
  now?: () => number
  /** for how long a released address is not chosen again; 10 s by default */
  coolDownMs?: number
  /** CIDRs of the host's routes and addresses, read from the kernel when a pool is chosen */
  hostSubnets: () => string[]
  /** where pools without a subnet come from: `base` cut into subnets of prefix length `size` */
  defaultPools?: readonly { base: string; size: number }[]
  /** stable and unique per host: the default IPv6 pools are derived from it */
  hostId: string
}

const later = (): never => {
  throw notImplemented('ipam is being written')
}

/** Signatures first so that others can build against them; the bodies follow in the next commit. */
export class Ipam {
  constructor(readonly deps: IpamDeps) {}
  /** Read what the store holds; everything else works on that. */
  load = (): Promise<void> => later()
  requestPool = (_spec: PoolSpec): Promise<Pool> => later()
  renameOwner = (_poolId: string, _owner: string): Promise<void> => later()
  /** Unknown pools are fine. With `onlyIfOwner` a pool of anybody else is left alone. Frees the pool's addresses. */
  releasePool = (_poolId: string, _onlyIfOwner?: string): Promise<void> => later()
  /** Returns a CIDR: the address with the subnet's prefix length. */
  requestAddress = (_poolId: string, _spec: AddressSpec): Promise<string> => later()
  /** Make `newOwner` the owner of an address, allocated or not. */
  claim = (_poolId: string, _address: string, _newOwner: string, _ownerName?: string): Promise<void> => later()
  /** Absent addresses and unknown pools are fine. With `onlyIfOwner` an address of anybody else is left alone. */
  releaseAddress = (_poolId: string, _address: string, _onlyIfOwner?: string): Promise<void> => later()
  pools = (): Pool[] => later()
  pool = (_id: string): Pool | undefined => later()
  addresses = (_poolId: string): Allocation[] => later()
}
