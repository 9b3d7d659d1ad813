import { conflict, forbidden, invalid, kindOf, notFound } from '../errors.js'
import { checkObjectName, randomId } from '../names.js'
import { withUndo } from '../undo.js'
import type { Container } from './driver.js'
import { type EndpointDeps, endpointView, rewire } from './endpoints.js'
import type { SandboxSpec, SandboxView } from './specs.js'
import type { Sandbox, Share } from './types.js'

/** The daemon's own namespace, as the daemon names it; a view names it so that others find it. */
export const hostNetns = '/proc/self/ns/net'

/** Make a namespace, adopt the one that a path or a process names, or share another one's. The caller holds the lock of the name. */
export async function createSandbox(deps: EndpointDeps, spec: SandboxSpec): Promise<Sandbox> {
  checkObjectName(spec.name, 'sandbox')
  deps.state.checkSandboxNameFree(spec.name)
  const asked = [spec.netns, spec.pid, spec.share].filter(origin => origin !== undefined)
  if (asked.length > 1) throw invalid('give a namespace path, a pid or whose namespace to share: one of them')
  // its files are somebody else's
  if (asked.length > 0 && ((spec.dns?.search.length ?? 0) > 0 || (spec.extraHosts?.length ?? 0) > 0))
    throw invalid('search domains and extra hosts are for namespaces that tsnet makes: an adopted one keeps its files')
  const sandbox: Sandbox = {
    id: randomId(),
    name: spec.name,
    netns: deps.namespaces.pathOf(spec.name),
    owned: asked.length === 0,
    ephemeral: spec.ephemeral === true,
    ...(spec.dns === undefined ? {} : { dns: spec.dns }),
    ...(spec.hostname === undefined ? {} : { hostname: spec.hostname }),
    ...(spec.extraHosts === undefined ? {} : { extraHosts: spec.extraHosts }),
    createdAt: new Date().toISOString(),
  }
  if (spec.share !== undefined) return await share(deps, sandbox, spec.share)
  if (sandbox.owned) return await make(deps, sandbox)
  sandbox.netns = spec.pid === undefined ? (spec.netns ?? '') : `/proc/${spec.pid}/ns/net`
  // a process that has ended does not come back, so neither does its sandbox
  if (spec.pid !== undefined) sandbox.ephemeral = true
  refuseTaken(deps, sandbox.netns)
  return await remember(deps, sandbox)
}

async function make(deps: EndpointDeps, sandbox: Sandbox): Promise<Sandbox> {
  if (deps.namespaces.exists(sandbox.netns)) throw conflict(`network namespace ${sandbox.netns} exists already`)
  return await withUndo(async undo => {
    let isOurs = true
    // forgotten only once the namespace is gone: until then the intent says whose it is
    undo.add(`delete namespace ${sandbox.netns}`, async () => {
      deps.state.intents.abandon(sandbox)
      if (isOurs) deps.namespaces.delete(sandbox)
      await deps.state.intents.forget(sandbox)
    })
    await deps.state.intents.add(sandbox)
    try {
      deps.namespaces.create(sandbox)
    } catch (error) {
      isOurs = kindOf(error) !== 'Conflict'
      throw error
    }
    return await remember(deps, sandbox)
  })
}

async function remember(deps: EndpointDeps, sandbox: Sandbox): Promise<Sandbox> {
  await deps.state.createSandbox(sandbox)
  return sandbox
}

/** Two sandboxes that configure one namespace would undo each other's work. */
function refuseTaken({ namespaces, state }: EndpointDeps, path: string): void {
  namespaces.check(path)
  const identity = namespaces.identity(path)
  if (namespaces.exists(hostNetns) && namespaces.identity(hostNetns) === identity)
    throw forbidden(`${path} is the namespace of the host itself, whose links are not a sandbox's: use --network host`)
  const holder = state
    .sandboxes()
    .find(({ netns, shares }) => !shares && namespaces.exists(netns) && namespaces.identity(netns) === identity)
  if (holder !== undefined)
    throw conflict(`${path} is the namespace of sandbox ${holder.name} already: share it with container:${holder.name}`)
}

async function share(deps: EndpointDeps, sandbox: Sandbox, asked: string): Promise<Sandbox> {
  if (asked === 'host') {
    return await remember(deps, { ...sandbox, netns: hostNetns, shares: { with: 'host', name: 'host' } })
  }
  const name = /^container:(.+)$/.exec(asked)?.[1]
  if (name === undefined) throw invalid(`a namespace is shared with host or container:NAME, not with "${asked}"`)
  const owner = findSandbox(deps, name)
  if (owner === undefined) {
    const container = await findContainer(deps, name)
    // as with a process: a container's next life has another namespace
    const { netns, ...found } = container
    const shares: Share = { with: 'container', ...found }
    return await remember(deps, { ...sandbox, netns, ephemeral: true, shares })
  }
  deps.namespaces.check(owner.netns)
  const shares: Share = owner.shares ?? { with: 'sandbox', id: owner.id, name: owner.name }
  return await remember(deps, {
    ...sandbox,
    netns: owner.netns,
    ephemeral: sandbox.ephemeral || owner.ephemeral,
    shares,
  })
}

function findSandbox({ state }: EndpointDeps, ref: string): Sandbox | undefined {
  try {
    return state.sandbox(ref)
  } catch (error) {
    if (kindOf(error) === 'NotFound') return undefined
    throw error
  }
}

async function findContainer(deps: EndpointDeps, name: string): Promise<Container> {
  try {
    const container = await deps.containers.find(name)
    deps.namespaces.check(container.netns)
    return container
  } catch (error) {
    if (kindOf(error) === 'NotFound')
      throw notFound(`there is no sandbox and no container ${name} whose namespace could be shared`, { cause: error })
    throw error
  }
}

/** Its endpoints are gone. A namespace that we did not make is left as it was found. The caller holds the sandbox's lock. */
export async function deleteSandbox(deps: EndpointDeps, sandbox: Sandbox): Promise<void> {
  deps.names.release(sandbox)
  if (sandbox.owned) deps.namespaces.delete(sandbox)
  else rewire(deps, sandbox)
  await deps.state.deleteSandbox(sandbox)
}

export const sharersOf = ({ state }: EndpointDeps, { id }: Sandbox): Sandbox[] =>
  state.sandboxes().filter(({ shares }) => shares?.with === 'sandbox' && shares.id === id)

/** @throws {NetError} Conflict: another sandbox lives in this one's namespace */
export function refuseSharedByOthers(deps: EndpointDeps, sandbox: Sandbox): void {
  const sharers = sharersOf(deps, sandbox).map(({ name }) => name)
  if (sharers.length > 0)
    throw conflict(`sandbox ${sandbox.name} is shared by ${sharers.join(', ')}; remove that first`)
}

export function sandboxView(deps: EndpointDeps, sandbox: Sandbox): SandboxView {
  const endpoints = deps.state.endpointsOfSandbox(sandbox.id).map(endpoint => endpointView(deps, endpoint))
  const missing = !deps.namespaces.exists(sandbox.netns)
  // "self" is somebody else for who reads this
  const netns = sandbox.netns === hostNetns ? `/proc/${process.pid}/ns/net` : sandbox.netns
  return { ...sandbox, netns, endpoints, missing }
}
