import type { Loss, Step } from '../cnm/driver.js'
import type { Endpoint, Family, PortBinding, PortSpec } from '../cnm/types.js'
import { type Element, keyOf } from '../firewall/elements.js'
import type { FirewallChange } from '../firewall/firewall.js'
import { openElements } from '../firewall/open-ports.js'
import { resolveBindings } from '../firewall/publish.js'
import { bindingElements } from '../firewall/rules.js'
import { familyOf } from '../ports/address.js'
import type { PublishDefault } from '../ports/default.js'
import { formatBinding } from '../ports/spec.js'
import { diff } from '../reconcile.js'
import { withUndo } from '../undo.js'
import { defaultHosts } from './default-hosts.js'
import type { DriverDeps } from './driver-deps.js'

// Published ports of drivers whose endpoints are behind the host: bridge and overlay.

/** What publishing has to know of a network. */
export interface PublishingNetwork {
  name: string
  /** host address for ports that are asked for without one; '' for every address */
  hostBinding: string
  /** where they are published when the network names no address either */
  publishDefault: PublishDefault
  /** CIDRs of the clients of ports that name none themselves; none: everybody */
  from: readonly string[]
  /** families in which ports are opened at the endpoint's own address, and no port of the host is used */
  direct: ReadonlySet<Family>
  /** whatever is published is also reached at the endpoint's own address, by links that the network trusts */
  trusts: boolean
}

/** What the firewall must hold for the ports of one endpoint, given all of them. Pure. */
export const portElements = (network: PublishingNetwork, bindings: readonly PortBinding[]): Element[] => [
  ...bindings.flatMap(bindingElements),
  ...opened(network, bindings),
]

/** Reached at the endpoint's own address. */
const opened = ({ trusts }: PublishingNetwork, bindings: readonly PortBinding[]): Element[] =>
  openElements(bindings.filter(({ direct }) => direct || trusts))

/** The way to the same port that goes by no port of the host. */
const directly = (binding: PortBinding): PortBinding => {
  const { containerIp, containerPort } = binding
  return { ...binding, hostIp: containerIp, hostPort: containerPort, direct: true }
}

export interface PublishingLoss extends Omit<Loss, 'network'> {
  network: PublishingNetwork
}

/** What of that changes when an endpoint loses some of its bindings and gets others: several of them may lead to one port. */
function openedChange(
  network: PublishingNetwork,
  { bindings }: Endpoint,
  lost: readonly PortBinding[],
  got: readonly PortBinding[],
): FirewallChange {
  const after = [...bindings.filter(binding => !lost.includes(binding)), ...got]
  const plan = diff(opened(network, after), opened(network, bindings), { want: keyOf, have: keyOf }, () => true)
  return { add: plan.add, delete: plan.remove }
}

/**
 * Publish ports of an endpoint: hold them on the host, then have the firewall redirect them. What gives way ends in the
 * same transaction, and a port that is in both stays held: nobody finds it closed.
 */
export function publishPorts(
  { kernel, firewall, hostPorts, flows }: DriverDeps,
  network: PublishingNetwork,
  endpoint: Endpoint,
  ports: readonly PortSpec[],
  giveWay: (granted: readonly PortBinding[]) => readonly PublishingLoss[],
): Promise<PortBinding[]> {
  const owner = endpoint.id
  const { hostBinding, publishDefault, direct, name } = network
  const hosts = hostBinding === '' ? defaultHosts(kernel, publishDefault) : undefined
  return withUndo(async undo => {
    const bindings = await resolveBindings(ports, {
      addresses: endpoint.addresses,
      ...(hostBinding !== '' &&
        (familyOf(hostBinding) === 6 ? { hostBinding6: hostBinding } : { hostBinding4: hostBinding })),
      ...(hosts && { hosts }),
      ...{ from: network.from, direct, network: name },
      held: hostPorts,
      owner,
    })
    const losses = giveWay(bindings)
    const replaced = losses.flatMap(loss => loss.bindings)
    // all of them first: ports that were chosen for us are bound already, whichever hold fails
    undo.add('release ports', () => hostPorts.release(bindings, replaced))
    for (const binding of bindings) {
      if (replaced.length === 0) await hostPorts.hold(binding, owner, bindings)
      else undo.add(`give port ${binding.hostPort} back`, await hostPorts.takeOver(binding, owner, bindings))
    }
    const own = losses.find(loss => loss.endpoint.id === endpoint.id) ?? { endpoint, bindings: [] }
    const changes = [
      ...losses.filter(loss => loss !== own).map(loss => openedChange(loss.network, loss.endpoint, loss.bindings, [])),
      openedChange(network, own.endpoint, own.bindings, bindings),
    ]
    const come = [...bindings.flatMap(bindingElements), ...changes.flatMap(({ add }) => add)]
    const gone = [...replaced.flatMap(bindingElements), ...changes.flatMap(change => change.delete)]
    await firewall.apply({ add: come, delete: gone })
    undo.add('have the firewall as it was', () => firewall.apply({ add: gone, delete: come }))
    await hostPorts.release(replaced, bindings)
    await flows.endReplaced(replaced, bindings)
    await flows.endEarlier(bindings, binding => hostPorts.hasDropped(binding))
    return bindings
  })
}

export async function revokePorts(
  { firewall, hostPorts }: DriverDeps,
  network: PublishingNetwork,
  endpoint: Endpoint,
  bindings: readonly PortBinding[],
): Promise<void> {
  if (bindings.length === 0) return
  const others = endpoint.bindings.filter(binding => !bindings.includes(binding))
  const change = openedChange(network, { ...endpoint, bindings: [...others, ...bindings] }, bindings, [])
  await firewall.apply({ add: change.add, delete: [...bindings.flatMap(bindingElements), ...change.delete] })
  await hostPorts.release(bindings)
}

/** End the connections that came by bindings that are revoked. */
export const endFlows = (
  { flows }: DriverDeps,
  network: PublishingNetwork,
  bindings: readonly PortBinding[],
): Promise<void> => flows.end(network.trusts ? [...bindings, ...bindings.map(directly)] : bindings)

/** As they were before `revokePorts`. */
export async function republishPorts(
  { firewall, hostPorts }: DriverDeps,
  network: PublishingNetwork,
  endpoint: Endpoint,
  bindings: readonly PortBinding[],
): Promise<void> {
  for (const binding of bindings) await hostPorts.hold(binding, endpoint.id, bindings)
  const others = endpoint.bindings.filter(binding => !bindings.includes(binding))
  await firewall.apply({
    add: [...bindings.flatMap(bindingElements), ...opened(network, [...others, ...bindings])],
    delete: [],
  })
}

/** The host's ports of an endpoint that are not held: after a start of the daemon, all of them. */
export const holdSteps = ({ hostPorts }: DriverDeps, endpoint: Endpoint): Step[] =>
  endpoint.bindings
    .filter(binding => !hostPorts.isHeld(binding))
    .map(binding => ({
      words: `hold ${formatBinding(binding)} for endpoint ${endpoint.name}`,
      apply: () => hostPorts.hold(binding, endpoint.id, endpoint.bindings),
    }))
