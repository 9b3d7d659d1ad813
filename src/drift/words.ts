import type { KernelEvent } from '../netlink/events.js'
import type { Link } from '../netlink/objects.js'

export const addressWords = (event: KernelEvent & { what: 'address' }, link: string): string =>
  `address ${event.address.address} was ${event.change === 'new' ? 'added to' : 'removed from'} ${link}`

/** What has become of a link. One that is new is our own work, or is told by what it is not. */
export function linkWords(change: 'new' | 'deleted', link: Link, before: Link | undefined): string[] {
  const { name } = link
  if (change === 'deleted') return [`link ${name} was deleted`]
  if (before === undefined) return [`link ${name} was made or changed`]
  const said: string[] = []
  if (before.name !== name) said.push(`link ${before.name} was renamed ${name}`)
  if (before.up !== link.up) said.push(`link ${name} was set ${link.up ? 'up' : 'down'}`)
  if (before.mtu !== link.mtu) said.push(`MTU of ${name} was changed to ${link.mtu}`)
  if (before.mac !== link.mac) said.push(`MAC address of ${name} was changed to ${link.mac}`)
  if (before.master !== link.master)
    said.push(`${name} was ${link.master === undefined ? 'taken from its bridge' : 'given to another bridge'}`)
  if (before.alias !== link.alias) said.push(`alias of ${name} was changed`)
  if (JSON.stringify([before.port, before.vxlan]) !== JSON.stringify([link.port, link.vxlan]))
    said.push(`settings of ${name} were changed`)
  return said
}
