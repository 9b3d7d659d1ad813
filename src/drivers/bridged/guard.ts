import type { Endpoint } from '../../cnm/types.js'
import { invalid } from '../../errors.js'
import type { Element } from '../../firewall/elements.js'
import { senderElements } from '../../firewall/senders.js'
import { addressOf } from '../../net/subnets.js'
import type { BridgedNetwork } from './links.js'

// The spoof guard of a network's endpoints (firewall/spoof-guard.nft).

/** `unguarded`: why there is no spoof guard here. @throws {NetError} InvalidParameter: one was asked for */
export function refuseUnguarded(network: BridgedNetwork, unguarded: string | undefined): void {
  if (network.options.anti_spoof === true && unguarded !== undefined)
    throw invalid(`network ${network.name} cannot have anti_spoof=true on this host: ${unguarded}`)
}

/** A network that should have the guard, and has none, is told of. */
export const unguardedNotes = ({ options }: BridgedNetwork, unguarded: string | undefined): string[] =>
  options.anti_spoof === false || unguarded === undefined
    ? []
    : [`anti_spoof is off on this host: ${unguarded}; endpoints can send with the addresses of others`]

/** What the firewall must hold for an endpoint; nothing where it is not guarded. Pure. */
export function guardElements(network: BridgedNetwork, endpoint: Endpoint, unguarded: string | undefined): Element[] {
  const { options, hostLink: link, mac } = endpoint
  if (unguarded !== undefined || network.options.anti_spoof === false || options?.anti_spoof === false) return []
  const addresses = endpoint.addresses.map(addressOf)
  const extra = options?.extra_addresses ?? []
  // what the network sends to an endpoint to be passed on is answered through it
  const routed = (network.options.routes ?? []).filter(({ via }) => via !== undefined && addresses.includes(via))
  return senderElements({
    ...{ link, mac, addresses },
    macs: extra.filter(isMac),
    subnets: [...extra.filter(text => !isMac(text)), ...routed.map(({ destination }) => destination)],
  })
}

const isMac = (text: string): boolean => !text.includes('/')
