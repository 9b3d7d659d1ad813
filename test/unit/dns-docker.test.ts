import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { DockerNames } from '../../src/cnm/names.js'
import { DockerWatch } from '../../src/dns/docker.js'
import { noLog } from '../../src/log.js'
import { until } from '../helpers/machine.js'

// A dockerd that fails in ways that a real one does not on demand.

const ours = 'a'.repeat(64)
const attachment = { NetworkID: ours, EndpointID: 'e1', Aliases: ['store', 'shop'], DNSNames: ['shop', 'c1'] }
const foreign = { NetworkID: 'b'.repeat(64), EndpointID: 'e2', Aliases: null }

let dir: string
let socketPath: string
let server: Server | undefined
let streams: ServerResponse[]
let learned: DockerNames[]
let watch: DockerWatch
let inspect: () => unknown

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tst-dk-'))
  socketPath = join(dir, 'docker.sock')
  streams = []
  learned = []
  inspect = () => ({ Name: '/shop', NetworkSettings: { Networks: { lab: attachment, other: foreign } } })
  watch = new DockerWatch({
    socketPath,
    knows: id => id === ours,
    learned: async names => {
      learned.push(names)
      if (names.networks.length > 0) throw new Error('the store is full')
    },
    log: noLog,
  })
})
afterEach(async () => {
  await watch.close()
  await stop()
  rmSync(dir, { recursive: true })
})

async function start(): Promise<void> {
  server = createServer((request, response) => {
    const path = request.url!.split('?')[0]!
    if (path === '/events') {
      streams.push(response)
      response.flushHeaders()
    } else if (path === '/networks')
      response.end(
        JSON.stringify([
          { Id: ours, Name: 'lab' },
          { Id: foreign.NetworkID, Name: 'bridge' },
        ]),
      )
    else if (path === '/containers/json')
      response.end(
        JSON.stringify([
          { Id: 'c1', Names: ['/shop'], NetworkSettings: { Networks: { lab: attachment } } },
          ...(request.url!.includes('all=1')
            ? [{ Id: 'c2', Names: ['/stopped'], NetworkSettings: { Networks: {} } }]
            : []),
        ]),
      )
    else if (path === '/containers/c1/json') response.end(JSON.stringify(inspect()))
    else {
      response.statusCode = 404
      response.end('{"message":"No such container"}')
    }
  })
  await new Promise<void>(resolve => server!.listen(socketPath, resolve))
}

async function stop(): Promise<void> {
  server?.closeAllConnections()
  await new Promise(resolve => (server === undefined ? resolve(0) : server.close(resolve)))
  server = undefined
}

const say = (event: object): boolean => streams.at(-1)!.write(`${JSON.stringify(event)}\n`)
const connected = (container: string, network = ours) => ({
  Type: 'network',
  Action: 'connect',
  Actor: { ID: network, Attributes: { container, name: 'lab' } },
})
const all: DockerNames[] = [
  { networks: [{ id: ours, name: 'lab' }], endpoints: [] },
  { networks: [], endpoints: [{ id: 'e1', name: 'shop', aliases: ['store', 'c1'] }] },
  { networks: [], endpoints: [], containers: ['shop', 'stopped'] },
]

test('a dockerd that comes late is found, and what it has is learned, foreign networks apart', async () => {
  await new Promise(resolve => setTimeout(resolve, 100))
  await start()
  await until('everything to be learned', () => learned.length === 3)
  expect(learned).toEqual(all)
})

test('events are followed in whatever pieces they come, and what is not ours or gone is passed over', async () => {
  await start()
  await until('everything to be learned', () => learned.length === 3)
  learned.length = 0
  say(connected('gone'))
  say(connected('c1', foreign.NetworkID))
  const line = `${JSON.stringify(connected('c1'))}\n`
  streams[0]!.write(line.slice(0, 40))
  await new Promise(resolve => setTimeout(resolve, 20))
  streams[0]!.write(line.slice(40))
  await until('the event to be followed', () => learned.length === 1)
  say({ Type: 'container', Action: 'rename', Actor: { ID: 'c1' } })
  await until('the event to be followed', () => learned.length === 2)
  say({ Type: 'container', Action: 'destroy', Actor: { ID: 'c2' } })
  await until('the event to be followed', () => learned.length === 3)
  expect(learned).toEqual([all[1], all[1], all[2]])
})

test.each<[string, () => void]>([
  ['garbage', () => streams.at(-1)!.write('{"no json\n')],
  ['an event of another shape', () => say({ Type: 7 })],
  ['the end of the stream', () => streams.at(-1)!.end()],
  ['a broken connection', () => streams.at(-1)!.destroy()],
  [
    'a container of another shape',
    () => {
      const before = inspect
      inspect = () => {
        inspect = before
        return { Name: 7 }
      }
      say(connected('c1'))
    },
  ],
])('after %s everything is learned anew', async (_what, fail) => {
  await start()
  await until('everything to be learned', () => learned.length === 3)
  learned.length = 0
  fail()
  await until('everything to be learned again', () => learned.length === 3)
  expect(learned).toEqual(all)
  expect(streams).toHaveLength(2)
})

test('closing ends it at once, whether dockerd is there or not', async () => {
  await watch.close()
  await start()
  await new Promise(resolve => setTimeout(resolve, 400))
  expect(streams).toEqual([])
})
