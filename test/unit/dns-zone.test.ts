import { describe, expect, test } from 'vitest'
import { decide, type Question } from '../../src/dns/resolver.js'
import { Zone } from '../../src/dns/zone.js'

const lab = new Zone('lab', [
  { names: ['web', 'Web', 'www'], addresses: ['10.30.0.2', 'fd00:30::2'] },
  { names: ['db', 'shared'], addresses: ['10.30.0.3'] },
  { names: ['db2', 'shared'], addresses: ['10.30.0.4'] },
  { names: ['a.b'], addresses: ['10.30.0.5'] },
  { names: ['mute'], addresses: [] },
])
const back = new Zone('back', [{ names: ['web', 'store'], addresses: ['10.40.0.9'] }])

const ask = (name: string, type = 'A', external = true, zones = [lab], world = 'IN') => {
  const question: Question = { name, type, class: world }
  const got = decide(question, { zones, external })
  return got.kind === 'answer' ? [...got.data].sort() : got.kind
}

describe('a question about a name of the network', () => {
  test.each([
    ['its own name', 'web', 'A', ['10.30.0.2']],
    ['its own name, IPv6', 'web', 'AAAA', ['fd00:30::2']],
    ['any case', 'wEB', 'A', ['10.30.0.2']],
    ['the network behind it', 'web.lab', 'A', ['10.30.0.2']],
    ['the network in any case', 'WEB.LAB', 'AAAA', ['fd00:30::2']],
    ['an alias', 'www', 'A', ['10.30.0.2']],
    ['an alias with the network', 'www.lab', 'A', ['10.30.0.2']],
    ['a shared alias', 'shared', 'A', ['10.30.0.3', '10.30.0.4']],
    ['a name with a dot', 'a.b', 'A', ['10.30.0.5']],
    ['a name with a dot and the network', 'a.b.lab', 'A', ['10.30.0.5']],
    ['IPv6 where it has none', 'db', 'AAAA', 'empty'],
    ['another type', 'web', 'MX', 'empty'],
    ['a type that has no word', 'web', 'UNKNOWN_65', 'empty'],
    ['any type', 'web', 'ANY', 'empty'],
    ['an endpoint without addresses', 'mute', 'A', 'empty'],
    ['the address', '2.0.30.10.in-addr.arpa', 'PTR', ['web.lab']],
    ['the address in any case', '2.0.30.10.IN-ADDR.ARPA', 'PTR', ['web.lab']],
  ])('%s: %s %s', (_what, name, type, want) => expect(ask(name, type)).toEqual(want))

  test('the name of an IPv6 address is found under ip6.arpa', () => {
    const nibbles = 'fd000030000000000000000000000002'.split('').reverse().join('.')
    expect(ask(`${nibbles}.ip6.arpa`, 'PTR')).toEqual(['web.lab'])
    expect(ask(`${nibbles}.IP6.ARPA`.toUpperCase(), 'PTR')).toEqual(['web.lab'])
  })
})

describe('a question about anything else', () => {
  test.each([
    ['an unknown name', 'nobody', 'A', 'IN'],
    ['a name of the world', 'www.example.com', 'A', 'IN'],
    ['a name below a known one', 'x.web', 'A', 'IN'],
    ['another network behind it', 'web.back', 'A', 'IN'],
    ['an address of nobody', '9.9.9.10.in-addr.arpa', 'PTR', 'IN'],
    ['another class', 'web', 'A', 'CH'],
  ])('%s is forwarded, and does not exist for an internal network', (_what, name, type, world) => {
    expect(ask(name, type, true, [lab], world)).toBe('forward')
    expect(ask(name, type, false, [lab], world)).toBe('nxdomain')
  })

  test('an internal network knows its own names', () => expect(ask('web', 'A', false)).toEqual(['10.30.0.2']))
  test('who is on no network knows nothing', () => expect(ask('web', 'A', false, [])).toBe('nxdomain'))
})

describe('on two networks', () => {
  test('names of both are known', () => {
    expect(ask('store', 'A', true, [lab, back])).toEqual(['10.40.0.9'])
    expect(ask('db', 'A', true, [lab, back])).toEqual(['10.30.0.3'])
  })
  test('a name on both has the addresses of both; with the network, of that one', () => {
    expect(ask('web', 'A', true, [lab, back])).toEqual(['10.30.0.2', '10.40.0.9'])
    expect(ask('web.back', 'A', true, [lab, back])).toEqual(['10.40.0.9'])
  })
  test('IPv6 on one of them is enough', () => expect(ask('web', 'AAAA', true, [back, lab])).toEqual(['fd00:30::2']))
})

test('a shared alias comes in every order', () => {
  const many = new Zone(
    'lab',
    [1, 2, 3].map(n => ({ names: [`n${n}`, 'all'], addresses: [`10.0.0.${n}`] })),
  )
  const orders = new Set<string>()
  for (let i = 0; i < 200; i++) {
    const got = decide({ name: 'all', type: 'A', class: 'IN' }, { zones: [many], external: false })
    if (got.kind === 'answer') orders.add(got.data.join(' '))
  }
  expect(orders.size).toBe(6)
})

test('asking does not change what is known', () => {
  ask('shared')
  expect(lab.addressesOf('shared')).toEqual(['10.30.0.3', '10.30.0.4'])
})
