import { randomBytes } from 'node:crypto'
import { closeSync, openSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { createApiServer } from './api/server.js'
import { type DaemonOptions, tlsOf } from './cli/daemon-options.js'
import { placesOf, pluginSocketOf } from './cli/places.js'
import { Controller } from './cnm/controller.js'
import type { Diagnosis } from './cnm/diagnosis.js'
import { EventLog } from './cnm/event-log.js'
import { inUse } from './cnm/hosts.js'
import { ensureFixedNetworks } from './cnm/networks.js'
import { State } from './cnm/state.js'
import type { ForwardedBridge } from './cnm/types.js'
import { type ClusterParts, openCluster, refuseWithoutCluster } from './daemon-cluster.js'
import { openDrift } from './daemon-drift.js'
import { changeOptions } from './daemon-reload.js'
import { createDiagnosis } from './diagnosis/diagnosis.js'
import { checkTrusted, ensureDirectory } from './directories.js'
import { DockerWatch } from './dns/docker.js'
import { NameServer } from './dns/server.js'
import { DockerContainers } from './dockerd/containers.js'
import { createDrivers } from './drivers/index.js'
import { isMarked } from './drivers/mark.js'
import { OtherBridges } from './drivers/other-bridges.js'
import { noOtherHosts } from './drivers/other-hosts.js'
import { conflict, doing, messageOf } from './errors.js'
import { type Backend, type BackendName, loadRules, openBackend } from './firewall/backend.js'
import { Flows } from './firewall/flows.js'
import { ForeignFirewalls } from './firewall/foreign.js'
import { hasLegacyFilter } from './firewall/foreign-legacy.js'
import { HostPorts } from './firewall/host-ports.js'
import { openKeeper } from './firewall/keeper.js'
import { isOurProgram } from './firewall/program.js'
import { AllAddresses } from './ipam/addresses.js'
import { Ipam } from './ipam/ipam.js'
import { createLog, type Log } from './log.js'
import { addressOf } from './net/subnets.js'
import { Conntrack } from './netlink/conntrack.js'
import { Kernel } from './netlink/kernel.js'
import { flock, hasCode, lockExclusive, lockNonBlocking } from './netlink/libc.js'
import { currentNetns, type Netns } from './netlink/netns.js'
import { allowManyFiles } from './netlink/open-files.js'
import { createPluginServer } from './plugin-api/server.js'
import { KernelNamespaces } from './sandbox/namespaces.js'
import { openLmdb } from './store/lmdb.js'
import { absent, put, type Store, StoreConflict } from './store/store.js'
import { takeInheritedSockets } from './systemd/activation.js'
import { openServiceManager } from './systemd/notify.js'
import { type Undo, withUndo } from './undo.js'
import { compileAtFirstCall, keepYoungGenerationSmall } from './v8.js'
import { packageVersion } from './version.js'
import { watchHost } from './watch.js'

export interface Daemon {
  /** Take what can be changed while it runs; the log says what cannot. */
  reload(read: () => Promise<DaemonOptions>): Promise<void>
  /** Stop answering; what has been built goes on working. */
  stop(): Promise<void>
}

/**
 * Put everything together: the only place that constructs a store, a kernel, a firewall, drivers or servers. Opened in
 * order of dependence, closed in reverse, whether the start fails half way or the daemon is told to stop.
 */
export function startDaemon(options: DaemonOptions): Promise<Daemon> {
  keepYoungGenerationSmall()
  compileAtFirstCall()
  const log = createLog(options.logLevel)
  const startedMs = performance.now()
  return withUndo(async undo => {
    const inherited = takeInheritedSockets(process.env)
    const manager = openServiceManager(process.env)
    undo.add('end the watchdog', () => manager.close())
    const { controller, events, parts, diagnosis } = await build(options, log, undo)
    const report = await controller.reconcile({ dryRun: false })
    parts?.start(controller)
    const plugin = pluginSocketOf(options)
    const { pluginName, dockerSocket } = options
    const about = {
      ...{ version: packageVersion(), node: process.versions.node, pid: process.pid },
      ...{ plugin: pluginName, dockerSocket },
    }
    const group = { name: options.socketGroup ?? 'docker', required: options.socketGroup !== undefined }
    const { listen: address } = options
    const tls = tlsOf(options)
    const api = await createApiServer({
      ...{ cnm: controller, diagnosis, log, socketPath: options.socket, group, version: about },
      ...(inherited.api !== undefined && { inherited: inherited.api }),
      ...(address !== undefined && tls !== undefined && { tcp: { address, tls } }),
    })
    undo.add('close the API', () => api.close())
    undo.add('end the readers of events', () => events.close())
    // last: from this moment on dockerd may ask anything, and asks our capabilities only once
    const pluginServer = await createPluginServer({
      ...{ cnm: controller, log, socketPath: plugin, group },
      ...(inherited.plugin !== undefined && { inherited: inherited.plugin }),
    })
    undo.add('close the plugin socket', () => pluginServer.close())
    const docker = new DockerWatch({
      socketPath: options.dockerSocket,
      knows: id => controller.hasDockerNetwork(id),
      learned: names => controller.learnDockerNames(names),
      log,
    })
    undo.add("stop following Docker's events", () => docker.close())
    const { changes, failures } = report
    const ms = Math.round(performance.now() - startedMs)
    log.info({ socket: options.socket, plugin, changes: changes.length, failures: failures.length, ms }, 'ready')
    manager.ready('answering')
    let current = options
    return {
      reload: async read => {
        manager.reloading()
        current = await changeOptions(current, read, { log, renewTls: files => api.renewTls(files) })
        manager.ready('answering')
      },
      stop: async () => {
        manager.stopping()
        await stop(undo, log)
      },
    }
  })
}

async function stop(undo: Undo, log: Log): Promise<void> {
  const failures = await undo.unwind()
  for (const failure of failures) log.error({ err: failure }, 'could not stop cleanly')
  log.info({}, 'stopped; networks and published ports stay as they are')
}

async function build(
  options: DaemonOptions,
  log: Log,
  undo: Undo,
): Promise<{ controller: Controller; events: EventLog; parts: ClusterParts | undefined; diagnosis: Diagnosis }> {
  allowManyFiles()
  const guard = await claimNetns()
  undo.add('give the namespace free', () => guard.close())
  const unlock = lockStateDir(options.stateDir)
  undo.add('unlock the state directory', unlock)
  const store = openLmdb(join(options.stateDir, 'tsnet.lmdb'))
  undo.add('close the store', () => store.close())
  const kernel = inOwnNetns(netns => Kernel.open(netns))
  undo.add('close the kernel sockets', () => kernel.close())
  const backend = await openBackend(options.firewall)
  undo.add('close the firewall', () => backend.close())
  await doing('load the firewall rules', () => takeOver(backend, store, log))
  const keeper = await openKeeper().catch(error =>
    log.debug({ reason: messageOf(error) }, 'connections end with a flush'),
  )
  undo.add('give the connections free', () => keeper?.close())
  const { firewall, unguarded } = backend
  if (unguarded !== undefined) log.warn({ unguarded }, 'networks have no spoof guard')
  const names = new NameServer({ log })
  undo.add('close the resolver', () => names.close())
  const hostSubnets = () => subnetsOf(kernel)
  const hostId = await hostIdOf(store)
  const { store: kept } = options
  const given = { options, local: store, hostId, hostSubnets, kernel, log }
  const parts = kept.kind === 'etcd' ? await openCluster({ ...given, etcd: kept }, undo) : undefined
  const state = new State(store, parts?.cluster)
  await state.load()
  if (parts === undefined) refuseWithoutCluster(state)
  const makeRoom = (hostIp: string, port: number) => names.makeRoom(hostIp, port)
  const hostPorts = new HostPorts(makeRoom, id => state.endpoint(id)?.name ?? id)
  undo.add('release the host ports', () => hostPorts.close())

  const ipam = new Ipam({ store, hostSubnets, hostId })
  await ipam.load()
  const events = new EventLog()
  const told = (words: string) => events.emit({ type: 'host', action: 'foreign', words })
  const foreign = new ForeignFirewalls({ backend, log, told })
  const acceptForeign = () => foreign.accept()
  const obstacles = (bridge: ForwardedBridge) => foreign.obstacles(bridge)
  const otherBridges = new OtherBridges(kernel, firewall)
  const others = parts?.cluster ?? noOtherHosts
  const conntrack = inOwnNetns(netns => Conntrack.open(netns))
  undo.add('close the conntrack socket', () => conntrack.close())
  const hostAddresses = () => new Set(kernel.addresses().map(({ address }) => addressOf(address)))
  const flows = new Flows(conntrack, hostAddresses, log)
  const beside = { otherBridges, acceptForeign, obstacles, unguarded, others, publishDefault: options.publishDefault }
  const drivers = createDrivers({ kernel, firewall, hostPorts, flows, ...beside })
  const namespaces = new KernelNamespaces({ netnsDir: options.netnsDir, etcDir: '/etc/netns' })
  const containers = new DockerContainers(options.dockerSocket)
  const addresses = new AllAddresses(ipam, parts?.ipam)
  const deps = { state, ipam: addresses, drivers, namespaces, containers, names, hostSubnets, events, log }
  const controller = new Controller(deps)
  await ensureFixedNetworks(deps)
  // an overlay has its bridge on a host before its first endpoint there is recorded, and until after its last
  const bridges = (): ForwardedBridge[] => {
    const wanted = controller.bridges()
    return wanted.length > 0
      ? wanted
      : kernel
          .links({ kind: 'bridge' })
          .filter(isMarked)
          .map(({ name }) => ({ name, published: [4, 6], direct: [], doors: [] }))
  }
  const drift = options.repair === 'auto' ? openDrift({ controller, drivers, kernel, log }) : undefined
  undo.add('stop following what others change', () => drift?.stop())
  const watch = watchHost({
    look: async () => {
      if (backend.untold) await controller.repairFirewall('another program has changed the rules')
      await Promise.all([foreign.review(bridges), otherBridges.refresh()])
    },
    mustLook: hasLegacyFilter,
    isOurs: isMarked,
    tables: backend.tables,
    shared: backend.shared,
    isOurProgram,
    firewallChanged: cause => controller.repairFirewall(cause),
    fought: (what, pauseMs) => controller.drift.fought(what, pauseMs),
    news: event => drift?.news(event),
    linkGone: () => controller.removeLostContainers(),
    linkCarries: name => controller.finishContainer(name),
    log,
  })
  undo.add('stop watching the host', () => watch.stop())
  // what happened while no daemon ran; then the first network, and the last
  watch.lookSoon()
  state.onCommit(({ of }) => of === 'network' && watch.lookSoon())
  state.onCommit(() => drift?.followSoon())
  undo.add('stop repairing', () => controller.drift.stop())
  const diagnosis = createDiagnosis({
    ...{ places: placesOf(options), kernel, firewall: backend.name, state, drivers },
    differences: () => controller.reconcile({ dryRun: true }),
    hosts: () => controller.hosts(),
    review: () => foreign.review(bridges),
    underlay: () => others.underlay(),
    ...{ others, backend },
    bridgeOf: network => drivers.bridges([inUse(network, state.endpointsOfNetwork(network.id))])[0]?.name,
  })
  return { controller, events, parts, diagnosis }
}

function inOwnNetns<T>(open: (netns: Netns) => T): T {
  const netns = currentNetns()
  try {
    return open(netns)
  } finally {
    netns.close()
  }
}

/**
 * Two daemons in one namespace would undo each other's work: each takes the other's links and rules for leftovers. An
 * abstract socket (unix(7)) belongs to the namespace and ends with its process, so it is the lock.
 */
function claimNetns(): Promise<{ close(): void }> {
  return new Promise((resolve, reject) => {
    const server: Server = createServer()
    server.once('error', (error: NodeJS.ErrnoException) => {
      const taken = error.code === 'EADDRINUSE'
      reject(taken ? conflict('a tsnet daemon runs in this network namespace already', { cause: error }) : error)
    })
    server.listen({ path: '\0tsnet-daemon' }, () => resolve({ close: () => void server.close() }))
  })
}

/** One writer: a daemon in another namespace with the same directory would not see our changes. flock(2) ends with the process. */
function lockStateDir(stateDir: string): () => void {
  ensureDirectory(stateDir, 0o700)
  checkTrusted(stateDir)
  const fd = openSync(stateDir, 'r')
  try {
    flock(fd, lockExclusive | lockNonBlocking)
  } catch (error) {
    closeSync(fd)
    if (!hasCode(error, 'EAGAIN')) throw error
    throw conflict(`another tsnet daemon uses the state directory ${stateDir}`, { cause: error })
  }
  return () => closeSync(fd)
}

/** What default pools must keep clear of: every subnet that the host has an address in or a route to. */
function subnetsOf(kernel: Kernel): string[] {
  const routes = kernel.routes().map(route => route.destination)
  const addresses = kernel.addresses().map(({ address }) => address)
  return [...routes, ...addresses].filter(cidr => !cidr.endsWith('/0'))
}

/** Which backend wrote the rules that are there is in the store: another one must not leave them behind. */
async function takeOver(backend: Backend, store: Store, log: Log): Promise<void> {
  const key = 'host/firewall'
  const former = (await store.get<BackendName>(key))?.value
  await loadRules(backend, former)
  if (former === backend.name) return
  await store.txn([], [put(key, backend.name)])
  if (former !== undefined) log.info({ former, now: backend.name }, 'the firewall is written by another backend now')
}

/** Made once and kept: the default IPv6 subnets are derived from it and must not change. */
async function hostIdOf(store: Store): Promise<string> {
  const key = 'host/id'
  const known = await store.get<string>(key)
  if (known !== undefined) return known.value
  const id = randomBytes(16).toString('hex')
  try {
    await store.txn([absent(key)], [put(key, id)])
    return id
  } catch (error) {
    if (error instanceof StoreConflict) return await hostIdOf(store)
    throw error
  }
}
