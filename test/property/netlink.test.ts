import fc from 'fast-check'
import { Address6 } from 'ip-address'
import { describe, expect, test } from 'vitest'
import { ip, ip4, ip6, mac } from '../../src/netlink/address-codecs.js'
import { type Codec, DecodeError, decode, encode } from '../../src/netlink/codec.js'
import { readFrames, writeFrames } from '../../src/netlink/framing.js'
import * as kinds from '../../src/netlink/kinds.js'
import { parseAddress, parseFdb, parseLink, parseNeighbour, parseRoute } from '../../src/netlink/parse.js'
import {
  addressMessage,
  bridgePortMessage,
  linkMessage,
  neighbourMessage,
  routeMessage,
} from '../../src/netlink/tables.js'
import { cases, patientMs, Tally } from '../helpers/hostile.js'
import { readRecording } from '../helpers/netlink-recording.js'

const runs = { numRuns: 5000 }

const u8 = fc.nat(0xff)
const u16 = fc.nat(0xffff)
const u32 = fc.nat(0xffff_ffff)
const i32 = fc.integer()
const bool = fc.boolean()
const text = fc
  .string({ unit: 'grapheme', maxLength: 40 })
  .filter(s => !s.includes('\0') && Buffer.from(s).toString() === s)
const anyIp4 = fc.ipV4()
/** In the form that the kernel's address decodes to, so that what comes back can be compared as text. */
const anyIp6 = fc.uint8Array({ minLength: 16, maxLength: 16 }).map(bytes => decode(ip6, Buffer.from(bytes)))
const anyIp = fc.oneof(anyIp4, anyIp6)
const anyMac = fc.uint8Array({ minLength: 6, maxLength: 6 }).map(bytes => decode(mac, Buffer.from(bytes)))
const some = <T extends Record<string, fc.Arbitrary<unknown>>>(model: T) => fc.record(model, { requiredKeys: [] })

const bridge = some({
  forwardDelay: u16,
  helloTime: u16.map(n => n / 100),
  maxAge: u16,
  ageingTime: u16,
  stpState: bool,
  priority: u16,
  vlanFiltering: bool,
  groupFwdMask: u16,
  mcastRouter: u8,
  mcastSnooping: bool,
  mcastQuerier: bool,
  nfCallIptables: bool,
  nfCallIp6tables: bool,
  nfCallArptables: bool,
  vlanDefaultPvid: u16,
})
const bridgePort = some({
  state: fc.constantFrom('disabled', 'listening', 'learning', 'forwarding', 'blocking'),
  priority: u16,
  cost: u32,
  hairpin: bool,
  guard: bool,
  rootBlock: bool,
  fastLeave: bool,
  learning: bool,
  unicastFlood: bool,
  proxyarp: bool,
  proxyarpWifi: bool,
  mcastFlood: bool,
  mcastToUcast: bool,
  vlanTunnel: bool,
  bcastFlood: bool,
  groupFwdMask: u16,
  neighSuppress: bool,
  isolated: bool,
  locked: bool,
})
const vxlan = some({
  id: u32,
  group: anyIp4,
  parent: u32,
  local: anyIp4,
  ttl: u8,
  tos: u8,
  learning: bool,
  ageing: u32,
  limit: u32,
  proxy: bool,
  rsc: bool,
  l2miss: bool,
  l3miss: bool,
  port: u16,
  group6: anyIp6,
  local6: anyIp6,
  udpCsum: bool,
  udpZeroCsum6Tx: bool,
  udpZeroCsum6Rx: bool,
  gbp: fc.constant(true),
  collectMetadata: bool,
  label: u32,
})
const macvlan = some({
  mode: fc.constantFrom('private', 'vepa', 'bridge', 'passthru', 'source'),
  flags: u16,
  bcQueueLen: u32,
})
const vlan = some({ id: u16, protocol: fc.constantFrom('802.1Q', '802.1ad') })
const linkHeader = { family: u8, type: u16, index: i32, flags: u32, change: u32 }
const peer = fc.record({
  ...linkHeader,
  attrs: some({ address: anyMac, ifname: text, mtu: u32, group: u32, netNsFd: u32 }),
})
const veth = some({ peer })
const withData = (kind: string, data: fc.Arbitrary<unknown>) =>
  fc.record({ kind: fc.constant(kind), data }, { requiredKeys: ['kind'] })
