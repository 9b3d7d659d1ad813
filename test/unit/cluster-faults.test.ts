import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import { keys } from '../../src/cluster/keys.js'
import { jittered } from '../../src/cluster/session.js'
import { MemoryStore } from '../../src/store/memory.js'
import {
  blue,
  closeHosts,
  db,
  endpointOf,
  networkOf,
  remoteOf,
  startBlue,
  startHost,
  startHosts,
  until,
  web,
} from '../helpers/hosts-in-memory.js'

afterEach(closeHosts)

const red = networkOf('red', '10.60.0.0/16')
const ipOf = ({ addresses }: { addresses: readonly string[] }): string => addresses.join()
const keysIn = async (store: MemoryStore, prefix: string) => (await store.list(prefix)).entries.map(({ key }) => key)

describe('while the store does not answer', () => {
  test('what is there stays known, and what is new is refused at once with the reason', async () => {
    const [h1, h2] = await startBlue()
    await h1.connect(web)
    await until(
      () => h2.remoteChanges.length === 1,
      () => 'h2 knows web',
    )
    h2.line.cut()
    await h2.down()
    const reason = /^the cluster store memory:\/\/ does not answer since \d\d:\d\d:\d\d \(.*\)$/
    expect(h2.cluster.downBecause()).toMatch(reason)
    h2.line.lateMs = 60_000
    const refused = { kind: 'Unavailable', message: expect.stringMatching(reason) }
    const started = performance.now()
    await expect(h2.cluster.publish(db, 'db')).rejects.toMatchObject(refused)
    await expect(h2.cluster.putMember(h2.member(blue.id))).rejects.toMatchObject(refused)
    await expect(h2.cluster.createNetwork(red, [])).rejects.toMatchObject(refused)
    await expect(h2.cluster.deleteNetwork(blue, [])).rejects.toMatchObject(refused)
    await expect(h2.cluster.hosts()).rejects.toMatchObject(refused)
    await expect(h2.cluster.readNetwork(blue.id)).rejects.toMatchObject(refused)
    expect(performance.now() - started).toBeLessThan(10_000)
    h2.line.lateMs = 0
    expect(h2.cluster.remotes(blue.id)).toEqual([remoteOf(web, '192.0.2.1')])
    expect(h2.cluster.networks()).toHaveLength(1)
  })

  test('one line says that it is down and one that it is up, however often it was tried', async () => {
    const [h1] = await startHosts()
    h1.lines.length = 0
    h1.line.cut()
    await h1.down()
    await sleep(200)
    h1.line.mend()
    await h1.up()
    expect(h1.lines).toEqual([
      expect.stringMatching(/^the cluster store memory:\/\/ does not answer since/),
      'the cluster store memory:// answers, and everything is known',
    ])
    expect(h1.told).toEqual([expect.stringMatching(/^down: the cluster store/)])
    expect([h1.reclaims, h1.ups]).toEqual([2, 2])
  })

  test('a daemon that starts knows the networks that its host is a member of, and nothing of other hosts', async () => {
    const [h1] = await startBlue()
    await h1.cluster.createNetwork(red, [])
    await h1.cluster.putMember(h1.member(blue.id, { addresses: ['10.50.0.9/16'] }))
    const again = h1.restart()
    h1.line.cut()
    await again
    h1.line.cut()
    await sleep(20)
    expect(h1.cluster.networks()).toMatchObject([{ name: 'blue', subnets: [{ hostAddress: '10.50.0.9' }] }])
    expect(h1.cluster.remotes(blue.id)).toBeUndefined()
    h1.line.mend()
    await h1.up()
    expect(h1.cluster.networks()).toHaveLength(2)
    expect(h1.cluster.remotes(blue.id)).toEqual([])
  })

  test('hosts that lost it in the same moment come back at different ones, each within the pause', () => {
    const pauses = Array.from({ length: 1000 }, () => jittered(2000))
    expect(Math.min(...pauses)).toBeGreaterThanOrEqual(1000)
    expect(Math.max(...pauses)).toBeLessThanOrEqual(2000)
    const inFirstTenth = pauses.filter(pauseMs => pauseMs < 1100).length
    expect(inFirstTenth).toBeGreaterThan(50)
    expect(inFirstTenth).toBeLessThan(200)
  })

  test('what is removed is told when it answers again, also by a daemon that has been restarted', async () => {
    const shared = new MemoryStore()
    const [h1, h2] = await startBlue(shared)
    await h1.connect(web)
    await h1.connect(db)
    await h2.connect(endpointOf(blue, 'other', '10.50.0.4'))
    for (const host of [h1, h2]) {
      host.line.cut()
      await host.down()
    }
    await h1.disconnect(web)
    await h2.disconnect(endpointOf(blue, 'other', '10.50.0.4'))
    await h2.leave(blue.id)
    expect(h2.cluster.member(blue.id)).toBeUndefined()
    expect(await keysIn(shared, keys.on(blue.id))).toHaveLength(5)
    await h2.restart()
    for (const host of [h1, h2]) {
      host.line.mend()
      await host.up()
    }
    expect(await keysIn(shared, keys.on(blue.id))).toEqual([keys.endpoint(blue.id, db.id), keys.member(blue.id, 'h1')])
    expect(await h2.local.get(`member/${blue.id}`)).toBeUndefined()
  })
})

