import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ClusterOfHosts } from '../../src/cluster/cluster.js'
import { keys } from '../../src/cluster/keys.js'
import { Controller } from '../../src/cnm/controller.js'
import { EventLog } from '../../src/cnm/event-log.js'
import { noNames } from '../../src/cnm/names.js'
import { ensureFixedNetworks } from '../../src/cnm/networks.js'
import { State } from '../../src/cnm/state.js'
import { createDrivers } from '../../src/drivers/index.js'
import { OtherBridges } from '../../src/drivers/other-bridges.js'
import { notFound } from '../../src/errors.js'
import { loadRules, openBackend } from '../../src/firewall/backend.js'
import { Flows } from '../../src/firewall/flows.js'
import { ForeignFirewalls } from '../../src/firewall/foreign.js'
import { HostPorts } from '../../src/firewall/host-ports.js'
import { AllAddresses } from '../../src/ipam/addresses.js'
import { ClusterIpam } from '../../src/ipam/cluster.js'
import { Ipam } from '../../src/ipam/ipam.js'
import type { Log } from '../../src/log.js'
import { addressOf } from '../../src/net/subnets.js'
import { Conntrack } from '../../src/netlink/conntrack.js'
import { Kernel } from '../../src/netlink/kernel.js'
import { currentNetns, enterNetnsForGood, type Netns, openNetns } from '../../src/netlink/netns.js'
import { KernelNamespaces } from '../../src/sandbox/namespaces.js'
import { openLmdb } from '../../src/store/lmdb.js'
import { MemoryStore } from '../../src/store/memory.js'
import type { Store } from '../../src/store/store.js'
import { faults } from './fault-counter.js'
import { boundPorts, descriptors, filesOf, insideOf, Judges, judges, settings, stored } from './fault-judges.js'
import { until } from './machine.js'
import { makeNetns, needRoot, netnsDir, netnsPath, removeNetns, run, sweep } from './netns.js'

const prefix = 'tst-flt'

/**
 * A host as `src/daemon.ts` puts it together, in a namespace of its own, without servers and without a resolver: kernel, nftables,
 * lmdb and ports are real, what hosts share is a store in memory. This process is in that namespace until `close`.
 */
export class FaultWorld {
  controller!: Controller
  /** what was logged as a warning or an error */
  readonly said: string[] = []
  readonly #home: Netns = currentNetns()
  #isUp = () => true
  #judges!: Judges
  readonly #closers: (() => unknown)[] = []
  #store!: Store
  readonly #shared = new MemoryStore()
  readonly #folder = mkdtempSync(join(tmpdir(), 'tst-flt-'))

  private constructor(readonly host: string) {}

  static async make(): Promise<FaultWorld> {
    needRoot()
    sweep(prefix)
    const world = new FaultWorld(makeNetns(prefix))
    const { host } = world
    run(host, 'sysctl', '-qw', 'net.ipv6.conf.default.accept_dad=0', 'net.ipv6.conf.all.accept_dad=0')
    run(host, 'ip', 'link', 'add', 'uplink0', 'type', 'veth', 'peer', 'name', 'far0')
    run(host, 'ip', 'addr', 'add', '192.0.2.10/24', 'dev', 'uplink0')
    for (const link of ['uplink0', 'far0']) run(host, 'ip', 'link', 'set', link, 'up')
    enterNetnsForGood(openNetns(netnsPath(host)))
    world.#judges = new Judges()
    await world.#build()
    return world
  }

