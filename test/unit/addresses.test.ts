import { describe, expect, test } from 'vitest'
import { AllAddresses } from '../../src/ipam/addresses.js'
import { Ipam } from '../../src/ipam/ipam.js'
import { MemoryStore } from '../../src/store/memory.js'
import { keysOf, memoryWorld } from '../helpers/cluster-ipam.js'
import { box, refusal } from '../helpers/ipam.js'

// Local and global pools behind one door.

const start = async () => {
  const world = memoryWorld()
  const store = new MemoryStore()
  const local = new Ipam({ store, hostSubnets: () => [], hostId: 'host-1', coolDownMs: 0 })
  const cluster = await world.host('a', {}, store)
  return { world, store, local, cluster, all: new AllAddresses(local, cluster) }
}
const pool = (subnet: string | undefined, scope: 'local' | 'global', owner = `network ${scope}`) => ({
  family: 4 as const,
  owner,
  scope,
  ...(subnet !== undefined && { subnet }),
})

test('without a cluster a global pool is refused, and local ones are as ever', async () => {
  const { local } = await start()
  const alone = new AllAddresses(local)
  expect(await refusal(alone.requestPool(pool('10.50.0.0/24', 'global')))).toEqual({
    kind: 'InvalidParameter',
    message: 'a global network needs a store that all hosts share: start the daemon with --store etcd://...',
  })
  const { id } = await alone.requestPool(pool('10.50.0.0/24', 'local'))
  expect(await alone.requestAddress(id, box)).toBe('10.50.0.1/24')
  await alone.releasePool(id)
  expect(alone.pools()).toEqual([])
})

