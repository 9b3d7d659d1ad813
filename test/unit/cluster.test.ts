import { afterEach, describe, expect, test } from 'vitest'
import { keys } from '../../src/cluster/keys.js'
import { MemoryStore } from '../../src/store/memory.js'
import { StoreConflict } from '../../src/store/store.js'
import {
  blue,
  closeHosts,
  db,
  endpointOf,
  networkOf,
  remoteOf,
  startBlue,
  type TestHost,
  until,
  web,
} from '../helpers/hosts-in-memory.js'

afterEach(closeHosts)

const vtep = (host: TestHost): string => host.cluster.underlay().vtep
const told = (host: TestHost, times: number) =>
  until(
    () => host.remoteChanges.length >= times,
    () => `${host.name} is told ${times} times: ${JSON.stringify(host.remoteChanges)}`,
  )

describe('networks', () => {
  test('are known on all hosts under one id, and only the others are told', async () => {
    const [h1, h2] = await startBlue()
    expect(h1.cluster.networks()).toEqual([blue])
    expect(h2.cluster.networks()).toEqual([blue])
    expect(h2.told).toEqual(['network - -> blue'])
    expect(h1.told).toEqual([])
  })

  test('have their name once, and what only one network may have', async () => {
    const [h1, h2] = await startBlue()
    const namesake = { ...blue, id: 'f'.repeat(64) }
    await expect(h2.cluster.createNetwork(namesake, [])).rejects.toThrow('network name blue is taken')
    const red = networkOf('red')
    const refusal = h1.cluster.createNetwork(red, ['vni/4101', 'vni/4100']).catch(error => error)
    expect(await refusal).toBeInstanceOf(StoreConflict)
    expect((await refusal).key.endsWith('vni/4100')).toBe(true)
    expect((await h1.local.list('network-attempt/')).entries).toEqual([])
    await h1.cluster.createNetwork(red, ['vni/4101'])
  })

  test('show what this host has of them, and are stored without it', async () => {
    const shared = new MemoryStore()
    const [h1, h2] = await startBlue(shared)
    const ours = { addresses: ['10.50.0.9/16'], dockerNetworkIds: ['d1'] }
    await h1.cluster.putMember(h1.member(blue.id, ours))
    expect(h1.cluster.networks()).toMatchObject([{ subnets: [{ hostAddress: '10.50.0.9' }], dockerNetworkIds: ['d1'] }])
    expect(h2.cluster.networks()).toEqual([blue])
    expect((await shared.get(keys.network(blue.id)))?.value).toEqual({ ...blue, unique: ['vni/4100'] })
  })

  test('are not deleted while other hosts use them, and the message says who does', async () => {
    const [h1, h2, h3] = await startBlue()
    await h1.leave(blue.id)
    await h2.connect(web)
    await h3.cluster.putMember(h3.member(blue.id, { dockerNetworkIds: ['d1'] }))
    await expect(h1.cluster.deleteNetwork(blue, ['vni/4100'])).rejects.toThrow(
      'network blue is in use on other hosts: web on h2; attached to Docker on h3',
    )
    expect(h1.cluster.networks()).toHaveLength(1)
  })

  test('leave nothing in the store when they are deleted', async () => {
    const shared = new MemoryStore()
    const [h1, h2, h3] = await startBlue(shared)
    for (const host of [h1, h2]) await host.leave(blue.id)
    await h2.cluster.deleteNetwork(blue, ['vni/4100'])
    await until(
      () => [h1, h2, h3].every(host => host.cluster.networks().length === 0),
      () => 'it is gone everywhere',
    )
    const left = (await shared.list('')).entries.map(({ key }) => key.split('/')[0])
    expect(new Set(left)).toEqual(new Set(['alive', 'cluster', 'host']))
    expect(h1.told).toEqual(['network blue -> -'])
    expect(h2.told).toEqual(['network - -> blue'])
  })

  test('that are gone take no endpoint and no member', async () => {
    const shared = new MemoryStore()
    const [, , h3] = await startBlue(shared)
    await shared.txn([], [{ type: 'delete', key: keys.network(blue.id) }])
    await expect(h3.cluster.publish(web, 'web')).rejects.toMatchObject({ kind: 'NotFound' })
    await expect(h3.cluster.putMember(h3.member('f'.repeat(64)))).rejects.toMatchObject({ kind: 'NotFound' })
    expect(h3.cluster.member('f'.repeat(64))).toBeUndefined()
  })
})

