import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type RequestListener } from 'node:http'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { patience } from '../../src/net/connections.js'
import { listenUnix, type UnixServer } from '../../src/net/unix-server.js'
import { until } from '../helpers/machine.js'

// Who is slow loses his place to who is not; what never becomes a request is answered too.

const max = 8
let dir: string
let path: string
let server: UnixServer
let open: Socket[]

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tst-con-'))
  path = join(dir, 's.sock')
  open = []
})
afterEach(async () => {
  for (const socket of open) socket.destroy()
  await server.close()
  rmSync(dir, { recursive: true })
})

async function listen(app: RequestListener, hurry: object = patience): Promise<void> {
  const refusal = (status: number, message: string) => ({ status, message })
  server = await listenUnix(createServer(hurry, app), path, { mode: 0o600, connections: { max, refusal } })
}

/** A client that has sent `text`, and what it was told so far. */
interface Client {
  socket: Socket
  text: string
  closed: boolean
}
async function client(text: string): Promise<Client> {
  const socket = connect(path)
  open.push(socket)
  const got: Client = { socket, text: '', closed: false }
  socket.on('error', () => undefined)
  socket.on('close', () => {
    got.closed = true
  })
  socket.setEncoding('utf8').on('data', (part: string) => {
    got.text += part
  })
  await once(socket, 'connect')
  if (text !== '') socket.write(text)
  return got
}
const clients = (count: number, text: string) => Promise.all(Array.from({ length: count }, () => client(text)))
const whole = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'

const hello: RequestListener = (_, response) => response.end('hello')

test.each([
  ['say nothing', ''],
  ['send headers without end', 'GET / HTTP/1.1\r\nHost: x\r\nX-'],
  ['send a body without end', 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc'],
  ['keep their connection after an answer', whole],
])('clients that %s give way, the oldest first', async (_what, text) => {
  // answers when the body is there
  await listen((request, response) => void request.resume().on('end', () => response.end('hello')))
  const slow = await clients(max, text)
  if (text === whole) await until('all to be answered', () => slow.every(({ text }) => text.includes('hello')))
  const [first] = slow
  const quick = await client(whole)
  await until('an answer', () => quick.text.includes('hello'))
  await until('one to have gone', () => slow.some(({ closed }) => closed))
  expect(slow.filter(({ closed }) => closed)).toEqual([first])
})

test('clients that do not read their answer give way', async () => {
  const large = 'x'.repeat(8 << 20)
  await listen((request, response) => response.end(request.url === '/large' ? large : 'hello'))
  const slow = await clients(max, 'GET /large HTTP/1.1\r\nHost: x\r\n\r\n')
  for (const { socket } of slow) socket.pause()
  const quick = await client(whole)
  await until('an answer', () => quick.text.includes('hello'))
})

test('while all are being served another one is refused with a status, and nobody is cut off', async () => {
  const waiting: (() => void)[] = []
  await listen((_, response) => void waiting.push(() => response.end('hello')))
  const served = await clients(max, whole)
  await until('all to be in flight', () => waiting.length === max)
  const late = await client(whole)
  await until('the refusal', () => late.closed)
  expect(late.text).toMatch(/^HTTP\/1\.1 503 Service Unavailable\r\n/)
  expect(late.text).toMatch(/\r\n\r\n\{"status":503,"message":"8 clients are being served: try again later"\}$/)
  for (const answer of waiting) answer()
  await until('all to be answered', () => served.every(({ text }) => text.includes('hello')))
})

test.each([
  ['no HTTP', 'hello\r\n\r\n', 400, 'this is not HTTP'],
  ['headers without end', `GET / HTTP/1.1\r\nX: ${'x'.repeat(20_000)}`, 431, 'the headers are larger than 16 KiB'],
  [
    'two lengths',
    'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n',
    400,
    'this is not HTTP',
  ],
])('%s is answered with a status', async (_what, text, status, message) => {
  await listen(hello)
  const got = await client(text)
  await until('the end', () => got.closed)
  expect(got.text).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `))
  expect(got.text).toContain(message)
})

test.each([
  ['nothing', ''],
  ['half the headers', 'GET / HTTP/1.1\r\nHo'],
  ['half the body', 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc'],
])('who sends %s is told so when the time is over', async (_what, text) => {
  const hurry = { headersTimeout: 200, requestTimeout: 400, connectionsCheckingInterval: 50 }
  await listen((request, response) => void request.resume().on('end', () => response.end()), hurry)
  const got = await client(text)
  await until('the end', () => got.closed)
  expect(got.text).toMatch(/^HTTP\/1\.1 408 Request Timeout\r\n/)
})

test('the times of both doors are seconds, not minutes', () => {
  expect(patience.headersTimeout).toBeLessThanOrEqual(10_000)
  expect(patience.requestTimeout).toBeLessThanOrEqual(30_000)
  expect(patience.connectionsCheckingInterval).toBeLessThanOrEqual(5_000)
})
