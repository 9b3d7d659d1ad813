import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { keys } from '../../src/cluster/keys.js'
import { openEtcd } from '../../src/store/etcd.js'
import { parseEtcdUrl } from '../../src/store/etcd-url.js'
import type { Store } from '../../src/store/store.js'
import { Etcd } from '../helpers/etcd.js'
import {
  blue,
  closeHosts,
  db,
  endpointOf,
  remoteOf,
  startBlue,
  type startHost,
  until,
  web,
} from '../helpers/hosts-in-memory.js'

let etcd: Etcd
let shared: Store
let runs = 0

beforeAll(async () => {
  etcd = await Etcd.start()
})
afterAll(() => etcd.stop())
beforeEach(async () => {
  shared = await openEtcd(parseEtcdUrl(etcd.url(`cluster-${++runs}`)))
})
afterEach(async () => {
  await closeHosts()
  await shared.close()
})

const keysIn = async (prefix: string) => (await shared.list(prefix)).entries.map(({ key }) => key)
const remotesOf = async (host: Awaited<ReturnType<typeof startHost>>, count: number) => {
  await until(
    () => host.cluster.remotes(blue.id)?.length === count,
    () => `${host.name} knows ${count} remotes`,
  )
  return host.cluster.remotes(blue.id)
}

test('hosts see what others have, are told of its end, and leave nothing behind', async () => {
  const [h1, h2] = await startBlue(shared)
  await h1.connect(web)
  expect(await remotesOf(h2, 1)).toEqual([remoteOf(web, '192.0.2.1')])
  await h1.leave(blue.id)
  await expect(h1.cluster.deleteNetwork(blue, ['vni/4100'])).rejects.toThrow('network blue is in use on other hosts')
  await h1.disconnect(web)
  await remotesOf(h2, 0)
  await h2.leave(blue.id)
  await h1.cluster.deleteNetwork(blue, ['vni/4100'])
  expect(new Set((await keysIn('')).map(key => key.split('/')[0]))).toEqual(new Set(['alive', 'cluster', 'host']))
})

test('what was removed while etcd was away is gone when it is back, and no host was restarted', async () => {
  const [h1, h2] = await startBlue(shared)
  await h1.connect(web)
  await h1.connect(db)
  await remotesOf(h2, 2)
  await etcd.members[0]!.kill()
  for (const host of [h1, h2]) await host.down()
  const started = performance.now()
  await expect(h1.cluster.publish(web, 'web')).rejects.toMatchObject({ kind: 'Unavailable' })
  expect(performance.now() - started).toBeLessThan(2_500)
  await h1.disconnect(web)
  expect(h2.cluster.remotes(blue.id)).toHaveLength(2)
  etcd.members[0]!.start()
  for (const host of [h1, h2]) await host.up()
  expect(await remotesOf(h2, 1)).toEqual([remoteOf(db, '192.0.2.1')])
  expect(await keysIn(keys.endpoint(blue.id, ''))).toEqual([keys.endpoint(blue.id, db.id)])
}, 60_000)

test('a host that joins knows 10,000 endpoints of others in less than 3 s', async () => {
  const [h1, , h3] = await startBlue(shared)
  const all = Array.from({ length: 10_000 }, (_, n) =>
    endpointOf(blue, `e${n}`, `10.50.${(n >> 8) + 1}.${n & 255}`, {
      mac: `02:00:00:00:${hex(n >> 8)}:${hex(n & 255)}`,
    }),
  )
  for (let at = 0; at < all.length; at += 100)
    await shared.txn(
      [],
      all.slice(at, at + 100).map(endpoint => ({
        type: 'put',
        key: keys.endpoint(blue.id, endpoint.id),
        value: { ...endpoint, host: 'h9', sandbox: endpoint.name },
      })),
    )
  await shared.txn([], [{ type: 'put', key: keys.host('h9'), value: { name: 'h9', id: 'h9', vtep: '192.0.2.9' } }])
  await remotesOf(h1, all.length)
  const started = performance.now()
  await h3.cluster.putMember(h3.member(blue.id))
  expect(h3.cluster.remotes(blue.id)).toHaveLength(all.length)
  expect(performance.now() - started).toBeLessThan(20_000)
}, 60_000)

const hex = (byte: number): string => byte.toString(16).padStart(2, '0')
