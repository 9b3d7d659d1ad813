import type { HostView } from '../cnm/specs.js'
import { type Column, formatTable, listCell } from './output.js'
import { forEachName, print, printJson, printLines, type Session } from './session.js'

const columns: readonly Column<HostView>[] = [
  ['NAME', host => host.name],
  ['STATE', host => host.state],
  ['ADDRESS', host => host.vtep],
  ['VERSION', host => host.version],
  ['LAST SEEN', host => host.lastSeen],
  ['ENDPOINTS', host => String(host.endpoints)],
  ['NETWORKS', host => listCell(host.networks)],
]

export async function listHosts({ client, json, quiet }: Session): Promise<void> {
  const hosts = await client.get<HostView[]>('hosts')
  if (quiet) printLines(hosts.map(host => host.name))
  else if (json) printJson(hosts)
  else print(formatTable(columns, hosts))
}

export async function inspectHosts({ client, quiet }: Session, refs: string[]): Promise<void> {
  const found: HostView[] = []
  await forEachName(refs, async ref => {
    found.push(await client.get<HostView>('hosts', ref))
  })
  if (quiet) printLines(found.map(host => host.name))
  else printJson(found)
}

export async function removeHosts({ client, json }: Session, refs: string[], flags: { force?: true }): Promise<void> {
  const deleted: string[] = []
  await forEachName(refs, async ref => {
    await client.deleteWith(['hosts', ref], { force: flags.force ?? false })
    deleted.push(ref)
    if (!json) printLines([ref])
  })
  if (json) printJson({ deleted })
}
