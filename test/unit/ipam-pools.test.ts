import { describe, expect, test } from 'vitest'
import type { Ipam } from '../../src/ipam/ipam.js'
import { MemoryStore } from '../../src/store/memory.js'
import { box, lab, refusal, start } from '../helpers/ipam.js'

describe('pools that a user names', () => {
  test.each([
    ['10.30.0.5/24', 4, 'InvalidParameter', 'subnet 10.30.0.5/24 has host bits set; it should be 10.30.0.0/24'],
    ['fd00:20::1/64', 6, 'InvalidParameter', 'subnet fd00:20::1/64 has host bits set; it should be fd00:20::/64'],
    ['10.30.0.0', 4, 'InvalidParameter', 'subnet "10.30.0.0" has no prefix length, such as 10.30.0.0/32'],
    ['10.30.0/24', 4, 'InvalidParameter', 'subnet "10.30.0" is not an IP address'],
    ['10.30.0.0/33', 4, 'InvalidParameter', 'subnet "10.30.0.0/33" needs a prefix length from 0 to 32'],
    ['10.30.0.0/', 4, 'InvalidParameter', 'subnet "10.30.0.0/" needs a prefix length from 0 to 32'],
    ['10.30.0.0/24/8', 4, 'InvalidParameter', 'subnet "10.30.0.0/24/8" needs a prefix length from 0 to 32'],
    ['fd00::/129', 6, 'InvalidParameter', 'subnet "fd00::/129" needs a prefix length from 0 to 128'],
    ['fe80::%eth0/64', 6, 'InvalidParameter', 'subnet "fe80::%eth0" is not an IP address'],
    ['fd00::/64', 4, 'InvalidParameter', 'subnet fd00::/64 is not IPv4'],
    ['10.30.0.0/24', 6, 'InvalidParameter', 'subnet 10.30.0.0/24 is not IPv6'],
  ] as const)('%s is refused for IPv%s', async (subnet, family, kind, message) => {
    const ipam = await start()
    expect(await refusal(ipam.requestPool({ family, subnet, owner: 'network lab' }))).toEqual({ kind, message })
    expect(ipam.pools()).toEqual([])
  })

  test.each([
    ['10.31.0.0/25', 'range 10.31.0.0/25 is not inside subnet 10.30.0.0/24'],
    ['10.30.0.0/23', 'range 10.30.0.0/23 is not inside subnet 10.30.0.0/24'],
    ['10.30.0.1/25', 'range 10.30.0.1/25 has host bits set; it should be 10.30.0.0/25'],
    ['fd00::/65', 'range fd00::/65 is not inside subnet 10.30.0.0/24'],
  ])('range %s is refused', async (range, message) => {
    const ipam = await start()
    expect(await refusal(lab(ipam, '10.30.0.0/24', range))).toEqual({ kind: 'InvalidParameter', message })
  })

  test('a range without its subnet is refused', async () => {
    const ipam = await start()
    const got = await refusal(ipam.requestPool({ family: 4, range: '10.30.0.0/25', owner: 'network lab' }))
    expect(got).toEqual({ kind: 'InvalidParameter', message: 'range 10.30.0.0/25 needs the subnet that it is part of' })
  })

  test.each(['10.1.0.0/24', '10.1.0.0/16', '10.0.0.0/8', '10.1.255.0/31'])(
    '%s overlaps, and the owner is named',
    async subnet => {
      const ipam = await start()
      await ipam.requestPool({ family: 4, subnet: '10.1.0.0/16', owner: 'network db' })
      const want = { kind: 'Conflict', message: `subnet ${subnet} overlaps network db (10.1.0.0/16)` }
      expect(await refusal(lab(ipam, subnet))).toEqual(want)
      await lab(ipam, '10.2.0.0/16')
    },
  )

  test('the new owner is named after adoptPool, also after a restart', async () => {
    const store = new MemoryStore()
    const ipam = await start({ store })
    const { id } = await lab(ipam)
    await ipam.adoptPool(id, { owner: 'network new', shared: false })
    const want = { kind: 'Conflict', message: 'subnet 10.30.0.0/24 overlaps network new (10.30.0.0/24)' }
    expect(await refusal(lab(ipam))).toEqual(want)
    expect(await refusal(lab(await start({ store })))).toEqual(want)
    expect(await refusal(ipam.adoptPool('none', { owner: 'x', shared: false }))).toMatchObject({ kind: 'NotFound' })
  })

  test('the host may be on the subnet, for macvlan and for a bridge that exists', async () => {
    const ipam = await start({ hostSubnets: () => ['10.30.0.7/24'] })
    expect((await lab(ipam)).subnet).toBe('10.30.0.0/24')
  })

  test('exactly the same subnet is the same pool where the caller says that is fine, an overlapping one never', async () => {
    const ipam = await start()
    const pool = await lab(ipam, '10.30.0.0/24', '10.30.0.128/25')
    const again = { family: 4, owner: 'docker', sameIsFine: true } as const
    expect(await ipam.requestPool({ ...again, subnet: '10.30.0.0/24' })).toEqual(pool)
    expect(await ipam.requestPool({ ...again, subnet: '10.30.0.0/24', range: '10.30.0.128/25' })).toEqual(pool)
    for (const other of [{ subnet: '10.30.0.0/24', range: '10.30.0.0/25' }, { subnet: '10.30.0.0/25' }])
      expect(await refusal(ipam.requestPool({ ...again, ...other }))).toMatchObject({ kind: 'Conflict' })
    expect(ipam.pools()).toEqual([pool])
  })

  test('a released pool can be had again; releasing it twice, or one that never was, is fine', async () => {
    const store = new MemoryStore()
    const ipam = await start({ store })
    const { id } = await lab(ipam)
    await ipam.requestAddress(id, { ...box, name: 'box' })
    await ipam.releaseAddress(id, '10.30.0.1')
    await ipam.requestAddress(id, box)
    await ipam.releasePool(id)
    await ipam.releasePool(id)
    await ipam.releasePool('never')
    expect(ipam.addresses(id)).toEqual([])
    expect(await refusal(ipam.requestAddress(id, box))).toEqual({
      kind: 'NotFound',
      message: `address pool ${id} does not exist`,
    })
    expect((await store.list('ipam/')).entries.map(e => e.key)).toEqual(['ipam/pools'])
    const next = await lab(ipam)
    expect(next.id).not.toBe(id)
    expect(await ipam.requestAddress(next.id, { ...box, address: '10.30.0.1' })).toBe('10.30.0.1/24')
  })

  test('only the owner that is named releases a pool', async () => {
    const ipam = await start()
    const { id } = await lab(ipam)
    await ipam.releasePool(id, 'docker')
    expect(ipam.pool(id)?.owner).toBe('network lab')
    await ipam.releasePool(id, 'network lab')
    expect(ipam.pool(id)).toBeUndefined()
  })
})

