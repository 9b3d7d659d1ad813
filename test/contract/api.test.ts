import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createApiServer } from '../../src/api/server.js'
import { conflict, unavailable } from '../../src/errors.js'
import { type Log, noLog } from '../../src/log.js'
import { type Answer, callApi, refusal } from '../helpers/api-client.js'
import { FakeCnm } from '../helpers/fake-cnm.js'
import { fakeDiagnosis } from '../helpers/fake-diagnosis.js'

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
  server = await createApiServer({ cnm, diagnosis: fakeDiagnosis, log, socketPath, version: { version: '1.2.3' } })
})

afterEach(async () => {
  await server.close()
  rmSync(dir, { recursive: true })
})

const call = (method: string, path: string, body?: unknown): Promise<Answer> => callApi(socketPath, method, path, body)

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
    expect(below).toMatchObject({
      status: 400,
      body: refusal('InvalidParameter', 'field "name" must be at most 255 characters long'),
    })
    expect(cnm.calls).toEqual([])
  })

  test('a body that is not JSON', async () =>
    expect(await call('POST', '/v1/networks', '{"name"')).toMatchObject({
      status: 400,
      body: refusal('InvalidParameter', /^the body is not JSON: /),
    }))
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
