import type { Replaced, Step } from '../cnm/driver.js'
import type { Endpoint, Family, PortBinding, PortSpec } from '../cnm/types.js'
import { type Element, keyOf } from '../firewall/elements.js'
import type { FirewallChange } from '../firewall/firewall.js'
import { openElements } from '../firewall/open-ports.js'
import { resolveBindings } from '../firewall/publish.js'
import { bindingElements } from '../firewall/rules.js'
import { familyOf } from '../ports/address.js'
import { clash, formatBinding } from '../ports/spec.js'
import { diff } from '../reconcile.js'
import { withUndo } from '../undo.js'
import type { DriverDeps } from './driver-deps.js'

// Published ports of drivers whose endpoints are behind the host: bridge and overlay.

/** What publishing has to know of a network. */
export interface PublishingNetwork {
  name: string
  /** host address for ports that are asked for without one; '' for every address */
  hostBinding: string
  /** families in which ports are opened at the endpoint's own address, and no port of the host is used */
  direct: ReadonlySet<Family>
}

/** What the firewall must hold for the ports of one endpoint, given all of them. Pure. */
export const portElements = (network: PublishingNetwork, bindings: readonly PortBinding[]): Element[] => [
  ...bindings.flatMap(bindingElements),
  ...opened(network, bindings),
]

/** Reached at the endpoint's own address. */
const opened = (_network: PublishingNetwork, bindings: readonly PortBinding[]): Element[] =>
  openElements(bindings.filter(({ direct }) => direct))

/** What of that changes where one endpoint has other bindings than before: several of them may be of one port. */
function openedChange(
  network: PublishingNetwork,
  before: readonly PortBinding[],
  after: readonly PortBinding[],
): FirewallChange {
  const plan = diff(opened(network, after), opened(network, before), { want: keyOf, have: keyOf }, () => true)
  return { add: plan.add, delete: plan.remove }
}

/**
 * Publish ports of an endpoint: hold them on the host, then have the firewall redirect them. What gives way ends in the
 * same transaction, and a port that is in both stays held: nobody finds it closed.
 */
export function publishPorts(
  { firewall, hostPorts, flows }: DriverDeps,
  network: PublishingNetwork,
  endpoint: Endpoint,
  ports: readonly PortSpec[],
  giveWay: Replaced = () => [],
): Promise<PortBinding[]> {
  const owner = endpoint.id
  const { hostBinding, direct, name } = network
  return withUndo(async undo => {
    const bindings = await resolveBindings(ports, {
      addresses: endpoint.addresses,
      ...(hostBinding !== '' &&
        (familyOf(hostBinding) === 6 ? { hostBinding6: hostBinding } : { hostBinding4: hostBinding })),
      direct,
      network: name,
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
    const staying = endpoint.bindings.filter(old => !bindings.some(binding => clash(old, binding)))
    const change = openedChange(network, staying, [...staying, ...bindings])
    await firewall.apply({
      add: [...bindings.flatMap(bindingElements), ...change.add],
      delete: [...replaced.flatMap(bindingElements), ...change.delete],
    })
    for (const old of replaced) await hostPorts.release(old, bindings)
    await flows.endReplaced(replaced, bindings)
    await flows.endEarlier(bindings)
    return bindings
  })
}

export async function revokePorts(
  { firewall, hostPorts, flows }: DriverDeps,
  network: PublishingNetwork,
  endpoint: Endpoint,
  bindings: readonly PortBinding[],
): Promise<void> {
  if (bindings.length === 0) return
  const staying = endpoint.bindings.filter(binding => !bindings.includes(binding))
  const change = openedChange(network, [...staying, ...bindings], staying)
  await firewall.apply({ add: change.add, delete: [...bindings.flatMap(bindingElements), ...change.delete] })
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