const kind = fc.oneof(
  withData('bridge', bridge),
  withData('veth', veth),
  withData('vxlan', vxlan),
  withData('macvlan', macvlan),
  withData('vlan', vlan),
  fc.record({ kind: fc.constantFrom('wireguard', 'toString', '__proto__', '') }),
)
const slave = fc.record({ slaveKind: fc.constant('bridge'), slaveData: bridgePort })
const info = fc.oneof(
  kind,
  slave,
  fc.tuple(kind, slave).map(([own, ofMaster]) => ({ ...own, ...ofMaster })),
)
const link = fc.record({
  ...linkHeader,
  attrs: some({
    address: anyMac,
    broadcast: anyMac,
    ifname: text,
    mtu: u32,
    link: u32,
    master: u32,
    txqlen: u32,
    operstate: u8,
    info,
    ifalias: text,
    afSpec: some({ inet6: some({ addrGenMode: fc.constantFrom('eui64', 'none', 'stable-privacy', 'random') }) }),
    group: u32,
    netNsFd: u32,
    extMask: u32,
    linkNetnsid: i32,
    propList: fc.array(text, { maxLength: 4 }),
  }),
})
const address = fc.record({
  ...{ family: u8, prefixLength: u8, flags: u8, scope: u8, index: u32 },
  attrs: some({
    ...{ address: anyIp, local: anyIp, label: text, broadcast: anyIp, flags: u32 },
    cacheinfo: fc.record({ preferred: u32, valid: u32, created: u32, updated: u32 }),
  }),
})
const route = fc.record({
  ...{ family: u8, destinationLength: u8, sourceLength: u8, tos: u8, table: u8, protocol: u8, scope: u8, type: u8 },
  flags: u32,
  attrs: some({
    ...{ dst: anyIp, oif: u32, gateway: anyIp, priority: u32, prefsrc: anyIp, table: u32 },
    metrics: some({ mtu: u32, advmss: u32, hoplimit: u32 }),
  }),
})
const neighbour = fc.record({
  ...{ family: u8, index: i32, state: u16, flags: u8, type: u8 },
  attrs: some({
    ...{ dst: anyIp, lladdr: anyMac, vlan: u16, port: u16, vni: u32, ifindex: u32, master: u32, linkNetnsid: i32 },
  }),
})
const portMessage = fc.record({ ...linkHeader, attrs: some({ protinfo: bridgePort }) })

const tables: [string, Codec<unknown>, fc.Arbitrary<unknown>][] = [
  ['bridge', kinds.bridge as Codec<unknown>, bridge],
  ['bridge port', kinds.bridgePort as Codec<unknown>, bridgePort],
  ['vxlan', kinds.vxlan as Codec<unknown>, vxlan],
  ['macvlan', kinds.macvlan as Codec<unknown>, macvlan],
  ['vlan', kinds.vlan as Codec<unknown>, vlan],
  ['veth', kinds.veth as Codec<unknown>, veth],
  ['link info', kinds.info as Codec<unknown>, info],
  ['link', linkMessage as Codec<unknown>, link],
  ['bridge link', bridgePortMessage as Codec<unknown>, portMessage],
  ['address', addressMessage as Codec<unknown>, address],
  ['route', routeMessage as Codec<unknown>, route],
  ['neighbour', neighbourMessage as Codec<unknown>, neighbour],
]

/** Decoding, and making an object of it, as a receiver does; DecodeError is the one thing that may come out. */
const receivers: [string, (bytes: Buffer) => unknown][] = [
  ['link', bytes => parseLink(decode(linkMessage, bytes))],
  ['bridge link', bytes => decode(bridgePortMessage, bytes)],
  ['address', bytes => parseAddress(decode(addressMessage, bytes))],
  ['route', bytes => parseRoute(decode(routeMessage, bytes))],
  ['neighbour', bytes => parseNeighbour(decode(neighbourMessage, bytes))],
  ['fdb', bytes => parseFdb(decode(neighbourMessage, bytes))],
  ['framing', bytes => readFrames(bytes, bytes.length)],
  ...tables.map(([name, codec]): [string, (bytes: Buffer) => unknown] => [
    `${name} table`,
    bytes => decode(codec, bytes),
  ]),
]

