import { mkdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { addresses, Host } from '../helpers/host.js'
import { repo, until } from '../helpers/machine.js'

// examples/*.sh do what they say, and leave nothing.

let host: Host
beforeAll(async () => {
  host = await Host.startWithTsnet()
  mkdirSync(join(host.dir, 'bin'))
  symlinkSync(join(repo, 'dist/tsnet.js'), join(host.dir, 'bin/tsnet'))
})
afterAll(() => host?.stop())

const example = (name: string, ...args: string[]): string =>
  host.run('env', `PATH=${join(host.dir, 'bin')}:${process.env.PATH}`, join(repo, 'examples', name), ...args)

test('two namespaces by one veth reach each other and nothing else', () => {
  const bare = host.snapshot()
  const said = example('two-by-veth.sh')
  expect(said.match(/ 0% packet loss/g)).toHaveLength(2)
  expect(said).toMatch(/to-blue@if\d+ +UP +10\.55\.0\.2\/29/)
  expect(said).not.toMatch(/^default/m)
  expect(host.snapshot()).toBe(bare)
})

test('two namespaces on a bridge reach each other, the host and, behind its address, the outside', async () => {
  const bare = host.snapshot()
  await host.outside.serve('tcpdump', 'tcpdump', '-n', '-l', '--immediate-mode', '-i', 'eth0', 'icmp')
  await until('tcpdump to listen', () => host.outside.logOf('tcpdump').includes('listening on'))
  const said = example('two-by-bridge.sh', addresses.outside4)
  expect(said.match(/ 0% packet loss/g)).toHaveLength(5)
  expect(said).toMatch(/^lan0 +UP +10\.56\.0\.1\/24/m)
  expect(said).toMatch(/^default via 10\.56\.0\.1/m)
  await host.outside.end('tcpdump', 'INT')
  const seen = host.outside.logOf('tcpdump')
  expect(seen).toContain(`IP ${addresses.host4} > ${addresses.outside4}: ICMP echo request`)
  expect(seen).not.toContain('10.56.0.')
  expect(host.snapshot()).toBe(bare)
})
