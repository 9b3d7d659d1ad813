import { fail, ok } from '../cnm/diagnosis.js'
import type { State } from '../cnm/state.js'
import type { Endpoint, Network } from '../cnm/types.js'
import { arpProbe } from '../netlink/arp-probe.js'
import type { Kernel } from '../netlink/kernel.js'
import { currentNetns } from '../netlink/netns.js'
import type { Link } from '../netlink/objects.js'
import { familyOf } from '../ports/address.js'
import type { End } from './ends.js'
import { type Hop, lasting, orWell } from './hops.js'
import { mtuOf } from './network-checks.js'

// The host's side of a network that is a bridge: the bridge, its ports, its forwarding entries, and who answers on it.

export interface SegmentDeps {
  kernel: Kernel
  state: State
  /** the bridge of a network, for kinds of network that have one */
  bridgeOf: (network: Network) => string | undefined
}

/** The bridge of an end's network, where it has one and that is there. */
export const bridgeLink = ({ kernel, bridgeOf }: SegmentDeps, { on }: End): Link | undefined => {
  const name = on && bridgeOf(on.network)
  return name === undefined ? undefined : kernel.link(name)
}

/** From the end's cable to the bridge. */
export function portHops(deps: SegmentDeps, end: End): Hop[] {
  const { kernel, bridgeOf } = deps
  const { on, kind } = end
  if (on === undefined || kind !== 'endpoint') return []
  const { network, endpoint } = on
  const name = bridgeOf(network)
  if (name === undefined) return []
  const what = `network ${network.name}`
  const bridge = kernel.link(name)
  if (bridge === undefined) return [fail(what, `its bridge ${name} is not there`, 'tsnet reconcile')]
  const port = kernel.link(endpoint.hostLink)
  if (port === undefined)
    return [
      fail(what, `${endpoint.hostLink}, the host's end of the cable of ${end.name}, is not there`, 'tsnet reconcile'),
    ]
  const wrong = [
    ...bridgeFaults(what, bridge),
    ...portFaults(what, end, port, bridge, mtuOf(network)),
    ...forwardingFaults(deps, what, end, port, bridge),
  ]
  return orWell(wrong, what, `${end.name} is on port ${port.name} of bridge ${bridge.name}, both up, MTU ${bridge.mtu}`)
}

const bridgeFaults = (what: string, { name, up }: Link): Hop[] =>
  up ? [] : [fail(what, `its bridge ${name} is down`, `ip link set ${name} up`)]

function portFaults(what: string, end: End, port: Link, bridge: Link, mtu: number | undefined): Hop[] {
  const wrong: Hop[] = []
  if (!port.up)
    wrong.push(
      fail(what, `${port.name}, the host's end of the cable of ${end.name}, is down`, `ip link set ${port.name} up`),
    )
  if (port.master !== bridge.index)
    wrong.push(
      fail(
        what,
        `${port.name}, the host's end of the cable of ${end.name}, is not a port of ${bridge.name}`,
        `ip link set ${port.name} master ${bridge.name}`,
      ),
    )
  for (const { name, mtu: has } of [port, bridge])
    if (mtu !== undefined && has !== mtu)
      wrong.push(
        lasting(
          fail(
            what,
            `${name} has MTU ${has} instead of ${mtu}: larger packets vanish there`,
            `ip link set ${name} mtu ${mtu}`,
          ),
        ),
      )
  return wrong
}

/** A MAC address that the bridge finds at another port than its owner's. */
function forwardingFaults({ kernel }: SegmentDeps, what: string, { name, on }: End, port: Link, bridge: Link): Hop[] {
  const mac = on?.endpoint.mac
  return kernel
    .fdb({ master: bridge.index })
    .filter(entry => entry.mac === mac && entry.master === bridge.index && entry.index !== port.index)
    .map(entry => {
      const at = kernel.link(entry.index)?.name ?? String(entry.index)
      return lasting(
        fail(
          what,
          `a stale forwarding entry (FDB) of ${bridge.name} sends frames for ${mac}, which is ${name}, to ${at} instead of ${port.name}`,
          `bridge fdb delete ${mac} dev ${at} master`,
        ),
      )
    })
}

/** How long owners of an address get to answer. */
const arpMs = 250

/** An IPv4 address that somebody else on the bridge answers for as well. IPv6's own detection shows at the link that lost. */
export async function duplicateHops(deps: SegmentDeps, ends: readonly End[]): Promise<Hop[]> {
  const asked = ends.filter(({ kind, address }) => kind === 'endpoint' && familyOf(address) === 4)
  return (await Promise.all(asked.map(end => duplicatesOf(deps, end)))).flat()
}

async function duplicatesOf(deps: SegmentDeps, end: End): Promise<Hop[]> {
  const bridge = bridgeLink(deps, end)
  if (bridge?.mac === undefined || end.on === undefined) return []
  const netns = currentNetns()
  try {
    const macs = await arpProbe(netns, { index: bridge.index, mac: bridge.mac }, end.address, arpMs)
    const { mac } = end.on.endpoint
    return [...macs]
      .filter(found => found !== mac)
      .map(found => {
        const { words, link } = placeOf(deps, bridge, found)
        return lasting(
          fail(
            'address',
            `${end.address} is taken twice on network ${end.on?.network.name}: besides ${end.name} (${mac}), ${words} (${found}) answers for it`,
            link === undefined
              ? `ip neighbour show ${end.address}`
              : `ip link show ${link}    # and take the address from what is behind it`,
          ),
        )
      })
  } finally {
    netns.close()
  }
}

/** Who is behind a MAC address, as far as the bridge and the records know. */
function placeOf({ kernel, state }: SegmentDeps, bridge: Link, mac: string): { words: string; link?: string } {
  const entry = kernel.fdb({ master: bridge.index }).find(each => each.mac === mac && each.master === bridge.index)
  const link = entry === undefined ? undefined : kernel.link(entry.index)?.name
  const owner: Endpoint | undefined = link === undefined ? undefined : state.endpointOfLink(link)
  if (owner !== undefined) return { words: state.sandboxNameOf(owner) || owner.name, ...(link && { link }) }
  return link === undefined ? { words: 'something else' } : { words: `something behind ${link}`, link }
}

/** The host's own way into a network. */
export const hostHop = ({ name, address }: End, network: Network): Hop =>
  ok(name, `it is ${address} on network ${network.name}`)
