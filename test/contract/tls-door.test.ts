import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as tlsConnect } from 'node:tls'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type ApiServer, createApiServer } from '../../src/api/server.js'
import { noLog } from '../../src/log.js'
import { type BuiltCli, buildCli, runCli } from '../helpers/built-cli.js'
import { makeCertificates, type TlsFiles } from '../helpers/etcd-tls.js'
import { FakeCnm } from '../helpers/fake-cnm.js'
import { fakeDiagnosis } from '../helpers/fake-diagnosis.js'

// The API over TCP: nobody without a certificate of our CA gets as far as a request.

let cli: BuiltCli
let dir: string
let files: TlsFiles
let server: ApiServer
let host: string
let port: number
const cnm = new FakeCnm()

beforeAll(async () => {
  cli = buildCli()
  dir = mkdtempSync(join(tmpdir(), 'tsnet-tls-'))
  files = makeCertificates(dir, ['127.0.0.1'])
  port = await freePort()
  host = `tcp://127.0.0.1:${port}`
  const tls = { ca: files.ca, cert: files.cert, key: files.key }
  const tcp = { address: { host: '127.0.0.1', port }, tls }
  const unix = { socketPath: join(dir, 'api.sock'), version: {} }
  server = await createApiServer({ cnm, diagnosis: fakeDiagnosis, log: noLog, ...unix, tcp })
})
afterAll(async () => {
  await server?.close()
  cli?.remove()
  if (dir) rmSync(dir, { recursive: true })
})

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await new Promise(resolve => probe.once('listening', resolve))
  const { port } = probe.address() as AddressInfo
  await new Promise(resolve => probe.close(resolve))
  return port
}

const certificate = () => ['--tls-ca', files.ca, '--tls-cert', files.clientCert, '--tls-key', files.clientKey]
const ask = (...args: string[]) => runCli(cli, ['--host', host, ...args], { env: { TSNET_SOCKET: join(dir, 'none') } })

/** What the server says to one who brings this, up to the end of the connection. */
function said(options: object): Promise<string> {
  return new Promise(resolve => {
    let text = ''
    const client = tlsConnect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...options }, () =>
      client.write('GET /v1/networks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'),
    )
    client.setEncoding('utf8').on('data', (part: string) => {
      text += part
    })
    client.on('error', () => undefined)
    client.on('close', () => resolve(text))
  })
}

describe('the command line', () => {
  test('works through it as on the socket', async () => {
    expect(await ask(...certificate(), 'network', 'create', 'far')).toMatchObject({ status: 0, stderr: '' })
    expect((await ask(...certificate(), '-q', 'network', 'ls')).stdout).toMatch(/^[0-9a-f]{64}\n$/)
    const env = {
      TSNET_HOST: host,
      TSNET_TLS_CA: files.ca,
      TSNET_TLS_CERT: files.clientCert,
      TSNET_TLS_KEY: files.clientKey,
    }
    expect((await runCli(cli, ['network', 'rm', 'far'], { env })).status).toBe(0)
    expect(cnm.calls.map(([verb]) => verb)).toEqual(['createNetwork', 'deleteNetwork'])
  })

  test.each([
    ['no certificate', [], 2, /takes certificates on both sides: give --tls-ca, --tls-cert and --tls-key\n$/],
    [
      'a file that is not there',
      ['--tls-ca', '/no/ca', '--tls-cert', '/c', '--tls-key', '/k'],
      2,
      /\/no\/ca cannot be/,
    ],
  ])('with %s is refused in one sentence', async (_what, args, status, message) => {
    const got = await ask(...args, 'network', 'ls')
    expect(got).toMatchObject({ status, stdout: '', stderr: expect.stringMatching(message) })
  })

  test('does not believe a daemon whose certificate another CA has signed', async () => {
    const args = ['--tls-ca', files.otherCa, '--tls-cert', files.clientCert, '--tls-key', files.clientKey]
    const got = await ask(...args, 'network', 'ls')
    expect(got).toMatchObject({
      status: 7,
      stderr: expect.stringMatching(/^tsnet: the daemon on tcp:.* cannot be reached/),
    })
  })

  test.each([[['exec', 'box', '--', 'true']], [['run', '--', 'true']], [['docker', 'attach', 'lab']]])(
    '%j, which is done where it is called, is refused',
    async args => {
      const got = await ask(...certificate(), ...args)
      expect(got).toMatchObject({
        status: 2,
        stderr: expect.stringContaining('works on the host that it is called on'),
      })
    },
  )
})

describe('the door', () => {
  test('answers who brings a certificate of its CA', async () => {
    const { readFileSync } = await import('node:fs')
    const own = { cert: readFileSync(files.clientCert), key: readFileSync(files.clientKey) }
    expect(await said(own)).toMatch(/^HTTP\/1\.1 200 OK/)
    expect(await said({ ...own, maxVersion: 'TLSv1.1', minVersion: 'TLSv1' })).toBe('')
  })

  test('says nothing to who brings none, one of another CA, or no TLS', async () => {
    const other = makeCertificates(mkdtempSync(join(dir, 'other-')), ['127.0.0.1'])
    const { readFileSync } = await import('node:fs')
    expect(await said({})).toBe('')
    expect(await said({ cert: readFileSync(other.clientCert), key: readFileSync(other.clientKey) })).toBe('')
    const plain = connect(port, '127.0.0.1', () => plain.write('GET /v1/networks HTTP/1.1\r\nHost: x\r\n\r\n'))
    let text = ''
    plain.on('data', part => {
      text += part
    })
    plain.on('error', () => undefined)
    await new Promise(resolve => plain.once('close', resolve))
    expect(text).not.toContain('HTTP/1.1 200')
  })

  test('is not blocked by those who connect and say nothing', { timeout: 30_000 }, async () => {
    const silent = Array.from({ length: 1_500 }, () => connect(port, '127.0.0.1').on('error', () => undefined))
    await sleep(200)
    expect((await ask(...certificate(), 'network', 'ls')).status).toBe(0)
    for (const socket of silent) socket.destroy()
  })

  test('takes new certificates while it runs, and keeps the old ones where the new are none', async () => {
    const renewed = makeCertificates(mkdtempSync(join(dir, 'new-')), ['127.0.0.1'])
    const broken = join(dir, 'broken.pem')
    writeFileSync(broken, 'no certificate')
    expect(() => server.renewTls({ ca: broken, cert: broken, key: broken })).toThrow(/do not make TLS/)
    expect((await ask(...certificate(), 'network', 'ls')).status).toBe(0)
    server.renewTls({ ca: renewed.ca, cert: renewed.cert, key: renewed.key })
    expect((await ask(...certificate(), 'network', 'ls')).status).toBe(7)
    const args = ['--tls-ca', renewed.ca, '--tls-cert', renewed.clientCert, '--tls-key', renewed.clientKey]
    expect((await ask(...args, 'network', 'ls')).status).toBe(0)
  })
})
