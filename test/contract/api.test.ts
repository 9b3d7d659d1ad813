import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { type IncomingHttpHeaders, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createApiServer } from '../../src/api/server.js'
import { conflict, unavailable } from '../../src/errors.js'
import { type Log, noLog } from '../../src/log.js'
import { FakeCnm } from '../helpers/fake-cnm.js'

interface Answer {
  status: number
  headers: IncomingHttpHeaders
  // biome-ignore lint/suspicious/noExplicitAny: whatever JSON the API says
  body: any
}

let dir: string
let socketPath: string
let cnm: FakeCnm
let server: { close(): Promise<void> }
let lines: { level: string; fields: Record<string, unknown>; message: string }[]

const record =
  (level: string) =>
  (fields: object, message: string): void => {
    lines.push({ level, fields: { ...fields }, message })
  }
const log: Log = { ...noLog, info: record('info'), error: record('error') }

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'tsnet-api-'))
  socketPath = join(dir, 'api.sock')
  cnm = new FakeCnm()
  lines = []
  server = await createApiServer({ cnm, log, socketPath, version: { version: '1.2.3' } })
})

afterEach(async () => {
  await server.close()
  rmSync(dir, { recursive: true })
})

function call(method: string, path: string, body?: unknown): Promise<Answer> {
  const text = typeof body === 'string' || body === undefined ? body : JSON.stringify(body)
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath, method, path, agent: false }, response => {
      let got = ''
      response.setEncoding('utf8').on('data', (part: string) => {
        got += part
      })
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: got === '' ? undefined : JSON.parse(got),
        }),
      )
    })
    outgoing.on('error', reject)
    outgoing.end(text)
  })
}

const refusal = (kind: string, message: string | RegExp) => ({
  error: { kind, message: typeof message === 'string' ? message : expect.stringMatching(message) },
})

describe('the socket', () => {
  test('is for root and its group only', () => expect(statSync(socketPath).mode & 0o777).toBe(0o660))

  test('is gone when the server is closed', async () => {
    await server.close()
    expect(() => statSync(socketPath)).toThrow(/ENOENT/)
  })
})

describe('every route', () => {
  test('version', async () =>
    expect(await call('GET', '/v1/version')).toMatchObject({ status: 200, body: { version: '1.2.3' } }))

  test('networks are created, listed, shown and deleted', async () => {
    const spec = {
      name: 'lab',
      driver: 'bridge',
      subnets: ['10.30.0.0/24', 'fd00:30::/64'],
      ipRanges: ['10.30.0.128/25'],
      gateways: ['10.30.0.254'],
      auxAddresses: { router: '10.30.0.5' },
      ipv6: true,
      internal: true,
      options: { mtu: '1400' },
      labels: { team: 'web' },
    }
    const created = await call('POST', '/v1/networks', spec)
    expect(created).toMatchObject({ status: 201, body: { name: 'lab', internal: true } })
    expect(cnm.calls).toEqual([['createNetwork', spec]])
    expect((await call('GET', '/v1/networks')).body).toEqual([created.body])
    expect(await call('GET', '/v1/networks/lab')).toMatchObject({ status: 200, body: created.body })
    expect(await call('DELETE', `/v1/networks/${created.body.id}`)).toMatchObject({ status: 204, body: undefined })
    expect((await call('GET', '/v1/networks')).body).toEqual([])
  })

  test('networks are pruned, with or without a body', async () => {
    await call('POST', '/v1/networks', { name: 'one' })
    expect((await call('POST', '/v1/networks/prune')).body).toEqual({ deleted: ['one'] })
    expect((await call('POST', '/v1/networks/prune', {})).body).toEqual({ deleted: [] })
  })

  test('sandboxes are created, listed, shown and deleted', async () => {
    const created = await call('POST', '/v1/sandboxes', { name: 'box', ephemeral: true })
    expect(created).toMatchObject({ status: 201, body: { name: 'box', netns: '/run/netns/box', ephemeral: true } })
    expect((await call('GET', '/v1/sandboxes')).body).toEqual([created.body])
    expect((await call('GET', '/v1/sandboxes/box')).body).toEqual(created.body)
    expect((await call('DELETE', '/v1/sandboxes/box')).status).toBe(204)
    expect((await call('GET', '/v1/sandboxes/box')).status).toBe(404)
  })

  test('a sandbox is connected, listed as an endpoint, and disconnected', async () => {
    await call('POST', '/v1/networks', { name: 'lab' })
    await call('POST', '/v1/sandboxes', { name: 'box' })
    const spec = {
      ip: '10.30.0.9',
      ip6: 'fd00:30::9',
      mac: '02:42:0a:1e:00:09',
      ifname: 'lan0',
      aliases: ['db'],
      ports: [{ protocol: 'tcp', hostPort: { first: 8080, last: 8080 }, containerPort: { first: 80, last: 80 } }],
      routes: [{ destination: '10.99.0.0/16', via: '10.30.0.7' }, { destination: '10.98.0.0/16' }],
      options: { role: 'server' },
    }
    const connected = await call('POST', '/v1/networks/lab/connect', { sandbox: 'box', ...spec })
    expect(connected).toMatchObject({ status: 201, body: { network: 'lab', sandbox: 'box', ifname: 'lan0' } })
    expect(cnm.calls.at(-1)).toEqual(['connect', 'lab', 'box', spec])
    expect((await call('GET', '/v1/endpoints')).body).toEqual([connected.body])
    expect((await call('POST', '/v1/networks/lab/disconnect', { sandbox: 'box' })).status).toBe(204)
    expect((await call('GET', '/v1/endpoints')).body).toEqual([])
  })

  test('reconcile changes things unless told not to', async () => {
    cnm.report.changes = ['create bridge br-1 of network lab']
    expect((await call('POST', '/v1/reconcile', { dryRun: true })).body).toMatchObject({ dryRun: true })
    expect((await call('POST', '/v1/reconcile')).body).toEqual({
      dryRun: false,
      changes: ['create bridge br-1 of network lab'],
      failures: [],
    })
  })

  test('a name in the path may need escapes', async () => {
    const want = refusal('NotFound', 'there is no network a/b c')
    expect(await call('GET', '/v1/networks/a%2Fb%20c')).toMatchObject({ status: 404, body: want })
  })
})

