import { afterEach, expect, test } from 'vitest'
import { keys, localKeys } from '../../src/cluster/keys.js'
import { Networks } from '../../src/cluster/networks.js'
import { ClusterIpam } from '../../src/ipam/cluster.js'
import { MemoryStore } from '../../src/store/memory.js'
import { put, type Store } from '../../src/store/store.js'
import { blue, closeHosts, networkOf, startBlue, web } from '../helpers/hosts-in-memory.js'

afterEach(closeHosts)

const red = networkOf('red', '10.60.0.0/16')
const keysIn = async (store: Store, prefix: string) => (await store.list(prefix)).entries.map(({ key }) => key)

test('what the store has of a host that has left the network, having been put back to a time before, goes with its addresses', async () => {
  const shared = new MemoryStore()
  const [h1, h2] = await startBlue(shared)
  await h1.cluster.putMember(h1.member(blue.id, { addresses: ['10.50.0.9/16'] }))
  await h1.connect(web)
  const past = (await shared.list(keys.on(blue.id))).entries
  await h1.disconnect(web)
  await h1.leave(blue.id)
  h1.line.cut()
  await h1.down()
  await shared.txn(
    [],
    past.map(({ key, value }) => ({ type: 'put', key, value })),
  )
  h1.line.mend()
  await h1.up()
  expect(await keysIn(shared, keys.on(blue.id))).toEqual([keys.member(blue.id, h2.name)])
  expect(h1.released.sort()).toEqual(['pool-blue 10.50.0.2', 'pool-blue 10.50.0.9'])
  expect(h1.cluster.member(blue.id)).toBeUndefined()
})

test('a network that was made while attempts without an answer are looked after stays', async () => {
  const [shared, local] = [new MemoryStore(), new MemoryStore()]
  const networks = new Networks({ shared, local, member: () => undefined, changed: () => {}, lost: () => {} })
  const green = networkOf('green')
  await local.txn([], [put(localKeys.attempt(red.id), { ...red, unique: [] })])
  const get = shared.get.bind(shared)
  let asked = (): void => {}
  const isAsked = new Promise<void>(resolve => {
    asked = resolve
  })
  let answer = (): void => {}
  const isAnswered = new Promise<void>(resolve => {
    answer = resolve
  })
  shared.get = async <T>(key: string) => {
    asked()
    await isAnswered
    return await get<T>(key)
  }
  await local.txn([], [put(localKeys.attempt(green.id), { ...green, unique: [] })])
  const dropping = networks.dropAttempts()
  await isAsked
  await networks.create(red.id < green.id ? green : red, [])
  answer()
  await dropping
  expect(await keysIn(shared, 'network/')).toHaveLength(1)
  expect(await keysIn(local, 'network-attempt/')).toEqual([])
})

test('an address that is let go just after this host has compared what it has, and before it is up, is given back', async () => {
  const shared = new MemoryStore()
  const [h1] = await startBlue(shared)
  const { line, local, cluster, name } = h1
  const ipam = new ClusterIpam({
    shared: line,
    local,
    host: name,
    networks: () => cluster.networks(),
    networkKey: keys.network,
    clusterIdKey: keys.clusterId,
    unreachable: () => cluster.unreachable(),
    hostSubnets: () => [],
  })
  const [pool] = blue.subnets
  await shared.txn([], [put(`ipam/pool/${pool!.poolId}`, { ...pool, id: pool!.poolId, host: name })])
  await ipam.requestAddress(pool!.poolId, { owner: web.id, address: '10.50.0.2' })
  h1.onReclaim = async () => {
    await ipam.resync()
    expect(cluster.downBecause()).toBeDefined()
    await ipam.releaseAddress(pool!.poolId, '10.50.0.2', web.id)
  }
  line.cut()
  await h1.down()
  line.mend()
  await h1.up()
  expect(h1.reclaims).toBe(2)
  expect(await keysIn(shared, 'ipam/address/')).toEqual([])
  expect(await keysIn(local, 'cluster-ipam/address/')).toEqual([])
})

test('endpoints that left while the store did not answer go from it with a membership that ends just when it answers again', async () => {
  const shared = new MemoryStore()
  const [h1, h2] = await startBlue(shared)
  await h1.connect(web)
  h1.line.cut()
  await h1.down()
  await h1.disconnect(web)
  h1.onReclaim = () => h1.leave(blue.id)
  h1.line.mend()
  await h1.up()
  expect(await keysIn(shared, keys.on(blue.id))).toEqual([keys.member(blue.id, h2.name)])
})
