import { messageOf } from '../errors.js'
import { withUndo } from '../undo.js'
import { dockerPoolOwner, dockerWaitMs, isEndpointId } from './deps.js'
import type { InsideDifference, Step, WantedNetwork } from './driver.js'
import { attached, type EndpointDeps, wantedSandbox, wire, wiringOf } from './endpoints.js'
import { removeEndpoint } from './leaving.js'
import { hasPart, isPresent, isUsedHere, leaveUnused, memberOwner, takePart } from './membership.js'
import { deleteSandbox } from './sandboxes.js'
import type { ReconcileReport } from './specs.js'
import type { Endpoint, Network, Sandbox } from './types.js'

/**
 * Make the kernel, the firewall and the address pools what the store says. The same at start-up, after a reboot and on
 * demand. It goes in stages, because what one stage makes is what the next one looks at: first what is gone for good,
 * then namespaces, the host's links and rules, links in namespaces, and what is set on those. A second run finds nothing to do.
 * The caller holds every lock.
 */
export async function reconcile(deps: EndpointDeps, options: { dryRun: boolean }): Promise<ReconcileReport> {
  const report: ReconcileReport = { dryRun: options.dryRun, changes: [], failures: [] }
  const right: Right = new Set()
  const stages = [
    ...[goneSteps, namespaceSteps, memberSteps, hostSteps],
    () => linkSteps(deps, undefined, right),
    () => insideSteps(deps, undefined, right),
    addressSteps,
  ]
  for (const stage of stages) for (const step of await stage(deps)) await take(deps, step, report)
  return report
}

/** Carry out one step, and tell of it. */
export async function take(deps: EndpointDeps, step: Step, report: ReconcileReport): Promise<void> {
  if (report.dryRun) {
    report.changes.push(step.words)
    return
  }
  try {
    await step.apply()
    report.changes.push(step.words)
    tellChange(deps, step)
  } catch (error) {
    // the others are still worth doing; this one is in the next plan again
    report.failures.push(`${step.words}: ${messageOf(error)}`)
    tellFailure(deps, step, error)
  }
}

export function tellChange({ events, log }: EndpointDeps, { words }: Step): void {
  events.emit({ type: 'reconcile', action: 'change', words })
  log.info({ change: words }, 'reconciled')
}

export function tellFailure({ events, log }: EndpointDeps, { words }: Step, error: unknown): void {
  events.emit({ type: 'reconcile', action: 'failure', words: `${words}: ${messageOf(error)}` })
  log.error({ change: words, err: error }, 'could not reconcile')
}

/** What cannot come back: sandboxes of processes that have ended, and containers whose link is gone. */
async function goneSteps(deps: EndpointDeps): Promise<Step[]> {
  const ephemeral = deps.state.sandboxes().filter(sandbox => sandbox.ephemeral)
  const intents = await deps.state.intents.leftovers()
  return [
    ...orphanSteps(deps),
    ...intents.map(sandbox => ({
      words: `remove namespace ${sandbox.netns}, which was being made for sandbox ${sandbox.name}`,
      apply: async () => {
        deps.namespaces.delete(sandbox)
        await deps.state.intents.forget(sandbox)
      },
    })),
    ...missing(deps, ephemeral).map(sandbox => ({
      words: `remove sandbox ${sandbox.name}: its process has ended`,
      apply: async () => {
        for (const endpoint of deps.state.endpointsOfSandbox(sandbox.id)) {
          const network = deps.state.networkOf(endpoint)
          if (network !== undefined) await removeEndpoint(deps, network, endpoint)
        }
        await deleteSandbox(deps, sandbox)
      },
    })),
    ...lostContainerSteps(deps, deps.state.networks()),
  ]
}

/**
 * A global network can go without this host having been asked: this host was removed from the cluster. Whoever learnt of that
 * may have died before it had removed all endpoints. Their links and addresses are then nobody's, and go in later stages.
 */
