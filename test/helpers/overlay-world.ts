import { randomBytes } from 'node:crypto'
import type { Remote, Wiring } from '../../src/cnm/driver.js'
import type { Endpoint } from '../../src/cnm/types.js'
import { randomId, randomMac, shortId } from '../../src/names.js'
import { addressOf, holds, withPrefixLength } from '../../src/net/subnets.js'
import { currentNetns, enterNetnsForGood, openNetns } from '../../src/netlink/netns.js'
import { parsePortSpec } from '../../src/ports/spec.js'
import { makeNetns, netnsPath, removeNetns, run } from './netns.js'
import { OverlayHost, type OverlayNetwork } from './overlay-host.js'

export { captured, type OverlayHost, type OverlayNetwork, reaches, soon } from './overlay-host.js'

/**
 * Hosts joined by an underlay, each a namespace with a driver of its own, all driven by this process, which moves from host to
 * host: a driver works in the namespace that it finds itself in. What a cluster would tell them is a list in here.
 *
 *   h0 192.0.2.10, 2001:db8::10 ── ul0 (192.0.2.1, 2001:db8::1) ── h1 192.0.2.11 ── h2 192.0.2.12
 */
export class OverlayWorld {
  readonly hosts: OverlayHost[] = []
  readonly #home = currentNetns()
  readonly #made: string[] = []
  underlay!: string
  /** what the cluster has, in order */
  #told: { networkId: string; host: OverlayHost; remote: Remote }[] = []
  /** the cluster has told nothing yet */
  silent = false