describe('an answer that is lost', () => {
  test('of a network that was created: it is gone again', async () => {
    const shared = new MemoryStore()
    const [h1, h2] = await startHosts(shared)
    h1.line.loseAnswers = 1
    await expect(h1.cluster.createNetwork(red, ['vni/1'])).rejects.toMatchObject({ kind: 'Unavailable' })
    await until(
      async () => (await keysIn(shared, 'network')).length === 0,
      () => 'the network is gone',
    )
    await h1.up()
    expect(await keysIn(shared, 'unique')).toEqual([])
    await h2.cluster.createNetwork(red, ['vni/1'])
  })

  test('of a network that was created and is in use: it stays', async () => {
    const shared = new MemoryStore()
    const [h1, h2] = await startHosts(shared)
    h1.line.loseAnswers = 1
    const attempt = h1.cluster.createNetwork(red, []).catch(() => h1.line.cut())
    await until(
      () => h2.cluster.networks().length === 1,
      () => 'h2 knows it',
    )
    await h2.cluster.putMember(h2.member(red.id))
    await attempt
    h1.line.mend()
    await h1.up()
    expect(h1.cluster.networks()).toHaveLength(1)
    expect((await h1.local.list('network-attempt/')).entries).toEqual([])
  })

  test('of an endpoint or a membership: neither is left', async () => {
    const shared = new MemoryStore()
    const [h1, , h3] = await startBlue(shared)
    h1.line.loseAnswers = 1
    await expect(h1.connect(web)).rejects.toMatchObject({ kind: 'Unavailable' })
    h3.line.loseAnswers = 1
    await expect(h3.cluster.putMember(h3.member(blue.id))).rejects.toMatchObject({ kind: 'Unavailable' })
    expect(h3.cluster.member(blue.id)).toBeUndefined()
    for (const host of [h1, h3]) await host.up()
    expect(await keysIn(shared, keys.on(blue.id))).toEqual([keys.member(blue.id, 'h1'), keys.member(blue.id, 'h2')])
    expect((await h3.local.list('member/')).entries).toEqual([])
  })
})

test('changes that the store has forgotten are read anew, without a new session', async () => {
  const [h1, h2] = await startBlue()
  await h1.connect(web)
  await until(
    () => h2.remoteChanges.length === 1,
    () => 'h2 knows web',
  )
  const watches = h2.line.watches
  h2.line.compact()
  await h1.disconnect(web)
  await h1.connect(db)
  const changed = (): string[] =>
    h2.remoteChanges.flatMap(({ before, after }) => [`-${before.map(ipOf)}`, `+${after.map(ipOf)}`])
  await until(
    () => changed().includes('+10.50.0.3'),
    () => 'h2 is told of db',
  )
  expect(h2.cluster.remotes(blue.id)).toEqual([remoteOf(db, '192.0.2.1')])
  expect(changed()).toContain('-10.50.0.2')
  expect(h2.line.watches).toBeGreaterThan(watches)
  expect(h2.told).toEqual(['network - -> blue'])
})

