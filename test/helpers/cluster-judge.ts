import { expect } from 'vitest'
import type { Host, Member, Network, Peer } from '../../src/cnm/types.js'
import { openLmdb } from '../../src/store/lmdb.js'
import type { ClusterHost, ClusterWorld } from './cluster-world.js'
import { until } from './machine.js'

// Do etcd and the kernels of all hosts tell the same story? What etcd has is read by etcdctl, what a kernel has by ip and
// bridge. Of a daemon nothing is asked but which endpoints it believes to have.

/** The cluster as etcd has it. */
export interface Records {
  hosts: Map<string, Host>
  /** overlays only */
  networks: Network[]
  members: Member[]
  peers: Peer[]
  /** addresses that are taken, by the id of their pool */
  addresses: Map<string, TakenAddress[]>
  /** keys that belong to a network or a pool which is not there */
  strays: string[]
}

export interface TakenAddress {
  /** plain */
  address: string
  owner: string
  /** absent: a network's own */
  host?: string
}

export async function readRecords(world: ClusterWorld): Promise<Records> {
  const all = [...(await world.records())]
  const under = <T>(pattern: RegExp): T[] => all.filter(([key]) => pattern.test(key)).map(([, value]) => value as T)
  const addresses = new Map<string, TakenAddress[]>()
  for (const [key, value] of all) {
    const pool = /^ipam\/address\/([^/]+)\//.exec(key)?.[1]
    if (pool) addresses.set(pool, [...(addresses.get(pool) ?? []), value as TakenAddress])
  }
  const networks = under<Network>(/^network\//).filter(({ driver }) => driver === 'overlay')
  return {
    hosts: new Map(under<Host>(/^host\//).map(host => [host.name, host])),
    networks,
    strays: all.filter(([key, value]) => isStray(key, value, networks)).map(([key]) => key),
    members: under(/^net\/[^/]+\/member\//),
    peers: under(/^net\/[^/]+\/endpoint\//),
    addresses,
  }
}

/** What its daemon has logged last, of its own accord. */
const lastWords = (host: ClusterHost): string =>
  host
    .logOf('tsnet')
    .split('\n')
    .filter(line => !line.includes('/v1/'))
    .slice(-20)
    .join('\n')

function isStray(key: string, value: unknown, networks: Network[]): boolean {
  const ids = networks.map(({ id }) => id)
  const pools = networks.flatMap(({ subnets }) => subnets.map(({ poolId }) => poolId))
  const [, ofNetwork] = /^net\/([^/]+)\//.exec(key) ?? []
  const [, ofPool] = /^ipam\/(?:pool|address|name)\/([^/]+)/.exec(key) ?? []
  if (key.startsWith('network-name/')) return !ids.includes((value as { id: string }).id)
  if (key.startsWith('unique/')) return !ids.includes((value as { networkId: string }).networkId)
  return (ofNetwork !== undefined && !ids.includes(ofNetwork)) || (ofPool !== undefined && !pools.includes(ofPool))
}

/** Wait until nothing is wrong any more; fails with all that still is. */
export async function expectAgreement(world: ClusterWorld, timeoutMs = 15_000): Promise<void> {
  let wrong: string[] = []
  const agree = async (): Promise<boolean> => {
    wrong = await disagreements(world)
    return wrong.length === 0
  }
  await until('etcd and the kernels to agree', agree, timeoutMs).catch(error => {
    const logs = world.hosts.map(host => `${host.name} said:\n${lastWords(host)}`)
    throw new Error([error.message, ...wrong, ...logs].join('\n'))
  })
}

/** Everything that is not as it should be on any host of the world. */
export async function disagreements(world: ClusterWorld): Promise<string[]> {
  const records = await readRecords(world)
  const wrong = [...addressConflicts(records), ...unheld(records), ...unusedMembers(records)]
  wrong.push(...records.strays.map(key => `etcd has ${key}, which belongs to nothing`))
  for (const host of world.hosts) {
    wrong.push(...(await unpublished(host, records)))
    for (const network of records.networks) wrong.push(...kernelFaults(host, network, records))
    wrong.push(...strayLinks(host, records))
  }
  return wrong
}

const plain = (cidr: string): string => cidr.split('/')[0]!
const of = <T extends { networkId: string }>(network: Network, all: readonly T[]): T[] =>
  all.filter(({ networkId }) => networkId === network.id)

/** Addresses that two have, and those that somebody has without etcd knowing them as taken. */
function addressConflicts({ networks, members, peers, addresses }: Records): string[] {
  const wrong: string[] = []
  for (const network of networks) {
    const owners = new Map<string, string>()
    const holders = [
      ...of(network, members).map(member => ({ who: `host ${member.host}`, has: member.addresses })),
      ...of(network, peers).map(peer => ({ who: `${peer.name} on ${peer.host}`, has: peer.addresses })),
    ]
    const taken = new Set(takenOn(network, addresses).map(({ address }) => address))
    for (const { who, has } of holders)
      for (const address of has.map(plain)) {
        const other = owners.get(address)
        if (other) wrong.push(`${address} of ${network.name} is that of ${other} and of ${who}`)
        if (!taken.has(address)) wrong.push(`${address} of ${who} on ${network.name} is not taken in etcd`)
        owners.set(address, who)
      }
  }
  return wrong
}

const takenOn = (network: Network, addresses: Records['addresses']): TakenAddress[] =>
  network.subnets.flatMap(({ poolId }) => addresses.get(poolId) ?? [])

/** Addresses that etcd has as taken and nobody has. Containers that have an address without being there yet count as nobody. */
function unheld({ networks, members, peers, addresses }: Records): string[] {
  return networks.flatMap(network => {
    const own = network.subnets.flatMap(({ gateway, auxAddresses }) => [gateway, ...Object.values(auxAddresses)])
    const held = [...of(network, members), ...of(network, peers)].flatMap(({ addresses }) => addresses.map(plain))
    return takenOn(network, addresses)
      .filter(({ address }) => !own.includes(address) && !held.includes(address))
      .map(
        ({ address, owner, host }) =>
          `${address} of ${network.name} is taken by ${owner} of ${host} and used by nobody`,
      )
  })
}

/** Hosts that are on a network without using it. */
const unusedMembers = ({ networks, members, peers }: Records): string[] =>
  networks.flatMap(network =>
    of(network, members)
      .filter(({ host, dockerNetworkIds }) => {
        return dockerNetworkIds.length === 0 && !of(network, peers).some(peer => peer.host === host)
      })
      .map(({ host }) => `${host} is a member of ${network.name} without an endpoint`),
  )

/**
 * What the hosts themselves remember of etcd is what etcd has, and nothing waits to be told to it. Daemons must not run: nobody
 * else may open their stores.
 */
export async function expectSameJournals(world: ClusterWorld): Promise<void> {
  const { members, peers, addresses } = await readRecords(world)
  for (const host of world.hosts) {
    const store = openLmdb(host.path('/var/lib/tsnet/tsnet.lmdb'))
    const keysIn = async (prefix: string) =>
      (await store.list(prefix)).entries.map(({ key }) => key.slice(prefix.length))
    const here = <T extends { host?: string }>(all: Iterable<T>): T[] => [...all].filter(one => one.host === host.name)
    try {
      expect({
        host: host.name,
        addresses: (await keysIn('cluster-ipam/address/')).sort(),
        members: (await keysIn('member/')).sort(),
        endpoints: (await keysIn('endpoint/')).sort(),
        waiting: [
          ...(await store.list<{ release?: true }>('cluster-ipam/')).entries.filter(({ value }) => value.release),
          ...(await keysIn('cluster-ipam/pool/')),
          ...(await keysIn('network-attempt/')),
        ],
      }).toEqual({
        host: host.name,
        addresses: [...addresses].flatMap(([pool, all]) => here(all).map(({ address }) => `${pool}/${address}`)).sort(),
        members: here(members)
          .map(({ networkId }) => networkId)
          .sort(),
        endpoints: here(peers)
          .map(({ networkId, id }) => `${networkId}/${id}`)
          .sort(),
        waiting: [],
      })
    } finally {
      await store.close()
    }
  }
}

interface OwnEndpoint {
  id: string
  network: string
  name: string
  addresses: string[]
  host?: string
}

/** What the host has and etcd does not, and the other way about. */
async function unpublished(host: ClusterHost, { networks, peers }: Records): Promise<string[]> {
  const answer = await host.api('GET', '/endpoints')
  const names = new Set(networks.map(({ name }) => name))
  const line = ({ id, name, addresses }: { id: string; name: string; addresses: string[] }): string =>
    `${name} ${addresses.join(' ')} (${id.slice(0, 12)})`
  const own = (answer.body as OwnEndpoint[]).filter(
    one => names.has(one.network) && (one.host ?? host.name) === host.name,
  )
  const told = peers.filter(peer => peer.host === host.name)
  return difference(
    `endpoints of ${host.name}`,
    { of: 'etcd', lines: told.map(line) },
    { of: 'its daemon', lines: own.map(line) },
  )
}

/** The kernel of one host against what etcd says of one network. */
function kernelFaults(host: ClusterHost, network: Network, records: Records): string[] {
  const { vni } = network.options as { vni: number }
  const links = host.json('ip', '-j', '-d', 'link')
  const vxlan = links.find(link => vniOf(link) === Number(vni))
  const here = of(network, records.peers).some(peer => peer.host === host.name)
  if (!here) return vxlan ? [`${host.name} has ${vxlan.ifname} of ${network.name} and no endpoint on it`] : []
  if (!vxlan?.master) return [`${host.name} has an endpoint on ${network.name} and no vxlan link ${vni} on a bridge`]
  const [port, bridge] = [String(vxlan.ifname), String(vxlan.master)]
  const remotes = remotesOf(host, network, records)
  const at = `${network.name} on ${host.name}`
  const fdb = host.json('bridge', '-j', 'fdb', 'show', 'dev', port).filter(isUnicast)
  const neighbours = host.json('ip', '-j', 'neigh', 'show', 'dev', bridge, 'nud', 'permanent')
  const addresses = host
    .json<{ addr_info: { local: string; scope: string }[] }[]>('ip', '-j', 'addr', 'show', 'dev', bridge)
    .flatMap(({ addr_info }) => addr_info.filter(({ scope }) => scope === 'global').map(({ local }) => local))
  const gateways = network.subnets.flatMap(({ gateway }) => gateway ?? [])
  const own = of(network, records.members).filter(member => member.host === host.name)
  return [
    ...compare(`VTEPs of ${at}`, {
      etcd: remotes.map(({ mac, vtep }) => `${mac} ${vtep}`),
      kernel: fdb.filter(({ dst }) => dst).map(({ mac, dst }) => `${mac} ${dst}`),
    }),
    ...compare(`bridge ports of ${at}`, {
      etcd: remotes.map(({ mac }) => mac),
      kernel: fdb.filter(({ master, state }) => master && state === 'static').map(({ mac }) => String(mac)),
    }),
    ...compare(`neighbours of ${at}`, {
      etcd: remotes.flatMap(({ mac, addresses }) => addresses.map(address => `${plain(address)} ${mac}`)),
      kernel: neighbours.map(({ dst, lladdr }) => `${dst} ${lladdr}`),
    }),
    ...compare(`the host's own addresses, ${at}`, {
      etcd: [...gateways, ...own.flatMap(member => member.addresses.map(plain))],
      kernel: addresses,
    }),
  ]
}

/** MAC addresses on other hosts, with what they answer to and where they are. */
function remotesOf(host: ClusterHost, network: Network, { hosts, members, peers }: Records) {
  const others = [...of(network, peers), ...of(network, members).filter(member => member.addresses.length > 0)].filter(
    other => other.host !== host.name,
  )
  return others.map(({ mac, addresses, host: name }) => ({ mac, addresses, vtep: hosts.get(name)?.vtep ?? 'nowhere' }))
}

/** vxlan links for a VNI that no network of etcd has. */
function strayLinks(host: ClusterHost, { networks }: Records): string[] {
  const known = new Set(networks.map(({ options }) => Number((options as { vni: number }).vni)))
  return host
    .json('ip', '-j', '-d', 'link')
    .filter(link => vniOf(link) !== undefined && !known.has(vniOf(link)!))
    .map(({ ifname }) => `${host.name} has ${ifname}, which is of no network`)
}

function vniOf(link: Record<string, unknown>): number | undefined {
  const info = link.linkinfo as { info_kind?: string; info_data?: { id?: number } } | undefined
  return info?.info_kind === 'vxlan' ? info.info_data?.id : undefined
}

/** Neither a group's address nor the entry for everything unknown. */
const isUnicast = ({ mac }: Record<string, unknown>): boolean =>
  !/^(33:33|01:00:5e|01:80:c2|00:00:00:00:00:00)/.test(String(mac))

const compare = (what: string, { etcd, kernel }: { etcd: string[]; kernel: string[] }): string[] =>
  difference(what, { of: 'etcd', lines: etcd }, { of: 'the kernel', lines: kernel })

interface Side {
  of: string
  lines: string[]
}

function difference(what: string, a: Side, b: Side): string[] {
  const only = (left: Side, right: Side): string[] =>
    left.lines.filter(line => !right.lines.includes(line)).map(line => `${what}: only ${left.of} has ${line}`)
  const repeated = [a, b].flatMap(side =>
    side.lines
      .filter((line, i) => side.lines.indexOf(line) !== i)
      .map(line => `${what}: ${side.of} has ${line} more than once`),
  )
  return [...only(a, b), ...only(b, a), ...repeated]
}
