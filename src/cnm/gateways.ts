import type { Attachment } from './driver.js'
import type { Endpoint, Family, Network } from './types.js'

/** An endpoint of a sandbox with what its network offers. */
export interface Candidate {
  network: Network
  endpoint: Endpoint
  attachment: Attachment
}

/**
 * The order in which a sandbox's endpoints are asked for a way out, best first: highest priority, then Docker's order
 * (Endpoint.Less in libnetwork/sandbox.go): not internal, then both families rather than one, then by the network's name.
 */
export function byPreference<C extends Candidate>(candidates: readonly C[]): C[] {
  const priority = ({ endpoint }: Candidate): number => endpoint.options?.gw_priority ?? 0
  const internal = ({ network }: Candidate): number => (network.internal ? 1 : 0)
  const families = ({ attachment }: Candidate): number => Object.keys(attachment.gateways).length
  return [...candidates].sort(
    (a, b) =>
      priority(b) - priority(a) ||
      internal(a) - internal(b) ||
      families(b) - families(a) ||
      (a.network.name < b.network.name ? -1 : 1),
  )
}

/** Who the default route of a family goes by: the first in that order that has a gateway. */
export function electGateway<C extends Candidate>(candidates: readonly C[], family: Family): C | undefined {
  return byPreference(candidates).find(({ attachment }) => attachment.gateways[family] !== undefined)
}
