import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Network, Peer } from '../../src/cnm/types.js'
import { type ClusterWorld, keyPrefix } from './cluster-world.js'
import { repo } from './machine.js'

// Writes into etcd what hosts of a larger cluster would have published.

export type RecordToPublish = [key: string, value: unknown]

/** Returns when etcd has them all. Keys are without the prefix. */
export async function publish(world: ClusterWorld, records: Iterable<RecordToPublish>): Promise<void> {
  const enter = ['-t', String(world.etcdPlace(0).pid), '--net', '--', process.execPath]
  const argv = [...enter, join(repo, 'test/helpers/publish-records.mjs'), world.etcd.endpoints[0]!]
  const child = spawn('nsenter', argv, { stdio: ['pipe', 'inherit', 'inherit'] })
  const gone = once(child, 'exit')
  for (const [key, value] of records) {
    const line = JSON.stringify([`${keyPrefix}/${key}`, JSON.stringify({ v: 1, value })])
    if (!child.stdin.write(`${line}\n`)) await once(child.stdin, 'drain')
  }
  child.stdin.end()
  const [status] = await gone
  if (status !== 0) throw new Error(`publish-records.mjs ended with ${status}`)
}

export const hostRecord = (name: string, vtep: string): RecordToPublish => [
  `host/${name}`,
  {
    ...{ name, id: randomBytes(16).toString('hex'), vtep, version: '0.0.0' },
    ...{ startedAt: new Date().toISOString(), lastSeen: new Date().toISOString() },
  },
]

/** How the ids of networks begin that are not real ones. */
export const simulated = 'ffffffff'

/** The `i`-th of other networks like one, and what there is of it in etcd but for its pools. */
export function networkRecords(like: Network, i: number): { network: Network; records: RecordToPublish[] } {
  const vni = `vni/${i + 1}`
  const name = `other-${i}`
  const network: Network = {
    ...like,
    id: `${simulated}${randomBytes(28).toString('hex')}`,
    name,
    options: { ...(like.options as object), vni: i + 1 },
  }
  const records: RecordToPublish[] = [
    [`network/${network.id}`, { ...network, dockerNetworkIds: [], unique: [vni] }],
    [`network-name/${name}`, { id: network.id }],
    [`unique/${vni}`, { networkId: network.id }],
  ]
  return { network, records }
}

/**
 * The `i`-th endpoint of a host: 10.x.y.z, counted up from the network's address, and a MAC address that nobody else has. Its
 * address is not taken in the pool: choose an `i` beside the range from which the network gives addresses.
 */
export function peerRecord(network: Network, host: string, i: number): RecordToPublish {
  const [a, b] = network.subnets[0]!.subnet.split('.')
  const octets = [Number(b) + (i >> 16), (i >> 8) & 255, i & 255]
  const id = randomBytes(32).toString('hex')
  const peer: Peer = {
    id,
    networkId: network.id,
    name: `sim-${i}`,
    createdBy: 'tsnet',
    addresses: [`${a}.${octets.join('.')}/${network.subnets[0]!.subnet.split('/')[1]}`],
    mac: `02:53:${[i >> 24, i >> 16, i >> 8, i].map(part => (part & 255).toString(16).padStart(2, '0')).join(':')}`,
    hostLink: `sim${i}`,
    ifname: 'eth0',
    aliases: [],
    routes: [],
    ports: [],
    bindings: [],
    state: 'joined',
    createdAt: new Date().toISOString(),
    host,
    sandbox: `sim-${i}`,
  }
  return [`net/${network.id}/endpoint/${id}`, peer]
}