/** Whether it could be read. */
function onlyDecodeErrors(receive: (bytes: Buffer) => unknown, bytes: Buffer): boolean {
  try {
    receive(bytes)
    return true
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error
    return false
  }
}

describe('what is encoded decodes to itself', () => {
  test.each(tables)('%s', (_, codec, values) => {
    fc.assert(
      fc.property(values, value => {
        expect(decode(codec, encode(codec, value))).toEqual(value)
      }),
      runs,
    )
  })

  test('an IPv6 address is read and written as a library of others does', () => {
    // zeros in runs, as real addresses have them
    const octet = fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, u8)
    const sixteen = fc.array(octet, { minLength: 16, maxLength: 16 })
    fc.assert(
      fc.property(sixteen, bytes => {
        expect(decode(ip6, Buffer.from(bytes))).toBe(Address6.fromUnsignedByteArray(bytes).correctForm())
      }),
      runs,
    )
    fc.assert(
      fc.property(fc.ipV6(), address => {
        const bytes = new Address6(address).toUnsignedByteArray()
        expect([...encode(ip6, address)]).toEqual([...Array<number>(16 - bytes.length).fill(0), ...bytes])
      }),
      runs,
    )
  })

  test('addresses, and the bytes of addresses', () => {
    fc.assert(
      fc.property(fc.ipV6(), fc.ipV4(), (six, four) => {
        const bytes = encode(ip, six)
        expect(encode(ip6, decode(ip6, bytes))).toEqual(bytes)
        expect(decode(ip4, encode(ip4, four))).toBe(four)
      }),
      runs,
    )
  })

  test('framed messages come back in order, with their numbers', () => {
    const sent = fc.record({
      type: fc.integer({ min: 16, max: 0xffff }),
      flags: u8,
      body: fc.uint8Array({ maxLength: 99 }),
    })
    fc.assert(
      fc.property(fc.array(sent, { maxLength: 9 }), fc.nat(0xffff_0000), (messages, sequence) => {
        const buffer = Buffer.alloc(2000, 0xee)
        const outgoing = messages.map(message => ({ ...message, body: Buffer.from(message.body) }))
        const size = writeFrames(buffer, outgoing, sequence)
        const got = readFrames(buffer, size)
        expect(
          got.map(m => (m.what === 'message' ? [m.type, m.sequence, buffer.subarray(m.start, m.end)] : m)),
        ).toEqual(outgoing.map((m, i) => [m.type, sequence + i, m.body]))
      }),
      runs,
    )
  })
})

describe('whatever the bytes, decoding throws nothing but DecodeError', () => {
  /** The lengths of attributes are small numbers more often than chance would have it. */
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc
      .array(fc.oneof(fc.constantFrom(0, 4, 5, 8, 12, 16, 18, 20, 32), u8), { maxLength: 300 })
      .map(list => Uint8Array.from(list)),
  )

  test.each(receivers)('random bytes as %s', (_, receive) => {
    fc.assert(
      fc.property(bytes, raw => void onlyDecodeErrors(receive, Buffer.from(raw))),
      runs,
    )
  })

  const { datagrams } = readRecording()
  const change = fc.record({ at: fc.nat(0xffff), to: u8 })
  /** Some bytes of a real answer changed, and its end cut off. */
  const mutated = fc
    .record({
      datagram: fc.constantFrom(...Object.values(datagrams).flat()),
      changes: fc.array(change, { minLength: 1, maxLength: 20 }),
      size: fc.nat(0xffff),
    })
    .map(({ datagram, changes, size }) => {
      const raw = Buffer.from(datagram, 'base64')
      for (const { at, to } of changes) raw[at % raw.length] = to
      return raw.subarray(0, size % 3 === 0 ? size % raw.length : raw.length)
    })

  const tally = new Tally('netlink answers')
  test('a mutated answer of a real kernel', { timeout: patientMs }, () => {
    const whole = (raw: Buffer) => {
      for (const message of readFrames(raw, raw.length)) {
        if (message.what !== 'message') continue
        const body = raw.subarray(message.start, message.end)
        for (const [, receive] of receivers) onlyDecodeErrors(receive, body)
      }
    }
    fc.assert(
      fc.property(mutated, raw => tally.time(() => onlyDecodeErrors(whole, raw))),
      { numRuns: cases },
    )
  })
})
