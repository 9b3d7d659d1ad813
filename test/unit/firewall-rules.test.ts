import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import type { PortBinding } from '../../src/cnm/types.js'
import {
  type Element,
  formatElement,
  keyOf,
  nftTypeOf,
  parseElement,
  sameElement,
  setNames,
  type TableFamily,
  tableOf,
} from '../../src/firewall/elements.js'
import { bindingElements, type FilteredNetwork, networkElements } from '../../src/firewall/rules.js'
import { type Sender, senderElements } from '../../src/firewall/senders.js'
import { rulesOf } from '../../src/firewall/table.js'
import { oneOfEach } from '../helpers/firewall-contract.js'
import { binding } from '../helpers/host-ports-world.js'

const texts = (elements: Element[]): string[] => elements.map(e => `${e.set} ${formatElement(e)}`)
const textOf = (file: string): string => readFileSync(new URL(`../../src/firewall/${file}`, import.meta.url), 'utf8')
const ruleset = textOf('ruleset.nft')
const spoofGuard = textOf('spoof-guard.nft')

describe('the elements of a network', () => {
  const network: FilteredNetwork = {
    bridge: 'br-a',
    subnets: [
      { family: 4, subnet: '10.20.0.0/24' },
      { family: 6, subnet: 'fd00:20::/64' },
    ],
    internal: false,
    masquerade: true,
    icc: true,
  }
  const own = ['own_net4 "br-a" . 10.20.0.0/24', 'own_net6 "br-a" . fd00:20::/64']
  const both = ['masquerade4 "br-a"', 'masquerade6 "br-a"']
  const intra = 'intra "br-a" . "br-a"'
  it.each<[string, Partial<FilteredNetwork>, string[]]>([
    ['as it comes', {}, ['bridges "br-a"', intra, ...both, ...own]],
    ['with icc off', { icc: false }, ['bridges "br-a"', 'apart "br-a" . "br-a"', ...both, ...own]],
    ['without masquerade', { masquerade: false }, ['bridges "br-a"', intra, ...own]],
    ['internal, never masqueraded', { internal: true }, ['bridges "br-a"', 'internal "br-a"', intra, ...own]],
    [
      'routed in one family, unprotected in the other',
      { modes: { 4: 'routed', 6: 'nat-unprotected' } },
      ['bridges "br-a"', intra, 'routed4 "br-a"', both[1]!, 'unprotected6 "br-a"', ...own],
    ],
    [
      'isolated',
      { internal: true, modes: { 4: 'isolated', 6: 'isolated' } },
      ['bridges "br-a"', 'internal "br-a"', intra, 'isolated4 "br-a"', 'isolated6 "br-a"', ...own],
    ],
    [
      'that trusts a link, and leaves with an address of its own choice',
      { trusted: ['eth1'], hostAddresses: { 4: '192.0.2.7' } },
      ['bridges "br-a"', intra, ...both, 'trusted "eth1" . "br-a"', own[0]!, 'snat4 10.20.0.0/24 : 192.0.2.7', own[1]!],
    ],
    ['of IPv4 alone', { subnets: network.subnets.slice(0, 1) }, ['bridges "br-a"', intra, both[0]!, own[0]!]],
  ])('%s', (_, over, want) => {
    expect(texts(networkElements({ ...network, ...over }))).toEqual(want)
  })
})

describe('the elements of a published port', () => {
  const six = { hostIp: '::', containerIp: 'fd00::2' }
  it.each<[string, Partial<PortBinding>, string[]]>([
    ['at any address', {}, ['publish4_any 6 . 8080 : 10.20.0.2 . 80']],
    ['at one address', { hostIp: '192.0.2.1' }, ['publish4 6 . 192.0.2.1 . 8080 : 10.20.0.2 . 80']],
    ['at any IPv6 address', six, ['publish6_any 6 . 8080 : fd00::2 . 80']],
    [
      'a range onto itself, as one',
      { containerPort: 8080, size: 100 },
      ['publish4_any_range 6 . 8080-8179 : 10.20.0.2'],
    ],
    [
      'a range onto another, port by port',
      { size: 2, protocol: 'udp' },
      ['publish4_any 17 . 8080 : 10.20.0.2 . 80', 'publish4_any 17 . 8081 : 10.20.0.2 . 81'],
    ],
    [
      'for this host alone',
      { hostIp: '127.0.0.1', protocol: 'sctp' },
      ['publish4 132 . 127.0.0.1 . 8080 : 10.20.0.2 . 80', 'lo_only 132 . 127.0.0.1 . 8080'],
    ],
    [
      'a range for this host alone',
      { hostIp: '127.0.0.1', containerPort: 8080, size: 3 },
      ['publish4_range 6 . 127.0.0.1 . 8080-8082 : 10.20.0.2', 'lo_only_range 6 . 127.0.0.1 . 8080-8082'],
    ],
    ['from IPv6 to IPv4: none, the proxy serves it', { hostIp: '::' }, []],
    ['at ::1: none, the proxy serves it', { ...six, hostIp: '::1' }, []],
    ['at a link-local address: none, the proxy serves it', { ...six, hostIp: 'fe80::1' }, []],
    ['at its own address: none', { hostIp: '10.20.0.2', hostPort: 80, direct: true, from: ['192.0.2.0/24'] }, []],
  ])('%s', (_, over, want) => {
    expect(texts(bindingElements(binding(over)))).toEqual(want)
  })
})

