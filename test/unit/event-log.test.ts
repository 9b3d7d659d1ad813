import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { eventsOf } from '../../src/cnm/changes.js'
import { EventLog } from '../../src/cnm/event-log.js'
import type { Event } from '../../src/cnm/specs.js'
import type { Endpoint } from '../../src/cnm/types.js'

const long = new Date(0)
const named = (name: string) => ({ type: 'sandbox', action: 'create', name }) as const
const wordOf = (event: Event): string => event.name ?? event.action

/** What a reader gets until the log is closed or its time is up. */
async function all(events: AsyncIterable<Event>): Promise<string[]> {
  const got: string[] = []
  for await (const event of events) got.push(wordOf(event))
  return got
}
const forEver = new AbortController().signal

describe('the log of events', () => {
  test('hands a reader what comes, in order, to its end', async () => {
    const log = new EventLog()
    log.emit(named('before'))
    const got = all(log.read({ signal: forEver }))
    for (const name of ['a', 'b', 'c']) log.emit(named(name))
    log.close()
    expect(await got).toEqual(['a', 'b', 'c'])
  })

  test('begins with the past where that is asked for, and what comes meanwhile follows without a gap', async () => {
    const log = new EventLog()
    log.emit(named('a'))
    const events = log.read({ since: long, signal: forEver })
    log.emit(named('b'))
    log.close()
    expect(await all(events)).toEqual(['begin', 'a', 'b'])
  })

  test('ends at the time that is asked for, now or later', async () => {
    const log = new EventLog()
    log.emit(named('a'))
    expect(await all(log.read({ since: long, until: new Date(Date.now() + 50), signal: forEver }))).toEqual([
      'begin',
      'a',
    ])
    expect(await all(log.read({ since: long, until: long, signal: forEver }))).toEqual([])
  })

  test('remembers so many and says that there were more', async () => {
    const log = new EventLog({ remembered: 3, behind: 10 })
    for (const name of ['a', 'b', 'c', 'd']) log.emit(named(name))
    log.close()
    expect(await all(log.read({ since: long, signal: forEver }))).toEqual(['lost', 'b', 'c', 'd'])
  })

  test('does not wait for a slow reader, which is told how many it has lost and goes on', async () => {
    const log = new EventLog({ remembered: 10, behind: 2 })
    const reader = log.read({ signal: forEver })[Symbol.asyncIterator]()
    for (const name of ['a', 'b', 'c', 'd', 'e']) log.emit(named(name))
    const next = async (): Promise<Event> => (await reader.next()).value as Event
    expect([wordOf(await next()), wordOf(await next())]).toEqual(['a', 'b'])
    expect(await next()).toMatchObject({
      action: 'lost',
      words: '3 events are lost: they came faster than they were read',
    })
    log.emit(named('f'))
    expect(wordOf(await next())).toBe('f')
    await reader.return?.()
  })

  test('forgets a reader that has gone, whether it waits or never began', async () => {
    const log = new EventLog({ remembered: 10, behind: 2 })
    const gone = new AbortController()
    const got = all(log.read({ signal: gone.signal }))
    log.read({ signal: gone.signal })
    await turn()
    expect(log.readers).toBe(2)
    gone.abort()
    expect(await got).toEqual([])
    expect(log.readers).toBe(0)
  })
})

describe('what a stored change means', () => {
  const endpoint = (change: Partial<Endpoint>): Endpoint =>
    ({
      id: 'e',
      name: 'box',
      networkId: 'n',
      createdBy: 'tsnet',
      addresses: [],
      bindings: [],
      state: 'created',
      ...change,
    }) as unknown as Endpoint
  const bindings = [{ hostPort: 8080 }] as unknown as Endpoint['bindings']
  const actions = (before?: Endpoint, after?: Endpoint): string[] =>
    eventsOf({
      of: 'endpoint',
      ...(before && { before }),
      ...(after && { after }),
      network: 'lab',
      sandbox: 'box',
    }).map(({ action }) => action)
  const joined = endpoint({ state: 'joined' })
  const published = endpoint({ state: 'joined', bindings })

  test.each([
    ['made by dockerd', undefined, endpoint({}), ['create']],
    ['joined by dockerd', endpoint({}), joined, ['connect']],
    ['connected with a port at once', undefined, published, ['create', 'connect', 'publish']],
    ['stored again as it was', joined, joined, []],
    ['published', joined, published, ['publish']],
    ['published otherwise', published, endpoint({ state: 'joined', bindings: [] as never }), ['revoke']],
    ['left, its ports with it', published, endpoint({}), ['revoke', 'disconnect']],
    ['removed', published, undefined, ['revoke', 'disconnect', 'remove']],
    ['removed after it had left', endpoint({}), undefined, ['remove']],
  ])('an endpoint %s', (_what, before, after, want) => expect(actions(before, after)).toEqual(want))

  test('says whose endpoint it is, and which ports', () => {
    expect(eventsOf({ of: 'endpoint', before: joined, after: published, network: 'lab', sandbox: 'box' })).toEqual([
      {
        type: 'endpoint',
        action: 'publish',
        id: 'e',
        name: 'box',
        createdBy: 'tsnet',
        network: 'lab',
        sandbox: 'box',
        addresses: [],
        bindings,
      },
    ])
  })
})
