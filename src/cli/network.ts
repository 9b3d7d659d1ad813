import type { NetworkSpec, NetworkView } from '../cnm/specs.js'
import type { Endpoint, Peer } from '../cnm/types.js'
import { unavailable } from '../errors.js'
import { shortId } from '../names.js'
import { formatBinding } from '../ports/spec.js'
import { type Column, formatTable, listCell } from './output.js'
import { complain, forEachName, print, printJson, printLines, type Session } from './session.js'

const columns: readonly Column<NetworkView>[] = [
  ['NETWORK ID', network => shortId(network.id)],
  ['NAME', network => network.name],
  ['DRIVER', network => network.driver],
  ['SCOPE', network => network.scope],
  ['SUBNETS', network => listCell(network.subnets.map(subnet => subnet.subnet))],
  ['ENDPOINTS', network => String(network.endpoints.length)],
  ['CREATED BY', network => network.createdBy],
]

/** An endpoint of a network that is inspected as a table. */
interface Row {
  network: string
  endpoint: Endpoint | Peer
}

const endpointColumns: readonly Column<Row>[] = [
  ['NETWORK', ({ network }) => network],
  ['HOST', ({ endpoint }) => ('host' in endpoint ? endpoint.host : '-')],
  ['NAME', ({ endpoint }) => endpoint.name],
  ['ADDRESSES', ({ endpoint }) => listCell(endpoint.addresses)],
  ['MAC', ({ endpoint }) => endpoint.mac],
  ['PORTS', ({ endpoint }) => listCell(endpoint.bindings.map(formatBinding))],
]

/** The flags of `network create`, as commander names them. */
export interface NetworkCreateFlags {
  driver?: string
  subnet?: string[]
  ipRange?: string[]
  gateway?: string[]
  auxAddress?: Record<string, string>
  ipv6?: true
  internal?: true
  opt?: Record<string, string>
  label?: Record<string, string>
}

export async function createNetwork({ client, json }: Session, name: string, flags: NetworkCreateFlags): Promise<void> {
  const spec: Record<keyof NetworkSpec, unknown> = {
    name,
    driver: flags.driver,
    subnets: flags.subnet,
    ipRanges: flags.ipRange,
    gateways: flags.gateway,
    auxAddresses: flags.auxAddress,
    ipv6: flags.ipv6,
    internal: flags.internal,
    options: flags.opt,
    labels: flags.label,
  }
  const network = await client.post<NetworkView>(['networks'], spec)
  if (json) printJson(network)
  else printLines([network.id])
}

export async function listNetworks({ client, json, quiet }: Session): Promise<void> {
  const networks = await client.get<NetworkView[]>('networks')
  if (quiet) printLines(networks.map(network => network.id))
  else if (json) printJson(networks)
  else print(formatTable(columns, networks))
}

export async function inspectNetworks({ client, quiet, table }: Session, refs: string[]): Promise<void> {
  const found: NetworkView[] = []
  await forEachName(refs, async ref => {
    found.push(await client.get<NetworkView>('networks', ref))
  })
  // what is printed is true, but not all of it is there
  for (const { name, incomplete } of found)
    if (incomplete !== undefined)
      complain(unavailable(`network ${name}: endpoints of other hosts may be missing: ${incomplete}`))
  if (quiet) printLines(found.map(network => network.id))
  else if (!table) printJson(found)
  else {
    const rows = found.flatMap(({ name, endpoints }) => endpoints.map(endpoint => ({ network: name, endpoint })))
    print(formatTable(endpointColumns, rows))
  }
}

export async function removeNetworks({ client, json }: Session, refs: string[]): Promise<void> {
  const deleted: string[] = []
  await forEachName(refs, async ref => {
    await client.delete('networks', ref)
    deleted.push(ref)
    if (!json) printLines([ref])
  })
  if (json) printJson({ deleted })
}

export async function pruneNetworks({ client, json }: Session): Promise<void> {
  const answer = await client.post<{ deleted: string[] }>(['networks', 'prune'])
  if (json) printJson(answer)
  else printLines(answer.deleted)
}