describe('errors', () => {
  test('have the status of their kind', async () => {
    cnm.failNext('createNetwork', conflict('network name lab is taken'))
    expect(await call('POST', '/v1/networks', { name: 'lab' })).toMatchObject({
      status: 409,
      body: refusal('Conflict', 'network name lab is taken'),
    })
    cnm.failNext('pruneNetworks', unavailable('the store does not answer'))
    expect(await call('POST', '/v1/networks/prune')).toMatchObject({
      status: 503,
      body: refusal('Unavailable', 'the store does not answer'),
    })
  })

  test('of our own are Internal and leave their stack in the log', async () => {
    cnm.failNext('pruneNetworks', new TypeError('x is not a function'))
    expect(await call('POST', '/v1/networks/prune')).toMatchObject({
      status: 500,
      body: refusal('Internal', 'x is not a function'),
    })
    expect(lines[0]).toMatchObject({ level: 'error', fields: { stack: expect.stringContaining('TypeError') } })
  })

  test('unknown routes and methods', async () => {
    const want = refusal('NotFound', 'there is no GET /v1/nothing')
    expect(await call('GET', '/v1/nothing')).toMatchObject({ status: 404, body: want })
    expect(await call('PUT', '/v1/networks')).toMatchObject({ status: 404, body: refusal('NotFound', /PUT/) })
    expect(await call('GET', '/v1/networks/%E0%A4%A')).toMatchObject({
      status: 400,
      body: refusal('InvalidParameter', /./),
    })
  })

  test('a body over 1 MiB is refused, one just below is read', async () => {
    const name = (length: number) => ({ name: 'a'.repeat(length) })
    const large = await call('POST', '/v1/networks', name(1 << 20))
    expect(large).toMatchObject({
      status: 400,
      body: refusal('InvalidParameter', 'the body is larger than 1048576 bytes'),
    })
    const below = await call('POST', '/v1/networks', name((1 << 20) - 20))
    expect(below).toMatchObject({ status: 400, body: refusal('InvalidParameter', /^network name/) })
    expect(cnm.calls).toEqual([])
  })

  test('a body that is not JSON', async () =>
    expect(await call('POST', '/v1/networks', '{"name"')).toMatchObject({
      status: 400,
      body: refusal('InvalidParameter', /^the body is not JSON: /),
    }))
})

