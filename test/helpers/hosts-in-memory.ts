import { setTimeout as sleep } from 'node:timers/promises'
import { ClusterOfHosts } from '../../src/cluster/cluster.js'
import type { ClusterListener } from '../../src/cnm/cluster.js'
import type { Remote } from '../../src/cnm/driver.js'
import type { Endpoint, Member, Network } from '../../src/cnm/types.js'
import type { Log } from '../../src/log.js'
import { MemoryStore } from '../../src/store/memory.js'
import type { Store } from '../../src/store/store.js'
import { Line } from './store-line.js'

/** What a controller does first, and how long it takes for the rest. */
interface Order {
  recordedFirst?: boolean
  gapMs?: number
}

/** A host whose controller does nothing but remember what it was told. */
export class TestHost {
  readonly line: Line
  readonly endpoints = new Map<string, Endpoint>()
  readonly told: string[] = []
  readonly remoteChanges: { networkId: string; before: readonly Remote[]; after: readonly Remote[] }[] = []
  readonly lines: string[] = []
  readonly released: string[] = []
  cluster: ClusterOfHosts
  reclaims = 0
  /** instead of nothing, when the host is to compare what it has with the store */
  onReclaim = async (): Promise<void> => {}
  ups = 0

  constructor(
    shared: Store,
    readonly name: string,
    public options: { id?: string; local?: Store; leaseMs?: number; vtep?: string } = {},
  ) {
    this.line = new Line(shared)
    this.local = options.local ?? new MemoryStore()
    this.cluster = this.#create()
  }

  readonly local: Store

  async start(): Promise<this> {
    await this.cluster.load()
    this.cluster.start(this.#listener())
    return this
  }

  async up(): Promise<this> {
    await until(
      () => this.cluster.downBecause() === undefined,
      () => `${this.name} is up: ${this.cluster.downBecause()}`,
    )
    return this
  }

  async down(): Promise<this> {
    await until(
      () => this.cluster.downBecause() !== undefined,
      () => `${this.name} is down`,
    )
    return this
  }

  /** As after kill -9: nothing is said to anybody. */
  async restart(): Promise<this> {
    this.line.cut()
    await this.down()
    await this.cluster.close()
    this.line.mend()
    this.cluster = this.#create()
    return await this.start()
  }

  member(networkId: string, rest: Partial<Member> = {}): Member {
    return {
      networkId,
      host: this.name,
      addresses: [],
      mac: macOf(`${this.name}/${networkId}`),
      dockerNetworkIds: [],
      assignedBy: 'tsnet',
      ...rest,
    }
  }

  async leave(networkId: string): Promise<void> {
    await this.cluster.reduceMember(this.member(networkId))
  }

  /** As a controller connects: an endpoint of which the others cannot be told is not joined. */
  async connect(endpoint: Endpoint, order: Order = {}): Promise<void> {
    if (this.endpoints.has(endpoint.id)) return
    if (this.cluster.member(endpoint.networkId) === undefined)
      await this.cluster.putMember(this.member(endpoint.networkId))
    try {
      if (order.recordedFirst) this.endpoints.set(endpoint.id, endpoint)
      await this.cluster.publish(endpoint, `sandbox-of-${endpoint.name}`)
      await sleep(order.gapMs)
    } catch (error) {
      await this.disconnect(endpoint, order)
      throw error
    }
    this.endpoints.set(endpoint.id, endpoint)
  }

  async disconnect(endpoint: Endpoint, order: Order = {}): Promise<void> {
    if (order.recordedFirst) this.endpoints.delete(endpoint.id)
    await this.cluster.withdraw(endpoint)
    await sleep(order.gapMs)
    this.endpoints.delete(endpoint.id)
  }

  #create(): ClusterOfHosts {
    const { name, local, line, options, released } = this
    const lines = this.lines
    const write = (_: object, message: string): void => void lines.push(message)
    const log: Log = { debug() {}, info: write, warn: write, error: write, child: () => log }
    const cluster = new ClusterOfHosts({
      shared: line,
      where: 'memory://',
      local,
      host: { name, id: options.id ?? `id-of-${name}`, version: '1', startedAt: '2026-01-01T00:00:00.000Z' },
      log,
      pausesMs: { shortest: 2, longest: 20 },
      leaseMs: options.leaseMs ?? 10_000,
      releaseHost: async host => void released.push(host),
      releaseAddress: async (pool, address, host) => void released.push(`${pool} ${address} ${host}`),
      releaseStray: async (pool, address) => void released.push(`${pool} ${address}`),
    })
    cluster.setUnderlay({ vtep: options.vtep ?? `192.0.2.${name.replace(/\D/g, '')}`, link: 'eth0' })
    return cluster
  }

