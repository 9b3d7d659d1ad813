import type { PortBinding, PortRange, Protocol } from '../cnm/types.js'

/** The host's ports that are ours while published: really bound, so that nobody else takes them. */
export declare class HostPorts {
  /** Bind the host port(s); `owner` (the endpoint's name) is for messages. Held already for the same target: fine. Else taken = Conflict naming the holder. */
  hold(binding: PortBinding, owner: string): Promise<void>
  /** Not held = fine. Connections through the proxy end. */
  release(binding: PortBinding): Promise<void>
  /**
   * Choose `size` consecutive ports free on every one of `hostIps` and bind them for `owner`, until `hold` adopts them or `releaseChosen` lets them go.
   * `range` absent: the kernel's ephemeral range. Returns the first port.
   */
  choose(request: PortRequest): Promise<number>
  /** Release everything: the daemon stops. */
  close(): Promise<void>
}

export interface PortRequest {
  protocol: Protocol
  hostIps: readonly string[]
  range?: PortRange
  size: number
  owner: string
}