describe('subnets of one scope', () => {
  test.each([
    ['local', 'global'],
    ['global', 'local'],
  ] as const)('are refused where a %s network is, for a %s one, by name', async (first, second) => {
    const { all } = await start()
    await all.requestPool(pool('10.50.0.0/16', first))
    expect(await refusal(all.requestPool(pool('10.50.3.0/24', second)))).toEqual({
      kind: 'Conflict',
      message: `subnet 10.50.3.0/24 overlaps network ${first} (10.50.0.0/16)`,
    })
  })

  test('are not chosen over those of the other', async () => {
    const { all } = await start()
    await all.requestPool(pool('10.208.0.0/23', 'global'))
    await all.requestPool(pool('10.192.0.0/21', 'local'))
    expect((await all.requestPool(pool(undefined, 'local'))).subnet).toBe('10.208.2.0/24')
    expect((await all.requestPool(pool(undefined, 'global'))).subnet).toBe('10.192.16.0/20')
  })

  test('are not given to both when they are asked for at once', async () => {
    const { all } = await start()
    const got = await Promise.allSettled([
      all.requestPool(pool('10.50.0.0/16', 'global')),
      all.requestPool(pool('10.50.3.0/24', 'local')),
    ])
    expect(got.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
    expect(all.pools()).toHaveLength(1)
  })
})

test('each pool is asked where it is', async () => {
  const { all, local, cluster } = await start()
  const one = await all.requestPool(pool('10.50.0.0/30', 'global'))
  const two = await all.requestPool(pool('10.60.0.0/30', 'local'))
  expect(all.pools().map(({ id }) => id)).toEqual([two.id, one.id])
  for (const { id, subnet } of [one, two]) {
    const address = subnet.replace('0/30', '1')
    await all.claim(id, address, 'e1', 'endpoint box')
    expect(all.addresses(id)).toEqual([{ address, ...box }])
    expect(await all.holder(id, address)).toEqual({ address, ...box })
    await all.releaseAddress(id, address, 'e1')
    expect(await all.requestAddress(id, { ...box, address })).toBe(`${address}/30`)
    await all.adoptPool(id, { owner: 'network other', shared: false })
  }
  expect([local.pool(two.id)?.owner, cluster.pool(one.id)?.owner]).toEqual(['network other', 'network other'])
  for (const { id } of [one, two]) await all.releasePool(id)
  expect([local.pools(), cluster.pools()]).toEqual([[], []])
})

test('while the cluster is down its pools are not listed, and local ones are served as ever', async () => {
  const { all, world } = await start()
  const { id } = await all.requestPool(pool('10.50.0.0/24', 'global'))
  await all.requestAddress(id, box)
  world.isUp = false
  world.shared.fault = () => 'before'
  const local = await all.requestPool(pool('10.60.0.0/24', 'local'))
  expect(await all.requestAddress(local.id, box)).toBe('10.60.0.1/24')
  expect(all.pools().map(({ subnet }) => subnet)).toEqual(['10.60.0.0/24'])
  expect(all.addresses(id)).toHaveLength(1)
  expect(await refusal(all.requestPool(pool('10.50.0.0/25', 'local')))).toMatchObject({ kind: 'Conflict' })
  expect(await refusal(all.requestPool(pool('10.70.0.0/24', 'global')))).toMatchObject({ kind: 'Unavailable' })
})

describe('a local pool that a global network comes for', () => {
  const docker = { ...pool('10.50.0.0/24', 'local', 'a Docker network being created'), shared: true }
  const blue = { owner: 'network blue', shared: false, scope: 'global' } as const
  const fill = async (all: AllAddresses) => {
    const { id } = await all.requestPool(docker)
    await all.requestAddress(id, { owner: 'gateway', address: '10.50.0.1' })
    await all.requestAddress(id, { owner: 'docker', address: '10.50.0.2', name: 'web' })
    return id
  }

  test('goes to the cluster with its id and its addresses', async () => {
    const { all, world, local } = await start()
    const id = await fill(all)
    await all.adoptPool(id, blue)
    expect(local.pools()).toEqual([])
    expect(all.pool(id)).toMatchObject({ id, subnet: '10.50.0.0/24', owner: 'network blue', scope: 'global' })
    expect(all.pool(id)).not.toHaveProperty('shared')
    expect(all.addresses(id)).toEqual([{ address: '10.50.0.2', owner: 'docker', name: 'web' }])
    expect(await world.stored()).toEqual(['10.50.0.1 gateway', '10.50.0.2 docker a'])
    await all.claim(id, '10.50.0.2', 'e1', 'endpoint box')
    await all.claim(id, '10.50.0.1', 'gateway')
  })

  test('stays where it is when another has its subnet', async () => {
    const { all, world, local } = await start()
    const id = await fill(all)
    const other = await (await world.host('b')).requestPool(pool('10.50.0.0/16', 'global', 'network red'))
    expect(await refusal(all.adoptPool(id, blue))).toEqual({
      kind: 'Conflict',
      message: 'subnet 10.50.0.0/24 overlaps network red (10.50.0.0/16)',
    })
    await (await world.host('b')).releasePool(other.id)
    const lan = await local.requestPool({ ...docker, owner: 'network lan' })
    expect(await refusal(all.adoptPool(id, blue))).toMatchObject({ kind: 'Conflict' })
    await all.releasePool(lan.id)
    await all.adoptPool(id, blue)
  })

  test('loses nothing when the shared store fails at any step, and a second try succeeds', async () => {
    let failures = 0
    for (const when of ['before', 'after'] as const)
      for (let failing = 1; failing <= 12; failing++) {
        const { all, world, local, store } = await start()
        const id = await fill(all)
        const want = local.addresses(id)
        const first = world.shared.calls
        world.shared.fault = ({ nth }) => (nth === first + failing ? when : undefined)
        const error = await all.adoptPool(id, blue).catch(e => e)
        world.shared.fault = () => undefined
        if (error) {
          failures++
          expect(error.kind).toBe('Unavailable')
          expect([all.pool(id)?.owner, local.addresses(id)]).toEqual([docker.owner, want])
          await all.adoptPool(id, blue)
        }
        await world.network('blue', all.pool(id)!)
        expect([all.pool(id)?.owner, local.pools()]).toEqual(['network blue', []])
        for (let n = 0; n < 2; n++) {
          expect(await world.stored()).toEqual(['10.50.0.1 gateway', '10.50.0.2 docker a'])
          expect(await keysOf(store, 'cluster-ipam/address/')).toEqual([`cluster-ipam/address/${id}/10.50.0.2`])
          expect(await (await world.host('a', {}, store)).resync()).toEqual([])
        }
      }
    expect(failures).toBeGreaterThan(8)
  })
})
