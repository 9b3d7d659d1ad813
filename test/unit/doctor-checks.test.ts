import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Check } from '../../src/cnm/diagnosis.js'
import { diskChecks } from '../../src/diagnosis/host-checks.js'
import { differenceChecks } from '../../src/diagnosis/network-checks.js'
import { dockerCheck, dockerNetworkChecks, pluginCheck } from '../../src/diagnosis/service-checks.js'
import { FakeDockerd } from '../helpers/fake-dockerd.js'

// Each thing that doctor looks at beside the kernel: what it says of it when it is well and when it is not, and what to do.

let dir: string
let socket: string
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tst-doc-'))
  socket = join(dir, 's.sock')
})
afterEach(() => rmSync(dir, { recursive: true }))

const short = ({ state, what, words, fix = '' }: Check): string => `${state} ${what}: ${words} -> ${fix}`

describe('dockerd', () => {
  let dockerd: FakeDockerd | undefined
  afterEach(async () => {
    await dockerd?.close()
    dockerd = undefined
  })

  test('that answers is well, one that is too old is to be upgraded', async () => {
    dockerd = await FakeDockerd.start(socket)
    expect(short(await dockerCheck(socket, 1))).toBe(`ok dockerd: dockerd 20.10.24 answers on ${socket} -> `)
    dockerd.version = { Version: '19.03.15', ApiVersion: '1.40' }
    expect(short(await dockerCheck(socket, 1))).toMatch(/^warn dockerd: dockerd is 19\.03\.15, .* -> upgrade Docker$/)
  })

  test('that is not there is wrong where networks are its, and fine where none is', async () => {
    expect(short(await dockerCheck(socket, 2))).toMatch(
      /^fail dockerd: .*, and 2 networks here .* -> systemctl start docker$/,
    )
    expect((await dockerCheck(socket, 0)).state).toBe('ok')
    expect(await dockerNetworkChecks(socket, '/p.sock', [])).toEqual([])
  })

  test('that does not know a network of Docker is named with the network and how to end that', async () => {
    dockerd = await FakeDockerd.start(socket)
    const [known, lost, bound] = ['a', 'b', 'c'].map(digit => digit.repeat(64)) as [string, string, string]
    dockerd.networks = [{ Id: known, Name: 'known', Driver: 'tsnet', Options: null }]
    const network = (id: string, name: string, createdBy: 'docker' | 'tsnet', dockerNetworkIds: string[] = []) => ({
      ...{ id, name, createdBy, dockerNetworkIds, scope: 'local' as const },
    })
    const networks = [
      network(known, 'known', 'docker'),
      network('d'.repeat(64), 'lab', 'tsnet', [known]),
      network(lost, 'lost', 'docker'),
      network('e'.repeat(64), 'far', 'tsnet', [bound]),
      network('f'.repeat(64), 'own', 'tsnet'),
    ]
    const got = (await dockerNetworkChecks(socket, '/p.sock', networks)).map(short)
    expect(got).toEqual([
      `warn network lost: Docker had it made, and dockerd on ${socket} does not know it -> tsnet network rm lost    # unless another dockerd has it`,
      expect.stringMatching(
        /^warn network far: Docker network cccccccccccc is bound to it, .* -> curl --unix-socket \/p.sock -d '\{"NetworkID":"c{64}"\}' /,
      ),
    ])
  })
})

test("the driver's socket: answering, not there, answering nonsense", async () => {
  expect(short(await pluginCheck(socket))).toMatch(
    /^fail plugin: dockerd gets no answer on .* -> systemctl restart tsnet/,
  )
  let status = 200
  const server: Server = createServer((_, response) => response.writeHead(status).end('{}'))
  await new Promise<void>(resolve => server.listen(socket, resolve))
  expect((await pluginCheck(socket)).state).toBe('ok')
  status = 500
  expect(short(await pluginCheck(socket))).toMatch(/^fail plugin: .*: it says 500 -> /)
  server.closeAllConnections()
  server.close()
})

test('records and leftovers: each difference is a line with its remedy', () => {
  const report = {
    dryRun: true,
    changes: ['create link a', 'delete link b, which belongs to nothing'],
    failures: ['c: no'],
  }
  expect(differenceChecks(report).map(short)).toEqual([
    'fail records: not as it is recorded; to be done: create link a -> tsnet reconcile',
    'fail leftovers: nothing is recorded of it; to be done: delete link b, which belongs to nothing -> tsnet reconcile',
    'fail records: c: no -> tsnet reconcile',
  ])
  expect(differenceChecks({ dryRun: true, changes: [], failures: [] }).map(({ state }) => state)).toEqual(['ok'])
})

test('the disk: how much is free', () => {
  expect(short(diskChecks(dir)[0]!)).toMatch(/^(ok|warn|fail) disk: .* has \d+ MB free/)
})
