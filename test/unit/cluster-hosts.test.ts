import { afterEach, describe, expect, test } from 'vitest'
import { keys } from '../../src/cluster/keys.js'
import { MemoryStore } from '../../src/store/memory.js'
import {
  blue,
  closeHosts,
  db,
  startBlue,
  startHost,
  startHosts,
  type TestHost,
  until,
  web,
} from '../helpers/hosts-in-memory.js'

afterEach(closeHosts)

const keysIn = async (store: MemoryStore, prefix: string) => (await store.list(prefix)).entries.map(({ key }) => key)

/** As when a host loses its power: its lease ends. */
async function kill(shared: MemoryStore, host: TestHost): Promise<void> {
  host.line.cut()
  await host.down()
  await shared.txn([], [{ type: 'delete', key: keys.alive(host.name) }])
}

describe('hosts', () => {
  test('are listed with what they have', async () => {
    const shared = new MemoryStore()
    const [h1, h2, h3] = await startBlue(shared)
    await h1.connect(web)
    await h1.connect(db)
    await h2.cluster.close()
    const listed = await h3.cluster.hosts()
    expect(listed).toMatchObject([
      { name: 'h1', id: 'id-of-h1', vtep: '192.0.2.1', state: 'up', endpoints: 2, networks: ['blue'] },
      { name: 'h2', state: 'down', endpoints: 0, networks: ['blue'] },
      { name: 'h3', state: 'up', endpoints: 0, networks: [] },
    ])
    for (const { lastSeen } of listed) expect(Math.abs(Date.parse(lastSeen) - Date.now())).toBeLessThan(10_000)
  })

  test('verify a network by each looking at itself', async () => {
    const shared = new MemoryStore()
    const [h1, h2, h3] = await startBlue(shared)
    await h1.connect(web)
    const nothing = { state: 'answered', checked: [], found: [] }
    expect(await h3.cluster.verify(blue.id, 10_000)).toEqual([
      { host: 'h1', ...nothing },
      { host: 'h2', ...nothing },
    ])
    await h2.cluster.close()
    await until(
      async () => (await h3.cluster.verify(blue.id, 10_000))[1]?.state === 'down',
      () => 'h2 is known to be down',
    )
    const { remotes } = await h3.cluster.readNetwork(blue.id)
    expect(remotes).toContainEqual({ mac: web.mac, addresses: ['10.50.0.2'], vtep: '192.0.2.1' })
  })

  test('of one name are one host, while it is up', async () => {
    const shared = new MemoryStore()
    const [h1] = await startHosts(shared)
    const twin = await startHost(shared, 'h1', { id: 'another' })
    await until(
      () => twin.lines.length > 0,
      () => 'the twin says why',
    )
    expect(twin.cluster.downBecause()).toBe(
      'host name h1 is used by another host (id id-of-h1) in the cluster store memory://: choose another one with --host-name',
    )
    expect(twin.lines).toHaveLength(1)
    expect((await shared.get<{ id: string }>(keys.host('h1')))?.value.id).toBe('id-of-h1')
    await h1.cluster.close()
    await twin.up()
    expect((await shared.get<{ id: string }>(keys.host('h1')))?.value.id).toBe('another')
  })

  test('take the place of a host of their name that is gone, and nothing of it is left', async () => {
    const shared = new MemoryStore()
    const [h1] = await startBlue(shared)
    await h1.connect(web)
    await kill(shared, h1)
    const anew = await (await startHost(shared, 'h1', { id: 'another' })).up()
    expect(await keysIn(shared, keys.on(blue.id))).toEqual([keys.member(blue.id, 'h2')])
    expect(anew.released).toEqual(['h1'])
  })

  test('that get another name are known by that one only', async () => {
    const shared = new MemoryStore()
    const [h1] = await startBlue(shared)
    await h1.connect(web)
    h1.line.cut()
    await h1.cluster.close()
    const renamed = await startHost(shared, 'h7', { id: 'id-of-h1', local: h1.local })
    renamed.endpoints.set(web.id, web)
    await renamed.up()
    expect(await keysIn(shared, 'host/')).toEqual(['host/h2', 'host/h3', 'host/h7'])
    expect(await keysIn(shared, keys.on(blue.id))).toEqual([
      keys.endpoint(blue.id, web.id),
      keys.member(blue.id, 'h2'),
      keys.member(blue.id, 'h7'),
    ])
    expect((await shared.get<{ host: string }>(keys.endpoint(blue.id, web.id)))?.value.host).toBe('h7')
    expect(renamed.released).toEqual(['h1'])
  })
})

