import { randomInt } from 'node:crypto'
import type {
  Findings,
  HostAddresses,
  OthersOnNetwork,
  Remote,
  Step,
  Touched,
  WantedNetwork,
  Wiring,
} from '../../cnm/driver.js'
import type { HostDoor } from '../../cnm/types.js'
import { conflict, invalid } from '../../errors.js'
import type { FilteredNetwork } from '../../firewall/rules.js'
import { addressOf, hostOverlap } from '../../net/subnets.js'
import type { KernelEvent } from '../../netlink/events.js'
import type { Link } from '../../netlink/objects.js'
import { helpOf, parseOptions } from '../../options.js'
import { BridgedDriver } from '../bridged/driver.js'
import type { BridgeShape } from '../bridged/links.js'
import { checkPublishing } from '../bridged/options.js'
import type { Doubt, DriverDeps, HostDriver } from '../driver-deps.js'
import { checkNetworkRoutes } from '../routes.js'
import { compareEntries, type Difference, KnownEntries, type ListedEntries, letGo, listEntries } from './entries.js'
import {
  bridgeNameOf,
  bridgeShapeOf,
  type Links,
  type OverlayNetwork,
  usualMtu,
  vxlanDoors,
  vxlanNameOf,
  vxlanSteps,
} from './links.js'
import { firstChosenVni, lastVni, type OverlayOptions, overlayOptions } from './options.js'
import { RequestQueue } from './queue.js'
import { touchedEntrySteps } from './touched.js'
import { entryFindings, linkFindings, mtuFindings, reachFindings } from './verify.js'

/**
 * One segment over many hosts: on each, a bridge and beside the endpoints a vxlan link as its port (RFC 7348). Which MAC address
 * is behind which host, and which IP address is at which MAC, the kernel is told; it answers ARP and neighbour solicitations
 * itself, so that nothing is flooded and nothing is learnt. On a host where nothing is attached there is nothing of it.
 */
export const overlay = (deps: DriverDeps): HostDriver<OverlayOptions> => new OverlayDriver(deps)

class OverlayDriver extends BridgedDriver<OverlayOptions> {
  readonly scope = 'global'
  /** by network id */
  readonly #known = new Map<string, KnownEntries>()
  /** by network id */
  readonly #queues = new Map<string, RequestQueue>()
  readonly #agreeing = new Map<string, Promise<void>>()

  parseOptions(raw: Readonly<Record<string, string>>): OverlayOptions {
    return parseOptions('driver overlay', overlayOptions, raw)
  }

  optionHelp() {
    return helpOf(overlayOptions)
  }

  protected shapeOf(network: OverlayNetwork): BridgeShape {
    return bridgeShapeOf(network)
  }

  protected linksOf(network: OverlayNetwork): string[] {
    return [bridgeNameOf(network), vxlanNameOf(network)]
  }

  protected override filtered(network: OverlayNetwork): FilteredNetwork {
    return { ...super.filtered(network), clampMss: true }
  }

  /** Given the network as the user asked for it: of one that was settled before, nothing is left to choose. */
  settle(network: OverlayNetwork): OverlayNetwork {
    const { vni, mtu } = network.options
    return {
      ...network,
      options: {
        ...network.options,
        vni: vni || randomInt(firstChosenVni, lastVni + 1),
        // the same on every host, so it is written down
        mtu: mtu || usualMtu(this.deps.kernel, this.deps.others.underlay()),
      },
    }
  }

  unique({ options }: OverlayNetwork): string[] {
    return [`vni/${options.vni}`]
  }

  validate(network: OverlayNetwork): void {
    const { mtu, routes } = network.options
    this.deps.others.underlay()
    if (mtu < 1280 && network.subnets.some(({ family }) => family === 6))
      throw invalid(`MTU ${mtu} is too small for IPv6, which needs 1280: choose another with -o mtu=BYTES`)
    checkNetworkRoutes(network, routes)
    checkPublishing(network.options)
  }

  hostAddresses(network: OverlayNetwork): HostAddresses {
    return { link: bridgeNameOf(network), present: [], wanted: true }
  }

  override async ensureNetwork(network: OverlayNetwork, before?: OverlayNetwork): Promise<void> {
    const { kernel } = this.deps
    const isNew = kernel.linkIndex(bridgeNameOf(network)) === undefined
    if (isNew) this.#refuseOverlap(network)
    await super.ensureNetwork(network, before)
    const steps = this.#vxlanSteps(network, () => undefined)
    for (const step of steps) await step.apply()
    // to look at what the kernel has of thousands of remotes takes its time, and this is asked for with every endpoint
    if (isNew || steps.length > 0 || !this.#known.has(network.id)) await this.#agree(network, [], { announce: !isNew })
  }

  /** Subnets are the cluster's: whether one is free on this host shows only when it is used here. */
  #refuseOverlap(network: OverlayNetwork): void {
    const present = this.deps.kernel.addresses().map(({ address }) => address)
    for (const { subnet } of network.subnets) {
      const overlapped = hostOverlap(subnet, present)
      if (overlapped !== undefined)
        throw conflict(
          `network ${network.name} cannot be used on this host: its subnet ${subnet} overlaps ${overlapped}, which the host is connected to`,
        )
    }
  }

