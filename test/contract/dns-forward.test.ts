import { createSocket } from 'node:dgram'
import { type AddressInfo, createServer } from 'node:net'
import packet, { type DecodedPacket, type RecordType } from 'dns-packet'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { Forwarder } from '../../src/dns/forward.js'
import { fitUdp, type Query, readQuery } from '../../src/dns/message.js'
import { openInetSocket } from '../../src/netlink/inet-socket.js'
import { Upstream } from '../helpers/dns-upstream.js'

// What is asked elsewhere, judged by servers of the test on loopback addresses that nobody else has.

const one = '127.31.0.1'
const two = '127.31.0.2'
const six = '::1'
let port: number
let first: Upstream
let second: Upstream

/** A port that is free for both protocols on all addresses, as far as one can know. */
async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '::', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise(resolve => server.close(resolve))
  return port
}

beforeAll(async () => {
  port = await freePort()
  first = await Upstream.start('first', port, one, six)
  second = await Upstream.start('second', port, two)
})
afterAll(async () => {
  await first.stop()
  await second.stop()
})
afterEach(() => {
  first.asked.length = 0
  second.asked.length = 0
})

const forwarder = (...servers: string[]): Forwarder =>
  new Forwarder({ servers: () => servers, open: openInetSocket, timeoutMs: 300, port })

function queryOf(name: string, type: RecordType = 'A', udpPayloadSize?: number): Query {
  const additionals =
    udpPayloadSize === undefined
      ? []
      : [
          {
            type: 'OPT' as const,
            name: '.',
            udpPayloadSize,
            extendedRcode: 0,
            ednsVersion: 0,
            flags: 0,
            flag_do: false,
            options: [],
          },
        ]
  const bytes = packet.encode({
    type: 'query',
    id: 4711,
    flags: packet.RECURSION_DESIRED,
    questions: [{ name, type }],
    additionals,
  })
  const query = readQuery(bytes)
  if (query === undefined || Buffer.isBuffer(query)) throw new Error('the test asks nonsense')
  return query
}

async function ask(asking: Forwarder, query: Query): Promise<DecodedPacket | undefined> {
  const reply = await asking.ask(query)
  return reply === undefined ? undefined : packet.decode(reply)
}

const dataOf = (reply: DecodedPacket | undefined): string[] =>
  (reply?.answers ?? []).map(answer => ('data' in answer ? String(answer.data) : ''))

test.each([one, six])(
  'a server at %s is asked by UDP, and its reply comes under the id of the question',
  async server => {
    const got = await ask(forwarder(server), queryOf('plain.example'))
    expect(got).toMatchObject({ id: 4711, rcode: 'NOERROR' })
    expect(dataOf(got)).toEqual(['192.0.2.10'])
    expect(first.asked).toEqual(['udp plain.example A'])
  },
)

test('a name that does not exist is an answer', async () => {
  expect(await ask(forwarder(one, two), queryOf('nobody.example'))).toMatchObject({ rcode: 'NXDOMAIN' })
  expect(second.asked).toEqual([])
})

test.each(['fail.example', 'refuse.example'])(
  'after %s the next server is asked, and there is no reply when all fail',
  async name => {
    expect(await ask(forwarder(one, two), queryOf(name))).toBeUndefined()
    expect([first.asked, second.asked]).toEqual([[`udp ${name} A`], [`udp ${name} A`]])
  },
)

test('a server that is not there, or does not answer, is passed over, and asked last for a while', async () => {
  const asking = forwarder('127.31.0.99', two)
  expect(dataOf(await ask(asking, queryOf('who.example', 'TXT')))).toEqual(['second'])
  const silent = createSocket('udp4')
  await new Promise<void>(resolve => silent.bind(port, '127.31.0.3', () => resolve()))
  let heard = 0
  silent.on('message', () => heard++)
  const patient = forwarder('127.31.0.3', two)
  expect(dataOf(await ask(patient, queryOf('who.example', 'TXT')))).toEqual(['second'])
  expect(heard).toBe(1)
  expect(dataOf(await ask(patient, queryOf('who.example', 'TXT')))).toEqual(['second'])
  expect(heard).toBe(1)
  silent.close()
})

