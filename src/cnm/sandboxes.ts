import { conflict, invalid } from '../errors.js'
import { checkObjectName, randomId } from '../names.js'
import { withUndo } from '../undo.js'
import { type EndpointDeps, rewire } from './endpoints.js'
import type { SandboxSpec } from './specs.js'
import type { Sandbox } from './types.js'

/** Make a namespace, or adopt the one that a path or a process names. The caller holds the lock of the name. */
export async function createSandbox(deps: EndpointDeps, spec: SandboxSpec): Promise<Sandbox> {
  checkObjectName(spec.name, 'sandbox')
  deps.state.checkSandboxNameFree(spec.name)
  if (spec.netns !== undefined && spec.pid !== undefined)
    throw invalid('give either a namespace path or a pid, not both')
  const adopted = spec.pid === undefined ? spec.netns : `/proc/${spec.pid}/ns/net`
  // its files are somebody else's
  if (adopted !== undefined && ((spec.dns?.search.length ?? 0) > 0 || (spec.extraHosts?.length ?? 0) > 0))
    throw invalid('search domains and extra hosts are for namespaces that tsnet makes: an adopted one keeps its files')
  const sandbox: Sandbox = {
    id: randomId(),
    name: spec.name,
    netns: adopted ?? deps.namespaces.pathOf(spec.name),
    owned: adopted === undefined,
    // a process that has ended does not come back, so neither does its sandbox
    ephemeral: spec.ephemeral === true || spec.pid !== undefined,
    ...(spec.dns === undefined ? {} : { dns: spec.dns }),
    ...(spec.hostname === undefined ? {} : { hostname: spec.hostname }),
    ...(spec.extraHosts === undefined ? {} : { extraHosts: spec.extraHosts }),
    createdAt: new Date().toISOString(),
  }
  if (adopted !== undefined) {
    deps.namespaces.check(adopted)
    await deps.state.createSandbox(sandbox)
    return sandbox
  }
  if (deps.namespaces.exists(sandbox.netns)) throw conflict(`network namespace ${sandbox.netns} exists already`)
  return await withUndo(async undo => {
    undo.add('forget the intent', () => deps.state.forgetIntent(sandbox))
    await deps.state.intendSandbox(sandbox)
    deps.namespaces.create(sandbox)
    undo.add(`delete namespace ${sandbox.netns}`, () => deps.namespaces.delete(sandbox))
    await deps.state.createSandbox(sandbox)
    return sandbox
  })
}

/** Its endpoints are gone. An adopted namespace is left as it was found. The caller holds the sandbox's lock. */
export async function deleteSandbox(deps: EndpointDeps, sandbox: Sandbox): Promise<void> {
  deps.names.release(sandbox)
  if (sandbox.owned) deps.namespaces.delete(sandbox)
  else rewire(deps, sandbox)
  await deps.state.deleteSandbox(sandbox)
}
