import { isIP, isIPv6 } from 'node:net'
import type { State } from '../cnm/state.js'
import type { Endpoint, Family, Network, Peer, Protocol } from '../cnm/types.js'
import { invalid } from '../errors.js'
import { addressOf } from '../net/subnets.js'
import type { Kernel } from '../netlink/kernel.js'
import { canonicalAddress, familyOf } from '../ports/address.js'

/** One end of a way, at one of its addresses. */
export interface End {
  /** endpoint: on a network here. peer: on another host. host: this one. outside: none of these. */
  kind: 'endpoint' | 'peer' | 'host' | 'outside'
  /** for people: the sandbox, the container, `the host`, or the address */
  name: string
  /** plain */
  address: string
  /** of an endpoint or a peer */
  on?: { network: Network; endpoint: Endpoint }
  /** path of the namespace of an endpoint, where it has one */
  netns?: string
  /** of a peer: where it is */
  host?: string
}

/** What the second word asks for. */
export interface Wanted {
  ref: string
  port?: number
  protocol: Protocol | 'icmp'
}

const protocols: readonly string[] = ['tcp', 'udp', 'sctp'] satisfies Protocol[]

/** `B`, `B:80`, `B:53/udp`, `10.30.0.3:80`, `[fd00:30::3]:80` @throws {NetError} InvalidParameter */
export function parseWanted(text: string): Wanted {
  if (isIP(text) !== 0) return { ref: text, protocol: 'icmp' }
  const [, bracketed, plain, port, protocol = 'tcp'] =
    /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5})(?:\/(\w+))?)?$/.exec(text) ?? []
  const ref = bracketed ?? plain
  if (ref === undefined || (bracketed !== undefined && !isIPv6(bracketed)))
    throw invalid(`"${text}" is not NAME, NAME:PORT, NAME:PORT/PROTOCOL or the same with an address, IPv6 in brackets`)
  if (port === undefined) return { ref, protocol: 'icmp' }
  if (Number(port) < 1 || Number(port) > 65535) throw invalid(`port ${port} is not from 1 to 65535`)
  if (!protocols.includes(protocol)) throw invalid(`protocol ${protocol} is not one of ${protocols.join(', ')}`)
  return { ref, port: Number(port), protocol: protocol as Protocol }
}

/** What a word may mean: one for each address. */
export interface Meaning {
  ends: End[]
  /** a name that is known, of something without an address to be reached at; the end of a sentence */
  nothing?: string
}

export function meaningOf(word: string, state: State, kernel: Kernel): Meaning {
  if (isIP(word) !== 0) return { ends: [endAt(canonicalAddress(word) ?? word, state, kernel)] }
  if (word === 'host') return { ends: hostEnds(kernel) }
  const sandbox = state.sandboxes().find(({ name, id }) => name === word || id === word)
  if (sandbox?.shares?.with === 'host') return { ends: hostEnds(kernel) }
  const own = state.endpoints().filter(
    endpoint =>
      isCalled(endpoint, word, state.sandboxNameOf(endpoint)) ||
      // a container's has no sandbox
      (sandbox !== undefined && endpoint.sandboxId === sandbox.id),
  )
  const here = own.flatMap(endpoint => endsOf(endpoint, state))
  if (here.length > 0) return { ends: here }
  const there = state.peers().filter(peer => isCalled(peer, word, peer.sandbox) || `${peer.host}/${peer.name}` === word)
  const ends = there.flatMap(peer => peerEnds(peer, state))
  if (ends.length > 0) return { ends }
  const [name, network] = splitLast(word)
  if (network !== undefined && state.networks().some(each => each.name === network))
    return { ends: meaningOf(name, state, kernel).ends.filter(({ on }) => on?.network.name === network) }
  if (sandbox !== undefined) return { ends: [], nothing: `sandbox ${sandbox.name} is on no network` }
  return { ends: [] }
}

const isCalled = ({ id, name, aliases }: Endpoint, word: string, sandbox: string): boolean =>
  name === word ||
  aliases.includes(word) ||
  sandbox === word ||
  id === word ||
  (word.length >= 12 && id.startsWith(word))

/** `box.lab` -> `box`, `lab` */
function splitLast(word: string): [string, string?] {
  const dot = word.lastIndexOf('.')
  return dot < 1 ? [word] : [word.slice(0, dot), word.slice(dot + 1)]
}

function endsOf(endpoint: Endpoint, state: State): End[] {
  const network = state.networkOf(endpoint)
  if (network === undefined) return []
  const { sandboxId, sandboxKey } = endpoint
  const sandbox = state.sandboxes().find(({ id }) => id === sandboxId)
  const netns = sandbox?.netns ?? sandboxKey
  return endpoint.addresses.map(address => ({
    kind: 'endpoint',
    name: sandbox?.name ?? endpoint.name,
    address: addressOf(address),
    on: { network, endpoint },
    ...(netns === undefined ? {} : { netns }),
  }))
}

function peerEnds(peer: Peer, state: State): End[] {
  const network = state.networkOf(peer)
  if (network === undefined) return []
  return peer.addresses.map(address => ({
    ...{ kind: 'peer', name: peer.name, address: addressOf(address) },
    ...{ on: { network, endpoint: peer }, host: peer.host },
  }))
}

const hostEnds = (kernel: Kernel): End[] =>
  kernel
    .addresses()
    .filter(({ scope }) => scope === 'global')
    .map(({ address }) => hostEnd(addressOf(address)))
const hostEnd = (address: string): End => ({ kind: 'host', name: 'the host', address })

/** Whose an address is. */
function endAt(address: string, state: State, kernel: Kernel): End {
  const has = (endpoint: Endpoint): boolean => endpoint.addresses.some(each => addressOf(each) === address)
  const [own] = state
    .endpoints()
    .filter(has)
    .flatMap(endpoint => endsOf(endpoint, state))
  const [peer] = state
    .peers()
    .filter(has)
    .flatMap(each => peerEnds(each, state))
  const found = own ?? peer
  if (found !== undefined) return { ...found, address }
  if (kernel.addresses().some(each => addressOf(each.address) === address)) return hostEnd(address)
  return { kind: 'outside', name: address, address }
}

/** A pair of addresses, best of all on one network, IPv4 first; undefined: they have no family in common. */
export function choosePair(from: readonly End[], to: readonly End[]): { from: End; to: End } | undefined {
  const pairs = from.flatMap(a =>
    to.filter(b => familyOf(a.address) === familyOf(b.address)).map(b => ({ from: a, to: b })),
  )
  const rank = ({ from: a, to: b }: { from: End; to: End }): number =>
    (isNear(a, b) ? 0 : 2) + (familyOf(a.address) === 6 ? 1 : 0)
  return pairs.sort((x, y) => rank(x) - rank(y))[0]
}

/** On one network; the host is at the gateway's address, and at its own. */
function isNear(a: End, b: End): boolean {
  if (a.on !== undefined && b.on !== undefined) return a.on.network.id === b.on.network.id
  const [inside, host] = a.on === undefined ? [b, a] : [a, b]
  return (
    host.kind === 'host' &&
    inside.on?.network.subnets.some(({ gateway, hostAddress }) => [gateway, hostAddress].includes(host.address)) ===
      true
  )
}

/** How a command inside of an end begins. */
export const insideOf = ({ netns }: End): string => (netns === undefined ? '' : `nsenter --net=${netns} `)

export const familyOfEnd = ({ address }: End): Family => familyOf(address)