test('when nobody answers there is no reply, within the time of each', async () => {
  const before = performance.now()
  expect(await ask(forwarder(one, two), queryOf('silent.example'))).toBeUndefined()
  expect(performance.now() - before).toBeGreaterThan(590)
  expect(performance.now() - before).toBeLessThan(3_000)
})

test('a server to which there is no way is passed over', async () => {
  // no route from a loopback source, and an address that nothing can be sent to
  for (const nowhere of ['240.0.0.1', '255.255.255.255', 'fe80::1'])
    expect(dataOf(await ask(forwarder(nowhere, two), queryOf('who.example', 'TXT')))).toEqual(['second'])
})

test('without a server there is no reply', async () =>
  expect(await ask(forwarder(), queryOf('plain.example'))).toBeUndefined())

test('what did not fit is asked by TCP, and comes whole', async () => {
  const got = await ask(forwarder(one), queryOf('100.many.example'))
  expect(dataOf(got)).toHaveLength(100)
  expect(got?.flag_tc).toBe(false)
  expect(first.asked).toEqual(['udp 100.many.example A', 'tcp 100.many.example A'])
})

test('what fits into the size that the client takes is not asked by TCP', async () => {
  const got = await ask(forwarder(one), queryOf('40.many.example', 'A', 4096))
  expect(dataOf(got)).toHaveLength(40)
  expect(dataOf(await ask(forwarder(one), queryOf('size.example', 'TXT', 1777)))).toEqual(['1777'])
  expect(first.asked).toEqual(['udp 40.many.example A', 'udp size.example TXT'])
})

test('when TCP fails, the truncated part is passed on', async () => {
  const got = await ask(forwarder(one), queryOf('cut.example'))
  expect(got?.flag_tc).toBe(true)
  expect(dataOf(got)).toEqual(['192.0.2.11'])
})

test('what is not the reply to the question is not taken for it', async () =>
  expect(dataOf(await ask(forwarder(one), queryOf('wrong.example')))).toEqual(['192.0.2.11']))

test('ids and source ports are different each time', async () => {
  const seen: { id: number; port: number }[] = []
  const server = createSocket('udp4')
  await new Promise<void>(resolve => server.bind(port, '127.31.0.4', () => resolve()))
  server.on('message', (bytes, from) => {
    const query = packet.decode(bytes)
    seen.push({ id: query.id ?? 0, port: from.port })
    server.send(packet.encode({ ...query, type: 'response', additionals: [] }), from.port, from.address)
  })
  const asking = forwarder('127.31.0.4')
  await Promise.all(Array.from({ length: 100 }, () => asking.ask(queryOf('plain.example'))))
  server.close()
  expect(seen).toHaveLength(100)
  expect(new Set(seen.map(({ id }) => id)).size).toBeGreaterThan(90)
  expect(new Set(seen.map(({ port }) => port)).size).toBeGreaterThan(90)
  expect(seen.filter(({ id }) => id === 4711).length).toBeLessThan(3)
})

test('a thousand questions wait at once, and more are not taken', async () => {
  const asking = new Forwarder({ servers: () => ['127.31.0.3'], open: openInetSocket, timeoutMs: 2_500, port })
  const silent = createSocket('udp4')
  await new Promise<void>(resolve => silent.bind(port, '127.31.0.3', () => resolve()))
  const before = performance.now()
  const waiting = Array.from({ length: 1024 }, () => asking.ask(queryOf('silent.example')))
  expect(await asking.ask(queryOf('plain.example'))).toBeUndefined()
  expect(performance.now() - before).toBeLessThan(2_400)
  expect(new Set(await Promise.all(waiting))).toEqual(new Set([undefined]))
  silent.close()
})

test('a reply that the client cannot take by UDP is cut and marked, and keeps what fits', async () => {
  const query = queryOf('100.many.example')
  const whole = await forwarder(one).ask(query)
  const cut = packet.decode(fitUdp(whole!, query))
  expect(cut.flag_tc).toBe(true)
  expect(fitUdp(whole!, query).length).toBeLessThanOrEqual(512)
  expect(dataOf(cut).length).toBeGreaterThan(5)
  expect(fitUdp(whole!, queryOf('100.many.example', 'A', 65_000))).toEqual(whole)
})

test('a record type that nobody knows passes through', async () => {
  const reply = await forwarder(one).ask(queryOf('strange.example', 'UNKNOWN_65280' as RecordType))
  expect(reply?.includes('peculiar')).toBe(true)
})
