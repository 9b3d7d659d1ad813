import { describe, expect, test } from 'vitest'
import { unavailable } from '../../src/errors.js'
import { MemoryStore } from '../../src/store/memory.js'
import { del, put } from '../../src/store/store.js'
import { ClusterWorld, keysOf, memoryWorld } from '../helpers/cluster-ipam.js'
import { refusal } from '../helpers/ipam.js'

// Address management of a cluster, when hosts or the shared store are away, or come back as they were long ago.

const box = { owner: 'e1', ownerName: 'endpoint box' }

describe('a host that is no more', () => {
  test('leaves no addresses, and no pools without a network; those of networks and of other hosts stay', async () => {
    const world = memoryWorld()
    const [a, b] = [await world.host('a'), await world.host('b')]
    const id = await world.pool(a, '10.50.0.0/16')
    await a.requestPool({ family: 4, subnet: '10.51.0.0/16', owner: 'a Docker network being created' })
    await a.requestAddress(id, { owner: 'gateway', address: '10.50.0.1' })
    for (let i = 0; i < 150; i++) await a.requestAddress(id, { owner: `e${i}` })
    await b.requestAddress(id, { owner: 'e1', address: '10.50.0.9' })
    await b.releaseHost('a')
    expect(await world.stored()).toEqual(['10.50.0.1 gateway', '10.50.0.9 e1 b'])
    expect((await world.shared.list('ipam/pool/')).entries).toHaveLength(1)
  })

  test('and removed a network, but died before it released the pool: the host that made that does, with all that is in it', async () => {
    const world = memoryWorld()
    const local = new MemoryStore()
    const [a, b] = [await world.host('a', {}, local), await world.host('b')]
    const id = await world.pool(a, '10.50.0.0/16')
    await a.requestAddress(id, { owner: 'gateway', address: '10.50.0.1' })
    await b.requestAddress(id, { owner: 'e1', address: '10.50.0.9' })
    world.networks.pop()
    await b.releaseMade([id])
    expect(await keysOf(world.shared, 'ipam/pool/')).toHaveLength(1)
    // after a restart too
    const again = await world.host('a', {}, local)
    await again.resync()
    await again.releaseMade([id, 'unknown'])
    expect([await keysOf(world.shared, 'ipam/pool/'), await world.stored()]).toEqual([[], []])
  })

  test('one address is released for another host only if its owner still has it', async () => {
    const world = memoryWorld()
    const [a, b] = [await world.host('a'), await world.host('b')]
    const id = await world.pool(a, '10.50.0.0/16')
    await a.requestAddress(id, { owner: 'e1', address: '10.50.0.9' })
    await b.releaseOwner(id, '10.50.0.9', 'e2')
    expect(await world.stored()).toEqual(['10.50.0.9 e1 a'])
    await b.releaseOwner(id, '10.50.0.9', 'e1')
    await b.releaseOwner(id, '10.50.0.9', 'e1')
    expect(await world.stored()).toEqual([])
  })
})

