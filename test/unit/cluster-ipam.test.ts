import { describe, expect, test } from 'vitest'
import { MemoryStore } from '../../src/store/memory.js'
import { put } from '../../src/store/store.js'
import { keysOf, memoryWorld } from '../helpers/cluster-ipam.js'
import { refusal } from '../helpers/ipam.js'

const box = { owner: 'e1', ownerName: 'endpoint box' }

describe('pools of a cluster', () => {
  test('overlap on no two hosts, and the owner is named', async () => {
    const world = memoryWorld()
    const [a, b] = [await world.host('a'), await world.host('b')]
    await a.requestPool({ family: 4, subnet: '10.50.0.0/16', owner: 'network blue' })
    expect(await refusal(b.requestPool({ family: 4, subnet: '10.50.7.0/24', owner: 'network red' }))).toEqual({
      kind: 'Conflict',
      message: 'subnet 10.50.7.0/24 overlaps network blue (10.50.0.0/16)',
    })
  })

  test('asked for by twenty hosts at once are twenty different ones, clear of each host and of what it is told to avoid', async () => {
    const world = memoryWorld()
    const hosts = await Promise.all(
      Array.from({ length: 20 }, (_, i) => world.host(`h${i}`, { hostSubnets: () => ['10.192.0.7/20'] })),
    )
    const spec = { family: 4, owner: 'network n', avoid: ['10.192.16.0/24'] } as const
    const pools = await Promise.all(hosts.map(host => host.requestPool(spec)))
    const want = Array.from({ length: 20 }, (_, i) => `10.${192 + ((i + 2) >> 4)}.${((i + 2) % 16) * 16}.0/20`)
    expect(pools.map(({ subnet }) => subnet).sort()).toEqual(want.sort())
    expect(new Set(pools.map(({ scope }) => scope))).toEqual(new Set(['global']))
  })

  test("of IPv6 are the cluster's: the same base for each host, another one in another cluster", async () => {
    const bases: string[] = []
    for (const id of ['one', 'two']) {
      const world = memoryWorld()
      await world.shared.txn([], [put('cluster/id', id)])
      for (const name of ['a', 'b'])
        bases.push((await (await world.host(name)).requestPool({ family: 6, owner: 'network n' })).subnet)
    }
    const sites = bases.map(subnet => subnet.split(':').slice(0, 3).join(':'))
    expect(sites[0]).toMatch(/^fd/)
    expect([sites[1], sites[3]]).toEqual([sites[0], sites[2]])
    expect(sites[2]).not.toBe(sites[0])
    expect(new Set(bases).size).toBe(4)
  })

  test('are known on other hosts once their network is, and gone with all their addresses when they are released', async () => {
    const world = memoryWorld()
    const [a, b] = [await world.host('a'), await world.host('b')]
    const pool = await a.requestPool({ family: 4, subnet: '10.50.0.0/24', owner: 'network blue' })
    expect([a.pool(pool.id)?.subnet, b.pool(pool.id)]).toEqual(['10.50.0.0/24', undefined])
    await world.network('blue', pool)
    expect(b.pool(pool.id)).toMatchObject({ subnet: '10.50.0.0/24', owner: 'network blue', scope: 'global' })
    for (const host of [a, b]) await host.requestAddress(pool.id, { ...box, name: 'box' })
    await b.releaseAddress(pool.id, b.addresses(pool.id)[0]!.address)
    world.networks.pop()
    await b.releasePool(pool.id)
    expect(await keysOf(world.shared, 'ipam/')).toEqual(['ipam/pools'])
    expect(await refusal(a.requestAddress(pool.id, box))).toMatchObject({ kind: 'NotFound' })
    await a.requestPool({ family: 4, subnet: '10.50.0.0/24', owner: 'network red' })
  })

  test('have the name of their new network after adoptPool', async () => {
    const world = memoryWorld()
    const a = await world.host('a')
    const { id } = await a.requestPool({ family: 4, subnet: '10.50.0.0/24', owner: 'network blue' })
    await a.adoptPool(id, { owner: 'network red', shared: false })
    const b = await world.host('b')
    expect(await refusal(b.requestPool({ family: 4, subnet: '10.50.0.0/24', owner: 'n' }))).toMatchObject({
      message: 'subnet 10.50.0.0/24 overlaps network red (10.50.0.0/24)',
    })
  })

  test('whose network was deleted by a host that died then are released by the host that made them', async () => {
    const world = memoryWorld()
    const local = new MemoryStore()
    let a = await world.host('a', {}, local)
    const id = await world.pool(a, '10.50.0.0/24')
    await a.resync()
    expect(await keysOf(local, 'cluster-ipam/pool/')).toEqual([])
    world.networks.pop()
    a = await world.host('a', {}, local)
    expect(a.pools()).toEqual([])
    await a.resync()
    expect(a.pools().map(pool => pool.id)).toEqual([id])
    await a.releasePool(id)
    expect(await keysOf(world.shared, 'ipam/')).toEqual(['ipam/pools'])
    expect(await keysOf(local, '')).toEqual([])
  })
})

