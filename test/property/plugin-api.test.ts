import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { noLog } from '../../src/log.js'
import type { UnixServer } from '../../src/net/unix-server.js'
import { methods } from '../../src/plugin-api/methods.js'
import { createPluginServer } from '../../src/plugin-api/server.js'
import { DockerdClient } from '../helpers/dockerd-client.js'
import { FakeDockerDoor } from '../helpers/fake-docker-door.js'

const id = 'a'.repeat(64)
/** A body in which every method finds its arguments. */
const whole = {
  NetworkID: id,
  EndpointID: 'b'.repeat(64),
  Options: {
    'com.docker.network.generic': { mtu: '1400' },
    'com.docker.network.enable_ipv6': true,
    'com.docker.network.internal': 'true',
    'com.docker.network.portmap': [{ Proto: 6, IP: '', Port: 80, HostIP: '', HostPort: 8080, HostPortEnd: 8080 }],
    'com.docker.network.endpoint.macaddress': 'AkKsEwAC',
  },
  IPv4Data: [
    { AddressSpace: 'tsnet', Pool: '10.0.0.0/24', Gateway: '10.0.0.1/24', AuxAddresses: { a: '10.0.0.9/24' } },
  ],
  IPv6Data: [],
  Interface: { Address: '10.0.0.2/24', AddressIPv6: '', MacAddress: '' },
  SandboxKey: '/var/run/docker/netns/0123456789ab',
  AddressSpace: 'tsnet',
  Pool: '',
  SubPool: '',
  V6: false,
  PoolID: 'p1',
  Address: '10.0.0.7',
}
const wholeOf = (method: string): object =>
  method.startsWith('IpamDriver.') ? { ...whole, Options: { RequestAddressType: 'com.docker.network.gateway' } } : whole

const hostile = fc.oneof(
  fc.jsonValue(),
  fc.constantFrom<unknown>(
    null,
    '',
    -1,
    2 ** 53,
    [],
    {},
    [[]],
    'x'.repeat(5000),
    '\0',
    '../..',
    '10.0.0.0/99',
    '::/0',
    '0.0.0.0/0',
    '__proto__',
  ),
)

/** A whole body with the value at one path replaced, removed, or given a neighbour that does not belong there. */
const mutated = (method: string) =>
  fc
    .tuple(fc.infiniteStream(fc.noBias(fc.nat(1_000))), fc.constantFrom('replace', 'remove', 'add'), hostile)
    .map(([picks, how, value]) => {
      const body = structuredClone(wholeOf(method)) as Record<string, unknown>
      let at = body
      for (;;) {
        const keys = Object.keys(at)
        const key = keys[(picks.next().value ?? 0) % (keys.length || 1)] ?? '0'
        const below = at[key]
        if (
          typeof below === 'object' &&
          below !== null &&
          Object.keys(below).length > 0 &&
          (picks.next().value ?? 0) > 300
        ) {
          at = below as Record<string, unknown>
          continue
        }
        if (how === 'remove') delete at[key]
        else at[how === 'add' ? `${key}x` : key] = value
        return JSON.stringify(body)
      }
    })

/** A body broken as text: cut short, or one byte of it changed. */
const broken = (method: string) =>
  fc.tuple(mutated(method), fc.nat(), fc.nat(255), fc.boolean()).map(([text, at, byte, cut]) => {
    const bytes = Buffer.from(text)
    const place = at % bytes.length
    if (cut) return bytes.subarray(0, place)
    bytes[place] = byte
    return bytes
  })
const anyBody = (method: string) =>
  fc.oneof(
    { weight: 6, arbitrary: mutated(method) },
    { weight: 2, arbitrary: broken(method) },
    { weight: 1, arbitrary: fc.json() },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }).map(bytes => Buffer.from(bytes)) },
  )
const anyMethod = fc.oneof(
  { weight: 20, arbitrary: fc.constantFrom(...methods.keys()) },
  { weight: 1, arbitrary: fc.constantFrom('x', 'constructor', '%00', '..') },
)

const anyRequest = anyMethod.chain(method => fc.tuple(fc.constant(method), anyBody(method)))

let dir: string
let server: UnixServer
let dockerd: DockerdClient
const door = new FakeDockerDoor()
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'tst-pl-'))
  const socketPath = join(dir, 'tsnet.sock')
  server = await createPluginServer({ cnm: { docker: door }, log: noLog, socketPath })
  dockerd = new DockerdClient(socketPath)
})
afterAll(async () => {
  dockerd.close()
  await server.close()
  rmSync(dir, { recursive: true })
})

it('answers 5,000 random and damaged requests with a JSON object and a status of the protocol, and lives', async () => {
  const seen = new Map<number, number>()
  await fc.assert(
    fc.asyncProperty(anyRequest, async ([method, body]) => {
      const { status, body: got } = await dockerd.send(method, body)
      seen.set(status, (seen.get(status) ?? 0) + 1)
      expect([200, 400, 404, 413]).toContain(status)
      expect(typeof got === 'object' && got !== null && !Array.isArray(got)).toBe(true)
      if (status !== 200) expect(got.Err).toBe(got.Error)
    }),
    { numRuns: 5_000 },
  )
  expect(await dockerd.call('Plugin.Activate')).toHaveProperty('Implements')
  // A fuzz that only bounces off the schemas would prove nothing about what is behind them.
  expect(seen.get(200)).toBeGreaterThan(500)
  expect(seen.get(400)).toBeGreaterThan(500)
  expect(new Set(door.verbs()).size).toBe(12)
  for (const call of door.calls) refuseBroken(call)
})

/** What reaches the door has been through the schemas: no id that is none, no endless text. */
function refuseBroken([verb, first]: FakeDockerDoor['calls'][number]): void {
  const spec = first as { networkId?: string; endpointId?: string; poolId?: string }
  if (typeof first === 'string' && !['releasePool', 'releaseAddress'].includes(verb))
    expect(first).toMatch(/^[0-9a-f]{64}$/)
  for (const id of [spec.networkId, spec.endpointId]) if (id !== undefined) expect(id).toMatch(/^[0-9a-f]{64}$/)
  if (spec.poolId !== undefined) expect(spec.poolId.length).toBeLessThanOrEqual(255)
}
