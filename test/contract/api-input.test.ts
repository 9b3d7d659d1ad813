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
})
afterAll(async () => {
  await server.close()
  rmSync(dir, { recursive: true })
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
      /has 16 bytes: it must have 1 to 15$/,
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
    const got = await callApi(socketPath, 'POST', path, body)
    expect(got).toMatchObject({ status: 400, body: refusal('InvalidParameter', message) })
    expect(cnm.calls).toEqual([])
  })
})

describe('what is larger than anything right is refused, and what is as large is not', () => {
  const many = <T>(count: number, of: (n: number) => T): T[] => Array.from({ length: count }, (_, n) => of(n))
  const entries = (count: number, key = 1, value = 1) =>
    Object.fromEntries(many(count, n => [`${n}`.padEnd(key, 'k'), 'v'.repeat(value)]))
  const port = { protocol: 'tcp', containerPort: { first: 80, last: 80 } }
  const connect = '/v1/networks/lab/connect'
  const options = 'an object of options must have at most 256 entries, with keys of at most 255 characters'
  const cases: [string, string, number, (size: number) => object, string][] = [
    [
      'ports',
      connect,
      10_000,
      n => ({ sandbox: 'b', ports: many(n, () => port) }),
      'field "ports" must have at most 10000 entries',
    ],
    [
      'clients',
      connect,
      256,
      n => ({ sandbox: 'b', ports: [{ ...port, from: many(n, () => '10.0.0.0/8') }] }),
      'field "ports.0.from" must have at most 256 entries',
    ],
    [
      'aliases',
      connect,
      256,
      n => ({ sandbox: 'b', aliases: many(n, i => `a${i}`) }),
      'field "aliases" must have at most 256 entries',
    ],
    [
      'routes',
      connect,
      256,
      n => ({ sandbox: 'b', routes: many(n, () => ({ destination: '10.0.0.0/8' })) }),
      'field "routes" must have at most 256 entries',
    ],
    ['options', connect, 256, n => ({ sandbox: 'b', options: entries(n) }), options],
    [
      'subnets',
      '/v1/networks',
      256,
      n => ({ name: 'a', subnets: many(n, () => '10.0.0.0/8') }),
      'field "subnets" must have at most 256 entries',
    ],
    ['labels', '/v1/networks', 256, n => ({ name: 'a', labels: entries(n) }), options],
    ['a key', '/v1/networks', 255, n => ({ name: 'a', labels: entries(1, n) }), options],
    [
      'a value',
      '/v1/networks',
      4096,
      n => ({ name: 'a', labels: entries(1, 1, n) }),
      'field "labels.0" must be at most 4096 characters long',
    ],
    [
      'hosts',
      '/v1/sandboxes',
      256,
      n => ({ name: 's', extraHosts: many(n, () => ({ name: 'h', address: '10.0.0.1' })) }),
      'field "extraHosts" must have at most 256 entries',
    ],
    ['a word', connect, 255, n => ({ sandbox: 's'.repeat(n) }), 'field "sandbox" must be at most 255 characters long'],
    [
      'an end of explain',
      '/v1/explain',
      300,
      n => ({ from: 'f'.repeat(n), to: 't' }),
      'field "from" must be at most 300 characters long',
    ],
  ]
  test.each(cases)('%s', async (_what, path, most, body, message) => {
    cnm.calls.length = 0
    const over = await callApi(socketPath, 'POST', path, body(most + 1))
    expect(over).toMatchObject({ status: 400, body: refusal('InvalidParameter', message) })
    expect(cnm.calls).toEqual([])
    const { body: answer } = await callApi(socketPath, 'POST', path, body(most))
    expect(JSON.stringify(answer)).not.toContain('at most')
  })

  test('a name in a path', async () => {
    const message = 'a name or id is at most 512 characters long'
    const got = await callApi(socketPath, 'GET', `/v1/networks/${'n'.repeat(513)}`)
    expect(got).toMatchObject({ status: 400, body: refusal('InvalidParameter', message) })
    expect((await callApi(socketPath, 'GET', `/v1/networks/${'n'.repeat(512)}`)).status).toBe(404)
  })
})