describe('bad input is refused with one sentence and nothing is called', () => {
  const cases: [string, string, unknown, string | RegExp][] = [
    ['no name', '/v1/networks', {}, 'field "name" is missing'],
    ['not an object', '/v1/networks', [], 'the body must be an object'],
    ['null', '/v1/networks', 'null', 'the body must be an object'],
    ['a number for a name', '/v1/networks', { name: 5 }, 'field "name" must be a string'],
    ['a bad name', '/v1/networks', { name: 'a b' }, /^network name "a b" must be 1 to 63 letters/],
    [
      'an unknown field',
      '/v1/networks',
      { name: 'a', subnet: '10.0.0.0/8' },
      'unknown field "subnet" (did you mean subnets?)',
    ],
    ['a text for a list', '/v1/networks', { name: 'a', subnets: '10.0.0.0/8' }, 'field "subnets" must be a list'],
    [
      'a bad subnet',
      '/v1/networks',
      { name: 'a', subnets: ['10.0.0.0/33'] },
      /^subnet "10.0.0.0\/33" is not an address with a prefix/,
    ],
    ['a subnet without length', '/v1/networks', { name: 'a', subnets: ['10.0.0.0'] }, /^subnet "10.0.0.0" is not/],
    ['a bad range', '/v1/networks', { name: 'a', ipRanges: ['10/8'] }, /^ip range "10\/8" is not/],
    [
      'a bad gateway',
      '/v1/networks',
      { name: 'a', gateways: ['10.0.0'] },
      'gateway "10.0.0" is not an IPv4 or IPv6 address',
    ],
    ['a bad auxiliary address', '/v1/networks', { name: 'a', auxAddresses: { r: 'x' } }, /^auxiliary address "x"/],
    ['a word for a boolean', '/v1/networks', { name: 'a', ipv6: 'yes' }, 'field "ipv6" must be true or false'],
    [
      'a number for an option',
      '/v1/networks',
      { name: 'a', options: { mtu: 1400 } },
      'field "options.mtu" must be a string',
    ],
    [
      'two problems',
      '/v1/networks',
      { name: '', ipv6: 1 },
      /^network name "" must be .*; field "ipv6" must be true or false$/,
    ],
    ['a bad sandbox name', '/v1/sandboxes', { name: '../x' }, /^sandbox name "\.\.\/x" must be/],
    ['a relative path', '/v1/sandboxes', { name: 'a', netns: 'x' }, 'namespace path "x" must be absolute'],
    ['a negative pid', '/v1/sandboxes', { name: 'a', pid: -1 }, 'field "pid" must be more than 0'],
    ['half a pid', '/v1/sandboxes', { name: 'a', pid: 1.5 }, 'field "pid" must be a whole number'],
    ['no sandbox', '/v1/networks/lab/connect', {}, 'field "sandbox" is missing'],
    ['no sandbox to disconnect', '/v1/networks/lab/disconnect', {}, 'field "sandbox" is missing'],
    ['IPv6 for IPv4', '/v1/networks/lab/connect', { sandbox: 'b', ip: '::1' }, 'address "::1" is not an IPv4 address'],
    [
      'IPv4 for IPv6',
      '/v1/networks/lab/connect',
      { sandbox: 'b', ip6: '1.2.3.4' },
      'address "1.2.3.4" is not an IPv6 address',
    ],
    ['a bad MAC', '/v1/networks/lab/connect', { sandbox: 'b', mac: '02:42' }, /^MAC address 02:42 must be six pairs/],
    [
      'a multicast MAC',
      '/v1/networks/lab/connect',
      { sandbox: 'b', mac: '01:00:5e:00:00:01' },
      /is a multicast address$/,
    ],
    [
      'a long interface name',
      '/v1/networks/lab/connect',
      { sandbox: 'b', ifname: 'a'.repeat(16) },
      /is 16 bytes long; 15 is the most$/,
    ],
    ['a bad route', '/v1/networks/lab/connect', { sandbox: 'b', routes: [{ destination: 'x' }] }, /^route "x" is not/],
    [
      'a bad next hop',
      '/v1/networks/lab/connect',
      { sandbox: 'b', routes: [{ destination: '10.0.0.0/8', via: 'x' }] },
      /^next hop "x"/,
    ],
    [
      'an unknown field inside',
      '/v1/networks/lab/connect',
      { sandbox: 'b', routes: [{ destination: '10.0.0.0/8', dev: 'x' }] },
      'unknown field "routes.0.dev"',
    ],
    [
      'port 0',
      '/v1/networks/lab/connect',
      { sandbox: 'b', ports: [{ protocol: 'tcp', containerPort: { first: 0, last: 1 } }] },
      'field "ports.0.containerPort.first" must be at least 1',
    ],
    [
      'port 65536',
      '/v1/networks/lab/connect',
      { sandbox: 'b', ports: [{ protocol: 'tcp', containerPort: { first: 1, last: 65536 } }] },
      'field "ports.0.containerPort.last" must be at most 65535',
    ],
    [
      'ports backwards',
      '/v1/networks/lab/connect',
      { sandbox: 'b', ports: [{ protocol: 'tcp', containerPort: { first: 2, last: 1 } }] },
      'a port range must not end before it starts',
    ],
    [
      'a bad protocol',
      '/v1/networks/lab/connect',
      { sandbox: 'b', ports: [{ protocol: 'icmp', containerPort: { first: 1, last: 1 } }] },
      'field "ports.0.protocol" must be tcp, udp, sctp',
    ],
    ['a word for dryRun', '/v1/reconcile', { dryRun: 'no' }, 'field "dryRun" must be true or false'],
    ['a field for prune', '/v1/networks/prune', { all: true }, 'unknown field "all"'],
  ]
  test.each(cases)('%s', async (_what, path, body, message) => {
    const got = await call('POST', path, body)
    expect(got).toMatchObject({ status: 400, body: refusal('InvalidParameter', message) })
    expect(cnm.calls).toEqual([])
  })
})

describe('the log', () => {
  test('has one line a request: operation, outcome, milliseconds', async () => {
    await call('GET', '/v1/networks')
    await call('DELETE', '/v1/networks/none')
    const operation = expect.stringMatching(/^[0-9a-f]{8}$/)
    expect(lines).toEqual([
      {
        level: 'info',
        message: 'GET /v1/networks',
        fields: { operation, status: 200, outcome: 'ok', ms: expect.any(Number) },
      },
      {
        level: 'info',
        message: 'DELETE /v1/networks/none',
        fields: {
          operation,
          status: 404,
          outcome: 'NotFound',
          ms: expect.any(Number),
          error: 'there is no network none',
        },
      },
    ])
    expect(lines[0]?.fields.operation).not.toBe(lines[1]?.fields.operation)
  })
})
