import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ClusterIpam } from '../../src/ipam/cluster.js'
import { type EtcdStore, openEtcd } from '../../src/store/etcd.js'
import { parseEtcdUrl } from '../../src/store/etcd-url.js'
import { MemoryStore } from '../../src/store/memory.js'
import { type Store, StoreConflict } from '../../src/store/store.js'
import { ClusterWorld, keysOf } from '../helpers/cluster-ipam.js'
import { Etcd } from '../helpers/etcd.js'

// Addresses of many hosts in a real etcd.

let etcd: Etcd
const stores: EtcdStore[] = []
beforeAll(async () => {
  etcd = await Etcd.start()
}, 60_000)
afterAll(async () => {
  for (const store of stores) await store.close()
  await etcd.stop()
})

const open = async (prefix: string): Promise<EtcdStore> => {
  const store = await openEtcd({ ...parseEtcdUrl(etcd.url(prefix)), timeoutMs: 1_000 })
  stores.push(store)
  return store
}

/** A store of which we know what was asked. */
class Counted {
  conflicts = 0
  lists = 0
  txns = 0

  of(store: Store): Store {
    return {
      get: key => store.get(key),
      list: prefix => {
        this.lists++
        return store.list(prefix)
      },
      txn: async (conditions, operations) => {
        this.txns++
        try {
          return await store.txn(conditions, operations)
        } catch (error) {
          if (error instanceof StoreConflict) this.conflicts++
          throw error
        }
      },
      watch: (prefix, revision, signal) => store.watch(prefix, revision, signal),
      lease: ttlMs => store.lease(ttlMs),
      close: () => store.close(),
    }
  }
}

describe('twenty hosts at once', () => {
  test.each([
    { subnet: '10.50.0.0/24', each: 12, most: { conflicts: 1.5, lists: 1.5 } },
    { subnet: '10.50.0.0/16', each: 50, most: { conflicts: 0.05, lists: 0 } },
  ])('get different addresses of $subnet for few conflicts each', async ({ subnet, each, most }) => {
    const world = new ClusterWorld<Store>(await open(`twenty-${each}`))
    const counted = new Counted()
    const names = Array.from({ length: 20 }, (_, i) => `host-${i}`)
    const hosts = await Promise.all(
      names.map(async name => world.host(name, { shared: counted.of(await open(`twenty-${each}`)) })),
    )
    const id = await world.pool(hosts[0]!, subnet)
    Object.assign(counted, { conflicts: 0, lists: 0, txns: 0 })
    const start = performance.now()
    const got = await Promise.all(
      hosts.map(async host => {
        const mine: string[] = []
        for (let i = 0; i < each; i++) mine.push(await host.requestAddress(id, { owner: `e${i}` }))
        return mine
      }),
    )
    const seconds = (performance.now() - start) / 1000
    const count = 20 * each
    expect(new Set(got.flat()).size).toBe(count)
    expect(await world.stored()).toHaveLength(count)
    const per = (n: number) => n / count
    console.log(
      `${subnet}: ${count} addresses for 20 hosts, ${Math.round(count / seconds)} a second; each ` +
        `${per(counted.conflicts).toFixed(3)} conflicts, ${per(counted.lists).toFixed(3)} lists, ${per(counted.txns).toFixed(3)} transactions`,
    )
    expect(per(counted.conflicts)).toBeLessThan(most.conflicts)
    expect(per(counted.lists)).toBeLessThanOrEqual(most.lists)
  })
})

/** Every host has in the store and in its journal exactly what `given` says, and asking again changes nothing. */
async function expectInAgreement(world: ClusterWorld<Store>, hosts: Host[], id: string, given: Map<string, string>) {
  for (const { ipam, name } of hosts) {
    for (const { address, owner } of ipam.addresses(id))
      if (given.get(address) !== `${owner} ${name}`) await ipam.releaseAddress(id, address, owner)
    expect(await ipam.resync()).toEqual([])
  }
  expect((await world.stored()).sort()).toEqual([...given].map(([address, holder]) => `${address} ${holder}`).sort())
  const { revision } = await world.shared.list('')
  for (const { ipam, local, name } of hosts) {
    const own = [...given].filter(([, holder]) => holder.endsWith(` ${name}`)).map(([address]) => address)
    expect((await keysOf(local, '')).map(key => key.split('/')[3])).toEqual(own.sort())
    expect(await ipam.resync()).toEqual([])
  }
  expect((await world.shared.list('')).revision).toBe(revision)
}