describe('while the shared store does not answer', () => {
  test('requests fail, releases wait and are done by resync, once', async () => {
    const world = memoryWorld()
    const local = new MemoryStore()
    const a = await world.host('a', {}, local)
    const id = await world.pool(a, '10.50.0.0/24')
    await a.requestAddress(id, { ...box, address: '10.50.0.5', name: 'box' })
    await a.requestAddress(id, { owner: 'e2', address: '10.50.0.6' })
    world.shared.fault = () => 'before'
    for (const work of [
      () => a.requestAddress(id, box),
      () => a.requestAddress(id, { ...box, address: '10.50.0.9' }),
      () => a.claim(id, '10.50.0.9', 'e9'),
      () => a.requestPool({ family: 4, subnet: '10.51.0.0/24', owner: 'network red' }),
      () => a.holder(id, '10.50.0.9'),
      () => a.resync(),
    ])
      expect(await refusal(work())).toMatchObject({ kind: 'Unavailable' })
    await a.releaseAddress(id, '10.50.0.5')
    expect(a.addresses(id).map(({ address }) => address)).toEqual(['10.50.0.6'])
    expect(await a.holder(id, '10.50.0.6')).toEqual({ address: '10.50.0.6', owner: 'e2' })
    world.shared.fault = () => undefined
    expect(await world.stored()).toEqual(['10.50.0.5 e1 a', '10.50.0.6 e2 a'])
    const restarted = await world.host('a', {}, local)
    expect(await restarted.resync()).toEqual([])
    expect(await world.stored()).toEqual(['10.50.0.6 e2 a'])
    expect(await keysOf(local, '')).toEqual([`cluster-ipam/address/${id}/10.50.0.6`])
    const { revision } = await world.shared.list('')
    expect(await restarted.resync()).toEqual([])
    expect((await world.shared.list('')).revision).toBe(revision)
  })

  test('a pool that is let go is not in the way of the next one as soon as it answers again', async () => {
    const world = memoryWorld()
    const a = await world.host('a')
    const spec = { family: 4 as const, subnet: '10.50.0.0/16', owner: 'network blue' }
    const { id } = await a.requestPool(spec)
    world.isUp = false
    await a.releasePool(id)
    world.isUp = true
    expect((await a.requestPool({ ...spec, owner: 'network red' })).id).not.toBe(id)
    expect(await keysOf(world.shared, 'ipam/pool/')).toHaveLength(1)
  })

  test('a pool for a network that a kill kept from coming is not in the way of the next life', async () => {
    const world = memoryWorld()
    const local = new MemoryStore()
    const spec = { family: 4 as const, subnet: '10.50.0.0/16', owner: 'network blue' }
    const { id } = await (await world.host('a', {}, local)).requestPool(spec)
    const a = await world.host('a', {}, local)
    const again = await a.requestPool(spec)
    expect(again.id).not.toBe(id)
    expect(await keysOf(world.shared, 'ipam/pool/')).toEqual([`ipam/pool/${again.id}`])
    expect(await refusal(a.requestPool({ ...spec, owner: 'network red' }))).toMatchObject({ kind: 'Conflict' })
  })

  test('and is known not to, requests fail at once with the reason', async () => {
    const world = memoryWorld()
    const a = await world.host('a', { unreachable: () => unavailable('etcd is away') })
    const asked = [
      a.requestPool({ family: 4, subnet: '10.50.0.0/16', owner: 'network blue' }),
      a.requestAddress('any', { owner: 'e1' }),
      a.claim('any', '10.50.0.2', 'e1'),
      a.adoptPool('any', { owner: 'network blue', shared: false }),
    ]
    for (const one of asked) await expect(one).rejects.toMatchObject({ kind: 'Unavailable', message: 'etcd is away' })
    expect(await keysOf(world.shared, '')).toEqual([])
  })

  test('and is known not to, releases do not even ask it', async () => {
    const world = memoryWorld()
    const a = await world.host('a')
    const id = await world.pool(a, '10.50.0.0/24')
    await a.requestAddress(id, { ...box, address: '10.50.0.5' })
    const { calls } = world.shared
    world.isUp = false
    await a.releaseAddress(id, '10.50.0.5')
    await a.releasePool(id)
    expect(world.shared.calls).toBe(calls)
    world.isUp = true
    world.networks.pop()
    await a.resync()
    expect(await keysOf(world.shared, 'ipam/')).toEqual(['ipam/pools'])
  })
})

