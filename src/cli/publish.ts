import type { EndpointView, PublishSpec } from '../cnm/specs.js'
import type { PortBinding } from '../cnm/types.js'
import { formatBinding, formatPortSpec, parsePortSpec, specOf } from '../ports/spec.js'
import { type Column, formatTable, listCell } from './output.js'
import { print, printJson, printLines, type Session } from './session.js'

interface Row {
  endpoint: EndpointView
  binding: PortBinding
}

const columns: readonly Column<Row>[] = [
  ['NETWORK', ({ endpoint }) => endpoint.network],
  ['NAME', ({ endpoint }) => endpoint.name],
  ['PORT', ({ binding }) => formatBinding(binding)],
  ['FROM', ({ binding }) => listCell(binding.from ?? [])],
  ['SPEC', ({ binding }) => specOf(binding)],
  ['LIVE', ({ binding }) => (binding.live ? 'yes' : 'no')],
]

export interface PublishFlags {
  network?: string
  from?: string[]
  replace?: true
}

export async function addPort(
  { client, json, quiet }: Session,
  ref: string,
  text: string,
  flags: PublishFlags,
): Promise<void> {
  const { network, from, replace } = flags
  const port = { ...parsePortSpec(text), ...(from && { from }) }
  const spec: PublishSpec = { port, ...(network && { network }), ...(replace && { replace }) }
  const endpoint = await client.post<EndpointView>(['endpoints', ref, 'publish'], spec)
  const asked = formatPortSpec(port)
  const granted = endpoint.bindings.filter(binding => binding.live && specOf(binding) === asked)
  if (json) printJson(endpoint)
  else if (!quiet) printLines(granted.map(formatBinding))
}

export async function removePort({ client }: Session, ref: string, text: string, flags: PublishFlags): Promise<void> {
  const spec: PublishSpec = { port: parsePortSpec(text), ...(flags.network && { network: flags.network }) }
  await client.post(['endpoints', ref, 'unpublish'], spec)
}

export async function listPorts(
  { client, json, quiet }: Session,
  ref: string | undefined,
  flags: PublishFlags,
): Promise<void> {
  const endpoints = await client.get<EndpointView[]>('endpoints')
  const rows = endpoints
    .filter(({ name, sandbox, id }) => ref === undefined || [name, sandbox, id].includes(ref))
    .filter(({ network }) => flags.network === undefined || network === flags.network)
    .flatMap(endpoint => endpoint.bindings.map(binding => ({ endpoint, binding })))
  if (quiet) printLines(rows.map(({ binding }) => specOf(binding)))
  else if (json)
    printJson(rows.map(({ endpoint, binding }) => ({ network: endpoint.network, name: endpoint.name, ...binding })))
  else print(formatTable(columns, rows))
}