describe('remotes', () => {
  test('are the endpoints of other hosts, each at its host', async () => {
    const [h1, h2] = await startBlue()
    await h1.connect(web)
    await told(h2, 1)
    expect(h2.remoteChanges).toEqual([{ networkId: blue.id, before: [], after: [remoteOf(web, vtep(h1))] }])
    expect(h2.cluster.remotes(blue.id)).toEqual([remoteOf(web, vtep(h1))])
    expect(h2.cluster.vteps(blue.id)).toEqual([vtep(h1)])
    expect(h2.cluster.peers()).toMatchObject([{ name: 'web', host: 'h1', sandbox: 'sandbox-of-web' }])
    expect(h1.cluster.remotes(blue.id)).toEqual([])
    await h1.disconnect(web)
    await told(h2, 2)
    expect(h2.remoteChanges[1]).toEqual({ networkId: blue.id, before: [remoteOf(web, vtep(h1))], after: [] })
    expect(h2.cluster.vteps(blue.id)).toEqual([])
  })

  test('are known at once to a host that becomes a member, and not at all to others', async () => {
    const [h1, , h3] = await startBlue()
    await h1.connect(web)
    expect(h3.cluster.remotes(blue.id)).toBeUndefined()
    await h3.cluster.putMember(h3.member(blue.id))
    expect(h3.cluster.remotes(blue.id)).toEqual([remoteOf(web, vtep(h1))])
    await h3.leave(blue.id)
    expect(h3.cluster.remotes(blue.id)).toBeUndefined()
    expect(h3.remoteChanges).toEqual([])
  })

  test('hold the own addresses of other hosts', async () => {
    const [h1, h2] = await startBlue()
    const member = h1.member(blue.id, { addresses: ['10.50.0.9/16'] })
    await h1.cluster.putMember(member)
    await told(h2, 1)
    expect(h2.cluster.remotes(blue.id)).toEqual([{ mac: member.mac, addresses: ['10.50.0.9'], vtep: vtep(h1) }])
  })

  test('do not change with what concerns nobody on the segment, such as a name, and that is told all the same', async () => {
    const [h1, h2] = await startBlue()
    await h1.connect(web)
    await told(h2, 1)
    await h1.cluster.publish({ ...web, name: 'shop', aliases: ['www'] }, 'web')
    await told(h2, 2)
    expect(h2.remoteChanges[1]).toEqual({ networkId: blue.id, before: [], after: [] })
    expect(h2.cluster.peers()).toMatchObject([{ name: 'shop', aliases: ['www'] }])
    await h1.connect(db)
    await told(h2, 3)
    expect(h2.remoteChanges[2]).toEqual({ networkId: blue.id, before: [], after: [remoteOf(db, vtep(h1))] })
  })

  test('follow the address of a host, each network told once and only of what is there', async () => {
    const [h1, h2, h3] = await startBlue()
    await h1.connect(web)
    await h1.connect(db)
    await h3.connect(endpointOf(blue, 'other', '10.50.0.4'))
    await until(
      () => h2.remoteChanges.flatMap(({ after }) => after).length === 3,
      () => 'h2 knows all three',
    )
    const [before, count] = [vtep(h1), h2.remoteChanges.length]
    h1.cluster.setUnderlay({ vtep: '192.0.2.100', link: 'eth1' })
    await told(h2, count + 1)
    expect(h2.remoteChanges.slice(count)).toEqual([
      {
        networkId: blue.id,
        before: [remoteOf(web, before), remoteOf(db, before)],
        after: [remoteOf(web, '192.0.2.100'), remoteOf(db, '192.0.2.100')],
      },
    ])
    h1.cluster.setUnderlay(undefined)
    await told(h2, count + 2)
    expect(h2.cluster.remotes(blue.id)).toHaveLength(1)
    expect(() => h1.cluster.underlay()).toThrow('--advertise')
  })

  test('of two that say to have one address the newer is right, until it goes', async () => {
    const [h1, h2, h3] = await startBlue()
    const moved = { ...endpointOf(blue, 'moved', '10.50.0.2'), mac: web.mac }
    await h1.connect(web)
    await told(h2, 1)
    await h3.connect(moved)
    await told(h2, 2)
    expect(h2.cluster.remotes(blue.id)).toEqual([remoteOf(moved, vtep(h3))])
    expect(h2.remoteChanges[1]).toEqual({
      networkId: blue.id,
      before: [remoteOf(web, vtep(h1))],
      after: [remoteOf(moved, vtep(h3))],
    })
    await h3.disconnect(moved)
    await told(h2, 3)
    expect(h2.cluster.remotes(blue.id)).toEqual([remoteOf(web, vtep(h1))])
  })

  test('leave out endpoints that are not joined', async () => {
    const [h1, h2] = await startBlue()
    await h1.connect({ ...web, state: 'created' })
    await h1.connect(db)
    await told(h2, 1)
    expect(h2.cluster.remotes(blue.id)).toEqual([remoteOf(db, vtep(h1))])
  })
})

test('a network is read with what all hosts have of it, by a host that has nothing of it', async () => {
  const [h1, , h3] = await startBlue()
  await h1.connect(web)
  const { peers, members } = await h3.cluster.readNetwork(blue.id)
  expect(peers).toEqual([{ ...web, host: 'h1', sandbox: 'sandbox-of-web' }])
  expect(members.map(({ host }) => host)).toEqual(['h1', 'h2'])
})
