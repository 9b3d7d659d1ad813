import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { open } from 'lmdb'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { addresses, Host } from '../helpers/host.js'
import { repo, until } from '../helpers/machine.js'

// The store of a daemon of version 0.1.0, as it was before this version was written (test/fixtures/store/), on a host that
// has been started anew: a network of every kind of one host, one of dockerd's, a sandbox on two of them, ports published
// from its start and later, for some clients only, and what was deleted again.

let host: Host
let file: string

beforeAll(async () => {
  host = await Host.start()
  mkdirSync(host.path('/var/lib/tsnet'), { mode: 0o700 })
  file = host.path('/var/lib/tsnet/tsnet.lmdb')
})
afterAll(() => host?.stop())

function restoreOldStore(): void {
  rmSync(`${file}-lock`, { force: true })
  writeFileSync(file, gunzipSync(readFileSync(join(repo, 'test/fixtures/store/schema-1.lmdb.gz'))))
  chmodSync(file, 0o600)
}

/** What a daemon that cannot start says. */
function refusal(): [status: number | null, stderr: string] {
  const { status, stderr } = host.tryTsnet('daemon', '--log-level', 'fatal')
  return [status, stderr]
}

test('opens in this version with everything that it had, and all of it works again', async () => {
  restoreOldStore()
  await host.startTsnet()
  const networks = host.request<{ name: string; id: string; subnets: { subnet: string }[] }[]>('GET', '/networks')
  expect(networks.map(({ name, id, subnets }) => [name, id.slice(0, 4), ...subnets.map(s => s.subnet)])).toEqual([
    ['docker-dddddddddddd', 'dddd', '10.40.0.0/24'],
    ['host', expect.anything()],
    ['lab', expect.anything(), '10.30.0.0/24', expect.stringMatching(/^fd/)],
    ['lan', expect.anything(), '198.51.100.0/24'],
    ['none', expect.anything()],
  ])
  expect(host.request('POST', '/reconcile', { dryRun: true })).toMatchObject({ changes: [], failures: [] })
  const [sandbox, ...others] = host.request<{ name: string; endpoints: unknown[] }[]>('GET', '/sandboxes')
  expect([sandbox?.name, sandbox?.endpoints.length, others]).toEqual(['box', 2, []])
  const box = host.sandbox('box')
  expect(box.tryRun('ip', '-o', 'addr').stdout).toContain('10.30.0.20/24')
  await host.serve('web', ...box.argv, 'socat', 'TCP-LISTEN:80,fork,reuseaddr', 'SYSTEM:echo hello')
  // from beyond the LAN, on which box has an address too
  const beyond = `TCP:${addresses.host4}:8080,bind=${addresses.beyond4}`
  const ask = () => host.outside.tryRun('socat', '-T2', '-', beyond).stdout
  await until('an answer from outside', () => ask() === 'hello\n')
  expect(host.tryRun('dig', '+short', '@10.30.0.1', 'web').stdout).toBe('10.30.0.20\n')
  // what it had given out is not given out again, and can be given back
  const { addresses: given } = host.request<{ addresses: string[] }>('POST', '/networks/lab/connect', {
    sandbox: host.request<{ name: string }>('POST', '/sandboxes', { name: 'new' }).name,
  })
  expect(given).not.toContain('10.30.0.20/24')
  for (const name of ['box', 'new']) host.request('DELETE', `/sandboxes/${name}`)
  for (const name of ['lab', 'lan']) host.request('DELETE', `/networks/${name}`)
  await host.stopTsnet()
})

test('a store of a newer version is refused with what to do, and left as it is', async () => {
  restoreOldStore()
  const db = open<string, string[]>({ path: file, noSubdir: true, encoding: 'string' })
  await db.put(['revision'], '{"v":2,"value":{"new":"shape"}}')
  await db.close()
  const before = readFileSync(file)
  expect(refusal()).toEqual([
    7,
    'tsnet: the store /var/lib/tsnet/tsnet.lmdb was written by a newer tsnet (schema 2, this one knows 1): run that version, or move it away to begin with an empty store\n',
  ])
  expect(readFileSync(file).equals(before)).toBe(true)
})

test('a store that is damaged is refused with what to do, and moving it away is enough', async () => {
  writeFileSync(file, 'no store')
  expect(refusal()).toEqual([7, expect.stringMatching(/is damaged \(.*\): restore it from a backup, or move it away/)])
  host.run('mv', '/var/lib/tsnet/tsnet.lmdb', '/var/lib/tsnet/broken')
  await host.startTsnet()
  expect(host.request<unknown[]>('GET', '/networks')).toHaveLength(2)
})