  static async make(prefix: string, count: number, options: { v6?: boolean } = {}): Promise<OverlayWorld> {
    const world = new OverlayWorld()
    world.underlay = world.netns(prefix)
    const ul = world.underlay
    run(ul, 'ip', 'link', 'add', 'ul0', 'type', 'bridge')
    run(ul, 'ip', 'addr', 'add', '192.0.2.1/24', 'dev', 'ul0')
    run(ul, 'ip', 'addr', 'add', '2001:db8::1/64', 'dev', 'ul0', 'nodad')
    run(ul, 'ip', 'link', 'set', 'ul0', 'up')
    for (let i = 0; i < count; i++) {
      const name = world.netns(prefix)
      run(ul, 'ip', 'link', 'add', `e${i}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name)
      run(ul, 'ip', 'link', 'set', `e${i}`, 'master', 'ul0', 'up')
      run(name, 'ip', 'addr', 'add', `192.0.2.1${i}/24`, 'dev', 'eth0')
      run(name, 'ip', 'addr', 'add', `2001:db8::1${i}/64`, 'dev', 'eth0', 'nodad')
      run(name, 'ip', 'link', 'set', 'eth0', 'up')
      run(name, 'ip', 'route', 'add', 'default', 'via', '192.0.2.1')
      run(name, 'ip', 'route', 'add', 'default', 'via', '2001:db8::1')
      const host = new OverlayHost(world, i, name, openNetns(netnsPath(name)), options.v6 === true)
      world.hosts.push(host)
      await host.start()
    }
    enterNetnsForGood(world.#home)
    return world
  }

  netns(prefix: string): string {
    const name = makeNetns(prefix)
    this.#made.push(name)
    run(name, 'sysctl', '-qw', 'net.ipv6.conf.default.accept_dad=0', 'net.ipv6.conf.all.accept_dad=0')
    return name
  }

  async close(): Promise<void> {
    for (const host of this.hosts) {
      host.enter()
      await host.close()
    }
    enterNetnsForGood(this.#home)
    for (const name of this.#made) removeNetns(name)
  }

  remotes(host: OverlayHost, networkId: string): Remote[] | undefined {
    if (this.silent) return undefined
    return this.#told.filter(one => one.networkId === networkId && one.host !== host).map(({ remote }) => remote)
  }

  using(networkId: string): OverlayHost[] {
    return this.hosts.filter(host => this.#told.some(one => one.host === host && one.networkId === networkId))
  }

  /** A network as the first host would settle it. */
  network(
    name: string,
    subnets: string[],
    options: Record<string, string> = {},
    more: Partial<OverlayNetwork> = {},
  ): OverlayNetwork {
    const { driver, kernel: _ } = this.hosts[0]!
    const network: OverlayNetwork = {
      id: randomId(),
      name,
      driver: 'overlay',
      scope: 'global',
      options: driver.parseOptions(options),
      subnets: subnets.map(subnet => {
        const family = subnet.includes(':') ? 6 : 4
        const gateway = family === 4 ? subnet.replace(/\.0\/.*/, '.1') : subnet.replace(/\/.*/, '1')
        return { family, subnet, gateway, auxAddresses: {}, poolId: subnet, assignedBy: 'tsnet' }
      }),
      internal: false,
      labels: {},
      createdBy: 'tsnet',
      createdAt: new Date().toISOString(),
      dockerNetworkIds: [],
      ...more,
    }
    return driver.settle!(network)
  }

  /** The cluster tells the hosts that are on the network. */
  tell(networkId: string, host: OverlayHost, before: Remote[], after: Remote[]): void {
    for (const remote of before)
      this.#told.splice(
        this.#told.findIndex(one => one.host === host && one.remote === remote),
        1,
      )
    for (const remote of after) this.#told.push({ networkId, host, remote })
    if (this.silent) return
    for (const other of this.hosts)
      if (other !== host) {
        const network = this.#networks.get(networkId)!
        other.enter()
        other.driver.updateRemotes!(other.view(network), before, after)
      }
  }

  readonly #networks = new Map<string, OverlayNetwork>()
  readonly #remoteOf = new Map<string, Remote>()

  /** A container on a host, as the controller would make it; returns its namespace. */
  async attach(host: OverlayHost, network: OverlayNetwork, addresses: string[], mac = randomMac()): Promise<string> {
    this.#networks.set(network.id, network)
    const view = host.view(network)
    const netns = this.netns('tst-ovl')
    const id = randomBytes(32).toString('hex')
    const endpoint: Endpoint = {
      id,
      networkId: network.id,
      name: netns,
      createdBy: 'tsnet',
      addresses: addresses.map(address =>
        withPrefixLength(address, view.subnets.find(({ subnet }) => holds(subnet, address))!.subnet),
      ),
      mac,
      hostLink: `tsn${shortId(id)}`,
      ifname: 'eth0',
      aliases: [],
      routes: [],
      ports: [],
      bindings: [],
      state: 'joined',
      createdAt: new Date().toISOString(),
    }
    const wiring: Wiring = { endpoint, place: { netns: netnsPath(netns), ifname: 'eth0' } }
    host.enter()
    const isFirst = !this.using(network.id).includes(host)
    await host.driver.ensureNetwork(view)
    await host.driver.join(view, wiring)
    host.endpoints.set(netns, { network, wiring, netns })
    const { mtu, gateways, routes } = host.driver.attachment(view, endpoint)
    run(netns, 'ip', 'link', 'set', 'eth0', 'mtu', String(mtu))
    for (const address of endpoint.addresses)
      run(netns, 'ip', 'addr', 'add', address, 'dev', 'eth0', ...(address.includes(':') ? ['nodad'] : []))
    run(netns, 'ip', 'link', 'set', 'eth0', 'up')
    host.driver.announce!(view, endpoint)
    for (const via of Object.values(gateways)) run(netns, 'ip', 'route', 'add', 'default', 'via', via)
    for (const { destination, via } of routes)
      run(netns, 'ip', 'route', 'add', destination, ...(via ? ['via', via] : ['dev', 'eth0']))
    if (isFirst) this.tell(network.id, host, [], [host.own(network)])
    const remote = { mac, addresses: addresses.map(addressOf), vtep: host.vtep ?? '' }
    this.#remoteOf.set(netns, remote)
    this.tell(network.id, host, [], [remote])
    return netns
  }

  /** As the controller would remove it; the last one on a host takes the network with it. */
  async detach(host: OverlayHost, netns: string): Promise<void> {
    const { network, wiring } = host.endpoints.get(netns)!
    host.endpoints.delete(netns)
    host.enter()
    await host.driver.revoke!(host.view(network), wiring.endpoint, wiring.endpoint.bindings)
    await host.driver.deleteEndpoint(host.view(network), wiring)
    this.tell(network.id, host, [this.#remoteOf.get(netns)!], [])
    if ([...host.endpoints.values()].some(one => one.network.id === network.id)) return
    host.enter()
    await host.driver.deleteNetwork(host.view(network), [])
    const own = this.#told.find(one => one.host === host && one.networkId === network.id)!.remote
    this.tell(network.id, host, [own], [])
  }

  /** The cluster has this of a host, without having said so yet. */
  set(networkId: string, host: OverlayHost, remotes: readonly Remote[]): void {
    this.#told = this.#told.filter(one => one.host !== host || one.networkId !== networkId)
    for (const remote of remotes) this.#told.push({ networkId, host, remote })
  }

  /** A host has another address, and the others are told. */
  async moveHost(host: OverlayHost, vtep: string): Promise<void> {
    host.vtep = vtep
    for (const { networkId, remote } of this.#told.filter(one => one.host === host)) {
      const moved = { ...remote, vtep }
      for (const [netns, known] of this.#remoteOf) if (known === remote) this.#remoteOf.set(netns, moved)
      this.tell(networkId, host, [remote], [moved])
    }
  }

  async publish(host: OverlayHost, netns: string, ...specs: string[]): Promise<void> {
    const { network, wiring } = host.endpoints.get(netns)!
    host.enter()
    const ports = specs.map(parsePortSpec)
    wiring.endpoint.bindings = await host.driver.publish!(host.view(network), wiring.endpoint, ports)
  }

  async detachAll(): Promise<void> {
    for (const host of this.hosts) for (const netns of [...host.endpoints.keys()]) await this.detach(host, netns)
  }
}
