import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { upstreamProgram } from '../helpers/dns-upstream.js'
import { addresses, Host } from '../helpers/host.js'
import { repo, until } from '../helpers/machine.js'

// What a user says of names when a sandbox is made, and the files in which a sandbox sees them.

let host: Host

beforeAll(async () => {
  host = await Host.start()
  await host.outside.serve('upstream', process.execPath, upstreamProgram, 'world', '53', addresses.outside4)
  await until('the upstream server', () => host.outside.logOf('upstream').includes('ready'))
  host.run('sh', '-c', `echo nameserver ${addresses.outside4} >/etc/resolv.conf`)
  await host.startTsnet()
  host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24', '--subnet', 'fd00:30::/64')
  host.tsnet('network', 'create', 'back', '--subnet', '10.40.0.0/24', '--internal')
})
afterAll(() => host?.stop())
afterEach(() => {
  const left = host.tsnet('-q', 'sandbox', 'ls').split('\n').filter(Boolean)
  if (left.length > 0) host.tsnet('sandbox', 'rm', ...left)
  // other suites of this machine may have theirs there
  for (const name of left) expect(host.tryRun('ls', `/etc/netns/${name}`).status).not.toBe(0)
})

const run = (...args: string[]): string => host.tsnet('run', '--rm', ...args)
const fixed = ['--ip', '10.30.0.9', '--ip6', 'fd00:30::9']
const hostsOf = (sandbox: string): string[] =>
  host
    .tsnet('exec', sandbox, '--', 'cat', '/etc/hosts')
    .split('\n')
    .filter(line => !/localhost|ip6-/.test(line))

describe('tsnet run', () => {
  test('--hostname is what the command is on, in hosts too, and nobody else sees it', () => {
    const before = host.run('hostname')
    const script = 'hostname; getent ahostsv4 web.example; grep web /etc/hosts'
    const got = run('--name', 'web', '--network', 'lab', '--hostname', 'web.example', '--', 'sh', '-c', script)
    expect(got).toMatch(/^web\.example\n10\.30\.0\.2 /)
    expect(got).toContain('10.30.0.2\tweb.example web')
    expect(host.run('hostname')).toBe(before)
    expect(run('--', 'hostname')).toBe(before.trim())
  })

  test('--add-host is found, of both families', () => {
    const hosts = ['--add-host', 'db:10.99.0.7', '--add-host', 'db6:fd00:99::7', '--add-host', 'db7:[fd00:99::8]']
    const got = run(...hosts, '--', 'sh', '-c', 'getent hosts db; getent hosts db6; getent hosts db7')
    expect(got).toMatch(/^10\.99\.0\.7 +db\nfd00:99::7 +db6\nfd00:99::8 +db7$/)
  })

  test('--dns-search is appended to short names, instead of what the host appends', () => {
    const flags = ['--network', 'lab', '--dns-search', 'nowhere.test', '--dns-search', 'example']
    expect(run(...flags, '--', 'grep', 'search', '/etc/resolv.conf')).toBe('search nowhere.test example')
    expect(run(...flags, '--', 'getent', 'ahostsv4', 'plain')).toContain('192.0.2.10')
  })

  test("--dns is asked instead of the host's servers, from within the sandbox, by UDP and TCP, on an internal network too", async () => {
    host.tsnet('sandbox', 'create', 'namer')
    host.tsnet('connect', 'back', 'namer', '--ip', '10.40.0.2')
    const argv = ['ip', 'netns', 'exec', 'namer', process.execPath, upstreamProgram, 'inside', '53', '10.40.0.2']
    await host.serve('inside', ...argv)
    await until('the server', () => host.logOf('inside').includes('ready'))
    const dig = ['dig', '+short', '+tries=1', '@127.0.0.11']
    const flags = ['--network', 'back', '--dns', '10.40.0.2']
    expect(run(...flags, '--', ...dig, 'who.example', 'TXT')).toBe('"inside"')
    expect(run(...flags, '--', ...dig, '+noedns', '100.many.example').split('\n')).toHaveLength(100)
    expect(run(...flags, '--', ...dig, 'namer')).toBe('10.40.0.2')
    expect(host.logOf('inside')).toContain('inside tcp 100.many.example A')
    expect(run('--network', 'lab', '--', ...dig, 'who.example', 'TXT')).toBe('"world"')
    // one that cannot be reached from there is no reason to ask the host's
    expect(
      host.tsnet('run', '--rm', '--network', 'back', '--dns', addresses.outside4, '--', ...dig, 'who.example', 'TXT'),
    ).toBe('')
    await host.end('inside')
  })

  test.each([
    [['--dns', 'nonsense'], 'DNS server "nonsense" is not an IPv4 or IPv6 address'],
    [['--dns-search', 'a b'], 'search domain "a b" must be'],
    [['--hostname', '-x.'], 'host name "-x." must be'],
    [['--hostname', 'x'.repeat(65)], '64 bytes at most'],
    [['--add-host', 'db'], '--add-host db must be NAME:IP'],
    [['--add-host', 'db:nonsense'], 'address of an extra host "nonsense" is not'],
    [['--add-host', 'a b:10.0.0.1'], 'name of an extra host "a b" must be'],
  ])('%j is refused', (flags, message) => {
    const got = host.tryTsnet('run', '--rm', ...flags, '--', 'true')
    expect(got.status).toBe(2)
    expect(got.stderr).toContain(message)
  })
})

