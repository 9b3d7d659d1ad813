import type { Event } from '../cnm/specs.js'
import { unavailable } from '../errors.js'
import { formatBinding } from '../ports/spec.js'
import { print, printLines, type Session } from './session.js'

export interface EventsFlags {
  since?: Date
  until?: Date
}

/** Until it is interrupted, the time is up or the daemon ends. */
export async function events({ client, json, quiet }: Session, { since, until }: EventsFlags): Promise<void> {
  const query = {
    ...(since !== undefined && { since: since.toISOString() }),
    ...(until !== undefined && { until: until.toISOString() }),
  }
  const stop = new AbortController()
  // `| head -1`: nobody reads any more
  process.stdout.once('error', () => stop.abort())
  const show = (event: Event): void => {
    if (json) print(`${JSON.stringify(event)}\n`)
    else printLines([quiet ? (event.id ?? event.type) : lineOf(event)])
  }
  await client.follow<Event>('events', query, show, stop.signal)
  if (stop.signal.aborted) return
  if (until === undefined || until.getTime() > Date.now())
    throw unavailable(`the daemon on ${client.target.name} has ended`)
}

/** `2026-01-02T03:04:05.678Z endpoint connect box (network=lab, sandbox=box, addresses=10.30.0.2/24)` */
function lineOf({ time, type, action, name, words, ...rest }: Event): string {
  const { network, sandbox, addresses, bindings, createdBy } = rest
  const details = Object.entries({
    network,
    sandbox,
    addresses: addresses?.join(' '),
    ports: bindings?.map(formatBinding).join(' '),
    createdBy,
  }).flatMap(([key, value]) => (value === undefined || value === '' ? [] : `${key}=${value}`))
  const what = words ?? `${name}${details.length === 0 ? '' : ` (${details.join(', ')})`}`
  return `${time} ${type} ${action} ${what}`
}
