import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createApiServer } from '../../src/api/server.js'
import { noLog } from '../../src/log.js'
import { callApi, refusal } from '../helpers/api-client.js'
import { FakeCnm } from '../helpers/fake-cnm.js'
import { fakeDiagnosis } from '../helpers/fake-diagnosis.js'

const dir = mkdtempSync(join(tmpdir(), 'tsnet-api-'))
const socketPath = join(dir, 'api.sock')
const cnm = new FakeCnm()
let server: { close(): Promise<void> }

beforeAll(async () => {
  server = await createApiServer({ cnm, diagnosis: fakeDiagnosis, log: noLog, socketPath, version: {} })
  await cnm.createNetwork({ name: 'lab' })
  await cnm.createSandbox({ name: 'box' })
  await cnm.connect('lab', 'box', {})
})
afterAll(async () => {
  await server.close()
  rmSync(dir, { recursive: true })
})

const post = (verb: string, body: unknown, ref = 'box') =>
  callApi(socketPath, 'POST', `/v1/endpoints/${ref}/${verb}`, body)
const range = (first: number, last = first) => ({ first, last })
const port = { protocol: 'udp', hostIp: '::1', hostPort: range(53), containerPort: range(53), from: ['fd00::/8'] }

test('publish and unpublish ask for what the body says, and answer with the endpoint', async () => {
  const published = await post('publish', { port, network: 'lab', replace: true })
  expect(published.body).toMatchObject({ sandbox: 'box', bindings: [{ protocol: 'udp', hostIp: '::1', hostPort: 53 }] })
  expect(published.status).toBe(201)
  const { from: _, ...asked } = port
  expect((await post('unpublish', { port: asked })).status).toBe(204)
  expect(cnm.calls.slice(-2)).toEqual([
    ['publish', 'box', { port, network: 'lab', replace: true }],
    ['unpublish', 'box', { port: asked }],
  ])
  expect((await post('publish', { port }, 'nobody')).status).toBe(404)
})

describe('bad input is refused with one sentence and nothing is called', () => {
  const cases: [string, unknown, RegExp][] = [
    ['no port', {}, /^field "port" is missing/],
    ['a text', { port: '80:80' }, /^field "port" must be an object/],
    ['no protocol', { port: { containerPort: range(80) } }, /^field "port.protocol" must be tcp, udp, sctp/],
    ['another protocol', { port: { ...port, protocol: 'icmp' } }, /^field "port.protocol" must be tcp, udp, sctp/],
    ['a port of 0', { port: { ...port, hostPort: range(0) } }, /^field "port.hostPort.first"/],
    ['a port past the last', { port: { ...port, containerPort: range(65_536) } }, /^field "port.containerPort.first"/],
    ['a range backwards', { port: { ...port, hostPort: range(9, 8) } }, /9-8|first|before/],
    [
      'another number of host ports',
      { port: { ...port, hostPort: range(1, 3), containerPort: range(1, 2) } },
      /as many host ports as container ports/,
    ],
    ['no address', { port: { ...port, hostIp: 'localhost' } }, /localhost/],
    ['no clients', { port: { ...port, from: ['everybody'] } }, /everybody/],
    ['an unknown field', { port: { ...port, hostPorts: 1 } }, /hostPorts/],
  ]
  test.each(cases)('%s', async (_, body, message) => {
    const before = cnm.calls.length
    const got = await post('publish', body)
    expect({ status: got.status, ...got.body }).toEqual({ status: 400, ...refusal('InvalidParameter', message) })
    expect(cnm.calls.length).toBe(before)
  })
})
