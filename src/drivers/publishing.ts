import type { Replaced, Step } from '../cnm/driver.js'
import type { Endpoint, PortBinding, PortSpec } from '../cnm/types.js'
import { resolveBindings } from '../firewall/publish.js'
import { bindingElements } from '../firewall/rules.js'
import { familyOf } from '../ports/address.js'
import { formatBinding } from '../ports/spec.js'
import { withUndo } from '../undo.js'
import type { DriverDeps } from './driver-deps.js'

// Published ports of drivers whose endpoints are behind the host: bridge and overlay.

/** What publishing has to know of a network. */
export interface PublishingNetwork {
  /** host address for ports that are asked for without one; '' for every address */
  hostBinding: string
}

/**
 * Publish ports of an endpoint: hold them on the host, then have the firewall redirect them. What gives way ends in the
 * same transaction, and a port that is in both stays held: nobody finds it closed.
 */
export function publishPorts(
  { firewall, hostPorts, flows }: DriverDeps,
  { hostBinding }: PublishingNetwork,
  endpoint: Endpoint,
  ports: readonly PortSpec[],
  giveWay: Replaced = () => [],
): Promise<PortBinding[]> {
  const owner = endpoint.id
  return withUndo(async undo => {
    const bindings = await resolveBindings(ports, {
      addresses: endpoint.addresses,
      ...(hostBinding !== '' &&
        (familyOf(hostBinding) === 6 ? { hostBinding6: hostBinding } : { hostBinding4: hostBinding })),
      held: hostPorts,
      owner,
    })
    const replaced = giveWay(bindings)
    // all of them first: ports that were chosen for us are bound already, whichever hold fails
    for (const binding of bindings)
      undo.add(`release port ${binding.hostPort}`, () => hostPorts.release(binding, replaced))
    for (const binding of bindings) {
      if (replaced.length === 0) await hostPorts.hold(binding, owner)
      else undo.add(`give port ${binding.hostPort} back`, await hostPorts.takeOver(binding, owner))
    }
    await firewall.apply({ add: bindings.flatMap(bindingElements), delete: replaced.flatMap(bindingElements) })
    for (const old of replaced) await hostPorts.release(old, bindings)
    await flows.endReplaced(replaced, bindings)
    await flows.endEarlier(bindings)
    return bindings
  })
}

export async function revokePorts(
  { firewall, hostPorts, flows }: DriverDeps,
  bindings: readonly PortBinding[],
): Promise<void> {
  if (bindings.length === 0) return
  await firewall.apply({ add: [], delete: bindings.flatMap(bindingElements) })
  for (const binding of bindings) await hostPorts.release(binding)
  await flows.end(bindings)
}

/** The host's ports of an endpoint that are not held: after a start of the daemon, all of them. */
export const holdSteps = ({ hostPorts }: DriverDeps, endpoint: Endpoint): Step[] =>
  endpoint.bindings
    .filter(binding => !hostPorts.isHeld(binding))
    .map(binding => ({
      words: `hold ${formatBinding(binding)} for endpoint ${endpoint.name}`,
      apply: () => hostPorts.hold(binding, endpoint.id),
    }))
