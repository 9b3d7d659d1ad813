import type { Attachment, HostAddresses, Place, Step, WantedNetwork, Wiring } from '../../cnm/driver.js'
import type { Endpoint } from '../../cnm/types.js'
import { invalid, kindOf } from '../../errors.js'
import { linkGroup } from '../../marks.js'
import { addressOf, holds } from '../../net/subnets.js'
import { Kernel } from '../../netlink/kernel.js'
import { type Netns, openNetns } from '../../netlink/netns.js'
import type { Link } from '../../netlink/objects.js'
import { linkAdd } from '../../netlink/requests.js'
import { helpOf, parseOptions } from '../../options.js'
import type { DriverDeps, HostDriver } from '../driver-deps.js'
import { isMarked, markOf } from '../mark.js'
import { addHostRoutes, deleteHostRoutes, hostAccessSettings, hostAccessSteps, hostLinkOf } from './host-access.js'
import { type MacvlanOptions, macvlanOptions } from './options.js'
import {
  checkParent,
  codeOf,
  deafSettings,
  doomedLinks,
  findParent,
  isIsolated,
  type MacvlanNetwork,
  ownLinkNames,
  parentComplaints,
  parentNameOf,
  parentSteps,
  refusal,
} from './parent.js'

/**
 * A network is the LAN that a link of the host, the parent, is on; an endpoint is a macvlan on that link, with a MAC
 * address of its own, straight in the sandbox. Nothing of it passes through the host: no bridge, no rules, no ports.
 */
export const macvlan = (deps: DriverDeps): HostDriver<MacvlanOptions> => new MacvlanDriver(deps)

type Wanted = WantedNetwork<MacvlanOptions>

class MacvlanDriver implements HostDriver<MacvlanOptions> {
  readonly scope = 'local'
  readonly segment = 'lan'
  readonly #kernel: Kernel

  constructor({ kernel }: DriverDeps) {
    this.#kernel = kernel
  }

  parseOptions(raw: Readonly<Record<string, string>>): MacvlanOptions {
    const options = parseOptions('driver macvlan', macvlanOptions, raw)
    return options.parent === '' ? { ...options, internal: true } : options
  }

  optionHelp() {
    return helpOf(macvlanOptions)
  }

  ifnamePrefix(network: MacvlanNetwork): string {
    return network.options.ifprefix
  }

