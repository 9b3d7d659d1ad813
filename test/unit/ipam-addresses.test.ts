import { describe, expect, test } from 'vitest'
import type { Ipam } from '../../src/ipam/ipam.js'
import { MemoryStore } from '../../src/store/memory.js'
import type { TxnPart } from '../../src/store/store.js'
import { box, lab, refusal, start } from '../helpers/ipam.js'

describe('addresses', () => {
  test.each([
    ['10.30.0.5', { ...box }, 'address 10.30.0.5 is already used by endpoint box'],
    ['10.30.0.5', { owner: 'gateway' }, 'address 10.30.0.5 is already used by the gateway'],
    ['10.30.0.5', { owner: 'aux:printer' }, 'address 10.30.0.5 is already used by auxiliary address printer'],
    ['10.30.0.5', { owner: 'docker' }, 'address 10.30.0.5 is already used by Docker'],
  ])('a taken address is refused by the name of its holder: %s %j', async (address, holder, message) => {
    const ipam = await start()
    const { id } = await lab(ipam)
    await ipam.requestAddress(id, { ...holder, address })
    expect(await refusal(ipam.requestAddress(id, { owner: 'e2', address }))).toEqual({ kind: 'Conflict', message })
    expect(ipam.addresses(id)).toEqual([{ ...holder, address }])
  })

  test.each([
    ['10.30.0.0/24', '10.31.0.5', 'address 10.31.0.5 is not in subnet 10.30.0.0/24'],
    ['10.30.0.0/24', 'fd00::5', 'address fd00::5 is not in subnet 10.30.0.0/24'],
    ['10.30.0.0/24', '10.30.0.5/24', 'address "10.30.0.5/24" is not an IP address'],
    ['10.30.0.0/24', '10.30.0', 'address "10.30.0" is not an IP address'],
    [
      '10.30.0.0/24',
      '10.30.0.0',
      'address 10.30.0.0 is the network address of 10.30.0.0/24; choose one from 10.30.0.1 to 10.30.0.254',
    ],
    [
      '10.30.0.0/24',
      '10.30.0.255',
      'address 10.30.0.255 is the broadcast address of 10.30.0.0/24; choose one from 10.30.0.1 to 10.30.0.254',
    ],
    [
      'fd00::/64',
      'fd00::',
      'address fd00:: is the subnet-router anycast address of fd00::/64; choose one from fd00::1 to fd00::ffff:ffff:ffff:ffff',
    ],
  ])('of %s, %s is refused', async (subnet, address, message) => {
    const ipam = await start()
    const { id } = await lab(ipam, subnet)
    expect(await refusal(ipam.requestAddress(id, { ...box, address }))).toEqual({ kind: 'InvalidParameter', message })
  })

  test('an IPv6 address is the same however it is written', async () => {
    const ipam = await start()
    const { id } = await lab(ipam, 'fd00:20::/64')
    expect(await ipam.requestAddress(id, { ...box, address: 'FD00:20:0:0:0:0:0:0A' })).toBe('fd00:20::a/64')
    expect(await refusal(ipam.requestAddress(id, { owner: 'e2', address: 'fd00:20::0:a' }))).toMatchObject({
      kind: 'Conflict',
    })
    await ipam.releaseAddress(id, 'fd00:0020::000a')
    expect(ipam.addresses(id)).toEqual([])
  })

  test.each([
    ['10.30.0.0/29', ['10.30.0.1', '10.30.0.2', '10.30.0.3', '10.30.0.4', '10.30.0.5', '10.30.0.6']],
    ['10.30.0.0/30', ['10.30.0.1', '10.30.0.2']],
    ['10.30.0.0/31', ['10.30.0.0', '10.30.0.1']],
    ['10.30.0.7/32', ['10.30.0.7']],
    ['fd00::/126', ['fd00::1', 'fd00::2', 'fd00::3']],
    ['fd00::/127', ['fd00::', 'fd00::1']],
    ['fd00::7/128', ['fd00::7']],
  ])('%s has exactly these addresses', async (subnet, want) => {
    const ipam = await start()
    const { id } = await lab(ipam, subnet)
    const got: string[] = []
    for (let i = 0; i < want.length; i++) got.push(await ipam.requestAddress(id, { owner: `e${i}` }))
    expect(got).toEqual(want.map(address => `${address}/${subnet.split('/')[1]}`))
    expect(await refusal(ipam.requestAddress(id, box))).toEqual({
      kind: 'Conflict',
      message: `subnet ${subnet} of network lab has no free address: all ${want.length} are in use`,
    })
  })

  test('a range is chosen from and exhausted, while explicit addresses and gateways may be elsewhere in the subnet', async () => {
    const ipam = await start()
    const { id } = await lab(ipam, '10.30.0.0/24', '10.30.0.252/30')
    expect(await ipam.requestAddress(id, { owner: 'gateway', anywhere: true })).toBe('10.30.0.1/24')
    expect(await ipam.requestAddress(id, { owner: 'e0', address: '10.30.0.9' })).toBe('10.30.0.9/24')
    for (const want of ['10.30.0.252/24', '10.30.0.253/24', '10.30.0.254/24'])
      expect(await ipam.requestAddress(id, { owner: want })).toBe(want)
    expect(await refusal(ipam.requestAddress(id, box))).toEqual({
      kind: 'Conflict',
      message: 'range 10.30.0.252/30 of subnet 10.30.0.0/24 of network lab has no free address: all 3 are in use',
    })
  })

  test('a released address cools down, unless it is asked for or nothing else is free', async () => {
    let now = 0
    const ipam = await start({ now: () => now, coolDownMs: 1000 })
    const { id } = await lab(ipam, '10.30.0.0/29')
    const next = (spec = {}) =>
      ipam.requestAddress(id, { ...box, ...spec }).then(cidr => cidr.replace('10.30.0.', '').replace('/29', ''))
    expect([await next(), await next(), await next()]).toEqual(['1', '2', '3'])
    await ipam.releaseAddress(id, '10.30.0.2')
    now = 500
    await ipam.releaseAddress(id, '10.30.0.1')
    expect(await next()).toBe('4')
    now = 1000
    expect(await next()).toBe('2')
    expect(await next({ address: '10.30.0.1' })).toBe('1')
    await ipam.releaseAddress(id, '10.30.0.4')
    await ipam.releaseAddress(id, '10.30.0.3')
    expect([await next(), await next()]).toEqual(['5', '6'])
    // Nothing else is free: first the one that has cooled longest.
    expect([await next(), await next()]).toEqual(['4', '3'])
  })

  test('a name gets its last address again, in spite of the cool-down and of a restart', async () => {
    const store = new MemoryStore()
    const ipam = await start({ store })
    const { id } = await lab(ipam)
    for (const name of ['a', 'b', 'c/ü?']) await ipam.requestAddress(id, { owner: `e-${name}`, name })
    for (const address of ['10.30.0.2', '10.30.0.3']) await ipam.releaseAddress(id, address)
    expect(await ipam.requestAddress(id, { owner: 'x', name: 'c/ü?' })).toBe('10.30.0.3/24')
    const restarted = await start({ store })
    expect(await restarted.requestAddress(id, { owner: 'x', name: 'b' })).toBe('10.30.0.2/24')
  })

  test('a name whose last address went to somebody else gets another', async () => {
    const ipam = await start({ coolDownMs: 0 })
    const { id } = await lab(ipam)
    await ipam.requestAddress(id, { ...box, name: 'a' })
    await ipam.releaseAddress(id, '10.30.0.1')
    expect(await ipam.requestAddress(id, { owner: 'x' })).toBe('10.30.0.1/24')
    expect(await ipam.requestAddress(id, { ...box, name: 'a' })).toBe('10.30.0.2/24')
  })

  test('the last 1,024 names are remembered, and no more are stored', async () => {
    const store = new MemoryStore()
    const ipam = await start({ store, coolDownMs: 0 })
    const { id } = await lab(ipam, '10.30.0.0/16')
    for (let i = 0; i < 1030; i++) {
      const address = `10.30.${i >> 7}.${(i % 128) + 1}`
      await ipam.requestAddress(id, { ...box, name: `n${i}`, address })
      await ipam.releaseAddress(id, address)
    }
    expect((await store.list('ipam/name/')).entries).toHaveLength(1024)
    const restarted = await start({ store })
    expect(await restarted.requestAddress(id, { ...box, name: 'n1029' })).toBe('10.30.8.6/16')
    expect(await restarted.requestAddress(id, { ...box, name: 'n3' })).toBe('10.30.0.1/16')
  })

  test('serial goes on after the last one and wraps round', async () => {
    const ipam = await start({ coolDownMs: 0 })
    const { id } = await lab(ipam, '10.30.0.0/29')
    const serial = () => ipam.requestAddress(id, { ...box, serial: true })
    expect([await serial(), await serial()]).toEqual(['10.30.0.1/29', '10.30.0.2/29'])
    await ipam.releaseAddress(id, '10.30.0.1')
    for (const n of [3, 4, 5, 6, 1]) expect(await serial()).toBe(`10.30.0.${n}/29`)
    expect(await refusal(serial())).toMatchObject({ kind: 'Conflict' })
  })

  test('what an owner holds is given again where the caller says that is fine, and nothing of others', async () => {
    const ipam = await start()
    const { id } = await lab(ipam)
    const gateway = { owner: 'gateway', sameOwnerIsFine: true }
    expect(await ipam.requestAddress(id, gateway)).toBe('10.30.0.1/24')
    expect(await ipam.requestAddress(id, gateway)).toBe('10.30.0.1/24')
    expect(await ipam.requestAddress(id, { ...gateway, address: '10.30.0.1' })).toBe('10.30.0.1/24')
    expect(await refusal(ipam.requestAddress(id, { ...gateway, owner: 'docker', address: '10.30.0.1' }))).toMatchObject(
      { kind: 'Conflict' },
    )
    expect(ipam.addresses(id)).toHaveLength(1)
  })

  test('claim takes over what Docker asked for or what is free, and nothing of others', async () => {
    const ipam = await start()
    const { id } = await lab(ipam)
    await ipam.requestAddress(id, { owner: 'docker', address: '10.30.0.2', name: 'web' })
    for (const _ of ['once', 'twice']) await ipam.claim(id, '10.30.0.2', 'e1', 'endpoint box')
    await ipam.claim(id, '10.30.0.3', 'e1', 'endpoint box')
    const want = [
      { address: '10.30.0.2', owner: 'e1', ownerName: 'endpoint box', name: 'web' },
      { address: '10.30.0.3', owner: 'e1', ownerName: 'endpoint box' },
    ]
    expect(ipam.addresses(id)).toEqual(want)
    expect(await ipam.holder(id, '10.30.0.2')).toEqual(want[0])
    expect(await refusal(ipam.claim(id, '10.30.0.3', 'e2', 'endpoint other'))).toEqual({
      kind: 'Conflict',
      message: 'address 10.30.0.3 is already used by endpoint box',
    })
    await ipam.releaseAddress(id, '10.30.0.3', 'docker')
    expect(ipam.addresses(id)).toEqual(want)
    await ipam.releaseAddress(id, '10.30.0.3', 'e1')
    expect(ipam.addresses(id)).toEqual(want.slice(0, 1))
  })
})

