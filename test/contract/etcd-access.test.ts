import { readFileSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { type EtcdStore, openEtcd } from '../../src/store/etcd.js'
import { type EtcdOptions, parseEtcdUrl } from '../../src/store/etcd-url.js'
import { put, type Store } from '../../src/store/store.js'
import { Etcd } from '../helpers/etcd.js'
import { until } from '../helpers/machine.js'

const stores: Store[] = []
async function open(options: EtcdOptions): Promise<EtcdStore> {
  const store = await openEtcd(options)
  stores.push(store)
  return store
}
afterEach(async () => {
  await Promise.all(stores.splice(0).map(store => store.close()))
})

const failureOf = (work: Promise<unknown>) =>
  work.then(
    () => new Error('it succeeded'),
    error => error as Error,
  )

describe('etcd that asks for a password', () => {
  const password = 'geheim/p@ss:1'
  let etcd: Etcd
  const login = (secret: string) => `host:${encodeURIComponent(secret)}`
  beforeAll(async () => {
    etcd = await Etcd.start({ flags: ['--auth-token-ttl=2'] })
    await etcd.enableAuth('host', password, 'mine/')
  }, 60_000)
  afterAll(() => etcd.stop())

  test('the right one opens, for the granted prefix only', async () => {
    const store = await open(parseEtcdUrl(etcd.url('mine', { login: login(password) })))
    await store.txn([], [put('a', 1)])
    expect((await store.get('a'))?.value).toBe(1)
    const other = await open(parseEtcdUrl(etcd.url('other', { login: login(password) })))
    const error = await failureOf(other.txn([], [put('a', 1)]))
    expect(error).toMatchObject({ kind: 'Unavailable' })
    expect(error.message).toContain('permission denied')
  })

  test.each([
    ['a wrong password', 'host:wrong@', 'authentication failed, invalid user ID or password'],
    ['a user that nobody knows', 'nobody:wrong@', 'authentication failed, invalid user ID or password'],
    ['no password at all', '', 'user name is empty'],
  ])('%s is refused at once, and no sentence has the password', async (_, who, says) => {
    const store = await open(parseEtcdUrl(etcd.url('mine', { login: who.slice(0, -1) })))
    const begin = performance.now()
    for (const work of [store.get('a'), store.txn([], [put('a', 1)]), store.lease(5_000)]) {
      const error = await failureOf(work)
      expect(error).toMatchObject({ kind: 'Unavailable' })
      expect(error.message).toContain(says)
      expect(`${error.stack}`).not.toContain('wrong')
    }
    expect(performance.now() - begin).toBeLessThan(6_000)
    const watching = failureOf(store.watch('', 0, AbortSignal.timeout(5_000))[Symbol.asyncIterator]().next())
    expect((await watching).message).toContain(says)
  })

  test('a token that has expired is got anew, and a watch outlives it', async () => {
    const store = await open(parseEtcdUrl(etcd.url('mine', { login: login(password) })))
    const { revision } = await store.list('')
    const watching = store.watch<number>('', revision, AbortSignal.timeout(20_000))[Symbol.asyncIterator]()
    const first = watching.next()
    await store.txn([], [put('a', 1)])
    expect((await first).value).toMatchObject([{ value: 1 }])
    // Once it has expired etcd says so to whoever uses it; the store is not told, so it is asked after more than 2 s.
    await new Promise(resolve => setTimeout(resolve, 4_500))
    await Promise.all(Array.from({ length: 20 }, (_, i) => store.txn([], [put(`k${i}`, i)])))
    expect((await watching.next()).value[0].key).toMatch(/^k/)
    await watching.return?.(undefined)
  })

  test('a login is fine where nobody asks for one', async () => {
    await etcd.ctl('auth', 'disable', '--user', 'root:root-secret')
    const store = await open(parseEtcdUrl(etcd.url('mine', { login: login(password) })))
    await store.txn([], [put('a', 2)])
    await etcd.ctl('auth', 'enable')
    await until('the store to log in', () => store.txn([], [put('a', 3)]))
  })
})

describe('etcd with TLS and certificates of its clients', () => {
  let etcd: Etcd
  beforeAll(async () => {
    etcd = await Etcd.start({ tls: 'clientCertificate' })
  }, 60_000)
  afterAll(() => etcd.stop())
  const options = (tls?: Partial<EtcdOptions['tls'] & object>): EtcdOptions => {
    const parsed = parseEtcdUrl(etcd.url('tls'))
    return { ...parsed, timeoutMs: 1_000, ...(tls && { tls: { ...parsed.tls, ...tls } }) }
  }

  test('it works by the certificates that the URL names, watches and leases too', async () => {
    const store = await open(options())
    const revision = await store.txn([], [put('a', 1)])
    const watching = store.watch<number>('', revision, AbortSignal.timeout(5_000))[Symbol.asyncIterator]()
    const next = watching.next()
    const lease = await store.lease(5_000)
    await store.txn([], [{ type: 'put', key: 'b', value: 2, lease: lease.id }])
    await lease.keepAlive()
    expect((await next).value).toMatchObject([{ key: 'b', value: 2 }])
    await lease.revoke()
    expect((await watching.next()).value).toMatchObject([{ type: 'delete', key: 'b' }])
    await watching.return?.(undefined)
    expect(store.name).toBe(`etcds://${etcd.endpoints[0]}/tls`)
  })

  test('a server that our CA did not sign is refused, saying so', async () => {
    const error = await failureOf((await open({ ...options({ ca: etcd.tls!.otherCa }), timeoutMs: 10_000 })).get('a'))
    expect(error).toMatchObject({ kind: 'Unavailable' })
    expect(error.message).toMatch(/unable to verify|self-signed|unable to get local issuer/)
  })

  test('without a certificate of ours, without the CA, and without TLS it is refused', async () => {
    const { ca } = parseEtcdUrl(etcd.url('tls')).tls!
    const { tls: _, ...plain } = options()
    for (const wrong of [{ ...plain, tls: { ca: ca! } }, { ...plain, tls: {} }, plain]) {
      const begin = performance.now()
      expect(await failureOf((await open(wrong)).get('a'))).toMatchObject({ kind: 'Unavailable' })
      expect(performance.now() - begin).toBeLessThan(9_000)
    }
  })

  test('a file that is not there, or is no certificate, is named', async () => {
    await expect(openEtcd(options({ ca: '/nowhere/ca.pem' }))).rejects.toMatchObject({
      kind: 'InvalidParameter',
      message: expect.stringContaining("etcd's ca /nowhere/ca.pem cannot be read"),
    })
    expect(readFileSync(etcd.members[0]!.log, 'utf8')).not.toContain('-----BEGIN')
    const broken = await open(options({ cert: etcd.members[0]!.log }))
    expect(await failureOf(broken.get('a'))).toMatchObject({ kind: 'Unavailable' })
  })

  test('closing leaves no socket and no timer', async () => {
    const count = (kind: RegExp) => process.getActiveResourcesInfo().filter(name => kind.test(name)).length
    const resources = () => [count(/TCP|TLS/), count(/Timeout|Immediate/)]
    const before = resources()
    const store = await open(options())
    const lease = await store.lease(5_000)
    const { revision } = await store.list('')
    const watches = ['a', 'b', 'c'].map(prefix =>
      failureOf(store.watch(prefix, revision, new AbortController().signal)[Symbol.asyncIterator]().next()),
    )
    await lease.keepAlive()
    const pending = failureOf(store.get('a'))
    await store.close()
    for (const error of await Promise.all([...watches, pending]))
      expect(error).toMatchObject({ kind: 'Unavailable', message: 'the store is closed' })
    // Those that wait here have a timer too.
    const isClean = () => resources().every((got, i) => got <= Math.max(before[i]!, i))
    await until(`sockets and timers to go, of ${before}`, isClean, 2_000)
  })
})
