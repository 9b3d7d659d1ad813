import { notFound } from '../errors.js'
import type { EndpointView, Inspected, NetworkView, SandboxView } from './specs.js'

/** Everything that a reference means: by name or id, or by the start of ids. @throws {NetError} NotFound */
export function inspect(
  ref: string,
  { networks, sandboxes, endpoints }: { networks: NetworkView[]; sandboxes: SandboxView[]; endpoints: EndpointView[] },
): Inspected[] {
  const all = [
    ...networks.map((network): Inspected => ({ kind: 'network', ...network })),
    ...sandboxes.map((sandbox): Inspected => ({ kind: 'sandbox', ...sandbox })),
    ...endpoints.map((endpoint): Inspected => ({ kind: 'endpoint', ...endpoint })),
  ]
  const exact = all.filter(({ id, name }) => id === ref || name === ref)
  if (exact.length > 0) return exact
  const byStart = /^[0-9a-f]{3,}$/.test(ref) ? all.filter(({ id }) => id.startsWith(ref)) : []
  if (byStart.length === 0) throw notFound(`there is no network, sandbox or endpoint ${ref}`)
  return byStart
}