interface Host {
  name: string
  local: MemoryStore
  ipam: ClusterIpam
}

async function threeHosts(prefix: string): Promise<{ world: ClusterWorld<Store>; hosts: Host[] }> {
  const world = new ClusterWorld<Store>(await open(prefix))
  const hosts = await Promise.all(
    ['a', 'b', 'c'].map(async name => {
      const local = new MemoryStore()
      return { name, local, ipam: await world.host(name, { shared: await open(prefix) }, local) }
    }),
  )
  return { world, hosts }
}

test('an etcd that is killed and started again under requests and releases leaves nothing given twice and nothing leaked', async () => {
  const { world, hosts } = await threeHosts('killed')
  const id = await world.pool(hosts[0]!.ipam, '10.50.0.0/16')
  const given = new Map<string, string>()
  const seen = { given: 0, released: 0, unavailable: 0 }
  let running = true
  const use = async ({ ipam, name }: Host) => {
    const mine: string[] = []
    for (let i = 0; running; i++) {
      const release = i % 3 === 2 ? mine.shift() : undefined
      if (release !== undefined) {
        const [owner] = given.get(release)!.split(' ')
        given.delete(release)
        await ipam.releaseAddress(id, release, owner)
        seen.released++
        continue
      }
      const owner = `e${i}`
      try {
        const address = (await ipam.requestAddress(id, { owner })).replace(/\/.*/, '')
        expect(given.get(address)).toBeUndefined()
        given.set(address, `${owner} ${name}`)
        mine.push(address)
        seen.given++
      } catch (error) {
        expect(error).toMatchObject({ kind: 'Unavailable' })
        seen.unavailable++
      }
    }
  }
  const users = Promise.all(hosts.flatMap(host => [use(host), use(host)]))
  for (let n = 0; n < 3; n++) {
    const enough = seen.given + 200
    while (seen.given < enough) await new Promise(resolve => setTimeout(resolve, 20))
    const failed = seen.unavailable
    await etcd.members[0]!.kill()
    while (seen.unavailable < failed + 6) await new Promise(resolve => setTimeout(resolve, 20))
    etcd.members[0]!.start()
    await etcd.ready()
  }
  running = false
  await users
  console.log(seen)
  await expectInAgreement(world, hosts, id, given)
}, 120_000)

test('after a snapshot is restored each host has its addresses again, no more, and not those that another got meanwhile', async () => {
  const { world, hosts } = await threeHosts('restored')
  const [a, b] = [hosts[0]!.ipam, hosts[1]!.ipam]
  const id = await world.pool(a, '10.50.0.0/16')
  await a.requestAddress(id, { owner: 'before', address: '10.50.0.9' })
  const file = join(etcd.dir, 'snapshot')
  await etcd.saveSnapshot(file)
  for (const n of [5, 6]) await a.requestAddress(id, { owner: `e${n}`, address: `10.50.0.${n}` })
  await a.releaseAddress(id, '10.50.0.9')
  const later = await a.requestPool({ family: 4, subnet: '10.51.0.0/16', owner: 'network later' })
  await a.requestAddress(later.id, { owner: 'e7', address: '10.51.0.7' })
  await etcd.restoreSnapshot(file)
  await world.network('later', later)
  await b.requestAddress(id, { owner: 'thief', ownerName: 'endpoint thief', address: '10.50.0.6' })
  expect(await a.resync()).toEqual([{ poolId: id, address: '10.50.0.6', owner: 'e6', by: 'endpoint thief', host: 'b' }])
  await a.releaseAddress(id, '10.50.0.6', 'e6')
  expect(await a.resync()).toEqual([])
  expect((await world.stored()).sort()).toEqual(['10.50.0.5 e5 a', '10.50.0.6 thief b', '10.51.0.7 e7 a'].sort())
}, 120_000)
