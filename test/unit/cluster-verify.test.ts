import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Verification, type VerificationDeps, type VerifyRequest, verifyKeys } from '../../src/cluster/verify.js'
import type { Findings } from '../../src/cnm/driver.js'
import { unavailable } from '../../src/errors.js'
import { noLog } from '../../src/log.js'
import { MemoryStore } from '../../src/store/memory.js'

let shared: MemoryStore
let stop: AbortController
const up = new Set<string>()

beforeEach(() => {
  shared = new MemoryStore()
  stop = new AbortController()
  up.clear()
})
afterEach(async () => {
  stop.abort()
  await shared.close()
})

const good: Findings = { checked: ['links', 'fdb'], found: [] }
const missing: Findings = { checked: ['links', 'fdb'], found: [{ check: 'fdb', words: 'an entry is missing' }] }

/** A host that follows requests, and answers with what `look` says. */
function host(name: string, look: VerificationDeps['look']): Verification {
  up.add(name)
  const verification = new Verification({ shared, host: name, isUp: other => up.has(other), look, log: noLog })
  void (async () => {
    for await (const changes of shared.watch<VerifyRequest>(verifyKeys.requests, 0, stop.signal))
      verification.requests.apply(changes)
  })()
  return verification
}

const on = (...hosts: string[]) => hosts.map(name => ({ host: name }))

const leftovers = async (): Promise<string[]> => (await shared.list('verify')).entries.map(({ key }) => key)

describe('hosts that are asked what is wrong about a network', () => {
  test('answer each for itself, the asker included, in the order of their names; nothing is left in the store', async () => {
    const asked: string[] = []
    const one = host('one', async networkId => {
      asked.push(networkId)
      return good
    })
    host('two', async () => missing)
    host('elsewhere', async () => {
      throw new Error('nobody asked')
    })
    expect(await one.ask('blue', on('two', 'one'), 5_000)).toEqual([
      { host: 'one', state: 'answered', ...good },
      { host: 'two', state: 'answered', ...missing },
    ])
    expect(asked).toEqual(['blue'])
    expect(await leftovers()).toEqual([])
  })

  test('that are down are not waited for', async () => {
    const one = host('one', async () => good)
    const started = performance.now()
    expect(await one.ask('blue', on('one', 'gone'), 60_000)).toEqual([
      { host: 'gone', state: 'down', checked: [], found: [] },
      { host: 'one', state: 'answered', ...good },
    ])
    expect(await one.ask('blue', on('gone'), 60_000)).toMatchObject([{ state: 'down' }])
    expect(performance.now() - started).toBeLessThan(10_000)
  })

  test('and do not answer in time are silent; what they say later does not stay in the store', async () => {
    let late = (_: Findings): void => {}
    const one = host('one', async () => good)
    host(
      'two',
      () =>
        new Promise(resolve => {
          late = resolve
        }),
    )
    expect(await one.ask('blue', on('one', 'two'), 300)).toMatchObject([
      { state: 'answered' },
      { host: 'two', state: 'silent' },
    ])
    late(good)
    await sleep(0)
    expect(await leftovers()).toEqual([])
  })

  test('and cannot look say why', async () => {
    const one = host('one', () => Promise.reject(unavailable('etcd does not answer')))
    expect(await one.ask('blue', on('one'), 5_000)).toMatchObject([
      { state: 'answered', found: [{ words: 'it could not be verified: etcd does not answer' }] },
    ])
  })

  test('answer requests that were made before they followed', async () => {
    up.add('late')
    const one = host('one', async () => good)
    const report = one.ask('blue', on('late'), 5_000)
    const late = new Verification({ shared, host: 'late', isUp: () => true, look: async () => missing, log: noLog })
    while ((await leftovers()).length === 0) await sleep(1)
    late.requests.reset((await shared.list<VerifyRequest>(verifyKeys.requests)).entries)
    expect(await report).toEqual([{ host: 'late', state: 'answered', ...missing }])
  })
})
