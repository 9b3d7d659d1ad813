import { describe, expect, test } from 'vitest'
import { Ipam } from '../../src/ipam/ipam.js'
import { MemoryStore } from '../../src/store/memory.js'

// Networks on one LAN have one subnet: their pools are different, and give out each address once.

const start = async (store = new MemoryStore()): Promise<Ipam> => {
  const ipam = new Ipam({ store, hostSubnets: () => [], hostId: 'host-1', coolDownMs: 0 })
  await ipam.load()
  return ipam
}
const pool = (ipam: Ipam, owner: string, spec: { subnet?: string; range?: string; shared?: boolean } = {}) =>
  ipam.requestPool({ family: 4, subnet: '10.30.0.0/24', shared: true, owner, ...spec })
const refusal = (work: Promise<unknown>) =>
  work.then(
    value => expect.fail(`it should have been refused, and gave ${JSON.stringify(value)}`),
    ({ kind, message }) => ({ kind, message }),
  )

describe('pools of one subnet', () => {
  test('are granted to those who share it, with ranges or without; to nobody else', async () => {
    const ipam = await start()
    await pool(ipam, 'network one', { range: '10.30.0.0/25' })
    await pool(ipam, 'network two', { range: '10.30.0.128/25' })
    await pool(ipam, 'network three')
    expect(new Set(ipam.pools().map(({ id }) => id)).size).toBe(3)
    for (const other of [{ shared: false }, { subnet: '10.30.0.0/25' }, { subnet: '10.30.0.0/16' }])
      expect(await refusal(pool(ipam, 'network four', other))).toMatchObject({
        kind: 'Conflict',
        message: expect.stringMatching(/overlaps network one \(10\.30\.0\.0\/24\)$/),
      })
  })

  test('are not granted beside a pool whose owner has the subnet alone', async () => {
    const ipam = await start()
    await pool(ipam, 'network alone', { shared: false })
    expect(await refusal(pool(ipam, 'network two'))).toMatchObject({ kind: 'Conflict' })
  })

  test.each([false, true])('give out each address once (after a restart: %s)', async restarted => {
    const store = new MemoryStore()
    let ipam = await start(store)
    const [one, two] = [await pool(ipam, 'network one'), await pool(ipam, 'network two')]
    expect(await ipam.requestAddress(one.id, { owner: 'a', ownerName: 'endpoint a' })).toBe('10.30.0.1/24')
    expect(await ipam.requestAddress(two.id, { owner: 'b' })).toBe('10.30.0.2/24')
    if (restarted) ipam = await start(store)
    expect(await ipam.requestAddress(one.id, { owner: 'c' })).toBe('10.30.0.3/24')
    expect(await refusal(ipam.requestAddress(two.id, { owner: 'd', address: '10.30.0.1' }))).toEqual({
      kind: 'Conflict',
      message: 'address 10.30.0.1 is already used by endpoint a',
    })
    expect(ipam.addresses(two.id).map(({ address }) => address)).toEqual(['10.30.0.2'])
  })

  test('have the addresses of a pool that is released, and those that another gives back', async () => {
    const ipam = await start()
    const [one, two] = [await pool(ipam, 'network one'), await pool(ipam, 'network two')]
    for (const owner of ['a', 'b']) await ipam.requestAddress(one.id, { owner })
    await ipam.releaseAddress(one.id, '10.30.0.1')
    expect(await ipam.requestAddress(two.id, { owner: 'c' })).toBe('10.30.0.1/24')
    await ipam.releasePool(one.id)
    expect(await ipam.requestAddress(two.id, { owner: 'd' })).toBe('10.30.0.2/24')
    expect(await refusal(pool(ipam, 'network three', { shared: false }))).toMatchObject({ kind: 'Conflict' })
  })

  test('may each name the router and what else has an address without us; it is free when the last has let it go', async () => {
    const ipam = await start()
    const [one, two] = [await pool(ipam, 'network one'), await pool(ipam, 'network two')]
    for (const { id } of [one, two]) await ipam.requestAddress(id, { owner: 'gateway', address: '10.30.0.1' })
    await ipam.claim(two.id, '10.30.0.2', 'aux:printer')
    await ipam.claim(one.id, '10.30.0.2', 'aux:eth0')
    expect(await ipam.requestAddress(one.id, { owner: 'a' })).toBe('10.30.0.3/24')
    await ipam.releasePool(one.id)
    expect(await ipam.requestAddress(two.id, { owner: 'b' })).toBe('10.30.0.3/24')
    expect(await refusal(ipam.requestAddress(two.id, { owner: 'c', address: '10.30.0.1' }))).toMatchObject({
      kind: 'Conflict',
    })
  })
})

test('a pool that dockerd asked for stays shared only if its network can share', async () => {
  const ipam = await start()
  const docker = await pool(ipam, 'a Docker network being created')
  const lan = await pool(ipam, 'network lan')
  expect(await refusal(ipam.adoptPool(docker.id, { owner: 'network bridge', shared: false }))).toEqual({
    kind: 'Conflict',
    message: 'subnet 10.30.0.0/24 overlaps network lan (10.30.0.0/24)',
  })
  await ipam.releasePool(lan.id)
  await ipam.adoptPool(docker.id, { owner: 'network bridge', shared: false })
  expect(await refusal(pool(ipam, 'network lan'))).toMatchObject({
    message: 'subnet 10.30.0.0/24 overlaps network bridge (10.30.0.0/24)',
  })
})

test('the same pool is first of all the one of the same owner', async () => {
  const ipam = await start()
  await pool(ipam, 'network lan')
  const docker = await pool(ipam, 'a Docker network being created')
  const spec = { family: 4, subnet: '10.30.0.0/24', owner: 'a Docker network being created', sameIsFine: true } as const
  expect(await ipam.requestPool(spec)).toEqual(docker)
})