  override async deleteNetwork(network: OverlayNetwork, others: readonly OverlayNetwork[]): Promise<void> {
    this.#forget(network)
    await super.deleteNetwork(network, others)
  }

  override async join(network: OverlayNetwork, wiring: Wiring): Promise<void> {
    const { hostLink, mac, addresses } = wiring.endpoint
    const links = this.#links(network)
    if (links !== undefined && this.deps.kernel.linkIndex(hostLink) === undefined)
      await this.#queue(network).apply([letGo(links.vxlan.index, links.bridge.index, mac, addresses.map(addressOf))])
    await super.join(network, wiring)
  }

  updateRemotes(
    network: OverlayNetwork,
    before: readonly Remote[],
    after: readonly Remote[],
  ): Promise<void> | undefined {
    const known = this.#known.get(network.id)
    if (known === undefined) return this.#agreeSoon(network)
    const { requests, moved } = known.update(before, after, this.#floods(network))
    return this.#tell(network, requests, () => this.deps.kernel.announce(known.bridge, moved.owners()))
  }

  /** Nothing is to be awaited where little was to be told: `then` is done already. */
  #tell(network: OverlayNetwork, requests: Difference['requests'], then: () => void): Promise<void> | undefined {
    const told = this.#queue(network).apply(requests)
    if (told !== undefined) return told.then(then)
    then()
    return undefined
  }

