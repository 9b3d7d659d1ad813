import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createApiServer } from '../../src/api/server.js'
import { isErrorKind } from '../../src/errors.js'
import { noLog } from '../../src/log.js'
import { createPluginServer } from '../../src/plugin-api/server.js'
import { wholeApi, wholePlugin } from '../helpers/door-requests.js'
import { FakeDaemon } from '../helpers/fake-daemon.js'
import { fakeDiagnosis } from '../helpers/fake-diagnosis.js'
import { anyBody, cases, patientMs, runs, spentMs, Tally } from '../helpers/hostile.js'
import { until } from '../helpers/machine.js'

// Both doors before the real controller, address management and store, on a host in memory: every request is answered with
// the right status, what is refused has changed nothing, and nothing is kept that was not asked for.

const dir = mkdtempSync(join(tmpdir(), 'tst-doors-'))
const agent = new Agent({ keepAlive: true })
const apiTally = new Tally('API')
const pluginTally = new Tally('plugin socket')
let daemon: FakeDaemon
let servers: { close(): Promise<void> }[]

beforeAll(async () => {
  daemon = await FakeDaemon.start()
  const parts = { log: noLog, version: { version: '1' }, diagnosis: fakeDiagnosis }
  servers = [
    await createApiServer({ cnm: daemon.cnm, ...parts, socketPath: join(dir, 'api.sock') }),
    await createPluginServer({ cnm: daemon.cnm, log: noLog, socketPath: join(dir, 'plugin.sock') }),
  ]
})
afterAll(async () => {
  agent.destroy()
  await Promise.all(servers.map(server => server.close()))
  rmSync(dir, { recursive: true })
})

interface Answer {
  status: number
  text: string
}

/** Of what has no end, the first part. */
function send(socketPath: string, method: string, path: string, body?: Buffer): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { 'content-length': body.length }
    const outgoing = request({ socketPath: join(dir, socketPath), agent, method, path, headers }, response => {
      let text = ''
      const endless = response.headers['content-type']?.includes('ndjson')
      const done = () => {
        if (endless) response.destroy()
        resolve({ status: response.statusCode ?? 0, text })
      }
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part
        if (endless) done()
      })
      response.on('end', done)
      if (endless) setImmediate(done)
    })
    outgoing.on('error', (error: NodeJS.ErrnoException) => {
      // the server has closed an idle connection in the moment in which it was to be used again
      if (outgoing.reusedSocket && ['ECONNRESET', 'EPIPE'].includes(error.code ?? ''))
        resolve(send(socketPath, method, path, body))
      else reject(error)
    })
    outgoing.end(body)
  })
}

/** Everything that the case may have made; kept small, so that looking at all of it stays quick. */
async function tidy(): Promise<void> {
  if (daemon.cnm.endpoints().length + daemon.cnm.networks().length + daemon.cnm.sandboxes().length < 30) return
  const { cnm } = daemon
  for (const { id } of cnm.sandboxes()) await cnm.deleteSandbox(id)
  await cnm.docker.deleteNetwork('a'.repeat(64))
  for (const { name } of cnm.networks())
    if (name !== 'host' && name !== 'none') await cnm.deleteNetwork(name).catch(() => undefined)
}

const descriptors = (): number => readdirSync('/proc/self/fd').length

/** Changes with everything that is stored or made on the host: cheap to ask for after every case. */
async function mark(): Promise<string> {
  const { revision } = await daemon.store.list('no such key')
  return `${revision} ${daemon.world.state()}`
}

interface State {
  mark: string
  everything: string
}
const look = async (): Promise<State> => ({ mark: await mark(), everything: await daemon.everything() })

async function judge(
  run: () => Promise<{ refused: boolean; ms: number }>,
  tally: Tally,
  before: State,
): Promise<State> {
  const { refused, ms } = await run()
  tally.add(refused, ms)
  if (refused) {
    if ((await mark()) === before.mark) return before
    // something was begun and taken back
    const after = await look()
    expect(after.everything).toBe(before.everything)
    return after
  }
  await tidy()
  return look()
}

