import { describe, expect, test } from 'vitest'
import type { Codec } from '../../src/netlink/codec.js'
import { type Incoming, readFrames } from '../../src/netlink/framing.js'
import { parseAddress, parseFdb, parseLink, parseNeighbour, parseRoute } from '../../src/netlink/parse.js'
import { rtm } from '../../src/netlink/request.js'
import { addressMessage, linkMessage, neighbourMessage, routeMessage } from '../../src/netlink/tables.js'
import {
  gotAddress,
  gotFdb,
  gotLink,
  gotNeighbour,
  gotRoute,
  namesOf,
  wantAddresses,
  wantFdb,
  wantLink,
  wantNeighbour,
  wantRoute,
} from '../helpers/ip-judge.js'
import { type DumpName, readRecording } from '../helpers/netlink-recording.js'

const recording = readRecording()
const names = namesOf(recording.judge.links)

function decoded<M, T>(name: DumpName, type: number, codec: Codec<M>, parse: (message: M) => T | undefined): T[] {
  const found: T[] = []
  let last: Incoming | undefined
  for (const datagram of recording.datagrams[name]) {
    const bytes = Buffer.from(datagram, 'base64')
    for (const message of readFrames(bytes, bytes.length)) {
      last = message
      if (message.what !== 'message') continue
      expect(message.type).toBe(type)
      const item = parse(codec.get(bytes, message.start, message.end))
      if (item) found.push(item)
    }
  }
  expect(last?.what).toBe('done')
  return found
}

const sorted = (list: unknown[]): unknown[] =>
  [...list].sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1))

describe('the recorded answers of a kernel say what ip and bridge said at that moment', () => {
  test('links', () => {
    const got = decoded('links', rtm.newLink, linkMessage, parseLink)
    expect(got.map(link => gotLink(link, names))).toEqual(recording.judge.links.map(wantLink))
    expect(new Set(got.map(link => link.kind))).toEqual(new Set([undefined, 'bridge', 'veth', 'vxlan', 'macvlan']))
  })

  test('addresses', () => {
    const got = decoded('addresses', rtm.newAddress, addressMessage, parseAddress)
    expect(sorted(got.map(a => gotAddress(a, names)))).toEqual(sorted(wantAddresses(recording.judge.addresses)))
  })

  test('routes', () => {
    const got = decoded('routes', rtm.newRoute, routeMessage, parseRoute)
    expect(got.map(route => gotRoute(route, names))).toEqual(recording.judge.routes.map(wantRoute))
  })

  test('neighbours', () => {
    const got = decoded('neighbours', rtm.newNeighbour, neighbourMessage, parseNeighbour)
    expect(sorted(got.map(n => gotNeighbour(n, names)))).toEqual(sorted(recording.judge.neighbours.map(wantNeighbour)))
  })

  test('forwarding entries', () => {
    const got = decoded('fdb', rtm.newNeighbour, neighbourMessage, parseFdb)
    expect(sorted(got.map(entry => gotFdb(entry, names)))).toEqual(sorted(recording.judge.fdb.map(wantFdb)))
  })
})