  validate(network: MacvlanNetwork, others: readonly MacvlanNetwork[]): void {
    const { host_access: hostAccess, mode } = network.options
    if (hostAccess && mode !== 'bridge')
      throw invalid(`host_access=true needs mode bridge: in mode ${mode} the host's link could not talk to the others`)
    checkParent(this.#kernel, network, others)
  }

  hostAddresses(network: MacvlanNetwork): HostAddresses {
    const link = parentNameOf(network)
    const index = this.#kernel.link(link)?.index
    const addresses = index === undefined ? [] : this.#kernel.addresses({ index })
    const present = addresses.filter(({ scope }) => scope === 'global').map(({ address }) => addressOf(address))
    return { link, present, wanted: network.options.host_access }
  }

  async ensureNetwork(network: MacvlanNetwork): Promise<void> {
    for (const step of parentSteps(this.#kernel, network)) await step.apply()
    for (const step of hostAccessSteps(this.#kernel, network)) await step.apply()
  }

  async deleteNetwork(network: MacvlanNetwork, others: readonly MacvlanNetwork[]): Promise<void> {
    const doomed = doomedLinks(this.#kernel, network, others).map(({ name }) => name)
    await this.#kernel.deleteLinks([hostLinkOf(network), ...doomed], isMarked)
  }

  async join(network: MacvlanNetwork, { endpoint, place }: Wiring): Promise<void> {
    const parent = findParent(this.#kernel, network)
    if (place !== undefined) this.#createInside(network, endpoint, parent, place)
    else if (this.#kernel.link(endpoint.hostLink) === undefined)
      this.#create(network, parent, { name: endpoint.hostLink, mac: endpoint.mac, alias: markOf(network, endpoint) })
    addHostRoutes(this.#kernel, network, endpoint)
  }

  #createInside(network: MacvlanNetwork, { mac }: Endpoint, parent: Link, { netns: path, ifname }: Place): void {
    const netns = openNetns(path)
    try {
      this.#create(network, parent, { name: ifname, mac, netns, group: linkGroup })
    } catch (error) {
      const there = codeOf(error) === 'EEXIST' ? Kernel.inside(netns, kernel => kernel.link(ifname)) : undefined
      if (there?.group !== linkGroup || there.mac !== mac) throw error
    } finally {
      netns.close()
    }
  }

  #create(
    network: MacvlanNetwork,
    parent: Link,
    link: { name: string; mac: string; alias?: string; netns?: Netns; group?: number },
  ): void {
    const { mode, mtu } = network.options
    const spec = { kind: 'macvlan', parent: parent.index, macvlan: { mode }, ...(mtu > 0 && { mtu }), ...link } as const
    try {
      this.#kernel.apply(linkAdd(spec))
    } catch (error) {
      throw refusal(network, error)
    }
  }

  attachment(network: MacvlanNetwork, endpoint: Endpoint): Attachment {
    const { mtu } = network.options
    const attachment: Attachment = {
      link: endpoint.ifname ?? endpoint.hostLink,
      ...(mtu > 0 && { mtu }),
      gateways: {},
      routes: [],
    }
    if (network.internal) return attachment
    for (const { family, gateway, subnet } of network.subnets)
      if (gateway !== undefined && endpoint.addresses.some(address => holds(subnet, addressOf(address))))
        attachment.gateways[family] ??= gateway
    return attachment
  }

  /**
   * The link has left for the container, so it is looked for there. Where dockerd keeps its mounts to itself, all that can be
   * known is whether the namespace's file is there.
   */
  isLost({ hostLink, sandboxKey, mac }: Endpoint): boolean {
    if (this.#kernel.link(hostLink) !== undefined) return false
    if (sandboxKey === undefined) return true
    let netns: Netns
    try {
      netns = openNetns(sandboxKey)
    } catch (error) {
      return kindOf(error) === 'NotFound'
    }
    try {
      return !Kernel.inside(netns, kernel => kernel.links({ kind: 'macvlan' }).some(link => link.mac === mac))
    } finally {
      netns.close()
    }
  }

  async deleteEndpoint(network: MacvlanNetwork, { endpoint, place }: Wiring): Promise<void> {
    deleteHostRoutes(this.#kernel, network, endpoint)
    await this.#kernel.deleteLinks([endpoint.hostLink], isMarked)
    if (place !== undefined) await deleteInside(place)
  }

  async plan(wanted: readonly Wanted[]): Promise<Step[]> {
    return wanted.flatMap(({ network, endpoints }) => {
      const steps = [...parentSteps(this.#kernel, network), ...parentComplaints(this.#kernel, network)]
      // without its parent the host's link cannot be; that it is missing has been said
      const hasParent = network.options.parent === '' || this.#kernel.link(network.options.parent) !== undefined
      const own = endpoints.map(({ endpoint }) => endpoint)
      return hasParent ? [...steps, ...hostAccessSteps(this.#kernel, network, own)] : steps
    })
  }

  /** All that a network has in the host's namespace is a few links. */
  planTouched(wanted: Wanted): Promise<Step[]> {
    return this.plan([wanted])
  }

  settings(network: MacvlanNetwork): Record<string, string> {
    return {
      ...(network.options.host_access && hostAccessSettings(network, hostLinkOf(network))),
      ...(isIsolated(network) && deafSettings(ownLinkNames(network))),
    }
  }

  linkNames(wanted: readonly Wanted[]): string[] {
    return wanted.flatMap(({ network, endpoints }) => [
      parentNameOf(network),
      ...ownLinkNames(network),
      ...(network.options.host_access ? [hostLinkOf(network)] : []),
      ...endpoints.map(({ endpoint }) => endpoint.hostLink),
    ])
  }

  /** The host's firewall sees nothing of the LAN: what the host itself says to endpoints, it says as to any machine. */
  elements() {
    return []
  }
}

/** A namespace that is gone has taken its links with it. */
async function deleteInside({ netns: path, ifname }: Place): Promise<void> {
  let netns: Netns
  try {
    netns = openNetns(path)
  } catch {
    return
  }
  let kernel: Kernel
  try {
    kernel = Kernel.open(netns)
  } finally {
    netns.close()
  }
  try {
    await kernel.deleteLinks([ifname], ({ group }) => group === linkGroup)
  } finally {
    kernel.close()
  }
}
