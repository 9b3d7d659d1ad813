import { describe, expect, it } from 'vitest'
import { Damper } from '../../src/damper.js'
import { Mender } from '../../src/mender.js'

describe('the damper', () => {
  const sizes = { burst: 3, windowMs: 10_000, firstMs: 1_000, longestMs: 4_000 }

  it('makes pauses that grow where the same is repaired again and again, and none for anything else', () => {
    let now = 0
    const damper = new Damper(sizes, () => now)
    const again = (key: string): number => {
      now += 100
      return damper.repaired(key)
    }
    expect([again('a'), again('a'), again('b'), again('a')]).toEqual([0, 0, 0, 1000])
    now += 1_000
    expect([again('a'), again('b')]).toEqual([2000, 0])
    now += 2_000
    expect(again('a')).toBe(4000)
    now += 4_000
    expect(again('a')).toBe(4000)
  })

  it('forgets a quarrel that is over', () => {
    let now = 0
    const damper = new Damper(sizes, () => now)
    for (let i = 0; i < 3; i++) damper.repaired('a')
    now = 1_000 + 1_000 + 10_001
    expect([damper.repaired('a'), damper.repaired('a')]).toEqual([0, 0])
  })

  it('does not mind what comes seldom', () => {
    let now = 0
    const damper = new Damper(sizes, () => now)
    for (let i = 0; i < 20; i++) {
      expect(damper.repaired('a')).toBe(0)
      now += 6_000
    }
  })
})

describe('the mender', () => {
  const turns = async (): Promise<void> => {
    for (let i = 0; i < 10; i++) await new Promise(resolve => setImmediate(resolve))
  }

  it('looks once for all that was told in the meantime, at each thing by itself', async () => {
    const looks: string[] = []
    const ends: (() => void)[] = []
    const mender = new Mender<string>({
      damper: new Damper(),
      look: async (key, told) => {
        looks.push(`${key}: ${told.join(' ')}`)
        await new Promise<void>(resolve => ends.push(resolve))
        return []
      },
      fought: () => undefined,
      failed: () => undefined,
    })
    for (const words of ['1', '2']) mender.tell('a', words)
    await turns()
    mender.tell('b', '1')
    for (const words of ['3', '4', '5']) mender.tell('a', words)
    await turns()
    expect(looks).toEqual(['a: 1 2', 'b: 1'])
    for (const end of ends.splice(0)) end()
    await turns()
    expect(looks).toEqual(['a: 1 2', 'b: 1', 'a: 3 4 5'])
  })

  it('leaves a thing alone for a while when the same has to be repaired again and again, or repairing fails', async () => {
    const said: string[] = []
    const mender = new Mender<string>({
      damper: new Damper({ burst: 2, firstMs: 60_000 }),
      look: async key => {
        said.push(`look at ${key}`)
        if (key === 'fails') throw new Error('no')
        return [key === 'same' ? 'bring it up' : `bring it up ${said.length}`]
      },
      fought: (key, pauseMs) => said.push(`leave ${key} for ${pauseMs}`),
      failed: key => said.push(`failed ${key}`),
    })
    for (const key of ['same', 'other', 'fails']) {
      for (let i = 0; i < 3; i++) {
        mender.tell(key, 'told')
        await turns()
      }
      said.push('')
    }
    mender.stop()
    expect(said.join('; ')).toBe(
      'look at same; look at same; leave same for 60000; ; look at other; look at other; look at other; ; ' +
        'look at fails; failed fails; look at fails; failed fails; leave fails for 60000; ',
    )
  })
})