  #queue({ id }: OverlayNetwork): RequestQueue {
    const queue = this.#queues.get(id) ?? new RequestQueue(this.deps.kernel)
    this.#queues.set(id, queue)
    return queue
  }

  #forget({ id }: OverlayNetwork): void {
    this.#known.delete(id)
    this.#queues.get(id)?.close()
    this.#queues.delete(id)
  }

  #floods({ id, options }: OverlayNetwork): readonly string[] {
    return options.flood ? this.deps.others.vteps(id) : []
  }

  override async plan(wanted: readonly WantedNetwork<OverlayOptions>[], links: readonly Link[]): Promise<Step[]> {
    const used = wanted.filter(isUsed)
    for (const { network } of wanted) if (!used.some(other => other.network === network)) this.#forget(network)
    const steps = await super.plan(used, links)
    for (const one of used) {
      const fill = () => this.#agree(one.network, one.endpoints, { announce: true })
      steps.push(...this.#vxlanSteps(one.network, fill), ...(await this.#entrySteps(one)))
    }
    return steps
  }

  override async planTouched(wanted: WantedNetwork<OverlayOptions>, touched: Touched): Promise<Step[]> {
    if (!isUsed(wanted)) return []
    const { network, endpoints } = wanted
    const fill = () => this.#agree(network, endpoints, { announce: true })
    const steps = [...(await super.planTouched(wanted, touched)), ...this.#vxlanSteps(network, fill)]
    const [known, links] = [this.#known.get(network.id), this.#links(network)]
    if (touched.entries.size === 0 || known === undefined || links === undefined) return steps
    const own = new Set(endpoints.flatMap(({ endpoint }) => [endpoint.mac, ...endpoint.addresses.map(addressOf)]))
    return [...steps, ...touchedEntrySteps(this.deps.kernel, network, { known, own, entries: touched.entries })]
  }

  doubt(event: KernelEvent): Doubt | undefined {
    for (const [networkId, known] of this.#known) {
      const found = known.doubt(event)
      if (found !== undefined) return { networkId, ...found }
    }
    return undefined
  }

  override linkNames(wanted: readonly WantedNetwork<OverlayOptions>[]): string[] {
    return super.linkNames(wanted.filter(isUsed))
  }

  override elements(wanted: readonly WantedNetwork<OverlayOptions>[]) {
    return super.elements(wanted.filter(isUsed))
  }

  override doors(network: OverlayNetwork): HostDoor[] {
    return [...super.doors(network), ...vxlanDoors(network, this.deps.others)]
  }

  #vxlanSteps(network: OverlayNetwork, fill: () => unknown): Step[] {
    const { kernel, others } = this.deps
    const link = kernel.link(vxlanNameOf(network))
    const bridge = kernel.link(bridgeNameOf(network))
    return vxlanSteps(kernel, network, others, link, bridge, fill)
  }

  async #entrySteps({ network, endpoints }: WantedNetwork<OverlayOptions>): Promise<Step[]> {
    const difference = await this.#compare(network, endpoints)
    if (difference === undefined || difference.set + difference.removed === 0) return []
    const { set, removed } = difference
    return [
      {
        words: `set ${set} and remove ${removed} entries of network ${network.name} for what is on other hosts`,
        // looked at once more: a step before may have made a link anew
        apply: () => this.#agree(network, endpoints, { announce: true }),
      },
    ]
  }

  async verify(wanted: WantedNetwork<OverlayOptions>, others: OthersOnNetwork): Promise<Findings> {
    const { kernel } = this.deps
    const { network, endpoints } = wanted
    const steps = [...(await super.plan([wanted], kernel.links())), ...this.#vxlanSteps(network, () => undefined)]
    const found = [
      ...linkFindings(steps),
      ...mtuFindings(kernel, wanted, usualMtu(kernel, this.deps.others.underlay())),
    ]
    const links = this.#links(network)
    if (links === undefined) return { checked: ['links', 'mtu'], found }
    const listed = await listEntries(kernel, links.vxlan.index, links.bridge.index)
    const { requests } = this.#difference(endpoints, links, listed, this.#knownOf(network, links, others.remotes))
    found.push(
      ...entryFindings(
        requests.flatMap(list => [...list]),
        [links.vxlan, links.bridge],
      ),
      ...(await reachFindings(network, others)),
    )
    return { checked: ['links', 'mtu', 'fdb', 'neighbours', 'reach'], found }
  }

  /** Make the kernel's entries what is known of the other hosts. Nothing where the links are not there, or nothing is known yet. */
  async #agree(
    network: OverlayNetwork,
    endpoints: readonly Wiring[],
    { announce }: { announce: boolean },
  ): Promise<void> {
    const difference = await this.#compare(network, endpoints)
    if (difference === undefined) return
    await this.#tell(network, difference.requests, () => {
      if (announce) this.deps.kernel.announce(difference.bridge, difference.moved.owners())
    })
  }

  /** Whatever changes until the kernel has listed what it has is in that comparison. */
  #agreeSoon(network: OverlayNetwork): Promise<void> {
    const { id } = network
    const agreed =
      this.#agreeing.get(id) ?? this.#agree(network, [], { announce: true }).finally(() => this.#agreeing.delete(id))
    this.#agreeing.set(id, agreed)
    return agreed
  }

  /**
   * What the kernel has is listed first, and compared with what is known then: what has been told meanwhile is told once more, if at all,
   * which changes nothing.
   */
  async #compare(
    network: OverlayNetwork,
    endpoints: readonly Wiring[],
  ): Promise<(Difference & { bridge: number }) | undefined> {
    const { kernel, others } = this.deps
    const before = this.#links(network)
    const listed =
      before && others.remotes(network.id) && (await listEntries(kernel, before.vxlan.index, before.bridge.index))
    const links = this.#links(network)
    const remotes = others.remotes(network.id)
    this.#known.delete(network.id)
    if (listed === undefined || links === undefined || remotes === undefined) return undefined
    // made anew meanwhile
    if (links.vxlan.index !== before?.vxlan.index || links.bridge.index !== before.bridge.index)
      return await this.#compare(network, endpoints)
    const known = this.#knownOf(network, links, remotes)
    this.#known.set(network.id, known)
    return { ...this.#difference(endpoints, links, listed, known), bridge: links.bridge.index }
  }

  #knownOf(network: OverlayNetwork, { vxlan, bridge }: Links, remotes: readonly Remote[]): KnownEntries {
    return new KnownEntries(vxlan.index, bridge.index, vxlan.vxlan?.local ?? '', remotes, this.#floods(network))
  }

  #difference(
    endpoints: readonly Wiring[],
    { vxlan, bridge }: Links,
    listed: ListedEntries,
    known: KnownEntries,
  ): Difference {
    const own = new Set(endpoints.flatMap(({ endpoint }) => [endpoint.mac, ...endpoint.addresses.map(addressOf)]))
    return compareEntries(listed, vxlan, bridge.index, known.wanted(own))
  }

  #links(network: OverlayNetwork): Links | undefined {
    const vxlan = this.deps.kernel.link(vxlanNameOf(network))
    const bridge = this.deps.kernel.link(bridgeNameOf(network))
    return vxlan === undefined || bridge === undefined ? undefined : { vxlan, bridge }
  }
}

/** The network is on this host for as long as an endpoint is. */
const isUsed = ({ endpoints }: WantedNetwork<OverlayOptions>): boolean => endpoints.length > 0
