import type { PortBinding, PortSpec } from '../cnm/types.js'
import type { HostPorts } from './host-ports.js'

export interface PublishTarget {
  /** CIDRs of the endpoint */
  addresses: readonly string[]
  /** host address for a `-p` without one; absent: every address of the host */
  hostBinding4?: string
  hostBinding6?: string
  held: HostPorts
  /** endpoint name, for messages */
  owner: string
}

/** Which host address and port each spec becomes. Ports that we chose are bound already: hold or release every binding returned. */
export declare function resolveBindings(specs: readonly PortSpec[], target: PublishTarget): Promise<PortBinding[]>
