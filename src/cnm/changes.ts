import type { Event } from './specs.js'
import type { Endpoint, Network, Sandbox } from './types.js'

/** One object before and after it was stored. */
export type Change =
  | { of: 'network'; before?: Network; after?: Network }
  | { of: 'sandbox'; before?: Sandbox; after?: Sandbox }
  | { of: 'endpoint'; before?: Endpoint; after?: Endpoint; network: string; sandbox: string }

type Unstamped = Omit<Event, 'time'>

/** What has happened to an object, in the order of its life. Pure. */
export function eventsOf(change: Change): Unstamped[] {
  const { before, after } = change
  const object = after ?? before
  if (object === undefined) return []
  const actions = change.of === 'endpoint' ? endpointActions(change) : objectActions(before, after)
  const { id, name } = object
  const createdBy = 'createdBy' in object ? { createdBy: object.createdBy } : {}
  return actions.map(action => ({ type: change.of, action, id, name, ...createdBy, ...detailsOf(change, action) }))
}

function objectActions(before: unknown, after: unknown): string[] {
  if (before === undefined) return ['create']
  if (after === undefined) return ['remove']
  return JSON.stringify(before) === JSON.stringify(after) ? [] : ['update']
}

function endpointActions({ before, after }: { before?: Endpoint; after?: Endpoint }): string[] {
  const actions: string[] = []
  const [ports, portsNow] = [before, after].map(endpoint => JSON.stringify(endpoint?.bindings ?? []))
  const [joined, joinedNow] = [before, after].map(endpoint => endpoint?.state === 'joined')
  if (before === undefined) actions.push('create')
  if (joinedNow && !joined) actions.push('connect')
  if (ports !== portsNow) {
    if (ports !== '[]') actions.push('revoke')
    if (portsNow !== '[]') actions.push('publish')
  }
  if (joined && !joinedNow) actions.push('disconnect')
  if (after === undefined) actions.push('remove')
  return actions
}

function detailsOf(change: Change, action: string): Partial<Unstamped> {
  if (change.of !== 'endpoint') return {}
  const { network, sandbox, before, after } = change
  const { addresses = [] } = after ?? before ?? {}
  const bindings = action === 'publish' ? after?.bindings : action === 'revoke' ? before?.bindings : undefined
  return { network, sandbox, addresses, ...(bindings === undefined ? {} : { bindings }) }
}
