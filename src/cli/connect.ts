import type { ConnectSpec, EndpointView } from '../cnm/specs.js'
import type { PortSpec, Route } from '../cnm/types.js'
import { formatBinding } from '../ports/spec.js'
import { type Column, formatTable, listCell } from './output.js'
import { print, printJson, printLines, type Session } from './session.js'

const columns: readonly Column<EndpointView>[] = [
  ['NETWORK', endpoint => endpoint.network],
  ['SANDBOX', endpoint => endpoint.sandbox],
  ['NAME', endpoint => endpoint.name],
  ['IFNAME', endpoint => endpoint.ifname ?? '-'],
  ['ADDRESSES', endpoint => listCell(endpoint.addresses)],
  ['MAC', endpoint => endpoint.mac],
  ['PORTS', endpoint => listCell(endpoint.bindings.map(formatBinding))],
]

/** The flags that `connect` and `run` share. */
export interface ConnectFlags {
  ip?: string
  ip6?: string
  mac?: string
  ifname?: string
  alias?: string[]
  publish?: PortSpec[]
  route?: Route[]
  opt?: Record<string, string>
}

export const connectSpecOf = (flags: ConnectFlags): Record<keyof ConnectSpec, unknown> => ({
  ip: flags.ip,
  ip6: flags.ip6,
  mac: flags.mac,
  ifname: flags.ifname,
  aliases: flags.alias,
  ports: flags.publish,
  routes: flags.route,
  options: flags.opt,
})

export async function connect(
  { client, json, quiet }: Session,
  network: string,
  sandbox: string,
  flags: ConnectFlags,
): Promise<void> {
  const spec = { sandbox, ...connectSpecOf(flags) }
  const endpoint = await client.post<EndpointView>(['networks', network, 'connect'], spec)
  if (json) printJson(endpoint)
  else if (!quiet) printLines(endpoint.addresses)
}

export async function disconnect(
  { client }: Session,
  network: string,
  sandbox: string,
  flags: { force?: true },
): Promise<void> {
  await client.post(['networks', network, 'disconnect'], { sandbox, force: flags.force ?? false, wait: true })
}

export async function listEndpoints({ client, json, quiet }: Session): Promise<void> {
  const endpoints = await client.get<EndpointView[]>('endpoints')
  if (quiet) printLines(endpoints.map(endpoint => endpoint.id))
  else if (json) printJson(endpoints)
  else print(formatTable(columns, endpoints))
}
