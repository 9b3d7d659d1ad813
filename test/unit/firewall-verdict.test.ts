import { describe, expect, test } from 'vitest'
import type { ForwardedBridge, HostDoor } from '../../src/cnm/types.js'
import { doorObstacles } from '../../src/firewall/foreign-doors.js'
import { type ForeignChain, obstaclesOf } from '../../src/firewall/foreign-nft.js'
import { type Chain, type Packets, verdictOf } from '../../src/firewall/verdict.js'

// Expressions as `nft -j list chain` gives them.
const match = (left: unknown, right: unknown, op = '==') => ({ match: { op, left, right } })
const meta = (key: string) => ({ meta: { key } })
const ct = (key: string) => ({ ct: { key } })
const counter = { counter: { packets: 1, bytes: 2 } }
const accept = { accept: null }
const drop = { drop: null }
const jump = (target: string) => ({ jump: { target } })
const port22 = match({ payload: { protocol: 'tcp', field: 'dport' } }, 22)
const ourMark = match({ '&': [meta('mark'), 0x800000] }, 0x800000)

const packets: Packets = { iifname: 'br-a', mark: 0x800000, state: 'new', status: 'dnat', nfproto: 'ipv4' }
const chains = new Map<string, Chain>([
  ['drops', { rules: [[drop]] }],
  ['accepts', { rules: [[accept]] }],
  ['asks', { rules: [[port22, accept]] }],
  ['returns', { rules: [[{ return: null }], [drop]] }],
])
const end = (policy: string, ...rules: unknown[][]) => verdictOf({ policy, rules }, packets, chains)
const dropped = (rule: string) => ({ what: 'drop', rule })
const accepted = { what: 'accept' }
const unknown = { what: 'unknown' }

describe("another program's chain", () => {
  test.each<[string, unknown[][], object]>([
    ['an empty one', [], dropped('policy drop')],
    ['accepts our mark', [[ourMark, counter, accept]], accepted],
    ['accepts another mark', [[match({ '&': [meta('mark'), 1] }, 1), accept]], dropped('policy drop')],
    [
      'accepts what is established',
      [[match(ct('state'), ['established', 'related'], 'in'), accept]],
      dropped('policy drop'),
    ],
    ['accepts what was redirected', [[match(ct('status'), 'dnat', 'in'), accept]], accepted],
    ['accepts all but another link', [[match(meta('iifname'), 'eth0', '!='), accept]], accepted],
    ['accepts links by the beginning of their name', [[match(meta('iifname'), 'br-*'), accept]], accepted],
    ['accepts one of several links', [[match(meta('iifname'), { set: ['x', 'br-a'] }), accept]], accepted],
    ['accepts links of a set that it names', [[match(meta('iifname'), '@mine'), accept]], unknown],
    ['accepts by what we do not know', [[port22, accept]], unknown],
    ['accepts by a match of xtables', [[{ xt: { type: 'match', name: 'owner' } }, accept]], unknown],
    ['drops some, by what we do not know', [[port22, drop], [accept]], accepted],
    ['drops all', [[counter, drop], [accept]], dropped('drop')],
    ['rejects a link', [[match(meta('iifname'), 'br-a'), { reject: {} }]], dropped('iifname "br-a" reject')],
    ['rejects by a target of xtables', [[{ xt: { type: 'target', name: 'REJECT' } }]], dropped('REJECT')],
    ['jumps to one that drops', [[jump('drops')], [accept]], dropped('drop')],
    ['jumps to one that accepts', [[jump('accepts')]], accepted],
    ['jumps to one that is not there', [[jump('gone')]], unknown],
    ['jumps to one that asks', [[jump('asks')], [drop]], unknown],
    ['jumps to one that returns', [[jump('returns')], [accept]], accepted],
    ['goes to one that returns', [[{ goto: { target: 'returns' } }], [accept]], dropped('policy drop')],
    ['returns', [[{ return: null }], [accept]], dropped('policy drop')],
    [
      'decides by a map',
      [
        [
          {
            vmap: {
              key: ct('state'),
              data: {
                set: [
                  ['invalid', drop],
                  ['new', jump('accepts')],
                ],
              },
            },
          },
        ],
      ],
      accepted,
    ],
    ['decides by a map of what we do not know', [[{ vmap: { key: meta('oifname'), data: { set: [] } } }]], unknown],
  ])('that %s', (_, rules, want) => expect(end('drop', ...rules)).toEqual(want))

  test('that calls itself is given up', () => {
    const loop = new Map<string, Chain>([['a', { rules: [[jump('a')]] }]])
    expect(verdictOf({ policy: 'drop', rules: [[jump('a')]] }, packets, loop)).toEqual(unknown)
  })

  test('that lets everything pass is no obstacle, one that drops is named, and before our rules our mark is of no use', () => {
    const foreign = (priority: number, chain: Chain) => ({
      hook: 'forward' as const,
      family: 'inet' as const,
      priority,
      name: 'table inet filter, chain forward',
      chain,
      chains: new Map(),
    })
    const bridgeA: ForwardedBridge = { name: 'br-a', published: [4, 6], direct: [], doors: [] }
    expect(obstaclesOf([foreign(0, { policy: 'accept', rules: [] })], bridgeA, -10)).toEqual([])
    expect(obstaclesOf([foreign(0, { policy: 'drop', rules: [[ourMark, accept]] })], bridgeA, -10)).toEqual([])
    expect(obstaclesOf([foreign(-100, { policy: 'drop', rules: [[ourMark, accept]] })], bridgeA, -10)).toEqual([
      'table inet filter, chain forward: policy drop (out of the network)',
      'table inet filter, chain forward: policy drop (to published ports)',
    ])
    const onlyOut = { policy: 'accept', rules: [[match(meta('iifname'), 'br-a'), drop]] }
    expect(obstaclesOf([foreign(0, onlyOut)], bridgeA, -10)).toEqual([
      'table inet filter, chain forward: iifname "br-a" drop (out of the network)',
    ])
    // a firewall that lets in what is redirected lets in nothing of a routed network
    const redirected = {
      policy: 'drop',
      rules: [
        [match(ct('status'), 'dnat'), accept],
        [match(meta('oifname'), 'br-a', '!='), accept],
      ],
    }
    expect(obstaclesOf([foreign(0, redirected)], bridgeA, -10)).toEqual([])
    expect(obstaclesOf([foreign(0, redirected)], { ...bridgeA, published: [4], direct: [6] }, -10)).toEqual([
      'table inet filter, chain forward: policy drop (to endpoints at their own addresses)',
    ])
    expect(obstaclesOf([foreign(0, onlyOut)], { ...bridgeA, name: 'br-b' }, -10)).toEqual([])
    expect(obstaclesOf([foreign(0, onlyOut)], { ...bridgeA, internal: true }, -10)).toEqual([])
  })
})

