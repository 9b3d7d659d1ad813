import { resolve } from 'node:path'
import type { SandboxSpec, SandboxView } from '../cnm/specs.js'
import type { ExtraHost } from '../cnm/types.js'
import { shortId } from '../names.js'
import { type Column, formatTable, listCell } from './output.js'
import { forEachName, print, printJson, printLines, type Session } from './session.js'

const columns: readonly Column<SandboxView>[] = [
  ['SANDBOX ID', sandbox => shortId(sandbox.id)],
  ['NAME', sandbox => sandbox.name],
  ['NETNS', sandbox => sandbox.netns],
  ['STATE', sandbox => (sandbox.missing ? 'missing' : 'present')],
  ['NETWORKS', sandbox => listCell(sandbox.endpoints.map(endpoint => endpoint.network))],
]

/** The flags that `sandbox create` and `run` share. */
export interface NameFlags {
  dns?: string[]
  dnsSearch?: string[]
  hostname?: string
  addHost?: ExtraHost[]
}

/** The part of a sandbox's specification that is about names. */
export const namesSpecOf = ({ dns, dnsSearch, hostname, addHost }: NameFlags): Partial<SandboxSpec> => ({
  ...((dns !== undefined || dnsSearch !== undefined) && { dns: { servers: dns ?? [], search: dnsSearch ?? [] } }),
  ...(hostname !== undefined && { hostname }),
  ...(addHost !== undefined && { extraHosts: addHost }),
})

export interface SandboxCreateFlags extends NameFlags {
  netns?: string
  pid?: number
}

export async function createSandbox({ client, json }: Session, name: string, flags: SandboxCreateFlags): Promise<void> {
  const spec: SandboxSpec = {
    name,
    // the daemon works in another directory
    ...(flags.netns !== undefined && { netns: resolve(flags.netns) }),
    ...(flags.pid !== undefined && { pid: flags.pid }),
    ...namesSpecOf(flags),
  }
  const sandbox = await client.post<SandboxView>(['sandboxes'], spec)
  if (json) printJson(sandbox)
  else printLines([sandbox.name])
}

export async function listSandboxes({ client, json, quiet }: Session): Promise<void> {
  const sandboxes = await client.get<SandboxView[]>('sandboxes')
  if (quiet) printLines(sandboxes.map(sandbox => sandbox.name))
  else if (json) printJson(sandboxes)
  else print(formatTable(columns, sandboxes))
}

export async function inspectSandboxes({ client, quiet }: Session, refs: string[]): Promise<void> {
  const found: SandboxView[] = []
  await forEachName(refs, async ref => {
    found.push(await client.get<SandboxView>('sandboxes', ref))
  })
  if (quiet) printLines(found.map(sandbox => sandbox.name))
  else printJson(found)
}

export async function removeSandboxes({ client, json }: Session, refs: string[]): Promise<void> {
  const deleted: string[] = []
  await forEachName(refs, async ref => {
    await client.delete('sandboxes', ref)
    deleted.push(ref)
    if (!json) printLines([ref])
  })
  if (json) printJson({ deleted })
}
