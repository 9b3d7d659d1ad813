import { randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { DecodeError, encode } from '../../src/netlink/codec.js'
import { parseTrace, traceMessage } from '../../src/netlink/nft-trace.js'

const inet = 1
const drop = { code: 0 }
const header = { version: 0 }
/** An IPv4 header without options: TCP from 10.30.0.2 to 10.30.0.3. */
const ip4 = Buffer.from('4500003c00004000400600000a1e00020a1e0003', 'hex')
const ip6 = Buffer.from(
  `6000000000143a40${'fd000030000000000000000000000002'}${'fd000030000000000000000000000003'}`,
  'hex',
)
const ports = Buffer.from('ee480050', 'hex')

describe('what the kernel tells of a traced packet', () => {
  test('a rule, with table, chain, handle, verdict, links and the packet as it is there', () => {
    const attrs = {
      table: 'fw',
      chain: 'f',
      handle: 12n,
      type: 3,
      verdict: drop,
      iif: 4,
      oif: 5,
      network: ip4,
      transport: ports,
    }
    expect(parseTrace(encode(traceMessage, { ...header, family: inet, attrs }))).toEqual({
      ...{ table: 'inet fw', chain: 'f', type: 'rule', handle: '12', verdict: 'drop', iif: 4, oif: 5 },
      packet: { source: '10.30.0.2', target: '10.30.0.3', protocol: 6, sourcePort: 61000, targetPort: 80 },
    })
  })

  test('a jump names its chain, the end of a base chain its policy', () => {
    const jump = { table: 'tsnet', chain: 'forward', type: 3, verdict: { code: 0xffff_fffd, chain: 'ours' } }
    expect(parseTrace(encode(traceMessage, { ...header, family: inet, attrs: jump })).verdict).toBe('jump ours')
    const end = { table: 'filter', chain: 'FORWARD', type: 1, policy: 0 }
    expect(parseTrace(encode(traceMessage, { ...header, family: 2, attrs: end }))).toEqual({
      ...{ table: 'ip filter', chain: 'FORWARD', type: 'policy', verdict: 'drop' },
    })
  })

  test('IPv6, and a header that was cut off', () => {
    const attrs = { table: 't', chain: 'c', type: 3, network: ip6 }
    const of = (network: Buffer) =>
      parseTrace(encode(traceMessage, { ...header, family: 10, attrs: { ...attrs, network } }))
    expect(of(ip6).packet).toMatchObject({ source: 'fd00:30::2', target: 'fd00:30::3', protocol: 58, targetPort: 0 })
    for (let length = 0; length < ip6.length; length++) expect(of(ip6.subarray(0, length)).packet).toBeUndefined()
  })

  test('bytes that are none throw DecodeError, or say something', () => {
    for (let i = 0; i < 2_000; i++) {
      const bytes = randomBytes(Math.floor(Math.random() * 120))
      try {
        expect(typeof parseTrace(bytes).verdict).toBe('string')
      } catch (error) {
        expect(error, bytes.toString('hex')).toBeInstanceOf(DecodeError)
      }
    }
  })
})
