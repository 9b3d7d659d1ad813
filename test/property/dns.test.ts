import { createSocket } from 'node:dgram'
import { type AddressInfo, connect, createServer } from 'node:net'
import packet from 'dns-packet'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Listener } from '../../src/dns/listener.js'
import { fitUdp, formatReply, frame, type Query, readQuery, readReply, Unframer } from '../../src/dns/message.js'
import { decide } from '../../src/dns/resolver.js'
import { Zone } from '../../src/dns/zone.js'
import { formatResolvConf, parseResolvConf } from '../../src/net/resolv-conf.js'
import { cases, patientMs, Tally } from '../helpers/hostile.js'

// Whatever comes over the network, the resolver goes on and its answers are right.

const zone = new Zone('lab', [
  { names: ['web', 'all'], addresses: ['10.30.0.2', 'fd00:30::2'] },
  ...Array.from({ length: 60 }, (_, i) => ({ names: [`n${i}`, 'all'], addresses: [`10.30.1.${i}`] })),
])
const asker = { zones: [zone], external: false }

function answer(query: Query): Buffer {
  const decision = decide(query.question, asker)
  if (decision.kind !== 'answer') return formatReply(query, decision.kind === 'empty' ? 'NOERROR' : 'NXDOMAIN')
  return formatReply(
    query,
    'NOERROR',
    decision.data.map(data => ({ type: decision.type, data })),
  )
}

const valid = packet.encode({
  type: 'query',
  id: 7,
  flags: packet.RECURSION_DESIRED,
  questions: [{ name: 'web', type: 'A' }],
})

/** Header with these counts, then bytes. */
const message = (counts: number[], rest: number[], flags = 0x0100): Buffer =>
  Buffer.from([0, 7, flags >> 8, flags & 255, ...counts.flatMap(count => [count >> 8, count & 255]), ...rest])

/** Names that point at themselves, at each other, forward, behind the end; labels without end; counts that lie. */
const nasty: [string, Buffer][] = [
  ['a label that points at itself', message([1, 0, 0, 0], [0xc0, 0x0c, 0, 1, 0, 1])],
  ['two labels that point at each other', message([1, 0, 0, 0], [0xc0, 0x0e, 0xc0, 0x0c, 0, 1, 0, 1])],
  ['a label, then a pointer back to it', message([1, 0, 0, 0], [1, 0x61, 0xc0, 0x0c, 0, 1, 0, 1])],
  ['a pointer forward', message([1, 0, 0, 0], [0xc0, 0x20, 0, 1, 0, 1])],
  ['a pointer behind the end', message([1, 0, 0, 0], [0xff, 0xff, 0, 1, 0, 1])],
  ['a pointer into the header', message([1, 0, 0, 0], [0xc0, 0x00, 0, 1, 0, 1])],
  ['a label of a kind that does not exist', message([1, 0, 0, 0], [0x80, 0x61, 0, 0, 1, 0, 1])],
  ['a label without end', message([1, 0, 0, 0], [63, 0x61])],
  [
    'a name without end',
    message(
      [1, 0, 0, 0],
      Array.from({ length: 300 }, (_, i) => (i % 2 ? 0x61 : 1)),
    ),
  ],
  [
    'a name that is too long',
    message([1, 0, 0, 0], [...Array.from({ length: 400 }, (_, i) => (i % 2 ? 0x61 : 1)), 0, 0, 1, 0, 1]),
  ],
  ['more questions than there are', message([0xffff, 0, 0, 0], [0, 0, 1, 0, 1])],
  ['more answers than there are', message([1, 0xffff, 0xffff, 0xffff], [0, 0, 1, 0, 1])],
  ['no question', message([0, 0, 0, 0], [])],
  ['two questions', message([2, 0, 0, 0], [0, 0, 1, 0, 1, 0, 0, 1, 0, 1])],
  ['half a question', message([1, 0, 0, 0], [3, 0x77, 0x65, 0x62, 0, 0])],
  ['half a header', Buffer.from([0, 7, 1])],
  ['nothing', Buffer.alloc(0)],
  ['an answer', message([1, 0, 0, 0], [0, 0, 1, 0, 1], 0x8000)],
  ['another opcode', message([1, 0, 0, 0], [0, 0, 1, 0, 1], 0x2800)],
  [
    'an OPT record with options that lie',
    message([1, 0, 0, 1], [0, 0, 1, 0, 1, 0, 0, 41, 4, 0, 0, 0, 0, 0, 0, 4, 0, 8, 0xff, 0xff]),
  ],
]

