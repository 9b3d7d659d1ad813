import type { Attachment, Replaced, Step, Touched, WantedNetwork, Wiring } from '../../cnm/driver.js'
import type { Endpoint, Family, HostDoor, Network, PortBinding, PortSpec } from '../../cnm/types.js'
import { invalid, kindOf } from '../../errors.js'
import { type Element, keyOf } from '../../firewall/elements.js'
import { type FilteredNetwork, networkElements } from '../../firewall/rules.js'
import { addressOf, holds } from '../../net/subnets.js'
import { openNetns } from '../../netlink/netns.js'
import type { Link } from '../../netlink/objects.js'
import { bridgePortSet, linkAdd, tolerant } from '../../netlink/requests.js'
import type { OptionHelp } from '../../options.js'
import { diff } from '../../reconcile.js'
import type { DriverDeps, HostDriver } from '../driver-deps.js'
import { forwardingSettings, forwardingSteps } from '../forwarding.js'
import { isMarked, isMarkOf, markOf } from '../mark.js'
import {
  endFlows,
  holdSteps,
  type PublishingNetwork,
  portElements,
  publishPorts,
  republishPorts,
  revokePorts,
} from '../publishing.js'
import { networkRoutes } from '../routes.js'
import { doorsOf } from './doors.js'
import { guardElements, refuseUnguarded, unguardedNotes } from './guard.js'
import {
  type BridgedNetwork,
  type BridgeShape,
  bridgeIndexOf,
  bridgeSettings,
  bridgeSteps,
  hostLinkSteps,
  peerLinkName,
  portOf,
} from './links.js'
import { directFamilies, hostAddressesOf, modesOf } from './modes.js'
import type { BridgedOptions } from './options.js'
import { Past } from './past.js'

/**
 * What kinds of network have in common that are a Linux bridge in the host's namespace, with the gateway's addresses. An
 * endpoint is a veth pair, one end a port of the bridge, the other in the sandbox. What may pass is elements of the one
 * ruleset (firewall/rules.ts); `icc=false` is the kernel's isolated flag on the ports.
 */
export abstract class BridgedDriver<Options extends BridgedOptions> implements HostDriver<Options> {
  abstract readonly scope: 'local' | 'global'
  readonly segment = 'own'
  readonly #past = new Past()

  constructor(protected readonly deps: DriverDeps) {}

  abstract parseOptions(raw: Readonly<Record<string, string>>): Options
  abstract optionHelp(): OptionHelp[]
  abstract validate(network: Network<Options>, others: readonly Network<Options>[]): void
  /** Pure. */
  protected abstract shapeOf(network: Network<Options>): BridgeShape
  /** Names of all links of the network itself, the bridge among them. Pure. */
  protected abstract linksOf(network: Network<Options>): string[]
  /** Pure. */
  protected filtered(network: Network<Options>): FilteredNetwork {
    const { masquerade, icc } = network.options
    const { subnets, internal } = network
    return {
      bridge: this.shapeOf(network).name,
      ...{ subnets, internal, masquerade, icc, modes: modesOf(network) },
      hostAddresses: hostAddressesOf(network),
      trusted: network.options.trusted_interfaces ?? [],
    }
  }

  protected publishing(network: Network<Options>): PublishingNetwork {
    const { host_binding, publish_default, from = [], trusted_interfaces = [] } = network.options
    return {
      ...{ name: network.name, hostBinding: host_binding, from },
      publishDefault: publish_default || this.deps.publishDefault,
      direct: directFamilies(network),
      trusts: trusted_interfaces.length > 0,
    }
  }

  ifnamePrefix(network: Network<Options>): string {
    return network.options.ifprefix
  }

  async ensureNetwork(network: Network<Options>, before?: Network<Options>): Promise<void> {
    const { kernel, firewall, acceptForeign, unguarded } = this.deps
    refuseUnguarded(network, unguarded)
    for (const step of forwardingSteps(familiesOf([network]))) await step.apply()
    const shape = this.shapeOf(network)
    const link = kernel.link(shape.name)
    // what is on other hosts has a past of its own
    this.#past.see(network.id, link === undefined && this.scope === 'local')
    const addresses = link === undefined ? [] : kernel.addresses({ index: link.index })
    for (const step of bridgeSteps(kernel, network, shape, link, addresses)) await step.apply()
    const add = networkElements(this.filtered(network))
    const had = before === undefined ? [] : networkElements(this.filtered(before))
    const stale = diff(add, had, { want: keyOf, have: keyOf }, () => true).remove
    await firewall.apply({ add, delete: stale })
    await acceptForeign()
  }

