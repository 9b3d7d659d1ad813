import { beforeEach, describe, expect, test } from 'vitest'
import type { Cluster } from '../../src/cnm/cluster.js'
import { State } from '../../src/cnm/state.js'
import type { Endpoint, Network } from '../../src/cnm/types.js'
import { MemoryStore } from '../../src/store/memory.js'

const network = {
  ...{ id: 'a'.repeat(64), name: 'blue', driver: 'overlay', scope: 'global', options: {}, subnets: [] },
  ...{ internal: false, labels: {}, createdBy: 'tsnet', createdAt: '', dockerNetworkIds: [] },
} satisfies Network
const endpoint = (id: string, hostPort?: number): Endpoint => ({
  ...{ id, networkId: network.id, name: id, createdBy: 'docker', addresses: ['10.50.0.2/16'] },
  ...{ mac: '02:42:0a:32:00:02', hostLink: '', aliases: [], routes: [], ports: [], state: 'joined', createdAt: '' },
  bindings:
    hostPort === undefined
      ? []
      : [{ protocol: 'tcp', hostIp: '0.0.0.0', hostPort, containerIp: '10.50.0.2', containerPort: 80, size: 1 }],
})
const ports = [{ protocol: 'tcp', containerPort: { first: 80, last: 80 } }] as const
const kept = { networkId: network.id, name: 'shop', ports: [...ports] }

let store: MemoryStore
let told: string[]
let state: State
beforeEach(async () => {
  store = new MemoryStore()
  told = []
  const cluster = {
    networks: () => [network],
    publish: async ({ name, bindings }: Endpoint) =>
      void told.push(`${name} ${bindings.map(b => b.hostPort).join() || '-'}`),
    withdraw: async ({ name }: Endpoint) => void told.push(`${name} gone`),
    deleteNetwork: async () => undefined,
  }
  state = new State(store, cluster as unknown as Cluster)
  await state.putEndpoints([endpoint('shop', 8080), endpoint('other')])
  told = []
})

describe('endpoints of a global network that change together', () => {
  test('are told to the other hosts, each', async () => {
    await state.putEndpoints([endpoint('shop'), endpoint('other', 8080)])
    expect(told).toEqual(['shop -', 'other 8080'])
  })

  test('are told as they were where the store refuses, and stay so here', async () => {
    store.close()
    await expect(state.putEndpoints([endpoint('shop'), endpoint('other', 8080)], [kept])).rejects.toThrow()
    expect(told).toEqual(['shop -', 'other 8080', 'other -', 'shop 8080'])
    expect(state.endpoint('shop')?.bindings).toHaveLength(1)
    expect(state.livePorts()).toEqual([])
  })
})

describe('ports kept for the next life of a container', () => {
  beforeEach(() => state.putEndpoints([], [kept]))
  const loaded = async (): Promise<State> => {
    const next = new State(store)
    await next.load()
    return next
  }

  test('are there after a restart, by network and name', async () => {
    expect((await loaded()).livePortsOf(network.id, 'shop')).toEqual(ports)
    expect((await loaded()).livePortsOf(network.id, 'other')).toEqual([])
  })

  test('go with the last of them', async () => {
    await state.putEndpoints([], [{ ...kept, ports: [] }])
    expect([state.livePorts(), (await loaded()).livePorts()]).toEqual([[], []])
  })

  test('go with the network, a global one included', async () => {
    await state.deleteNetwork(network)
    expect([state.livePorts(), (await loaded()).livePorts()]).toEqual([[], []])
  })
})
