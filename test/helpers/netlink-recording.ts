import { readFileSync, writeFileSync } from 'node:fs'
import { release } from 'node:os'
import { encode } from '../../src/netlink/codec.js'
import { writeFrames } from '../../src/netlink/framing.js'
import { recv, send } from '../../src/netlink/libc.js'
import { openNetns } from '../../src/netlink/netns.js'
import { nlmDump, nlmRequest, rtm } from '../../src/netlink/request.js'
import { NetlinkSocket } from '../../src/netlink/socket.js'
import { addressMessage, afBridge, linkMessage, neighbourMessage, routeMessage } from '../../src/netlink/tables.js'
import type { Json } from './ip-judge.js'
import type { NetlinkWorld } from './netlink-world.js'
import { bridgeJson, ipJson, runJson } from './netns.js'

// The answers of a kernel to listing the world of netlink-world.ts, and what `ip` and `bridge` said at that moment.
// Recorded anew by: TSNET_RECORD=1 npx vitest run --project netns test/netns/netlink-lists.test.ts

export const dumpNames = ['links', 'addresses', 'routes', 'neighbours', 'fdb'] as const
export type DumpName = (typeof dumpNames)[number]

export interface Recording {
  kernel: string
  /** what each receive returned, headers and all, in base64 */
  datagrams: Record<DumpName, string[]>
  judge: Record<DumpName, Json[]>
}

const file = new URL('../fixtures/netlink/world.json', import.meta.url)
export const readRecording = (): Recording => JSON.parse(readFileSync(file, 'utf8'))

/** MSG_DONTWAIT */
const dontWait = 0x40

function record(path: string, type: number, body: Buffer): string[] {
  const netns = openNetns(path)
  const socket = NetlinkSocket.open(netns)
  netns.close()
  const bytes = Buffer.alloc(65_536)
  send(socket.fd, bytes, writeFrames(bytes, [{ type, flags: nlmRequest | nlmDump, body }], 7), 0)
  const datagrams: string[] = []
  try {
    for (;;) datagrams.push(bytes.toString('base64', 0, recv(socket.fd, bytes, bytes.length, dontWait)))
  } catch {
    // The kernel has said all: nothing is left to receive.
    return datagrams
  } finally {
    socket.close()
  }
}

export function recordWorld({ name, path }: NetlinkWorld): void {
  const link = { family: 0, type: 0, index: 0, flags: 0, change: 0, attrs: {} }
  const address = { family: 0, prefixLength: 0, flags: 0, scope: 0, index: 0, attrs: {} }
  const route = {
    ...{ family: 0, destinationLength: 0, sourceLength: 0, tos: 0, table: 0, protocol: 0, scope: 0, type: 0, flags: 0 },
    attrs: { table: 254 },
  }
  const neighbour = { family: 0, index: 0, state: 0, flags: 0, type: 0, attrs: {} }
  const routes = (family: string) =>
    runJson<Json[]>(name, 'ip', '-N', '-j', '-d', family, 'route', 'show').map(said => ({ table: '254', ...said }))
  const recording: Recording = {
    kernel: release(),
    datagrams: {
      links: record(path, rtm.getLink, encode(linkMessage, link)),
      addresses: record(path, rtm.getAddress, encode(addressMessage, address)),
      routes: record(path, rtm.getRoute, encode(routeMessage, route)),
      neighbours: record(path, rtm.getNeighbour, encode(neighbourMessage, neighbour)),
      fdb: record(path, rtm.getNeighbour, encode(neighbourMessage, { ...neighbour, family: afBridge })),
    },
    judge: {
      links: ipJson(name, 'link', 'show'),
      addresses: ipJson(name, 'address', 'show'),
      routes: [...routes('-4'), ...routes('-6')],
      neighbours: ipJson(name, 'neighbour', 'show', 'nud', 'all'),
      fdb: bridgeJson(name, 'fdb', 'show'),
    },
  }
  writeFileSync(file, `${JSON.stringify(recording, null, 1)}\n`)
}