  async deleteNetwork(network: Network<Options>, _others: readonly Network<Options>[]): Promise<void> {
    const { kernel, firewall } = this.deps
    this.#past.forget(network.id)
    await kernel.deleteLinks(this.linksOf(network), link => isMarkOf(network, link))
    await firewall.apply({ add: [], delete: networkElements(this.filtered(network)) })
  }

  async join(network: Network<Options>, { endpoint, place }: Wiring): Promise<void> {
    const { kernel, firewall } = this.deps
    const bridge = this.shapeOf(network).name
    const master = bridgeIndexOf(kernel, network, bridge)
    // before the link is up: from its first frame on
    await firewall.apply({ add: this.#guard(network, endpoint), delete: [] })
    try {
      this.#createCable(network, { endpoint, ...(place && { place }) }, master)
    } catch (error) {
      // it was made before, mostly it was not: to ask first would be one more exchange
      const link = kindOf(error) === 'Conflict' ? kernel.link(endpoint.hostLink) : undefined
      if (link === undefined) throw error
      for (const step of hostLinkSteps(kernel, network, endpoint, link, bridge, master)) await step.apply()
    }
  }

  #createCable(network: Network<Options>, { endpoint, place }: Wiring, master: number): void {
    const netns = place === undefined ? undefined : openNetns(place.netns)
    try {
      const { mtu } = network.options
      this.deps.kernel.apply(
        linkAdd({
          kind: 'veth',
          name: endpoint.hostLink,
          mtu,
          master,
          alias: markOf(network, endpoint),
          up: true,
          port: portOf(network),
          // a port of a bridge has no use for an address of its own, and each costs all others routes to go through
          addrGenMode: 'none',
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

  announce({ id }: Network<Options>, { hostLink, mac, addresses }: Endpoint): void {
    const { kernel } = this.deps
    const link = kernel.link(hostLink)
    if (link?.master === undefined) return
    // The bridge hears in its own time that the cable has two ends now, and until then drops what comes by the port and what goes
    // there: the kernel's own announcement as the sandbox's end comes up (arp_notify) would be lost on a busy machine.
    if (link.port?.state !== 'forwarding')
      kernel.apply(tolerant([bridgePortSet({ index: link.index, state: 'forwarding' })], 'ENETDOWN'))
    const known = addresses.map(addressOf).filter(address => this.#past.mayHave(id, address))
    kernel.announce(link.master, new Map(known.map(address => [address, mac])))
  }

  attachment(network: Network<Options>, endpoint: Endpoint): Attachment {
    const attachment: Attachment = {
      link: endpoint.ifname ?? peerLinkName(endpoint),
      mtu: network.options.mtu,
      announced: true,
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
    return this.deps.kernel.linkIndex(endpoint.hostLink) === undefined
  }

  async deleteEndpoint(network: Network<Options>, { endpoint }: Wiring): Promise<void> {
    this.#past.add(network.id, endpoint.addresses.map(addressOf))
    await this.deps.kernel.deleteLinks([endpoint.hostLink], isMarked)
    await this.deps.firewall.apply({ add: [], delete: this.#guard(network, endpoint) })
  }

  #guard(network: Network<Options>, endpoint: Endpoint): Element[] {
    return guardElements(network, endpoint, this.deps.unguarded)
  }

  notes(network: Network<Options>): string[] {
    return unguardedNotes(network, this.deps.unguarded)
  }

  async publish(
    network: Network<Options>,
    endpoint: Endpoint,
    ports: readonly PortSpec[],
    replaced?: Replaced,
  ): Promise<PortBinding[]> {
    if (network.internal) throw invalid(`network ${network.name} is internal: it publishes no ports`)
    // a network that gives a port away may be of another kind with the same options
    const giveWay = (granted: readonly PortBinding[]) =>
      (replaced?.(granted) ?? []).map(loss => ({ ...loss, network: this.publishing(loss.network as Network<Options>) }))
    return await publishPorts(this.deps, this.publishing(network), endpoint, ports, giveWay)
  }

  revoke(network: Network<Options>, endpoint: Endpoint, bindings: readonly PortBinding[]): Promise<void> {
    return revokePorts(this.deps, this.publishing(network), endpoint, bindings)
  }

  endFlows(network: Network<Options>, bindings: readonly PortBinding[]): Promise<void> {
    return endFlows(this.deps, this.publishing(network), bindings)
  }

  republish(network: Network<Options>, endpoint: Endpoint, bindings: readonly PortBinding[]): Promise<void> {
    return republishPorts(this.deps, this.publishing(network), endpoint, bindings)
  }

  async plan(wanted: readonly WantedNetwork<Options>[], present: readonly Link[]): Promise<Step[]> {
    if (wanted.length === 0) return []
    const { kernel } = this.deps
    const links = new Map(present.map(link => [link.name, link]))
    const addresses = kernel.addresses()
    const steps = forwardingSteps(familiesOf(wanted.map(({ network }) => network)))
    for (const { network, endpoints } of wanted) {
      this.#past.see(network.id, false)
      const shape = this.shapeOf(network)
      const bridge = links.get(shape.name)
      const own = addresses.filter(address => address.index === bridge?.index)
      steps.push(...bridgeSteps(kernel, network, shape, bridge, own))
      for (const { endpoint } of endpoints) {
        const link = links.get(endpoint.hostLink)
        if (link !== undefined) steps.push(...hostLinkSteps(kernel, network, endpoint, link, shape.name, bridge?.index))
        steps.push(...holdSteps(this.deps, endpoint))
      }
    }
    return steps
  }

  doors(network: Network<Options>): HostDoor[] {
    return doorsOf(network, this.shapeOf(network).name)
  }

  async planTouched({ network, endpoints }: WantedNetwork<Options>, { links, settings }: Touched): Promise<Step[]> {
    const { kernel } = this.deps
    const shape = this.shapeOf(network)
    const bridge = kernel.link(shape.name)
    const steps: Step[] = []
    // while containers come and go, it is their links that are told of
    if (bridge === undefined || links.has(shape.name) || settings) {
      const addresses = bridge === undefined ? [] : kernel.addresses({ index: bridge.index })
      steps.push(...forwardingSteps(familiesOf([network])), ...bridgeSteps(kernel, network, shape, bridge, addresses))
    }
    for (const { endpoint } of endpoints) {
      // a bridge that is gone was the master of all of them
      if (bridge !== undefined && !links.has(endpoint.hostLink)) continue
      const link = kernel.link(endpoint.hostLink)
      if (link !== undefined) steps.push(...hostLinkSteps(kernel, network, endpoint, link, shape.name, bridge?.index))
    }
    return steps
  }

  isRight(network: Network<Options>, endpoint: Endpoint, link: Link): boolean {
    const { kernel } = this.deps
    const bridge = this.shapeOf(network).name
    const index = kernel.linkIndex(bridge)
    return index !== undefined && hostLinkSteps(kernel, network, endpoint, link, bridge, index).length === 0
  }

  settings(network: Network<Options>): Record<string, string> {
    return { ...forwardingSettings(familiesOf([network])), ...bridgeSettings(network, this.shapeOf(network).name) }
  }

  linkNames(wanted: readonly WantedNetwork<Options>[]): string[] {
    return wanted.flatMap(({ network, endpoints }) => [
      ...this.linksOf(network),
      ...endpoints.map(({ endpoint }) => endpoint.hostLink),
    ])
  }

  elements(wanted: readonly WantedNetwork<Options>[]): Element[] {
    return wanted.flatMap(({ network, endpoints }) => [
      ...networkElements(this.filtered(network)),
      ...endpoints.flatMap(({ endpoint }) => [
        ...portElements(this.publishing(network), endpoint.bindings),
        ...(endpoint.state === 'joined' ? this.#guard(network, endpoint) : []),
      ]),
    ])
  }
}

/** The families for which the host must forward: an internal network is left by nothing. */
const familiesOf = (networks: readonly BridgedNetwork[]): Set<Family> =>
  new Set(networks.filter(network => !network.internal).flatMap(network => network.subnets.map(({ family }) => family)))