describe('an element', () => {
  it('is told from others by its key, and its value is part of what it is', () => {
    const port: Element = {
      set: 'publish4_any',
      protocol: 'tcp',
      hostPort: 80,
      containerIp: '10.0.0.2',
      containerPort: 80,
    }
    expect(keyOf({ ...port, containerIp: '10.0.0.3' })).toBe(keyOf(port))
    expect(sameElement({ ...port, containerIp: '10.0.0.3' }, port)).toBe(false)
    expect(sameElement({ ...port }, port)).toBe(true)
    expect(new Set(oneOfEach.map(keyOf)).size).toBe(oneOfEach.length)
  })

  it.each<[string, Element['set'], unknown]>([
    ['another protocol', 'publish4_any', [{ concat: [1, 80] }, { concat: ['10.0.0.2', 80] }]],
    ['a part too few', 'publish4_any', [{ concat: [6] }, { concat: ['10.0.0.2', 80] }]],
    ['no value', 'publish4_any', { concat: [6, 80] }],
    ['an address of the other family', 'publish4_any', [{ concat: [6, 80] }, { concat: ['fd00::2', 80] }]],
    ['a number for a name', 'bridges', 7],
    ['nothing', 'own_net4', null],
  ])('is not read from %s', (_, set, json) => {
    expect(parseElement(set, json)).toBeUndefined()
  })

  it('is read even when somebody gave it a comment', () => {
    const got = parseElement('bridges', { elem: { val: 'br-a', comment: 'mine' } })
    expect(got).toEqual({ set: 'bridges', link: 'br-a' })
  })
})

describe('the elements of a guarded endpoint', () => {
  const sender: Sender = { link: 'tsn1', mac: '02:42:0a:14:00:02', addresses: ['10.20.0.2'], macs: [], subnets: [] }
  const own = [
    'guarded "tsn1"',
    'sender_macs "tsn1" . 02:42:0a:14:00:02',
    'senders4 "tsn1" . 02:42:0a:14:00:02 . 10.20.0.2',
    'senders6 "tsn1" . 02:42:0a:14:00:02 . fe80::42:aff:fe14:2',
    'targets6 "tsn1" . 0xfe8000000000000000420afffe140002',
  ]
  it.each<[string, Partial<Sender>, string[]]>([
    ['as it comes', {}, []],
    [
      'with an IPv6 address',
      { addresses: ['10.20.0.2', 'fd00::2'] },
      ['senders6 "tsn1" . 02:42:0a:14:00:02 . fd00::2', 'targets6 "tsn1" . 0xfd000000000000000000000000000002'],
    ],
    [
      'with another MAC address',
      { macs: ['00:00:5e:00:01:07'] },
      [
        'sender_macs "tsn1" . 00:00:5e:00:01:07',
        'senders4 "tsn1" . 00:00:5e:00:01:07 . 10.20.0.2',
        'senders6 "tsn1" . 00:00:5e:00:01:07 . fe80::200:5eff:fe00:107',
        'targets6 "tsn1" . 0xfe8000000000000002005efffe000107',
      ],
    ],
    [
      'with subnets, of which one holds another',
      { subnets: ['10.0.0.7/32', '10.0.0.0/8', 'fd00:9::/64', '10.0.0.0/8'] },
      [
        'also4 "tsn1" . 10.0.0.0/8',
        'also6 "tsn1" . fd00:9::/64',
        'also_targets6 "tsn1" . 0xfd000009000000000000000000000000-0xfd00000900000000ffffffffffffffff',
      ],
    ],
  ])('%s', (_, over, more) => {
    expect(texts(senderElements({ ...sender, ...over })).sort()).toEqual([...own, ...more].sort())
  })
})

describe.each<[string, string, TableFamily]>([
  ['ruleset.nft', ruleset, 'inet'],
  ['spoof-guard.nft', spoofGuard, 'bridge'],
])('%s', (_, text, family) => {
  it('declares exactly the sets and maps that elements.ts describes, of the same types', () => {
    const declared = [...text.matchAll(/^ {2}(?:map|set) (\w+)\s+\{ type(?:of)? ([^;:]+?)(?: : ([^;]+))?;/gm)]
    // what is read out of a message by its place there has no type of its own
    const asType = (words = '') => words.replace('iifname . @th,64,128', 'ifname . integer')
    const got = Object.fromEntries(declared.map(([, name, key, value]) => [name, { key: asType(key), value }]))
    const names = setNames.filter(name => tableOf(name) === family)
    expect(got).toEqual(Object.fromEntries(names.map(name => [name, nftTypeOf(name)])))
  })

  it('says of every chain what it does', () => {
    const chains = [...text.matchAll(/^ {2}chain \w+ \{\n(.*)$/gm)]
    expect(chains.length).toBeGreaterThan(3)
    for (const [, body] of chains) expect(body).toMatch(/^ {4}comment "/)
  })
})

it('rules are counted a line each', () => {
  expect(Object.fromEntries(rulesOf(ruleset))).toEqual({
    guard: 6,
    clamp: 2,
    prerouting: 2,
    output: 1,
    clients: 2,
    publish: 10,
    postrouting: 7,
    forward: 17,
    open: 4,
    ours: 2,
  })
  expect(Object.fromEntries(rulesOf(spoofGuard))).toEqual({ senders: 3, others: 6, others4: 4, arps: 5, others6: 7 })
})

describe('an element of the spoof guard', () => {
  it.each<[unknown, string]>([
    ['0xfd000000000000000000000000000002', 'fd00::2'],
    [1, '::1'],
  ])('is read from %j, as nft lists addresses that have no type', (json, address) => {
    const got = parseElement('targets6', { concat: ['tsn1', json] })
    expect(got).toEqual({ set: 'targets6', link: 'tsn1', address })
  })

  it('is read from a range of those', () => {
    const range = ['0xfd000000000000000000000000000000', '0xfd00000000000000ffffffffffffffff']
    const got = parseElement('also_targets6', { concat: ['tsn1', { range }] })
    expect(got).toEqual({ set: 'also_targets6', link: 'tsn1', subnet: 'fd00::/64' })
  })
})