test('a lease that has ended is taken again', async () => {
  const shared = new MemoryStore()
  const h1 = await (await startHost(shared, 'h1', { leaseMs: 60 })).up()
  const before = await shared.get(keys.alive('h1'))
  // as after a stop of the process that took longer than the lease
  await shared.txn([], [{ type: 'delete', key: keys.alive('h1') }])
  h1.line.endLeases()
  await until(
    async () => ((await shared.get(keys.alive('h1')))?.revision ?? 0) > (before?.revision ?? 0),
    () => 'h1 is alive again',
  )
  expect(h1.told).toEqual([])
})

describe('a store that is older than it was', () => {
  test('gets back the networks of all members, with endpoints and what only they may have', async () => {
    const shared = new MemoryStore()
    const [h1, h2] = await startBlue(shared)
    await h1.connect(web)
    await h2.connect(db)
    const before = await keysIn(shared, '')
    for (const host of [h1, h2]) host.line.cut()
    await shared.txn(
      [],
      before.map(key => ({ type: 'delete', key })),
    )
    for (const host of [h1, h2]) host.line.mend()
    for (const host of [h1, h2]) await host.up()
    await until(
      async () => (await keysIn(shared, '')).length === before.length,
      () => 'everything is there again',
    )
    expect(await keysIn(shared, '')).toEqual(before)
    expect(h1.lines.concat(h2.lines)).toContain('network blue was missing in the cluster store, and is made again')
    expect(h1.cluster.networks()).toEqual([blue])
  })

  test('and has another network under the name: the log says what to do, and this host goes on with what it has', async () => {
    const shared = new MemoryStore()
    const [h1, h2, h3] = await startBlue(shared)
    await h2.leave(blue.id)
    await h1.connect(web)
    h1.line.cut()
    await h1.down()
    const lost = [...(await keysIn(shared, 'net')), ...(await keysIn(shared, 'unique/'))]
    await shared.txn(
      [],
      lost.map(key => ({ type: 'delete', key })),
    )
    await until(
      () => h3.cluster.networks().length === 0,
      () => 'h3 knows it gone',
    )
    await h3.cluster.createNetwork({ ...blue, id: 'f'.repeat(64) }, [])
    h1.line.mend()
    await h1.up()
    expect(h1.lines.find(line => line.includes('cannot be made again'))).toMatch(/^network blue .*network-name\/blue/)
    await expect(h1.cluster.publish(db, 'db')).rejects.toMatchObject({ kind: 'NotFound' })
    expect(h1.cluster.downBecause()).toBeUndefined()
  })
})

describe('the store of another cluster', () => {
  test('is refused while this host has part in the first one, and taken when it has not', async () => {
    const [h1] = await startBlue()
    await h1.connect(web)
    const { local } = h1
    h1.line.cut()
    await h1.cluster.close()
    const other = new MemoryStore()
    await (await startHost(other, 'h9')).up()
    const moved = await startHost(other, 'h1', { local })
    await until(
      () => moved.cluster.downBecause()?.includes('another cluster') === true,
      () => `${moved.cluster.downBecause()}`,
    )
    expect(moved.cluster.downBecause()).toContain("start the daemon with that one's --store, or first disconnect")
    expect(moved.cluster.downBecause()).toContain('blue')
    expect(await keysIn(other, 'host/')).toEqual(['host/h9'])
    await moved.leave(blue.id)
    await moved.up()
    expect(moved.cluster.networks()).toEqual([])
  })
})

describe('a session that ends between telling the others and recording it here', () => {
  test('keeps an endpoint that was published', async () => {
    const shared = new MemoryStore()
    const [h1] = await startBlue(shared)
    await h1.cluster.publish(web, 'sandbox-of-web')
    h1.line.cut()
    await h1.down()
    h1.line.mend()
    await h1.up()
    h1.endpoints.set(web.id, web)
    expect(await keysIn(shared, keys.endpoint(blue.id, ''))).toEqual([keys.endpoint(blue.id, web.id)])
  })

  test('does not bring back one that was withdrawn', async () => {
    const shared = new MemoryStore()
    const [h1] = await startBlue(shared)
    await h1.connect(web)
    await h1.cluster.withdraw(web)
    h1.line.cut()
    await h1.down()
    h1.line.mend()
    await h1.up()
    h1.endpoints.delete(web.id)
    expect(await keysIn(shared, keys.endpoint(blue.id, ''))).toEqual([])
  })
})
