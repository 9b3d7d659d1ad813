import type { Endpoint, Network } from '../cnm/types.js'
import { shortId } from '../names.js'
import type { Link } from '../netlink/objects.js'

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
export const isMarkOf = (network: Network, alias: string | undefined): boolean =>
  alias === markOf(network) || (network.createdBy === 'docker' && alias === `${mark}docker-${shortId(network.id)}`)

export const isMarked = (link: Link): boolean => link.alias?.startsWith(mark) === true
