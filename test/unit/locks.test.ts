import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { KeyedLock } from '../../src/locks.js'

describe('KeyedLock', () => {
  it('lets one holder of a key in at a time, first come first served', async () => {
    const locks = new KeyedLock()
    const log: string[] = []
    const work = (name: string) =>
      locks.with('net', async () => {
        log.push(`${name} in`)
        await sleep(5)
        log.push(`${name} out`)
      })
    await Promise.all([work('a'), work('b'), work('c')])
    expect(log).toEqual(['a in', 'a out', 'b in', 'b out', 'c in', 'c out'])
  })

  it('does not make different keys wait for each other', async () => {
    const locks = new KeyedLock()
    let entered = false
    await locks.with('a', () =>
      locks.with('b', async () => {
        entered = true
      }),
    )
    expect(entered).toBe(true)
  })

  it('is free again after the work failed', async () => {
    const locks = new KeyedLock()
    await expect(locks.with('a', () => Promise.reject(new Error('no')))).rejects.toThrow('no')
    expect(await locks.with('a', async () => 'in')).toBe('in')
  })

  it('lets those who share a key in together, and whoever wants it for himself alone, in the order in which they came', async () => {
    const locks = new KeyedLock()
    const log: string[] = []
    const work = (name: string) => async () => {
      log.push(`${name} in`)
      await sleep(5)
      log.push(`${name} out`)
    }
    await Promise.all([
      locks.shared('net', work('a')),
      locks.shared('net', work('b')),
      locks.with('net', work('alone')),
      locks.shared('net', work('c')),
      locks.with('net', work('last')),
    ])
    const inOut = (...names: string[]) => [...names.map(name => `${name} in`), ...names.map(name => `${name} out`)]
    expect(log).toEqual([...inOut('a', 'b'), ...inOut('alone'), ...inOut('c'), ...inOut('last')])
  })

  it('does not let who shares a key overtake its only holder', async () => {
    const locks = new KeyedLock()
    let alone = false
    const holder = locks.with('net', async () => {
      alone = true
      await sleep(5)
      alone = false
    })
    await locks.shared('net', async () => expect(alone).toBe(false))
    await holder
  })

  it('takes several keys without deadlock whatever order they are named in, and a key named twice once', async () => {
    const locks = new KeyedLock()
    let running = 0
    const work = (keys: string[]) =>
      locks.withAll(keys, async () => {
        expect(++running).toBe(1)
        await sleep(1)
        running--
      })
    await Promise.all([work(['a', 'b']), work(['b', 'a']), work(['b', 'c', 'a', 'b']), work(['c', 'b'])])
    expect(running).toBe(0)
  })
})