describe("another program's input chain", () => {
  const doors: HostDoor[] = [
    {
      what: 'the resolver at 10.0.0.1',
      ...{ family: 4, protocol: 'udp', port: 53, link: 'br-a', address: '10.0.0.1' },
    },
    { what: 'ports published at [::1]', family: 6, protocol: 'tcp', link: 'lo', address: '::1' },
    { what: 'VXLAN from other hosts', family: 4, protocol: 'udp', port: 4789, link: 'eth0' },
  ]
  const of = (family: ForeignChain['family'], policy: string, ...rules: unknown[][]): string[] => {
    const chain = { policy, rules }
    const foreign = { hook: 'input', family, priority: 0, name: 'C', chain, chains: new Map() } as const
    return doorObstacles([foreign], doors).map(words => words.replace(/.*\(to (\S+ \S+) .*/, '$1'))
  }
  const dport = (protocol: string, right: unknown) => match({ payload: { protocol, field: 'dport' } }, right)
  const all = ['the resolver', 'ports published', 'VXLAN from']

  test.each<[string, ForeignChain['family'], unknown[][], string[]]>([
    ['drops all', 'inet', [], all],
    ['drops all of IPv6', 'ip6', [], ['ports published']],
    ['accepts loopback', 'inet', [[match(meta('iifname'), 'lo'), accept]], ['the resolver', 'VXLAN from']],
    ['accepts DNS', 'inet', [[dport('udp', 53), accept]], ['ports published', 'VXLAN from']],
    [
      'accepts some ports of UDP',
      'inet',
      [[dport('udp', { set: [{ range: [50, 60] }, 4789] }), accept]],
      ['ports published'],
    ],
    ['accepts the bridges', 'inet', [[match(meta('iifname'), 'br-*'), accept]], ['ports published', 'VXLAN from']],
    ['accepts what carries our mark, which nothing here does', 'inet', [[ourMark, accept]], all],
    ['accepts by what we do not know', 'inet', [[{ xt: { type: 'match', name: 'addrtype' } }, accept]], []],
    // which of them are published it does not say
    ['accepts a port of TCP', 'inet', [[dport('tcp', 8080), accept]], ['the resolver', 'VXLAN from']],
  ])('that drops and %s', (_, family, rules, want) => {
    expect(of(family, 'drop', ...rules)).toEqual(want)
    expect(of(family, 'accept', ...rules)).toEqual([])
  })

  test('is named with its rule and what comes to it', () => {
    const chain = { policy: 'accept', rules: [[dport('udp', 53), { reject: {} }]] }
    const name = 'table inet filter, chain input'
    expect(
      doorObstacles([{ hook: 'input', family: 'inet', priority: 0, name, chain, chains: new Map() }], doors),
    ).toEqual([`${name}: udp dport 53 reject (to the resolver at 10.0.0.1: iifname "br-a" udp dport 53)`])
  })
})