/** Noise, nasty ones, and right ones with some bytes changed, cut or doubled. */
const garbage = fc.oneof(
  fc.uint8Array({ maxLength: 600 }).map(bytes => Buffer.from(bytes)),
  fc.constantFrom(...nasty.map(([, bytes]) => bytes)),
  fc
    .tuple(fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 }), fc.nat(40))
    .map(([changes, tail]) => {
      const bytes = Buffer.concat([valid, Buffer.alloc(tail, 0xc0)])
      for (const [at, value] of changes) bytes[at] = value
      return bytes
    }),
  fc.nat(valid.length).map(length => valid.subarray(0, length)),
)

describe('a message', () => {
  test.each(nasty)('with %s is refused or passed over', (_what, bytes) => {
    const got = readQuery(bytes)
    if (got === undefined) return
    // what can be read as a question is answered like one
    const reply = packet.decode(Buffer.isBuffer(got) ? got : answer(got))
    expect(reply).toMatchObject({ type: 'response', id: 7 })
    if (Buffer.isBuffer(got)) expect([1, 4]).toContain((reply.flags ?? 0) & 15)
  })

  const tally = new Tally('DNS queries')
  test('of any bytes is read without an exception, and what is answered can be read', { timeout: patientMs }, () =>
    fc.assert(
      fc.property(garbage, bytes => {
        let got: ReturnType<typeof readQuery>
        let reply: Buffer | undefined
        tally.time(() => {
          got = readQuery(bytes)
          reply = got === undefined || Buffer.isBuffer(got) ? got : fitUdp(answer(got), got)
          return reply !== undefined && (reply[3]! & 15) === 0
        })
        if (got === undefined || reply === undefined) return
        expect(packet.decode(reply).id).toBe((bytes[0]! << 8) | bytes[1]!)
        if (!Buffer.isBuffer(got)) expect(reply.length).toBeLessThanOrEqual(Math.max(512, got.udpBytes))
      }),
      { numRuns: cases },
    ),
  )

  test('of any bytes is no reply to a question, unless it says so', () => {
    const query = readQuery(valid) as Query
    fc.assert(
      fc.property(garbage, bytes => {
        const got = readReply(bytes, 7, query)
        if (got !== undefined) expect(bytes[2]! & 0x80).toBe(0x80)
      }),
      { numRuns: 3_000 },
    )
  })

  test('of the longest size with the most pointers costs no time', () => {
    const pointers = Array.from({ length: 4_000 }, () => [0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]).flat()
    const name = [...Array.from({ length: 126 }, () => [1, 0x61]).flat(), 0]
    const bytes = message([1, 4_000, 0, 0], [...name, 0, 1, 0, 1, ...pointers])
    const before = performance.now()
    for (let i = 0; i < 100; i++) readQuery(bytes)
    expect(performance.now() - before).toBeLessThan(10_000)
  })
})

test('messages come out of a stream as they went in, however it is cut', () =>
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 700 }), { maxLength: 8 }),
      fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1 }),
      (messages, cuts) => {
        const stream = Buffer.concat(messages.map(each => frame(Buffer.from(each))))
        const unframer = new Unframer()
        const got: Buffer[] = []
        for (let at = 0, i = 0; at < stream.length; i++) {
          const size = cuts[i % cuts.length]!
          got.push(...unframer.add(stream.subarray(at, at + size)))
          at += size
        }
        expect(got.map(each => [...each])).toEqual(messages.map(each => [...each]))
      },
    ),
  ))

test('a resolv.conf is read back as it was written, and any text is read', () => {
  const word = fc.stringMatching(/^[a-z][a-z0-9.:-]{0,12}$/)
  const conf = fc.record({ servers: fc.array(fc.ipV4()), search: fc.array(word), options: fc.array(word) })
  fc.assert(
    fc.property(conf, want => {
      expect(parseResolvConf(formatResolvConf(want))).toEqual(want)
    }),
  )
  fc.assert(fc.property(fc.string(), text => void parseResolvConf(text)))
})