describe('pools that we choose', () => {
  const choose = (ipam: Ipam, family: 4 | 6 = 4, avoid: string[] = []) =>
    ipam.requestPool({ family, owner: 'network n', avoid }).then(p => p.subnet)

  test('each is another one, clear of named pools, of the host and of what was offered before; the default route does not count', async () => {
    const hostSubnets = () => ['0.0.0.0/0', '::/0', '10.208.2.77/23', 'fd00::1/64', '192.168.1.10', '10.208.5.1']
    const ipam = await start({ hostSubnets })
    await lab(ipam, '10.208.1.128/25')
    expect(await choose(ipam, 4, ['10.208.4.0/30'])).toBe('10.208.0.0/24')
    expect(await choose(ipam, 4, ['10.208.4.0/30'])).toBe('10.208.6.0/24')
    expect(await choose(ipam)).toBe('10.208.4.0/24')
  })

  test('a released one is chosen again', async () => {
    const ipam = await start()
    const { id } = await ipam.requestPool({ family: 4, owner: 'network n' })
    await ipam.releasePool(id)
    expect(await choose(ipam)).toBe('10.208.0.0/24')
  })

  test('half of the reserve gives 2,048, none of them twice, then comes a refusal that says where it looked', async () => {
    const ipam = await start({ hostSubnets: () => ['10.208.0.0/12', '172.16.0.0/13'] })
    const got = new Set<string>()
    for (let i = 0; i < 2048; i++) got.add(await choose(ipam))
    expect(got.size).toBe(2048)
    expect([...got].slice(0, 1).concat([...got].slice(-1))).toEqual(['172.24.0.0/24', '172.31.255.0/24'])
    expect(await refusal(choose(ipam))).toEqual({
      kind: 'Conflict',
      message:
        'no IPv4 subnet is left of the default pools (10.208.0.0/12 in /24s, 172.16.0.0/12 in /24s); free a network, or name a subnet',
    })
  })

  test('IPv6 pools are /64s of the host: fd, 40 bits of the sha256 of its id, then a subnet number', async () => {
    const ipam = await start()
    // printf host-1 | sha256sum
    expect(await choose(ipam, 6)).toBe('fd4a:1796:ac49::/64')
    expect(await choose(ipam, 6)).toBe('fd4a:1796:ac49:1::/64')
    expect(await choose(await start({ hostId: 'host-2' }), 6)).not.toMatch(/^fd4a:1796/)
  })

  test('default pools given replace ours of their family', async () => {
    const ipam = await start({ defaultPools: [{ base: '10.99.0.0/29', size: 30 }] })
    expect([await choose(ipam), await choose(ipam)]).toEqual(['10.99.0.0/30', '10.99.0.4/30'])
    expect(await refusal(choose(ipam))).toMatchObject({ kind: 'Conflict' })
    expect(await choose(ipam, 6)).toMatch(/^fd4a/)
    await expect(start({ defaultPools: [{ base: '10.99.0.0/24', size: 23 }] })).rejects.toMatchObject({
      kind: 'InvalidParameter',
      message: 'default pool 10.99.0.0/24 cannot be cut into subnets of /23; use 24 to 32',
    })
  })
})