describe("an address for the caller's own transaction", () => {
  test("is nobody else's from the choice on, and in use with the transaction", async () => {
    const store = new MemoryStore()
    const ipam = await start({ store })
    const { id } = await lab(ipam)
    const parts: TxnPart[] = []
    const first = await ipam.requestAddress(id, { ...box, parts })
    const second = await ipam.requestAddress(id, { owner: 'e2' })
    expect(second).not.toBe(first)
    expect(ipam.addresses(id).map(({ owner }) => owner)).toEqual(['e2'])
    const [part] = parts
    part?.done(await store.txn(part.conditions(), part.operations))
    expect(
      ipam
        .addresses(id)
        .map(({ owner }) => owner)
        .sort(),
    ).toEqual([box.owner, 'e2'])
    const again = await start({ store })
    expect(again.addresses(id)).toEqual(ipam.addresses(id))
  })

  test.each([
    ['that is free', async () => undefined],
    [
      'that Docker asked for',
      (ipam: Ipam, id: string) => ipam.requestAddress(id, { owner: 'docker', address: '10.30.0.2' }),
    ],
  ])('%s is claimed with it, and by nobody else before', async (_, prepare) => {
    const store = new MemoryStore()
    const ipam = await start({ store })
    const { id } = await lab(ipam)
    await prepare(ipam, id)
    const before = ipam.addresses(id)
    const parts: TxnPart[] = []
    await ipam.claim(id, '10.30.0.2', 'e1', 'endpoint box', parts)
    expect(ipam.addresses(id)).toEqual(before)
    const [part] = parts
    part?.done(await store.txn(part.conditions(), part.operations))
    expect(ipam.addresses(id)).toMatchObject([{ address: '10.30.0.2', owner: 'e1', ownerName: 'endpoint box' }])
    expect(await refusal(ipam.claim(id, '10.30.0.2', 'e2'))).toMatchObject({ kind: 'Conflict' })
    expect((await start({ store })).addresses(id)).toEqual(ipam.addresses(id))
  })

  test('that does not come to it is released, and cannot be written once its pool has gone', async () => {
    const store = new MemoryStore()
    const ipam = await start({ store })
    const { id } = await lab(ipam)
    const parts: TxnPart[] = []
    const cidr = await ipam.requestAddress(id, { ...box, parts })
    await ipam.releaseAddress(id, cidr.replace(/\/.*/, ''), box.owner)
    expect(ipam.addresses(id)).toEqual([])
    await ipam.releasePool(id)
    const [part] = parts
    await expect(store.txn(part?.conditions() ?? [], part?.operations ?? [])).rejects.toThrow(
      'changed by somebody else',
    )
  })
})

