import { readFileSync } from 'node:fs'
import { fail, ok } from '../cnm/diagnosis.js'
import type { State } from '../cnm/state.js'
import type { PortBinding } from '../cnm/types.js'
import { addressOf } from '../net/subnets.js'
import { familyOf, isUnspecified } from '../ports/address.js'
import { specOf } from '../ports/spec.js'
import { clientWords, directHop, isClient, publishedBy } from './direct.js'
import type { End, Wanted } from './ends.js'
import type { Hop } from './hops.js'
import { isLan, lanHop } from './lan.js'

// What tsnet's own rules say of a way, in the words of whoever chose them: icc, internal, networks apart, published ports, clients.

export interface Policy {
  hops: Hop[]
  /** where it really ends: the endpoint behind a published port */
  final: End
  /** of the endpoint */
  port?: number
}

/** @param comesBy the link by which packets come to this host, of those from another machine */
export function policyOf(state: State, from: End, to: End, wanted: Wanted, comesBy: string | undefined): Policy {
  const port = wanted.port === undefined ? {} : { port: wanted.port }
  const here = { final: to, ...port }
  const onLan = lanHop(from, to)
  if (onLan !== undefined && !(to.kind === 'outside' && onLan.state === 'ok')) return { ...here, hops: [onLan] }
  if (to.kind === 'host' && wanted.port !== undefined) return toHostPort(state, from, to, wanted)
  const [a, b] = [from.on, to.on]
  if (a !== undefined && b !== undefined) {
    if (a.network.id !== b.network.id)
      return { ...here, hops: [directHop(from, to, wanted, undefined) ?? apart(from, to, wanted)] }
    const { name, options } = a.network
    if ((options as { icc?: boolean } | undefined)?.icc === false && a.endpoint.id !== b.endpoint.id)
      return {
        ...here,
        hops: [
          fail(
            'icc',
            `network ${name} has icc=false: its endpoints do not talk to each other`,
            `tsnet network create ... -o icc=true    # and attach both to that`,
          ),
        ],
      }
    return { ...here, hops: [ok('policy', `both are on network ${name}, whose endpoints may talk to each other`)] }
  }
  if (to.kind === 'outside') return { ...here, hops: outwards(state, from, to) }
  if (from.kind === 'outside' && b !== undefined)
    return { ...here, hops: [directHop(from, to, wanted, comesBy) ?? fromOutside(from, to, wanted)] }
  return { ...here, hops: [] }
}

function apart(from: End, to: End, wanted: Wanted): Hop {
  const [mine, theirs] = [from.on?.network.name, to.on?.network.name]
  const binding = to.on && publishedBy(to.on.endpoint.bindings, wanted)
  // who is on a LAN does not reach the host, whose port it would be
  const isByPort = binding !== undefined && !isLan(from.on?.network)
  const way = !isByPort
    ? `tsnet connect ${theirs} ${from.name}`
    : `tsnet explain ${from.name} host:${hostPortOf(binding, wanted)}    # its port is published there`
  const docker = from.on?.endpoint.createdBy === 'docker' && !isByPort
  return fail(
    'network',
    `${from.name} is on network ${mine} and ${to.name} on network ${theirs}: networks are kept apart`,
    docker ? `docker network connect ${theirs} ${from.name}` : way,
  )
}

function outwards(state: State, from: End, to: End): Hop[] {
  if (from.on === undefined) return []
  const networks = networksOf(state, from)
  const open = networks.filter(({ internal }) => !internal)
  if (open.length > 0) return [ok('policy', `network ${open[0]?.name} lets packets out of the host`)]
  return [
    fail(
      'internal',
      `network ${from.on.network.name} is internal: nothing leaves it, so ${to.address} is not reached`,
      `tsnet connect OTHER-NETWORK ${from.name}`,
    ),
  ]
}

const networksOf = (state: State, { on }: End) => {
  const { sandboxId, id } = on?.endpoint ?? {}
  const all = state
    .endpoints()
    .filter(each => each.id === id || (sandboxId !== undefined && each.sandboxId === sandboxId))
  return all.flatMap(endpoint => state.networkOf(endpoint) ?? [])
}