const orphanSteps = ({ state }: EndpointDeps): Step[] =>
  state
    .endpoints()
    .filter(endpoint => state.networkOf(endpoint) === undefined)
    .map(endpoint => ({
      words: `remove endpoint ${endpoint.name} of a network that is no more`,
      apply: () => state.deleteEndpoint(endpoint),
    }))

/**
 * Only dockerd can wire a container again, and it gives the container's next life a new endpoint. It does not always
 * say that the old one has ended: after a crash it skips Leave and DeleteEndpoint if it has not spoken to us before
 * (libnetwork/endpoint.go, `n.driver(load=false)`).
 */
export function lostContainerSteps(deps: EndpointDeps, networks: readonly Network[]): Step[] {
  return networks.flatMap(network => {
    const driver = deps.drivers.get(network.driver)
    return deps.state
      .endpointsOfNetwork(network.id)
      .filter(endpoint => endpoint.createdBy === 'docker' && !isAwaited(endpoint) && driver.isLost(endpoint))
      .map(endpoint => ({
        words: `remove endpoint ${endpoint.name} of network ${network.name}: its link is gone`,
        apply: () => removeEndpoint(deps, network, endpoint),
      }))
  })
}

/** A link comes with Join, milliseconds after CreateEndpoint; where dockerd died in between, nobody says anything more of it. */
const isAwaited = ({ state, createdAt }: Endpoint): boolean =>
  state === 'created' && Date.now() - Date.parse(createdAt) < dockerWaitMs

/** Namespaces of ours come back after a reboot. */
async function namespaceSteps(deps: EndpointDeps): Promise<Step[]> {
  const lasting = deps.state.sandboxes().filter(sandbox => sandbox.owned && !sandbox.ephemeral)
  return missing(deps, lasting).map(sandbox => ({
    words: `create namespace ${sandbox.netns} of sandbox ${sandbox.name}`,
    apply: () => deps.namespaces.create(sandbox),
  }))
}

/** Sandboxes in which everything was right a moment ago, by id: what is done to others since then changes nothing there. */
type Right = Set<string>

/** Links of our sandboxes that are not where they should be. */
export async function linkSteps(
  deps: EndpointDeps,
  sandboxes = deps.state.sandboxes(),
  right: Right = new Set(),
): Promise<Step[]> {
  return sandboxes.flatMap(sandbox => {
    const endpoints = attached(deps, sandbox)
    const found = endpoints.length === 0 ? undefined : difference(deps, sandbox, endpoints)
    // in a dry run the namespace may still be missing; its line says so for the links in it too
    if (found === undefined) return []
    if (found.missing.length === 0 && found.step === undefined) right.add(sandbox.id)
    const lacking = new Set(endpoints.filter(({ ifname = '' }) => found.missing.includes(ifname)))
    return [...lacking].map(endpoint => {
      const network = deps.state.network(endpoint.networkId)
      const driver = deps.drivers.get(network.driver)
      return {
        words: `create link ${endpoint.ifname} of network ${network.name} in sandbox ${sandbox.name}`,
        apply: async () => {
          const wiring = wiringOf(deps, endpoint)
          if (!driver.isLost(endpoint)) await driver.deleteEndpoint(network, wiring)
          await driver.join(network, wiring)
          lacking.delete(endpoint)
          if (lacking.size === 0 && isWired(deps, sandbox, endpoints)) right.add(sandbox.id)
        },
      }
    })
  })
}

/** With all its links there is nothing to compare before the rest is set on them. What hinders that, the next stage says. */
function isWired(deps: EndpointDeps, sandbox: Sandbox, endpoints: readonly Endpoint[]): boolean {
  try {
    wire(deps, sandbox, endpoints)
    return true
  } catch {
    return false
  }
}

/** Global networks that this host uses without having its part of them, or has its part of without using them. */
async function memberSteps(deps: EndpointDeps): Promise<Step[]> {
  const { state } = deps
  const { cluster } = state
  if (cluster === undefined || cluster.downBecause() !== undefined) return []
  return state
    .networks()
    .filter(({ scope }) => scope === 'global')
    .flatMap(network => {
      const isUsed = isUsedHere(deps, network)
      const join = () => withUndo(undo => takePart(deps, network, undo))
      const leave = () => leaveUnused(deps, network.id)
      if (isUsed && !hasPart(network)) return { words: `take part in network ${network.name}`, apply: join }
      if (!isUsed && (cluster.member(network.id)?.addresses.length ?? 0) > 0)
        return { words: `leave network ${network.name}: nothing here uses it`, apply: leave }
      return []
    })
}

