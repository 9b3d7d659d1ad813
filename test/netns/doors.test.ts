import { existsSync, readdirSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { callApi } from '../helpers/api-client.js'
import { DockerdClient } from '../helpers/dockerd-client.js'
import { makeCertificates, type TlsFiles } from '../helpers/etcd-tls.js'
import { Host, pluginPath, socketPath } from '../helpers/host.js'
import { repo, until } from '../helpers/machine.js'

// The doors of a daemon that runs: the API's socket, Docker's, and the API's over TCP.

const tcp = '127.0.0.1:2443'
let host: Host
let files: TlsFiles
let options: string[]

beforeAll(async () => {
  host = await Host.start()
  files = makeCertificates(host.dir, ['127.0.0.1'])
  options = ['--listen', `tcp://${tcp}`, '--tls-ca', files.ca, '--tls-cert', files.cert, '--tls-key', files.key]
  await host.startTsnet(...options)
})
afterAll(() => host?.stop())

const daemon = (): string => host.run('pgrep', '-xf', '.*tsnet.js daemon.*').trim()
const openFiles = (): number => readdirSync(host.path(`/proc/${daemon()}/fd`)).length
const dockerId = 'd'.repeat(64)
const dockerNetwork = {
  NetworkID: dockerId,
  Options: {},
  IPv4Data: [{ AddressSpace: 'LocalDefault', Pool: '10.20.0.0/24', Gateway: '10.20.0.1/24', AuxAddresses: {} }],
  IPv6Data: [],
}

/** What a client does who has to be served as if nobody else were there. */
const serve = {
  api: async () => {
    const path = host.path(socketPath)
    expect((await callApi(path, 'POST', '/v1/networks', { name: 'lab' })).status).toBe(201)
    expect((await callApi(path, 'DELETE', '/v1/networks/lab')).status).toBe(204)
  },
  plugin: async () => {
    const dockerd = new DockerdClient(host.path(pluginPath))
    expect(await dockerd.call('NetworkDriver.CreateNetwork', dockerNetwork)).toEqual({})
    expect(await dockerd.call('NetworkDriver.DeleteNetwork', { NetworkID: dockerId })).toEqual({})
    dockerd.close()
  },
  tcp: async () => {
    const certificate = ['--tls-ca', files.ca, '--tls-cert', files.clientCert, '--tls-key', files.clientKey]
    const { status, stdout } = await host.startCli('--host', `tcp://${tcp}`, ...certificate, 'version')
    expect([status, stdout]).toEqual([0, expect.stringContaining('daemon: version')])
  },
}
const slow = 600

test(`${slow} slow clients at each door keep nobody else waiting, and leave nothing when they go`, async () => {
  await Promise.all(Object.values(serve).map(ask => ask()))
  const before = openFiles()
  const program = join(repo, 'test/helpers/slow-clients.mjs')
  const certificate = [files.clientCert, files.clientKey]
  for (const [name, ...door] of [
    ['api', socketPath],
    ['plugin', pluginPath],
    ['tcp', tcp, ...certificate],
  ] as const)
    await host.serve(`slow-${name}`, process.execPath, program, String(slow), ...door)
  for (const name of Object.keys(serve))
    await until(`slow clients of ${name}`, () => host.logOf(`slow-${name}`).includes('ready'), 60_000)
  // each door has room for 512, and TCP for as many more who have not shown a certificate yet
  await until('the doors to be full', () => openFiles() > before + 512 * 2)
  expect(openFiles()).toBeLessThan(before + 512 * 4 + 100)
  for (let turn = 0; turn < 3; turn++) await Promise.all(Object.values(serve).map(ask => ask()))
  for (const name of Object.keys(serve)) await host.end(`slow-${name}`, 'KILL')
  await until('their connections to be closed', () => openFiles() <= before + 5)
  await Promise.all(Object.values(serve).map(ask => ask()))
})

test('of readers of events there are 128 at most; the next is refused, and has a place when one goes', async () => {
  const path = host.path(socketPath)
  const readers = await Promise.all(Array.from({ length: 128 }, () => Asked.send(path, 'GET /v1/events')))
  for (const reader of readers) await until('the stream to begin', () => reader.text.includes('200 OK'))
  expect(await callApi(path, 'GET', '/v1/events')).toMatchObject({
    status: 503,
    body: { error: { kind: 'Unavailable', message: 'there are 128 readers of events already' } },
  })
  await serve.api()
  readers.pop()!.socket.destroy()
  const next = await until('a place', async () => {
    const got = await Asked.send(path, 'GET /v1/events')
    await until('an answer', () => got.text.includes('HTTP/1.1 '))
    return got.text.includes('200 OK') && got
  })
  for (const { socket } of [...readers, next]) socket.destroy()
})

/** A request whose body, if it has one, comes when the test says so. */
class Asked {
  text = ''
  closed = false

  private constructor(readonly socket: Socket) {
    socket.setEncoding('utf8').on('data', (part: string) => {
      this.text += part
    })
    socket.on('error', () => undefined)
    socket.on('close', () => {
      this.closed = true
    })
  }

  static send(path: string, line: string, body = ''): Promise<Asked> {
    const asked = new Asked(connect(path))
    // the daemon says that it has the request before it has the body (RFC 9110, 10.1.1)
    const head = [`${line} HTTP/1.1`, 'Host: x', ...(body === '' ? [] : ['Expect: 100-continue'])]
    asked.socket.write([...head, `Content-Length: ${body.length}`, '', ''].join('\r\n'))
    return Promise.resolve(asked)
  }
}

test('told to stop, it answers what is in progress, refuses what is new, and does not wait for who never ends', async () => {
  const [api, plugin] = [socketPath, pluginPath].map(path => host.path(path)) as [string, string]
  const network = JSON.stringify({ name: 'late' })
  const dockers = JSON.stringify(dockerNetwork)
  const asked = await Promise.all([
    Asked.send(plugin, 'POST /NetworkDriver.CreateNetwork', dockers),
    Asked.send(api, 'POST /v1/networks', network),
    Asked.send(api, 'POST /v1/networks', 'never comes'),
    Asked.send(api, 'GET /v1/events'),
  ])
  const [dockersCall, call, endless, reader] = asked
  const hasThem = () =>
    reader.text.includes(' 200 OK') && [dockersCall, call, endless].every(({ text }) => text.includes(' 100 Continue'))
  await until('the daemon to have them', hasThem)
  const idle = await Asked.send(plugin, 'POST /Plugin.Activate')
  await until('an answer', () => idle.text.includes('NetworkDriver'))
  const ended = host.end('tsnet', 'TERM')
  await until("Docker's socket to be gone", () => !existsSync(plugin))
  expect(dockersCall.closed).toBe(false)
  dockersCall.socket.write(dockers)
  await until('the answer to dockerd', () => dockersCall.closed)
  expect(dockersCall.text).toMatch(/\r\n\r\nHTTP\/1.1 200 OK\r\n[\s\S]*\r\n\r\n\{\}$/)
  expect(idle.closed).toBe(true)
  await until("the API's socket to be gone", () => !existsSync(api))
  await expect(callApi(api, 'GET', '/v1/networks')).rejects.toThrow(/ENOENT/)
  expect(call.closed).toBe(false)
  call.socket.write(network)
  await until('the answer', () => call.closed)
  expect(call.text).toMatch(/\r\n\r\nHTTP\/1.1 201 Created\r\n/)
  expect(await ended).toBe(0)
  expect([reader.closed, endless.closed]).toEqual([true, true])
  expect(endless.text).not.toMatch(/HTTP\/1.1 2\d\d [^C]/)
  await host.startTsnet(...options)
  const names = host.request<{ id: string; name: string }[]>('GET', '/networks').map(({ id, name }) => [id, name])
  expect(names).toEqual(
    expect.arrayContaining([
      [expect.any(String), 'late'],
      [dockerId, expect.any(String)],
    ]),
  )
})