function fromOutside({ address }: End, to: End, wanted: Wanted): Hop {
  const network = to.on?.network
  if (network?.internal)
    return fail(
      'internal',
      `network ${network.name} is internal: nothing gets into it from outside`,
      'use a network that is not',
    )
  const { bindings = [] } = to.on?.endpoint ?? {}
  const binding = publishedBy(bindings, wanted)
  if (binding !== undefined)
    return fail(
      'ports',
      `${to.name} is not reached at ${to.address} from outside, but its port ${wanted.port}/${wanted.protocol} is published as port ${hostPortOf(binding, wanted)} of this host`,
      `tsnet explain ${address} host:${hostPortOf(binding, wanted)}`,
    )
  if (wanted.port === undefined)
    return fail(
      'ports',
      `${to.name} is reached from outside by published ports only, and no port was named`,
      `tsnet explain ${address} ${to.name}:PORT`,
    )
  return fail(
    'ports',
    `port ${wanted.port}/${wanted.protocol} of ${to.name} is not published: nobody outside of the host reaches it`,
    `tsnet publish add ${to.name} ${wanted.port}:${wanted.port}${wanted.protocol === 'tcp' ? '' : `/${wanted.protocol}`}`,
  )
}

const hostPortOf = ({ hostPort, containerPort }: PortBinding, { port = 0 }: Wanted): number =>
  hostPort + port - containerPort

function toHostPort(state: State, from: End, to: End, wanted: Wanted): Policy {
  const { port = 0, protocol } = wanted
  const word = `port ${port}/${protocol} of the host`
  const all = state.endpoints().flatMap(endpoint => endpoint.bindings.map(binding => ({ endpoint, binding })))
  const fits = all.filter(
    ({ binding: { protocol: of, hostPort, size } }) => of === protocol && port >= hostPort && port < hostPort + size,
  )
  const found =
    fits.find(({ binding }) => binding.hostIp === to.address) ??
    fits.find(({ binding: { hostIp } }) => isUnspecified(hostIp) && familyOf(hostIp) === familyOf(to.address))
  if (found === undefined) {
    const elsewhere = fits[0]?.binding.hostIp
    if (isHeard(port, protocol))
      return {
        hops: [ok('ports', `${word} is no published one: a program of the host itself listens there`)],
        final: to,
        port,
      }
    const words =
      elsewhere === undefined
        ? `${word} is not published, and no program listens there`
        : `${word} is published at ${elsewhere} only, not at ${to.address}`
    return {
      hops: [
        fail(
          'ports',
          words,
          elsewhere === undefined
            ? `tsnet publish add SANDBOX ${port}:PORT`
            : `tsnet explain ${from.name === 'the host' ? 'host' : from.name} ${elsewhere}:${port}`,
        ),
      ],
      final: to,
      port,
    }
  }
  const { endpoint, binding } = found
  const network = state.networkOf(endpoint)
  const name = state.sandboxes().find(({ id }) => id === endpoint.sandboxId)?.name ?? endpoint.name
  const inner = binding.containerPort + port - binding.hostPort
  const refused = from.kind !== 'host' && !isClient(binding, from)
  const hop = refused
    ? fail(
        'clients',
        clientWords(word, binding, from),
        `tsnet publish rm ${name} ${specOf(binding)}; tsnet publish add ${name} ${specOf(binding)} --from ${from.address}${binding.from?.map(cidr => ` --from ${cidr}`).join('')}`,
      )
    : ok(
        'ports',
        `${word} is published: it leads to port ${inner} of ${name} (${binding.containerIp})${binding.from === undefined ? '' : `, for ${binding.from.join(', ')}`}`,
      )
  const final: End =
    network === undefined
      ? to
      : {
          ...{ kind: 'endpoint', name, address: addressOf(binding.containerIp), on: { network, endpoint } },
          ...namespaceOf(state, endpoint.sandboxId, endpoint.sandboxKey),
        }
  return { hops: [hop], final, port: inner }
}

function namespaceOf(state: State, sandboxId: string | undefined, sandboxKey: string | undefined): { netns?: string } {
  const netns = state.sandboxes().find(({ id }) => id === sandboxId)?.netns ?? sandboxKey
  return netns === undefined ? {} : { netns }
}

/** proc_net_tcp(5): the state of a socket that listens; UDP's that waits has 07. */
const listening: Readonly<Record<string, string>> = { tcp: '0A', udp: '07' }

/** Some program of the host has a socket at this port. */
function isHeard(port: number, protocol: Wanted['protocol']): boolean {
  const state = listening[protocol]
  if (state === undefined) return false
  const hex = port.toString(16).toUpperCase().padStart(4, '0')
  return [protocol, `${protocol}6`].some(file => {
    try {
      return readFileSync(`/proc/thread-self/net/${file}`, 'utf8')
        .split('\n')
        .some(line => new RegExp(`^\\s*\\d+: [0-9A-F]+:${hex} \\S+ ${state} `).test(line))
    } catch {
      return false
    }
  })
}