/** Everything in the host's own namespace. */
const hostSteps = (deps: EndpointDeps): Promise<Step[]> => deps.drivers.plan(wantedNetworks(deps))

export const wantedNetworks = (deps: EndpointDeps): WantedNetwork[] =>
  deps.state.networks().flatMap(network => wantedNetwork(deps, network) ?? [])

/** undefined: nothing of it should be here. */
export function wantedNetwork(deps: EndpointDeps, network: Network): WantedNetwork | undefined {
  if (!isPresent(deps, network)) return undefined
  const endpoints = deps.state.endpointsOfNetwork(network.id).filter(hasJoined)
  return { network, endpoints: endpoints.map(endpoint => ({ endpoint })) }
}

/** Or has been: after dockerd's Leave the link stays until DeleteEndpoint. Until then there is nothing of it. */
const hasJoined = ({ state, sandboxKey }: Endpoint): boolean => state === 'joined' || sandboxKey !== undefined

export async function insideSteps(
  deps: EndpointDeps,
  sandboxes = deps.state.sandboxes(),
  right: Right = new Set(),
): Promise<Step[]> {
  return sandboxes.flatMap(sandbox => {
    if (sandbox.shares !== undefined || right.has(sandbox.id)) return []
    // in a dry run a missing link is still missing here, and has been told of already
    return difference(deps, sandbox, attached(deps, sandbox))?.step ?? []
  })
}

/** What others have made of one sandbox, such as a route of theirs where ours should be, keeps nobody from putting right the others. */
function difference(
  deps: EndpointDeps,
  sandbox: Sandbox,
  endpoints: readonly Endpoint[],
): InsideDifference | undefined {
  try {
    return deps.namespaces.compare(wantedSandbox(deps, sandbox, endpoints))
  } catch (error) {
    const apply = (): never => {
      throw error
    }
    return { missing: [], step: { words: `put right the inside of sandbox ${sandbox.name}`, apply } }
  }
}

/** Pools and addresses whose owner a crash kept from being recorded, or from being released with it. */
async function addressSteps(deps: EndpointDeps): Promise<Step[]> {
  const { ipam, state } = deps
  const used = new Set(state.networks().flatMap(network => network.subnets.map(subnet => subnet.poolId)))
  const steps: Step[] = []
  for (const pool of ipam.pools()) {
    const waiting = pool.owner === dockerPoolOwner && Date.now() - Date.parse(pool.createdAt) < dockerWaitMs
    if (!used.has(pool.id) && !waiting)
      steps.push({
        words: `release pool ${pool.subnet} of ${pool.owner}, which does not exist`,
        apply: () => ipam.releasePool(pool.id),
      })
    for (const { address, owner, ownerName } of ipam.addresses(pool.id))
      if (isGone(deps, owner, address))
        steps.push({
          words: `release address ${address} of ${ownerName ?? owner}, which does not exist`,
          apply: () => ipam.releaseAddress(pool.id, address, owner),
        })
  }
  return steps
}

/** The owner of an address, an endpoint or this host itself on a global network, does not have it. */
function isGone({ state }: EndpointDeps, owner: string, address: string): boolean {
  const { cluster } = state
  if (isEndpointId(owner)) return state.endpoint(owner) === undefined
  if (cluster === undefined || owner !== memberOwner(cluster.host)) return false
  return !state.networks().some(({ subnets }) => subnets.some(({ hostAddress }) => hostAddress === address))
}

const missing = (deps: EndpointDeps, sandboxes: readonly Sandbox[]): Sandbox[] =>
  sandboxes.filter(sandbox => !deps.namespaces.exists(sandbox.netns))
