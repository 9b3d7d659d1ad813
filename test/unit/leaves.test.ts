import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { bridgeOptions } from '../../src/drivers/bridge/options.js'
import { conflict, doing, exitCodeOf, httpStatusOf, invalid, messageOf } from '../../src/errors.js'
import { checkLinkName, checkObjectName, parseMac, randomMac } from '../../src/names.js'
import { nearest } from '../../src/nearest.js'
import { helpOf, option, parseBoolean, parseOptions } from '../../src/options.js'
import { diff } from '../../src/reconcile.js'

describe('errors', () => {
  it('say what was being done, outside in, and keep the kind', async () => {
    const error = await doing('create network web', () => {
      throw conflict('subnet 10.1.0.0/24 overlaps network db (10.1.0.0/16)')
    }).catch((e: unknown) => e)
    expect(messageOf(error)).toBe('create network web: subnet 10.1.0.0/24 overlaps network db (10.1.0.0/16)')
    expect([exitCodeOf(error), httpStatusOf(error)]).toEqual([5, 409])
  })

  it('are our own fault when nobody said otherwise', () => {
    expect([exitCodeOf(new TypeError('x')), httpStatusOf('x')]).toEqual([1, 500])
  })

  it('are told on one line', () => {
    expect(messageOf(new Error('one\n  two\nthree'))).toBe('one; two; three')
  })
})

describe('names', () => {
  it.each([
    ['sixteen-bytes-xx', '16 bytes'],
    ['ééééééé1é', '17 bytes'],
    ['a b', 'must not'],
    ['a/b', 'must not'],
    ['..', 'must not'],
    ['', '1 to 15'],
  ])('the interface name %j is refused', (name, rule) => {
    expect(() => checkLinkName(name)).toThrow(rule)
  })

  it('accept what the kernel accepts', () => {
    expect(checkLinkName('br-0123456789ab')).toBe('br-0123456789ab')
    expect(checkObjectName('web_1.a-b', 'network')).toBe('web_1.a-b')
    expect(parseMac('02-42-AC-11-00-02')).toBe('02:42:ac:11:00:02')
  })

  it.each(['02:42:ac:11:00', '03:42:ac:11:00:02', '00:00:00:00:00:00', '02:42:ac:11:00:zz'])(
    'the MAC address %s is refused with its value',
    mac => {
      expect(() => parseMac(mac)).toThrow(mac)
    },
  )

  it('random MAC addresses are local, unicast and valid', () => {
    for (let i = 0; i < 200; i++) {
      const mac = randomMac()
      expect(parseMac(mac)).toBe(mac)
      expect(Number.parseInt(mac.slice(0, 2), 16) & 3).toBe(2)
    }
  })
})

describe('nearest', () => {
  it.each([
    ['mtuu', 'mtu'],
    ['masqerade', 'masquerade'],
    ['com.docker.network.bridge.enable_ic', 'com.docker.network.bridge.enable_icc'],
  ])('%s stands for %s', (word, want) => {
    const known = Object.entries(bridgeOptions).flatMap(([name, row]) => [name, row.alias ?? name])
    expect(nearest(word, known)).toBe(want)
  })

  it('suggests nothing for something else altogether', () => {
    expect(nearest('frobnicate', ['mtu', 'icc'])).toBeUndefined()
  })
})

describe('option tables', () => {
  const table = { mtu: option({ alias: 'docker.mtu', default: 1500, parse: Number, help: 'MTU' }) }

  it('know a row by both names and fill in defaults', () => {
    expect(parseOptions('x', table, {})).toEqual({ mtu: 1500 })
    expect(parseOptions('x', table, { mtu: '9000' })).toEqual({ mtu: 9000 })
    expect(parseOptions('x', table, { 'docker.mtu': '1400' })).toEqual({ mtu: 1400 })
  })

  it.each([
    [{ mtuu: '1' }, 'unknown option mtuu for driver bridge (did you mean mtu?)'],
    [{ mtu: '67' }, 'option mtu=67 must be a whole number from 68 to 65535'],
    [{ mtu: '1e3' }, 'option mtu=1e3 must be a whole number from 68 to 65535'],
    [{ icc: 'maybe' }, 'option icc=maybe must be true or false'],
    [
      { bridge: 'sixteen-bytes-xx' },
      'option bridge: bridge name "sixteen-bytes-xx" has 16 bytes: it must have 1 to 15',
    ],
    [{ host_binding: 'localhost' }, 'option host_binding=localhost must be an IP address'],
    [{ ['__proto__']: 'x' }, 'unknown option __proto__'],
  ])('%j is refused with the value and the rule', (raw, message) => {
    const parse = () => parseOptions('driver bridge', bridgeOptions, raw as Record<string, string>)
    expect(parse).toThrow(message)
    expect(parse).toThrow(expect.objectContaining({ kind: invalid('').kind }))
  })

  it('read booleans as dockerd does', () => {
    expect(['1', 't', 'TRUE', 'true'].map(parseBoolean)).toEqual([true, true, true, true])
    expect(['0', 'f', 'False'].map(parseBoolean)).toEqual([false, false, false])
  })

  it('are the help', () => {
    expect(helpOf(bridgeOptions).map(row => row.name)).toEqual(Object.keys(bridgeOptions))
  })
})

describe('diff', () => {
  it('turns have into want, whatever they are, and then has nothing left to do', () => {
    const items = fc.uniqueArray(fc.record({ k: fc.integer({ min: 0, max: 20 }), v: fc.integer({ min: 0, max: 2 }) }), {
      selector: item => item.k,
    })
    type Item = { k: number; v: number }
    const key = { want: (w: Item) => `${w.k}`, have: (h: Item) => `${h.k}` }
    const same = (w: Item, h: Item) => w.v === h.v
    const sorted = (list: Item[]) => [...list].sort((a, b) => a.k - b.k)
    fc.assert(
      fc.property(items, items, (want, have) => {
        const plan = diff(want, have, key, same)
        const after = [...plan.keep, ...plan.add, ...plan.change.map(change => change.want)]
        expect(sorted(after)).toEqual(sorted(want))
        expect(plan.remove.every(h => !want.some(w => w.k === h.k))).toBe(true)
        const again = diff(want, after, key, same)
        expect([again.add, again.change, again.remove]).toEqual([[], [], []])
      }),
    )
  })
})