  async #build(): Promise<void> {
    const log = this.#log()
    const here = currentNetns()
    const store = openLmdb(join(this.#folder, 'tsnet.lmdb'))
    const kernel = Kernel.open(here)
    // its socket for announcements is opened at the first use, which may be any operation's
    kernel.announce(1, new Map([['192.0.2.10', '02:00:00:00:00:01']]))
    const conntrack = Conntrack.open(here)
    here.close()
    const backend = await openBackend('nftables')
    await loadRules(backend)
    const hostSubnets = () => kernel.addresses().map(({ address }) => address)
    const cluster: ClusterOfHosts = new ClusterOfHosts({
      shared: this.#shared,
      where: 'memory',
      local: store,
      host: { name: 'here', id: 'id-of-here', version: '1', startedAt: '2026-01-01T00:00:00.000Z' },
      log,
      leaseMs: 600_000,
      pausesMs: { shortest: 2, longest: 20 },
      releaseHost: host => clusterIpam.releaseHost(host),
      releaseAddress: (poolId, address, owner) => clusterIpam.releaseOwner(poolId, address, owner),
      releaseStray: (poolId, address) => clusterIpam.releaseStray(poolId, address),
    })
    const clusterIpam: ClusterIpam = new ClusterIpam({
      shared: cluster.shared,
      local: store,
      host: 'here',
      networks: () => cluster.networks(),
      networkKey: keys.network,
      clusterIdKey: keys.clusterId,
      unreachable: () => cluster.unreachable(),
      hostSubnets,
      endpointName: async () => undefined,
    })
    await cluster.load()
    await clusterIpam.load()
    cluster.setUnderlay({ vtep: '192.0.2.10', link: 'uplink0' })
    const state = new State(store, cluster)
    await state.load()
    const ipam = new Ipam({ store, hostSubnets, hostId: '0'.repeat(32) })
    await ipam.load()
    const hostPorts = new HostPorts()
    const { firewall } = backend
    const foreign = new ForeignFirewalls({ backend, log, told: () => undefined })
    const drivers = createDrivers({
      ...{
        kernel,
        firewall,
        hostPorts,
        others: cluster,
        obstacles: () => [],
        unguarded: undefined,
        publishDefault: 'any',
      },
      flows: new Flows(conntrack, () => new Set(kernel.addresses().map(({ address }) => addressOf(address))), log),
      otherBridges: new OtherBridges(kernel, firewall),
      acceptForeign: () => foreign.accept(),
    })
    const deps = {
      ...{ state, drivers, hostSubnets, log, names: noNames, events: new EventLog() },
      ipam: new AllAddresses(ipam, clusterIpam),
      namespaces: new KernelNamespaces({ netnsDir, etcDir: join(this.#folder, 'etc') }),
      containers: { find: async (ref: string) => Promise.reject(notFound(`no container ${ref}`)) },
    }
    this.controller = new Controller(deps)
    await ensureFixedNetworks(deps)
    await this.controller.reconcile({ dryRun: false })
    cluster.start(this.controller.clusterListener(cluster, clusterIpam))
    this.#isUp = () => cluster.downBecause() === undefined
    await this.settle()
    this.#store = store
    this.#closers.push(
      () => cluster.close(),
      () => hostPorts.close(),
      () => conntrack.close(),
      () => backend.close(),
    )
    this.#closers.push(
      () => kernel.close(),
      () => store.close(),
    )
  }

  async close(): Promise<void> {
    this.#judges.close()
    for (const closer of this.#closers) await closer()
    enterNetnsForGood(this.#home)
    this.#home.close()
    removeNetns(this.host)
    sweep(prefix)
    rmSync(this.#folder, { recursive: true, force: true })
  }

  /** A transaction without an answer ends the session with the shared store: the next one makes good what the last left. */
  async settle(): Promise<void> {
    await until('the cluster', this.#isUp)
  }

  /** As at rest: nothing waits for the shared store. */
  async rest(): Promise<void> {
    await this.settle()
    await this.controller.reconcile({ dryRun: false })
  }

  /** Remove whatever there is, and what nobody knows of. */
  async rescue(): Promise<void> {
    const { controller } = this
    const quietly = (work: Promise<unknown>) => work.catch(() => undefined)
    await quietly(controller.reconcile({ dryRun: false }))
    for (const { networkId, id, createdBy } of controller.endpoints())
      if (createdBy === 'docker') {
        const network = controller.networks().find(other => other.id === networkId)
        await quietly(controller.docker.deleteEndpoint(network?.dockerNetworkIds[0] ?? networkId, id))
      }
    for (const { name } of controller.sandboxes()) await quietly(controller.deleteSandbox(name))
    for (const { id, dockerNetworkIds, createdBy } of controller.networks()) {
      for (const docker of dockerNetworkIds) await quietly(controller.docker.deleteNetwork(docker))
      await quietly(createdBy === 'docker' ? controller.docker.deleteNetwork(id) : controller.deleteNetwork(id))
    }
    await quietly(controller.reconcile({ dryRun: false }))
  }

  /** Words of what a reconcile would do. */
  async wrong(): Promise<string[]> {
    const { changes, failures } = await this.controller.reconcile({ dryRun: true })
    return [...changes, ...failures]
  }

  /** All that an operation could leave behind, as the judges have it. */
  async state(): Promise<Record<string, unknown>> {
    await faults.rest()
    const kernel = await this.#judges.ask(judges)
    const names = readdirSync(netnsDir).filter(name => name.startsWith(prefix) && name !== this.host)
    const inside = await this.#judges.ask(names.map(insideOf))
    return {
      kernel: { ...kernel, ports: boundPorts(), settings: settings() },
      namespaces: inside,
      files: filesOf(join(this.#folder, 'etc')),
      store: await stored(this.#store),
      shared: await stored(this.#shared),
      descriptors: descriptors(),
    }
  }

  #log(): Log {
    const say = (_: object, message: string): void => void this.said.push(message)
    const log: Log = { debug() {}, info() {}, warn: say, error: say, child: () => log }
    return log
  }
}
