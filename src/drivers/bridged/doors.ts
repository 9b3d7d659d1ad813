import type { HostDoor } from '../../cnm/types.js'
import type { BridgedNetwork } from './links.js'
import { modeOf } from './modes.js'

/** What of a network comes to the host: questions to the resolver at its gateways, and connections to ports published at [::1]. */
export function doorsOf(network: BridgedNetwork, link: string): HostDoor[] {
  const doors = network.subnets.flatMap(({ family, gateway }): HostDoor[] => {
    if (gateway === undefined || modeOf(network, family) === 'isolated') return []
    return [{ what: `the resolver at ${gateway}`, family, protocol: 'udp', port: 53, link, address: gateway }]
  })
  // the kernel cannot redirect those: the daemon's own socket takes them
  if (!network.internal)
    doors.push({ what: 'ports published at [::1]', family: 6, protocol: 'tcp', link: 'lo', address: '::1' })
  return doors
}
