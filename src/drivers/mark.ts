import type { Endpoint, Network } from '../cnm/types.js'
import { linkGroup } from '../marks.js'
import { shortId } from '../names.js'
import type { LinkMark } from '../netlink/link-deletions.js'

/** Every link of ours says so in its alias, for `ip link show` to tell and for us to know which ones we may touch. */
const mark = 'tsnet:'

export const markOf = (network: Network, endpoint?: Endpoint): string =>
  endpoint === undefined ? `${mark}${network.name}` : `${mark}${network.name}:${endpoint.name}`

/** A VLAN link that several networks may stand on is nobody's in particular; no network has an empty name. */
export const markOfVlans = `${mark}:vlan`

/**
 * Whether a link carries this network's mark, or the one that it had before dockerd told its name: a crash may come
 * between the new name's record and the link.
 */
export const isMarkOf = (network: Network, { alias, group }: LinkMark): boolean =>
  alias === markOf(network) ||
  (network.createdBy === 'docker' && alias === `${mark}docker-${shortId(network.id)}`) ||
  isHalfMade(alias, group)

export const isMarked = ({ alias, group }: LinkMark): boolean =>
  alias?.startsWith(mark) === true || isHalfMade(alias, group)

/** The kernel takes the alias only in a second message; until then the group says that the link is ours, and its name whose. */
const isHalfMade = (alias: string | undefined, group: number): boolean => alias === undefined && group === linkGroup
