import type { Attachment, Step, WantedNetwork, Wiring } from '../../cnm/driver.js'
import type { Endpoint, Family, PortBinding } from '../../cnm/types.js'
import { conflict, invalid } from '../../errors.js'
import { keyOf } from '../../firewall/elements.js'
import { resolveBindings } from '../../firewall/publish.js'
import { bindingElements, type FilteredNetwork, networkElements } from '../../firewall/rules.js'
import { shortId } from '../../names.js'
import { addressOf, holds, hostOverlap } from '../../net/subnets.js'
import { openNetns } from '../../netlink/netns.js'
import { linkAdd } from '../../netlink/requests.js'
import { helpOf, parseOptions } from '../../options.js'
import { formatBinding } from '../../ports/spec.js'
import { diff } from '../../reconcile.js'
import { withUndo } from '../../undo.js'
import type { DriverDeps, HostDriver } from '../driver-deps.js'
import { forwardingSteps } from '../forwarding.js'
import { isMarked, isMarkOf, markOf } from '../mark.js'
import { checkNetworkRoutes, networkRoutes } from '../routes.js'
import {
  type BridgeNetwork,
  bridgeNameOf,
  bridgeOf,
  bridgeSteps,
  hostLinkSteps,
  portOf,
  refuseForeign,
} from './links.js'
import { type BridgeOptions, bridgeOptions } from './options.js'

/**
 * A network is a Linux bridge in the host's namespace that has the gateway's addresses; an endpoint is a veth pair, one
 * end a port of the bridge, the other in the sandbox. What may pass is elements of the one ruleset (firewall/rules.ts);
 * `icc=false` is the kernel's isolated flag on the ports.
 */
export const bridge = (deps: DriverDeps): HostDriver<BridgeOptions> => new BridgeDriver(deps)

type Wanted = WantedNetwork<BridgeOptions>

class BridgeDriver implements HostDriver<BridgeOptions> {
  readonly scope = 'local'
  readonly segment = 'own'
  readonly #deps: DriverDeps

  constructor(deps: DriverDeps) {
    this.#deps = deps
  }

  parseOptions(raw: Readonly<Record<string, string>>): BridgeOptions {
    return parseOptions('driver bridge', bridgeOptions, raw)
  }

  optionHelp() {
    return helpOf(bridgeOptions)
  }

  ifnamePrefix(network: BridgeNetwork): string {
    return network.options.ifprefix
  }

  validate(network: BridgeNetwork, others: readonly BridgeNetwork[]): void {
    const name = bridgeNameOf(network)
    const other = others.find(candidate => bridgeNameOf(candidate) === name)
    if (other !== undefined) throw conflict(`bridge name ${name} is taken by network ${other.name}`)
    const link = this.#deps.kernel.link(name)
    if (link !== undefined) refuseForeign(network, link)
    const hostAddresses = this.#deps.kernel.addresses().map(({ address }) => address)
    for (const { subnet } of network.subnets) {
      // the bridge would take over what the host now finds on another link, perhaps the one we are reached by
      const overlapped = hostOverlap(subnet, hostAddresses)
      if (overlapped !== undefined)
        throw conflict(`subnet ${subnet} overlaps ${overlapped}, which the host is connected to`)
    }
    if (network.options.mtu < 1280 && network.subnets.some(({ family }) => family === 6))
      throw invalid(`option mtu=${network.options.mtu} is too small for IPv6, which needs 1280`)
    checkNetworkRoutes(network, network.options.routes)
  }