describe('addresses of a cluster', () => {
  test('are given once, and a refusal names the holder with its host', async () => {
    const world = memoryWorld()
    const [a, b] = [await world.host('a'), await world.host('b')]
    const id = await world.pool(a, '10.50.0.0/24')
    await a.requestAddress(id, { ...box, address: '10.50.0.5' })
    await a.requestAddress(id, { owner: 'gateway', anywhere: true })
    for (const [address, by] of [
      ['10.50.0.5', 'endpoint box on host a'],
      ['10.50.0.1', 'the gateway'],
    ] as const) {
      const want = { kind: 'Conflict', message: `address ${address} is already used by ${by}` }
      expect(await refusal(b.requestAddress(id, { owner: 'e2', address }))).toEqual(want)
      expect(await refusal(b.claim(id, address, 'e2'))).toEqual(want)
    }
    expect(await b.holder(id, '10.50.0.5')).toEqual({ address: '10.50.0.5', ...box })
    expect(await b.holder(id, '10.50.0.6')).toBeUndefined()
    expect(b.addresses(id)).toEqual([])
    expect(await world.stored()).toEqual(['10.50.0.1 gateway', '10.50.0.5 e1 a'])
  })

  test('are refused by what their holder is called now, or was when it got them where nobody knows', async () => {
    const world = memoryWorld()
    const called = new Map([['e1', 'web']])
    const asked: string[] = []
    const endpointName = async (networkId: string, owner: string): Promise<string | undefined> => {
      asked.push(`${networkId} ${owner}`)
      if (owner === 'e2') throw new Error('no answer')
      return called.get(owner)
    }
    const [a, b] = [await world.host('a'), await world.host('b', { endpointName })]
    const id = await world.pool(a, '10.50.0.0/24')
    await a.requestAddress(id, { ...box, address: '10.50.0.5' })
    await a.requestAddress(id, { owner: 'e2', ownerName: 'endpoint two', address: '10.50.0.6' })
    const refusalOf = async (address: string) => (await refusal(b.claim(id, address, 'e9'))).message
    expect(await refusalOf('10.50.0.5')).toBe('address 10.50.0.5 is already used by endpoint web on host a')
    called.clear()
    expect(await refusalOf('10.50.0.5')).toBe('address 10.50.0.5 is already used by endpoint box on host a')
    expect(await refusalOf('10.50.0.6')).toBe('address 10.50.0.6 is already used by endpoint two on host a')
    expect(asked).toEqual(['id-of-blue e1', 'id-of-blue e1', 'id-of-blue e2'])
  })

  test('that another host has cannot be released, and with onlyIfOwner not those of another owner here', async () => {
    const world = memoryWorld()
    const [a, b] = [await world.host('a'), await world.host('b')]
    const id = await world.pool(a, '10.50.0.0/24')
    await a.requestAddress(id, { ...box, address: '10.50.0.5' })
    await b.releaseAddress(id, '10.50.0.5')
    await b.releaseAddress(id, '10.50.0.5', 'e1')
    await a.releaseAddress(id, '10.50.0.5', 'docker')
    expect(await world.stored()).toEqual(['10.50.0.5 e1 a'])
    await a.releaseAddress(id, '10.50.0.5', 'e1')
    expect(await world.stored()).toEqual([])
  })

  test.each(['10.50.0.0/28', '10.50.0.0/29', '10.50.0.0/31', 'fd00::/125'])(
    'of %s all are given, to several hosts, before anybody is told that none is left',
    async subnet => {
      const world = memoryWorld()
      const hosts = [await world.host('a'), await world.host('b'), await world.host('c')]
      const id = await world.pool(hosts[0]!, subnet)
      const size = { '10.50.0.0/28': 14, '10.50.0.0/29': 6, '10.50.0.0/31': 2, 'fd00::/125': 7 }[subnet]!
      const requests = Array.from({ length: size }, (_, i) => hosts[i % 3]!.requestAddress(id, { owner: `e${i}` }))
      expect(new Set(await Promise.all(requests)).size).toBe(size)
      for (const host of hosts)
        expect(await refusal(host.requestAddress(id, box))).toEqual({
          kind: 'Conflict',
          message: `subnet ${subnet} of network blue has no free address: all ${size} are in use`,
        })
      const [last] = hosts[2]!.addresses(id)
      if (last === undefined) return
      await hosts[2]!.releaseAddress(id, last.address)
      expect(await hosts[0]!.requestAddress(id, box)).toMatch(`${last.address}/`)
    },
  )

  test('that a host asks for by number and chooses at the same time are given once', async () => {
    for (let pause = 0; pause < 30; pause++) {
      const world = memoryWorld()
      const a = await world.host('a')
      const id = await world.pool(a, '10.50.0.0/31')
      const chosen = [a.requestAddress(id, { owner: 'e1' }), a.requestAddress(id, { owner: 'e2' })]
      for (let i = 0; i < pause; i++) await null
      const asked = ['10.50.0.0', '10.50.0.1'].map(address => a.requestAddress(id, { owner: address, address }))
      const got = await Promise.allSettled([...chosen, ...asked])
      const given = got.flatMap(one => (one.status === 'fulfilled' ? one.value : []))
      expect(given.sort()).toEqual(['10.50.0.0/31', '10.50.0.1/31'])
    }
  })

  test('are chosen from the range, which is exhausted only when it is', async () => {
    const world = memoryWorld()
    const [a, b] = [await world.host('a'), await world.host('b')]
    const id = await world.pool(a, '10.50.0.0/16', '10.50.1.8/30')
    expect(await a.requestAddress(id, { owner: 'gateway', anywhere: true })).toBe('10.50.0.1/16')
    const got = [await a.requestAddress(id, box), await b.requestAddress(id, box), await b.requestAddress(id, box)]
    got.push(await b.requestAddress(id, box))
    expect(got.sort()).toEqual([8, 9, 10, 11].map(n => `10.50.1.${n}/16`).sort())
    expect(await refusal(a.requestAddress(id, box))).toEqual({
      kind: 'Conflict',
      message: 'range 10.50.1.8/30 of subnet 10.50.0.0/16 of network blue has no free address: all 4 are in use',
    })
  })

  test('released here cool down here', async () => {
    const world = memoryWorld()
    let now = 0
    const a = await world.host('a', { coolDownMs: 1000, now: () => now })
    const id = await world.pool(a, '10.50.0.0/30')
    const first = await a.requestAddress(id, box)
    await a.releaseAddress(id, first.split('/')[0]!)
    const second = await a.requestAddress(id, box)
    expect(second).not.toBe(first)
    await a.releaseAddress(id, second.split('/')[0]!)
    now = 2000
    expect(new Set([await a.requestAddress(id, box), await a.requestAddress(id, box)])).toEqual(
      new Set([first, second]),
    )
  })

  test('are remembered by name on every host', async () => {
    const world = memoryWorld()
    const [a, b] = [await world.host('a', { coolDownMs: 10_000 }), await world.host('b')]
    const id = await world.pool(a, '10.50.0.0/16')
    const first = await a.requestAddress(id, { ...box, name: 'web' })
    await a.releaseAddress(id, first.split('/')[0]!)
    expect(await b.requestAddress(id, { owner: 'e2', name: 'web' })).toBe(first)
    expect(await a.requestAddress(id, { owner: 'e3', name: 'web' })).not.toBe(first)
  })

  test("that Docker asked for on this host are claimed, and not those of another host's Docker", async () => {
    const world = memoryWorld()
    const [a, b] = [await world.host('a'), await world.host('b')]
    const id = await world.pool(a, '10.50.0.0/24')
    await a.requestAddress(id, { owner: 'docker', address: '10.50.0.2', name: 'web' })
    expect(await refusal(b.claim(id, '10.50.0.2', 'e2'))).toEqual({
      kind: 'Conflict',
      message: 'address 10.50.0.2 is already used by Docker on host a',
    })
    for (const _ of ['once', 'twice']) await a.claim(id, '10.50.0.2', 'e1', 'endpoint box')
    for (const host of [a, b]) await host.claim(id, '10.50.0.1', 'gateway')
    await b.claim(id, '10.50.0.3', 'e3')
    expect(a.addresses(id)).toEqual([{ address: '10.50.0.2', ...box, name: 'web' }])
    expect(await world.stored()).toEqual(['10.50.0.1 gateway', '10.50.0.2 e1 a', '10.50.0.3 e3 b'])
    expect(await refusal(a.claim(id, '10.50.0.2', 'e9'))).toMatchObject({ kind: 'Conflict' })
  })

  test('what an owner holds is given again where the caller says that is fine', async () => {
    const world = memoryWorld()
    const [a, b] = [await world.host('a'), await world.host('b')]
    const id = await world.pool(a, '10.50.0.0/24')
    const again = { owner: 'host', sameOwnerIsFine: true }
    const first = await a.requestAddress(id, again)
    expect(await a.requestAddress(id, again)).toBe(first)
    expect(await b.requestAddress(id, again)).not.toBe(first)
    const gateway = { owner: 'gateway', sameOwnerIsFine: true, address: '10.50.0.1' }
    for (const host of [a, b]) expect(await host.requestAddress(id, gateway)).toBe('10.50.0.1/24')
  })
})