describe('an address whose owner is forgotten while he still uses it', () => {
  const write = (store: MemoryStore, parts: readonly TxnPart[]) =>
    store.txn(
      parts.flatMap(part => part.conditions()),
      parts.flatMap(part => part.operations),
    )

  test("is nobody's in the store from the caller's transaction on, and nobody else's here until it is free", async () => {
    const store = new MemoryStore()
    const ipam = await start({ store })
    const { id } = await lab(ipam)
    await ipam.requestAddress(id, { ...box, address: '10.30.0.7', name: 'box' })
    const release = ipam.startRelease(id, '10.30.0.7', box.owner)
    expect((await store.list('ipam/address/')).entries).toHaveLength(1)
    await write(store, release.parts)
    expect((await store.list('ipam/address/')).entries).toEqual([])
    const other = { owner: 'e2', address: '10.30.0.7' }
    expect(await refusal(ipam.requestAddress(id, other))).toMatchObject({ kind: 'Conflict' })
    await release.free()
    expect(await ipam.requestAddress(id, { owner: 'e2', name: 'box' })).toBe('10.30.0.7/24')
    // late, or twice, it takes nothing from who has it now
    await release.free()
    expect(ipam.addresses(id)).toEqual([{ address: '10.30.0.7', owner: 'e2', name: 'box' }])
  })

  test("of anybody else's, nothing is written and nothing given back", async () => {
    const store = new MemoryStore()
    const ipam = await start({ store })
    const { id } = await lab(ipam)
    await ipam.requestAddress(id, { ...box, address: '10.30.0.7' })
    for (const [pool, owner] of [
      [id, 'e2'],
      ['gone', box.owner],
    ] as const) {
      const release = ipam.startRelease(pool, '10.30.0.7', owner)
      expect(release.parts).toEqual([])
      await release.free()
    }
    expect(ipam.addresses(id)).toEqual([{ ...box, address: '10.30.0.7' }])
  })
})