const ok = [200, 201, 204]
const refusals = [400, 403, 404, 409, 413, 501, 503]

async function api(method: string, path: string, body?: Buffer): Promise<{ refused: boolean; ms: number }> {
  const start = spentMs()
  const { status, text } = await send('api.sock', method, path, body)
  const ms = spentMs() - start
  expect([...ok, ...refusals], `${method} ${path} ${body?.subarray(0, 3_000)}: ${status} ${text}`).toContain(status)
  if (ok.includes(status)) return { refused: false, ms }
  if (method === 'HEAD') return { refused: true, ms }
  const { error } = JSON.parse(text) as { error: { kind: string; message: string } }
  expect(isErrorKind(error.kind)).toBe(true)
  expect(error.message).not.toContain('\n')
  expect(text.length).toBeLessThan(10_000)
  return { refused: true, ms }
}

async function plugin(method: string, body: Buffer): Promise<{ refused: boolean; ms: number }> {
  const start = spentMs()
  const { status, text } = await send('plugin.sock', 'POST', `/${method}`, body)
  const ms = spentMs() - start
  expect([200, 400, 404, 413], `${method} ${body.subarray(0, 3_000)}: ${status} ${text}`).toContain(status)
  const answer = JSON.parse(text) as { Err?: string; Error?: string }
  if (status === 200 && !answer.Err) return { refused: false, ms }
  expect(answer.Err).toBe(answer.Error)
  expect(text.length).toBeLessThan(20_000)
  return { refused: true, ms }
}

const anyRef = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom('lab', 'box', 'peer', 'new', 'host', 'none') },
  {
    weight: 1,
    arbitrary: fc.constantFrom('', '%00', '%', '%zz', '..%2f..', 'x'.repeat(600), '__proto__', 'a%0ab', '0'.repeat(64)),
  },
)
const anyApi = fc.constantFrom(...wholeApi).chain(({ method, path, body }) =>
  fc.record({
    method: fc.oneof(
      { weight: 40, arbitrary: fc.constant(method) },
      { weight: 1, arbitrary: fc.constantFrom('PUT', 'PATCH', 'HEAD', 'OPTIONS') },
    ),
    path: anyRef.map(ref => path.replace(':ref', ref)),
    query:
      method === 'GET'
        ? fc.constantFrom(
            '',
            '?since=10m',
            '?until=2020-01-01',
            '?a=b',
            '?since[]=1&since[]=2',
            '?from=box&to=peer:80',
            '?__proto__=1',
          )
        : fc.constant(''),
    body: body === undefined ? fc.constant(undefined) : anyBody(body),
  }),
)

test('the API', { timeout: patientMs }, async () => {
  let state = await look()
  const open = descriptors()
  await fc.assert(
    fc.asyncProperty(anyApi, async ({ method, path, query, body }) => {
      state = await judge(() => api(method, path + query, body), apiTally, state)
    }),
    { ...runs, endOnFailure: true },
  )
  expect(apiTally.answered).toBeGreaterThan(cases / 20)
  expect(apiTally.refused).toBeGreaterThan(cases / 4)
  await until('the last reader of events to be gone', () => daemon.events.readers === 0)
  expect(descriptors()).toBeLessThan(open + 20)
})

test('the plugin socket', { timeout: patientMs }, async () => {
  let state = await look()
  const open = descriptors()
  const anyCall = fc
    .constantFrom(...wholePlugin)
    .chain(([method, whole]) => fc.tuple(fc.constant(method), anyBody(whole)))
  await fc.assert(
    fc.asyncProperty(anyCall, async ([method, body]) => {
      state = await judge(() => plugin(method, body), pluginTally, state)
    }),
    { ...runs, endOnFailure: true },
  )
  expect(pluginTally.answered).toBeGreaterThan(cases / 20)
  expect(pluginTally.refused).toBeGreaterThan(cases / 4)
  expect(descriptors()).toBeLessThan(open + 20)
})