describe('a listener', () => {
  const address = '127.31.7.1'
  let port: number
  let listener: Listener

  beforeAll(async () => {
    const probe = createServer()
    await new Promise<void>(resolve => probe.listen(0, address, resolve))
    port = (probe.address() as AddressInfo).port
    await new Promise(resolve => probe.close(resolve))
    listener = new Listener({ address, port }, answer)
  })
  afterAll(() => listener.close())

  async function byUdp(query: Buffer): Promise<packet.DecodedPacket> {
    const socket = createSocket('udp4')
    const reply = new Promise<Buffer>((resolve, reject) => {
      socket.once('message', resolve)
      setTimeout(() => reject(new Error('no reply by UDP within 5 s')), 5_000).unref()
    })
    socket.send(query, port, address)
    try {
      return packet.decode(await reply)
    } finally {
      socket.close()
    }
  }

  function byTcp(query: Buffer): Promise<packet.DecodedPacket> {
    return new Promise((resolve, reject) => {
      const socket = connect(port, address, () => socket.write(frame(query)))
      const unframer = new Unframer()
      socket.setTimeout(5_000, () => reject(new Error('no reply by TCP within 5 s')))
      socket.on('error', reject)
      socket.on('data', chunk => {
        const [bytes] = unframer.add(chunk)
        if (bytes === undefined) return
        socket.destroy()
        resolve(packet.decode(bytes))
      })
    })
  }

  async function stillRight(): Promise<void> {
    for (const got of [await byUdp(valid), await byTcp(valid)])
      expect(got).toMatchObject({
        id: 7,
        rcode: 'NOERROR',
        answers: [{ name: 'web', type: 'A', data: '10.30.0.2', ttl: 5 }],
      })
  }

  test('answers right after 5,000 packets of garbage by UDP', async () => {
    const socket = createSocket('udp4')
    await new Promise<void>(resolve => socket.connect(port, address, resolve))
    let sent = 0
    for (const bytes of fc.sample(garbage, 5_000)) {
      socket.send(bytes)
      // in between, so that none of it is lost in a full queue
      if (++sent % 100 === 0) await stillRight()
    }
    socket.close()
    expect(sent).toBe(5_000)
    await stillRight()
  })

  test('answers right after, and during, 5,000 messages of garbage by TCP on connections that end anyhow', async () => {
    const all = fc.sample(garbage, 5_000)
    for (let at = 0; at < all.length; at += 50) {
      const socket = connect(port, address)
      socket.on('error', () => {})
      socket.resume()
      for (const bytes of all.slice(at, at + 49)) socket.write(frame(bytes))
      // without a frame: whatever length it seems to have
      socket.write(all[at + 49]!)
      if (at % 100 === 0) await new Promise<void>(resolve => socket.end(resolve))
      else setTimeout(() => socket.resetAndDestroy(), at % 7)
      if (at % 500 === 0) await stillRight()
    }
    await stillRight()
  })

  test('answers others while as many connections as may be are open and idle', async () => {
    const idle = Array.from({ length: 100 }, () => connect(port, address).on('error', () => {}))
    await stillRight()
    for (const socket of idle) socket.destroy()
    await stillRight()
  })

  test('many addresses come whole by TCP and with EDNS, and cut and marked without', async () => {
    const all = packet.encode({ type: 'query', id: 9, questions: [{ name: 'ALL', type: 'A' }] })
    const cut = await byUdp(all)
    expect(cut.flag_tc).toBe(true)
    expect(cut.answers!.length).toBeGreaterThan(5)
    const whole = await byTcp(all)
    expect(whole).toMatchObject({ flag_tc: false, questions: [{ name: 'ALL' }] })
    expect(whole.answers).toHaveLength(61)
    const opt = {
      type: 'OPT' as const,
      name: '.',
      udpPayloadSize: 4096,
      extendedRcode: 0,
      ednsVersion: 0,
      flags: 0,
      flag_do: false,
      options: [],
    }
    const big = await byUdp(
      packet.encode({ type: 'query', id: 9, questions: [{ name: 'all', type: 'A' }], additionals: [opt] }),
    )
    expect(big).toMatchObject({ flag_tc: false, additionals: [{ type: 'OPT' }] })
    expect(big.answers).toHaveLength(61)
  })

  test('lets go of its port at once', () => {
    const at = { address: '127.31.7.2', port }
    for (let i = 0; i < 50; i++) new Listener(at, answer).close()
  })
})