describe('a store that was restored from a time before', () => {
  test('gets back what hosts have, and what others got meanwhile is lost until it is let go', async () => {
    const world = memoryWorld()
    const [a, b] = [await world.host('a'), await world.host('b')]
    const id = await world.pool(a, '10.50.0.0/24')
    for (const n of [5, 6]) await a.requestAddress(id, { owner: `e${n}`, address: `10.50.0.${n}` })
    await world.shared.txn([], (await keysOf(world.shared, 'ipam/address/')).map(del))
    await b.requestAddress(id, { ...box, address: '10.50.0.6' })
    const want = [{ poolId: id, address: '10.50.0.6', owner: 'e6', by: 'endpoint box', host: 'b' }]
    for (const _ of ['once', 'twice']) expect(await a.resync()).toEqual(want)
    await a.releaseAddress(id, '10.50.0.6', 'e6')
    expect(await a.resync()).toEqual([])
    expect(await world.stored()).toEqual(['10.50.0.5 e5 a', '10.50.0.6 e1 b'])
  })

  test('has an address of an endpoint that has left since: it is given back, unless something here has it or it is not ours', async () => {
    const world = memoryWorld()
    const [a, b] = [await world.host('a'), await world.host('b')]
    const id = await world.pool(a, '10.50.0.0/24')
    for (const n of [5, 6]) await a.requestAddress(id, { owner: `e${n}`, address: `10.50.0.${n}` })
    await b.requestAddress(id, { ...box, address: '10.50.0.7' })
    const past = await world.shared.get(`ipam/address/${id}/10.50.0.5`)
    await a.releaseAddress(id, '10.50.0.5', 'e5')
    await world.shared.txn([], [put(past!.key, past!.value)])
    for (const n of [5, 6, 7]) await a.releaseStray(id, `10.50.0.${n}`)
    expect(await world.stored()).toEqual(['10.50.0.6 e6 a', '10.50.0.7 e1 b'])
  })

  test('gets back a pool with its gateway, unless its network is gone', async () => {
    const world = memoryWorld()
    const [a, b] = [await world.host('a'), await world.host('b')]
    const id = await world.pool(a, '10.50.0.0/24')
    Object.assign(world.networks[0]!.subnets[0]!, { gateway: '10.50.0.1', auxAddresses: { printer: '10.50.0.7' } })
    await a.requestAddress(id, { owner: 'e5', address: '10.50.0.5' })
    await b.requestAddress(id, { owner: 'e6', address: '10.50.0.6' })
    const keys = await keysOf(world.shared, 'ipam/')
    await world.shared.txn([], keys.map(del))
    for (const host of [a, b]) expect(await host.resync()).toEqual([])
    const want = ['10.50.0.1 gateway', '10.50.0.5 e5 a', '10.50.0.6 e6 b', '10.50.0.7 aux:printer']
    expect(await world.stored()).toEqual(want)
    await world.shared.txn([], [...(await keysOf(world.shared, 'ipam/')), 'network/id-of-blue'].map(del))
    expect(await a.resync()).toEqual([])
    expect([await keysOf(world.shared, ''), a.addresses(id)]).toEqual([[], []])
  })

  test('has another pool in the way: all addresses are lost', async () => {
    const world = memoryWorld()
    const [a, b] = [await world.host('a'), await world.host('b')]
    const id = await world.pool(a, '10.50.0.0/24')
    await a.requestAddress(id, { owner: 'e5', address: '10.50.0.5' })
    await world.shared.txn([], (await keysOf(world.shared, 'ipam/')).map(del))
    await b.requestPool({ family: 4, subnet: '10.50.0.0/16', owner: 'network red' })
    const want = [{ poolId: id, address: '10.50.0.5', owner: 'e5', by: 'network red', host: 'b' }]
    for (const _ of ['once', 'twice']) expect(await a.resync()).toEqual(want)
    await a.releaseAddress(id, '10.50.0.5', 'e5')
    expect(await a.resync()).toEqual([])
  })
})

test('what an earlier life of a host left behind is its own to use again', async () => {
  const world = new ClusterWorld(new MemoryStore())
  const id = await world.pool(await world.host('a'), '10.50.0.0/30')
  const old = await world.host('a')
  for (const n of [1, 2]) await old.requestAddress(id, { owner: `old${n}` })
  const wiped = await world.host('a')
  for (const n of [1, 2]) await wiped.requestAddress(id, { owner: `new${n}` })
  expect((await world.stored()).map(line => line.replace(/^\S+ /, '')).sort()).toEqual(['new1 a', 'new2 a'])
})