  async ensureNetwork(network: BridgeNetwork, before?: BridgeNetwork): Promise<void> {
    for (const step of forwardingSteps(familiesOf([network]))) await step.apply()
    const link = this.#deps.kernel.link(bridgeNameOf(network))
    const addresses = link === undefined ? [] : this.#deps.kernel.addresses({ index: link.index })
    for (const step of bridgeSteps(this.#deps.kernel, network, link, addresses)) await step.apply()
    const add = networkElements(filtered(network))
    const had = before === undefined ? [] : networkElements(filtered(before))
    const stale = diff(add, had, { want: keyOf, have: keyOf }, () => true).remove
    await this.#deps.firewall.apply({ add, delete: stale })
    await this.#deps.acceptForeign()
  }

  async deleteNetwork(network: BridgeNetwork): Promise<void> {
    const link = this.#deps.kernel.link(bridgeNameOf(network))
    if (link !== undefined && isMarkOf(network, link.alias)) await this.#deps.kernel.deleteLinks([link.index])
    await this.#deps.firewall.apply({ add: [], delete: networkElements(filtered(network)) })
  }

  async join(network: BridgeNetwork, { endpoint, place }: Wiring): Promise<void> {
    const { kernel } = this.#deps
    const bridgeLink = bridgeOf(kernel, network)
    const link = kernel.link(endpoint.hostLink)
    if (link !== undefined) {
      for (const step of hostLinkSteps(kernel, network, endpoint, link, bridgeLink)) await step.apply()
      return
    }
    const netns = place === undefined ? undefined : openNetns(place.netns)
    try {
      const { mtu } = network.options
      kernel.apply(
        linkAdd({
          kind: 'veth',
          name: endpoint.hostLink,
          mtu,
          master: bridgeLink.index,
          alias: markOf(network, endpoint),
          up: true,
          port: portOf(network),
          peer: {
            name: place?.ifname ?? peerLinkName(endpoint),
            mtu,
            mac: endpoint.mac,
            ...(netns === undefined ? {} : { netns }),
          },
        }),
      )
    } finally {
      netns?.close()
    }
  }

  attachment(network: BridgeNetwork, endpoint: Endpoint): Attachment {
    const attachment: Attachment = {
      link: endpoint.ifname ?? peerLinkName(endpoint),
      mtu: network.options.mtu,
      gateways: {},
      routes: networkRoutes(network, endpoint, network.options.routes ?? []),
    }
    for (const { family, gateway, subnet } of network.subnets) {
      if (gateway === undefined || !endpoint.addresses.some(address => holds(subnet, addressOf(address)))) continue
      if (!network.internal) attachment.gateways[family] ??= gateway
      // without a default route the way to the network's other subnets has to be told
      else
        for (const other of network.subnets)
          if (other.family === family && other.subnet !== subnet)
            attachment.routes.push({ destination: other.subnet, via: gateway })
    }
    return attachment
  }

  isLost(endpoint: Endpoint): boolean {
    return this.#deps.kernel.link(endpoint.hostLink) === undefined
  }

  async deleteEndpoint(_network: BridgeNetwork, { endpoint }: Wiring): Promise<void> {
    const link = this.#deps.kernel.link(endpoint.hostLink)
    if (link !== undefined && isMarked(link)) await this.#deps.kernel.deleteLinks([link.index])
  }

  publish(network: BridgeNetwork, endpoint: Endpoint): Promise<PortBinding[]> {
    if (network.internal) throw invalid(`network ${network.name} is internal: it publishes no ports`)
    const { firewall, hostPorts } = this.#deps
    const owner = endpoint.id
    const { host_binding: hostBinding } = network.options
    return withUndo(async undo => {
      const bindings = await resolveBindings(endpoint.ports, {
        addresses: endpoint.addresses,
        ...(hostBinding === ''
          ? {}
          : hostBinding.includes(':')
            ? { hostBinding6: hostBinding }
            : { hostBinding4: hostBinding }),
        held: hostPorts,
        owner,
      })
      // all of them first: ports that were chosen for us are bound already, whichever hold fails
      for (const binding of bindings) undo.add(`release port ${binding.hostPort}`, () => hostPorts.release(binding))
      for (const binding of bindings) await hostPorts.hold(binding, owner)
      await firewall.apply({ add: bindings.flatMap(bindingElements), delete: [] })
      return bindings
    })
  }

  async revoke(_network: BridgeNetwork, endpoint: Endpoint): Promise<void> {
    if (endpoint.bindings.length === 0) return
    await this.#deps.firewall.apply({ add: [], delete: endpoint.bindings.flatMap(bindingElements) })
    for (const binding of endpoint.bindings) await this.#deps.hostPorts.release(binding)
  }

  async plan(wanted: readonly Wanted[]): Promise<Step[]> {
    const { kernel } = this.#deps
    const links = new Map(kernel.links().map(link => [link.name, link]))
    const addresses = kernel.addresses()
    const steps = forwardingSteps(familiesOf(wanted.map(({ network }) => network)))
    for (const { network, endpoints } of wanted) {
      const bridgeLink = links.get(bridgeNameOf(network))
      const own = addresses.filter(address => address.index === bridgeLink?.index)
      steps.push(...bridgeSteps(kernel, network, bridgeLink, own))
      for (const { endpoint } of endpoints) {
        const link = links.get(endpoint.hostLink)
        if (link !== undefined) steps.push(...hostLinkSteps(kernel, network, endpoint, link, bridgeLink))
        steps.push(...this.#holdSteps(endpoint))
      }
    }
    return steps
  }

  #holdSteps(endpoint: Endpoint): Step[] {
    const { hostPorts } = this.#deps
    const owner = endpoint.id
    return endpoint.bindings
      .filter(binding => !hostPorts.isHeld(binding))
      .map(binding => ({
        words: `hold ${formatBinding(binding)} for endpoint ${endpoint.name}`,
        apply: () => hostPorts.hold(binding, owner),
      }))
  }

  linkNames(wanted: readonly Wanted[]): string[] {
    return wanted.flatMap(({ network, endpoints }) => [
      bridgeNameOf(network),
      ...endpoints.map(({ endpoint }) => endpoint.hostLink),
    ])
  }

  elements(wanted: readonly Wanted[]) {
    return wanted.flatMap(({ network, endpoints }) => [
      ...networkElements(filtered(network)),
      ...endpoints.flatMap(({ endpoint }) => endpoint.bindings.flatMap(bindingElements)),
    ])
  }
}

/** The container's end while it waits in the host's namespace for dockerd to fetch it. */
const peerLinkName = (endpoint: Endpoint): string => `tsp${shortId(endpoint.id)}`

const filtered = (network: BridgeNetwork): FilteredNetwork => ({
  bridge: bridgeNameOf(network),
  subnets: network.subnets,
  internal: network.internal,
  masquerade: network.options.masquerade,
  icc: network.options.icc,
})

/** The families for which the host must forward: an internal network is left by nothing. */
const familiesOf = (networks: readonly BridgeNetwork[]): Set<Family> =>
  new Set(networks.filter(network => !network.internal).flatMap(network => network.subnets.map(({ family }) => family)))