  #listener(): ClusterListener {
    return {
      endpointsOf: networkId =>
        [...this.endpoints.values()]
          .filter(endpoint => endpoint.networkId === networkId)
          .map(endpoint => ({ endpoint, sandbox: `sandbox-of-${endpoint.name}` })),
      reclaim: async () => {
        this.reclaims++
        await this.onReclaim()
      },
      up: async () => void this.ups++,
      down: because => void this.told.push(`down: ${because}`),
      networkChanged: (before, after) => void this.told.push(`network ${before?.name ?? '-'} -> ${after?.name ?? '-'}`),
      verify: async () => ({ checked: [], found: [] }),
      remotesChanged: (networkId, before, after) => void this.remoteChanges.push({ networkId, before, after }),
    }
  }
}

export async function until(holds: () => boolean | Promise<boolean>, what: () => string): Promise<void> {
  const end = performance.now() + 15_000
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`not within 15 s: ${what()}`)
    await sleep(5)
  }
}

const hex = (text: string): string => Buffer.from(text).toString('hex')
const macOf = (text: string): string =>
  `02:${[...Buffer.from(text.padEnd(5, '-')).subarray(-5)].map(b => b.toString(16).padStart(2, '0')).join(':')}`

export const networkOf = (name: string, subnet = '10.50.0.0/16'): Network => ({
  id: hex(name).padEnd(64, '0'),
  name,
  driver: 'overlay',
  scope: 'global',
  options: {},
  subnets: [{ family: 4, subnet, auxAddresses: {}, poolId: `pool-${name}`, assignedBy: 'tsnet' }],
  internal: false,
  labels: {},
  createdBy: 'tsnet',
  createdAt: '2026-01-01T00:00:00.000Z',
  dockerNetworkIds: [],
})

export const endpointOf = (
  network: Network,
  name: string,
  address: string,
  rest: Partial<Endpoint> = {},
): Endpoint => ({
  id: hex(`${network.name}/${name}`).padEnd(64, '0'),
  networkId: network.id,
  name,
  createdBy: 'tsnet',
  addresses: [`${address}/16`],
  mac: macOf(name),
  hostLink: `veth-${name}`,
  aliases: [],
  routes: [],
  ports: [],
  bindings: [],
  state: 'joined',
  createdAt: '2026-01-01T00:00:00.000Z',
  ...rest,
})

export const remoteOf = ({ mac, addresses }: Endpoint, vtep: string): Remote => ({
  mac,
  addresses: addresses.map(address => address.replace(/\/\d+$/, '')),
  vtep,
})

export const blue = networkOf('blue')
export const web = endpointOf(blue, 'web', '10.50.0.2')
export const db = endpointOf(blue, 'db', '10.50.0.3')

const hosts: TestHost[] = []

export async function closeHosts(): Promise<void> {
  for (const host of hosts.splice(0)) {
    host.line.mend()
    await host.cluster.close()
  }
}

/** Not up yet, perhaps. */
export async function startHost(shared: Store, name: string, options: TestHost['options'] = {}): Promise<TestHost> {
  const host = new TestHost(shared, name, options)
  hosts.push(host)
  return await host.start()
}

type Hosts = [TestHost, TestHost, TestHost]
/** h1, h2 and h3. */
export async function startHosts(shared: Store = new MemoryStore()): Promise<Hosts> {
  const start = async (name: string): Promise<TestHost> => await (await startHost(shared, name)).up()
  return [await start('h1'), await start('h2'), await start('h3')]
}

/** Three hosts that know network blue, the first two of them members. */
export async function startBlue(shared: Store = new MemoryStore()): Promise<Hosts> {
  const started = await startHosts(shared)
  const [h1, h2, h3] = started
  await h1.cluster.createNetwork(blue, ['vni/4100'])
  for (const host of [h2, h3])
    await until(
      () => host.cluster.networks().length === 1,
      () => `${host.name} knows the network`,
    )
  for (const host of [h1, h2]) await host.cluster.putMember(host.member(blue.id))
  return started
}