describe('a sandbox that stays', () => {
  test('has its flags again after a restart, and inspect shows them', async () => {
    const flags = [
      '--hostname',
      'pc',
      '--dns',
      addresses.outside4,
      '--dns-search',
      'example',
      '--add-host',
      'db:10.99.0.7',
    ]
    host.tsnet('sandbox', 'create', 'box', ...flags)
    host.tsnet('connect', 'lab', 'box', ...fixed)
    await host.killTsnet()
    host.run('ip', 'netns', 'del', 'box')
    host.run('rm', '-r', '/etc/netns/box')
    await host.startTsnet()
    expect(host.tsnetJson('sandbox', 'inspect', 'box')[0]).toMatchObject({
      hostname: 'pc',
      dns: { servers: [addresses.outside4], search: ['example'] },
      extraHosts: [{ name: 'db', address: '10.99.0.7' }],
    })
    expect(host.tsnet('exec', 'box', '--', 'hostname')).toBe('pc')
    expect(hostsOf('box')).toEqual(['10.30.0.9\tpc box', 'fd00:30::9\tpc box', '10.99.0.7\tdb'])
    expect(host.tsnet('exec', 'box', '--', 'getent', 'ahostsv4', 'plain')).toContain('192.0.2.10')
  })

  test('has the addresses of its networks in hosts, as they come and go, in programs that run already too', async () => {
    host.tsnet('sandbox', 'create', 'box', '--add-host', 'db:10.99.0.7')
    expect(hostsOf('box')).toEqual(['10.99.0.7\tdb'])
    const shell = 'while sleep 0.1; do grep -c box /etc/hosts; done'
    await host.serve('watcher', process.execPath, join(repo, 'dist/tsnet.js'), 'exec', 'box', '--', 'sh', '-c', shell)
    host.tsnet('connect', 'lab', 'box', ...fixed)
    expect(hostsOf('box')).toEqual(['10.30.0.9\tbox', 'fd00:30::9\tbox', '10.99.0.7\tdb'])
    host.tsnet('connect', 'back', 'box', '--ip', '10.40.0.9')
    expect(hostsOf('box')).toEqual(['10.30.0.9\tbox', 'fd00:30::9\tbox', '10.40.0.9\tbox', '10.99.0.7\tdb'])
    await until('the running program to see three lines', () => /^3$/m.test(host.logOf('watcher')))
    host.tsnet('disconnect', 'lab', 'box')
    expect(hostsOf('box')).toEqual(['10.40.0.9\tbox', '10.99.0.7\tdb'])
    host.tsnet('disconnect', 'back', 'box')
    expect(hostsOf('box')).toEqual(['10.99.0.7\tdb'])
    await host.end('watcher')
  })

  test('keeps a resolv.conf that the user wrote, and gets ours back when it is lost', () => {
    host.tsnet('sandbox', 'create', 'box')
    host.run('rm', '/etc/netns/box/resolv.conf')
    expect(host.tsnetJson<{ changes: string[] }>('reconcile').changes).toEqual([
      'in sandbox box: write its resolv.conf',
    ])
    expect(host.tsnetJson<{ changes: string[] }>('reconcile').changes).toEqual([])
    host.run('sh', '-c', 'echo nameserver 9.9.9.9 >/etc/netns/box/resolv.conf')
    host.tsnet('connect', 'lab', 'box', ...fixed)
    expect(host.tsnetJson<{ changes: string[] }>('reconcile').changes).toEqual([])
    expect(host.run('cat', '/etc/netns/box/resolv.conf')).toBe('nameserver 9.9.9.9\n')
  })

  test('that is adopted keeps its files: what would be written to them is refused', () => {
    host.run('ip', 'netns', 'add', 'given')
    for (const flags of [
      ['--add-host', 'db:10.0.0.1'],
      ['--dns-search', 'example'],
    ]) {
      const got = host.tryTsnet('sandbox', 'create', 'guest', '--netns', '/run/netns/given', ...flags)
      expect(got.status).toBe(2)
      expect(got.stderr).toMatch(/an adopted one keeps its files/)
    }
    host.run('ip', 'netns', 'del', 'given')
  })
})