describe('a host that is removed', () => {
  test('must be another one, be there, and be down unless forced', async () => {
    const [h1] = await startHosts()
    await expect(h1.cluster.removeHost('h9', { force: false })).rejects.toMatchObject({ kind: 'NotFound' })
    await expect(h1.cluster.removeHost('h1', { force: true })).rejects.toMatchObject({ kind: 'Conflict' })
    await expect(h1.cluster.removeHost('h2', { force: false })).rejects.toThrow('host h2 is up')
  })

  test('leaves nothing, so that its networks can go', async () => {
    const shared = new MemoryStore()
    const [h1, h2] = await startBlue(shared)
    await h2.connect(web)
    await kill(shared, h2)
    await h1.cluster.removeHost('h2', { force: false })
    expect(h1.released).toEqual(['h2'])
    expect(await keysIn(shared, 'host/')).toEqual(['host/h1', 'host/h3'])
    expect(await keysIn(shared, keys.on(blue.id))).toEqual([keys.member(blue.id, 'h1')])
    await h1.leave(blue.id)
    await h1.cluster.deleteNetwork(blue, ['vni/4100'])
  })

  test('and returns does not bring back a network that was deleted meanwhile', async () => {
    const shared = new MemoryStore()
    const [h1, h2] = await startBlue(shared)
    await h2.connect(web)
    await kill(shared, h2)
    await h1.cluster.removeHost('h2', { force: false })
    await h1.leave(blue.id)
    await h1.cluster.deleteNetwork(blue, ['vni/4100'])
    h2.line.mend()
    await h2.up()
    expect(h2.cluster.networks()).toEqual([])
    expect(h2.told).toContain('network blue -> -')
    expect((await h2.local.list('member/')).entries).toEqual([])
    expect(await keysIn(shared, 'net')).toEqual([])
    expect(await keysIn(shared, 'removed/')).toEqual([])
  })

  test('and returns has its endpoints on networks that are still there', async () => {
    const shared = new MemoryStore()
    const [h1, h2] = await startBlue(shared)
    await h2.connect(web)
    await kill(shared, h2)
    await h1.cluster.removeHost('h2', { force: false })
    h2.line.mend()
    await h2.up()
    await until(
      () => h1.cluster.peers().length === 1,
      () => 'h1 knows web again',
    )
    expect(await keysIn(shared, 'removed/')).toEqual([])
    expect(h2.reclaims).toBe(2)
  })

  test('by force while it is up comes back by itself', async () => {
    const shared = new MemoryStore()
    const [h1, h2] = await startBlue(shared)
    await h2.connect(web)
    await h1.cluster.removeHost('h2', { force: true })
    await until(
      async () =>
        (await keysIn(shared, keys.on(blue.id))).length === 3 && (await keysIn(shared, 'removed/')).length === 0,
      () => 'h2 is back',
    )
    await h2.up()
    expect(await keysIn(shared, 'alive/')).toEqual(['alive/h1', 'alive/h2', 'alive/h3'])
    expect(await keysIn(shared, 'host/')).toEqual(['host/h1', 'host/h2', 'host/h3'])
  })
})

test('an endpoint is removed from outside only when its host is down, with its addresses', async () => {
  const shared = new MemoryStore()
  const [h1, h2] = await startBlue(shared)
  await h2.connect(web)
  await until(
    () => h1.cluster.peers().length === 1,
    () => 'h1 knows web',
  )
  const [peer] = h1.cluster.peers()
  await expect(h1.cluster.removePeer(peer!)).rejects.toThrow('endpoint web is on host h2, which is up')
  await kill(shared, h2)
  await h1.cluster.removePeer(peer!)
  expect(await keysIn(shared, keys.endpoint(blue.id, ''))).toEqual([])
  expect(h1.released).toEqual([`pool-blue 10.50.0.2 ${peer!.id}`])
})
