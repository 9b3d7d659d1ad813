import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { upstreamProgram } from '../helpers/dns-upstream.js'
import { addresses, Host } from '../helpers/host.js'
import { until } from '../helpers/machine.js'

// Names on a host of its own: a real daemon, asked by dig and by the C library from inside sandboxes and from the host.
// The outside machine is the world's name server.

let host: Host

beforeAll(async () => {
  host = await Host.start()
  const { outside4, outside6, beyond4 } = addresses
  await host.outside.serve('upstream', process.execPath, upstreamProgram, 'outside', '53', outside4, outside6, beyond4)
  await until('the upstream server', () => host.outside.logOf('upstream').includes('ready'))
  setServers(outside4)
  await host.startTsnet()
  host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24', '--subnet', 'fd00:30::/64')
  host.tsnet('network', 'create', 'back', '--subnet', '10.40.0.0/24', '--internal')
})
afterAll(() => host?.stop())

beforeEach(() => {
  setServers(addresses.outside4)
  for (const name of ['box', 'web']) host.tsnet('sandbox', 'create', name)
  host.tsnet('connect', 'lab', 'box')
  host.tsnet('connect', 'lab', 'web', '--alias', 'www')
})
afterEach(() => {
  host.tsnet('sandbox', 'rm', ...host.tsnet('-q', 'sandbox', 'ls').split('\n').filter(Boolean))
  expect(host.run('ip', 'netns')).toBe('')
})

/** The servers of the host; the daemon looks once a second. */
function setServers(...servers: string[]): void {
  const lines = [...servers.map(server => `nameserver ${server}`), 'search example', 'options timeout:3']
  host.run('sh', '-c', `printf '%s\\n' "$@" >/etc/resolv.conf`, 'sh', ...lines)
}

const dig = (...words: string[]): string[] => ['dig', '+tries=1', '+timeout=5', ...words]
/** Data of the answers, sorted: the order is another one each time. */
const short = (output: string): string[] => output.trim().split('\n').filter(Boolean).sort()
const fromAt = (sandbox: string, server: string, ...words: string[]): string[] =>
  short(host.run('ip', 'netns', 'exec', sandbox, ...dig('+short', `@${server}`, ...words)))
const from = (sandbox: string, ...words: string[]): string[] => fromAt(sandbox, '127.0.0.11', ...words)
const fromHost = (...words: string[]): string[] => short(host.run(...dig('+short', ...words)))
/** `NOERROR`, `NXDOMAIN`, ... and the number of answers */
function statusOf(output: string): [string, number] {
  return [/status: (\w+)/.exec(output)?.[1] ?? output, Number(/ANSWER: (\d+)/.exec(output)?.[1])]
}
const status = (sandbox: string, ...words: string[]): [string, number] =>
  statusOf(host.tryRun('ip', 'netns', 'exec', sandbox, ...dig('@127.0.0.11', ...words)).stdout)
const addressOf = (sandbox: string, network: string, family: 4 | 6 = 4): string => {
  const [found] = host.tsnetJson<{ endpoints: { network: string; addresses: string[] }[] }[]>(
    'sandbox',
    'inspect',
    sandbox,
  )
  const endpoint = found!.endpoints.find(each => each.network === network)!
  return endpoint.addresses.find(address => address.includes(':') === (family === 6))!.split('/')[0]!
}

describe('from inside a sandbox', () => {
  test.each(['+notcp', '+tcp'])(
    'names and aliases have their addresses, alone and with the network, in any case (%s)',
    how => {
      for (const name of ['web', 'WWW', 'web.lab', 'Www.Lab']) {
        expect(from('box', how, name)).toEqual([addressOf('web', 'lab')])
        expect(from('box', how, name, 'AAAA')).toEqual([addressOf('web', 'lab', 6)])
      }
      for (const family of [4, 6] as const)
        expect(from('box', how, '-x', addressOf('web', 'lab', family))).toEqual(['web.lab.'])
    },
  )

  test('the C library finds names, both ways, by the files that tsnet exec shows', () => {
    const files = host.tsnet('exec', 'box', '--', 'cat', '/etc/resolv.conf')
    expect(files).toMatch(/^nameserver 127\.0\.0\.11\nsearch example\noptions timeout:3 ndots:0$/m)
    const address = addressOf('web', 'lab')
    expect(host.tsnet('exec', 'box', '--', 'getent', 'ahostsv4', 'www')).toContain(address)
    expect(host.tsnet('exec', 'box', '--', 'getent', 'hosts', address)).toMatch(/\bweb\.lab$/)
    expect(host.tsnet('exec', 'box', '--', 'busybox', 'nslookup', 'web.lab')).toContain(address)
    expect(host.tsnet('exec', 'box', '--', 'getent', 'ahostsv4', 'plain')).toContain('192.0.2.10')
  })

  test('an alias that several have gives all of them, and is gone with them', () => {
    host.tsnet('sandbox', 'create', 'web2')
    host.tsnet('connect', 'lab', 'web2', '--alias', 'www')
    expect(from('box', 'www')).toEqual([addressOf('web', 'lab'), addressOf('web2', 'lab')].sort())
    host.tsnet('disconnect', 'lab', 'web')
    expect(from('box', 'www')).toEqual([addressOf('web2', 'lab')])
    host.tsnet('disconnect', 'lab', 'web2')
    expect(status('box', 'www')).toEqual(['NXDOMAIN', 0])
  })

  test('an alias is one of its network only', () => {
    host.tsnet('network', 'create', 'side', '--subnet', '10.50.0.0/24')
    host.tsnet('sandbox', 'create', 'aside')
    host.tsnet('connect', 'side', 'aside')
    host.tsnet('connect', 'side', 'web')
    expect(status('aside', 'www')).toEqual(['NXDOMAIN', 0])
    expect(from('aside', 'web')).toEqual([addressOf('web', 'side')])
    expect(status('aside', 'box')).toEqual(['NXDOMAIN', 0])
    host.tsnet('sandbox', 'rm', 'aside')
    host.tsnet('disconnect', 'side', 'web')
    host.tsnet('network', 'rm', 'side')
  })

  test('a known name without an address of the family, and with another type, is empty and not asked elsewhere', () => {
    host.tsnet('network', 'create', 'four', '--subnet', '10.60.0.0/24')
    host.tsnet('sandbox', 'create', 'old')
    host.tsnet('connect', 'four', 'old')
    const before = host.outside.logOf('upstream')
    expect(status('old', 'old', 'AAAA')).toEqual(['NOERROR', 0])
    expect(status('old', 'old', 'MX')).toEqual(['NOERROR', 0])
    expect(host.outside.logOf('upstream')).toBe(before)
    host.tsnet('sandbox', 'rm', 'old')
    host.tsnet('network', 'rm', 'four')
  })

  test("everything else is asked from the host's servers, by UDP and TCP", () => {
    expect(from('box', 'plain.example')).toEqual(['192.0.2.10'])
    expect(from('box', '+tcp', 'plain.example', 'AAAA')).toEqual(['2001:db8::10'])
    expect(status('box', 'nobody.example')).toEqual(['NXDOMAIN', 0])
    expect(status('box', 'fail.example')).toEqual(['SERVFAIL', 0])
    expect(from('box', '+noedns', '+ignore', '100.many.example').length).toBeLessThan(40)
    expect(from('box', '+noedns', '100.many.example')).toHaveLength(100)
    expect(from('box', '+bufsize=4096', '100.many.example')).toHaveLength(100)
  })

  test("the host's servers may change, fail and be of either family", async () => {
    setServers('198.51.100.77', addresses.outside6)
    await until('the new servers', () => from('box', 'who.example', 'TXT').join() === '"outside"')
    setServers()
    await until('no servers', () => status('box', 'plain.example')[0] === 'SERVFAIL')
    expect(from('box', 'web')).toEqual([addressOf('web', 'lab')])
  })

  test("a stub on the host's loopback, such as systemd-resolved's, is asked from the host", async () => {
    await host.serve('stub', process.execPath, upstreamProgram, 'stub', '53', '127.0.0.53')
    await until('the stub', () => host.logOf('stub').includes('ready'))
    setServers('127.0.0.53')
    await until('the stub to be asked', () => from('box', 'who.example', 'TXT').join() === '"stub"')
    await host.end('stub')
  })

  test('a host that asks a gateway of ours does not go round in circles', async () => {
    setServers('10.30.0.1', addresses.outside4)
    await until('the change to be seen', () => from('box', 'who.example', 'TXT').join() === '"outside"')
    expect(from('box', 'plain.example')).toEqual(['192.0.2.10'])
    expect(host.tryRun('getent', 'ahostsv4', 'web.lab').stdout).toContain(addressOf('web', 'lab'))
  })
})

test('a program in a sandbox may have port 53 of every address, and the resolver answers all the same', async () => {
  const argv = ['ip', 'netns', 'exec', 'box', process.execPath, upstreamProgram, 'own', '53', '0.0.0.0']
  await host.serve('own', ...argv)
  await until('its server', () => host.logOf('own').includes('ready'))
  for (const how of ['+notcp', '+tcp']) {
    expect(from('box', how, 'web')).toEqual([addressOf('web', 'lab')])
    expect(fromAt('web', addressOf('box', 'lab'), how, 'who.example', 'TXT')).toEqual(['"own"'])
  }
  await host.end('own')
})

describe('on an internal network', () => {
  test('names of the network are known, and nothing else exists or is asked', () => {
    for (const name of ['deep', 'inner']) {
      host.tsnet('sandbox', 'create', name)
      host.tsnet('connect', 'back', name)
    }
    const before = host.outside.logOf('upstream')
    expect(from('deep', 'inner')).toEqual([addressOf('inner', 'back')])
    expect(status('deep', 'plain.example')).toEqual(['NXDOMAIN', 0])
    expect(status('deep', '-x', '192.0.2.10')).toEqual(['NXDOMAIN', 0])
    expect(status('deep', 'web')).toEqual(['NXDOMAIN', 0])
    expect(host.outside.logOf('upstream')).toBe(before)
    host.tsnet('connect', 'lab', 'deep')
    expect(from('deep', 'plain.example')).toEqual(['192.0.2.10'])
    expect(from('deep', 'web')).toEqual([addressOf('web', 'lab')])
    expect(from('deep', 'inner')).toEqual([addressOf('inner', 'back')])
    host.tsnet('disconnect', 'lab', 'deep')
    expect(status('deep', 'plain.example')).toEqual(['NXDOMAIN', 0])
  })

  test('a sandbox without networks knows nothing', () => {
    host.tsnet('sandbox', 'create', 'alone')
    expect(status('alone', 'web')).toEqual(['NXDOMAIN', 0])
    expect(status('alone', 'plain.example')).toEqual(['NXDOMAIN', 0])
  })
})

describe('at the gateway', () => {
  test.each(['10.30.0.1', 'fd00:30::1'])('%s answers the host and sandboxes, by UDP and TCP', gateway => {
    for (const how of ['+notcp', '+tcp']) {
      expect(fromHost(how, `@${gateway}`, 'web')).toEqual([addressOf('web', 'lab')])
      expect(fromHost(how, `@${gateway}`, '-x', addressOf('web', 'lab', 6))).toEqual(['web.lab.'])
      expect(fromAt('box', gateway, how, 'plain.example')).toEqual(['192.0.2.10'])
    }
  })

  test('who asks decides what is known: a sandbox all its networks, the host this one', () => {
    host.tsnet('sandbox', 'create', 'deep')
    host.tsnet('connect', 'back', 'deep')
    host.tsnet('connect', 'back', 'box')
    expect(short(host.run('ip', 'netns', 'exec', 'box', ...dig('+short', '@10.30.0.1', 'deep')))).toEqual([
      addressOf('deep', 'back'),
    ])
    expect(statusOf(host.run(...dig('@10.30.0.1', 'deep')))).toEqual(['NXDOMAIN', 0])
    expect(statusOf(host.run(...dig('@10.40.0.1', 'plain.example')))).toEqual(['NXDOMAIN', 0])
    expect(fromHost('@10.40.0.1', 'deep')).toEqual([addressOf('deep', 'back')])
  })

  test('somebody of elsewhere is refused', () => {
    host.outside.run('ip', 'route', 'add', '10.30.0.1/32', 'via', addresses.host4)
    expect(statusOf(host.outside.run(...dig('@10.30.0.1', 'web')))).toEqual(['REFUSED', 0])
    host.outside.run('ip', 'route', 'del', '10.30.0.1/32')
  })

  test('only those addresses have port 53, and they let go of it with their network', () => {
    host.tsnet('network', 'create', 'gone', '--subnet', '10.70.0.0/24')
    const listening = (): string[] =>
      host
        .run('ss', '-Hlun', 'sport', '=', '53')
        .split('\n')
        .filter(Boolean)
        .map(line => line.trim().split(/\s+/)[3]!)
        .sort()
    expect(listening()).toEqual(['10.30.0.1:53', '10.40.0.1:53', '10.70.0.1:53', '[fd00:30::1]:53'])
    host.tsnet('network', 'rm', 'gone')
    expect(listening()).toEqual(['10.30.0.1:53', '10.40.0.1:53', '[fd00:30::1]:53'])
  })

  test('where somebody has port 53 of every address, the log says so and sandboxes have names all the same', async () => {
    await host.stopTsnet()
    await host.serve('dnsmasq', process.execPath, upstreamProgram, 'dnsmasq', '53', '0.0.0.0')
    await until('port 53 to be taken', () => host.logOf('dnsmasq').includes('ready'))
    await host.startTsnet()
    expect(host.logOf('tsnet')).toMatch(/names are not answered at 10\.30\.0\.1, the gateway of network lab, port 53/)
    expect(from('box', 'web')).toEqual([addressOf('web', 'lab')])
    expect(fromHost('@fd00:30::1', 'web')).toEqual([addressOf('web', 'lab')])
    await host.end('dnsmasq')
    const answered = (): boolean => host.tryRun(...dig('+short', '@10.30.0.1', 'web')).stdout.startsWith('10.30.0.')
    await until('the port to be ours once it is free', answered)
  })
})

test('a published port 53 has precedence over the resolver at gateways, which is back when it is no longer published', async () => {
  host.tsnet('sandbox', 'create', 'own')
  host.tsnet('connect', 'lab', 'own', '-p', '53:53/udp', '-p', '53:53/tcp')
  expect(from('box', 'own')).toEqual([addressOf('own', 'lab')])
  expect(host.tryRun(...dig('+short', '@10.30.0.1', 'web')).status).not.toBe(0)
  await until('the log to say so', () => host.logOf('tsnet').includes('gateway of network lab, port 53'))
  host.tsnet('sandbox', 'rm', 'own')
  const answered = (): boolean => host.tryRun(...dig('+short', '@10.30.0.1', 'web')).stdout.startsWith('10.30.0.')
  await until('the resolver to be back', answered)
})

describe('the daemon', () => {
  test('has every name again after it was killed', async () => {
    await host.killTsnet()
    expect(status('box', 'web')[0]).toMatch(/connection refused/)
    await host.startTsnet()
    expect(from('box', 'web')).toEqual([addressOf('web', 'lab')])
    expect(fromHost('@10.30.0.1', 'www')).toEqual([addressOf('web', 'lab')])
  })

  test('keeps no namespace alive that was deleted, by us or by others', async () => {
    const namespaces = (): number =>
      new Set(host.run('lsns', '-nt', 'net', '-o', 'NS').split('\n').filter(Boolean)).size
    const before = namespaces()
    for (const name of ['one', 'two']) {
      host.tsnet('sandbox', 'create', name)
      host.tsnet('connect', 'lab', name)
      expect(from(name, 'web')).toEqual([addressOf('web', 'lab')])
    }
    const link = (name: string): string =>
      host.tsnetJson<{ endpoints: { hostLink: string }[] }[]>('sandbox', 'inspect', name)[0]!.endpoints[0]!.hostLink
    const two = link('two')
    host.tsnet('sandbox', 'rm', 'one')
    host.run('ip', 'netns', 'del', 'two')
    await until('the namespace, and with it the link, to go', () => !host.links().has(two))
    host.tsnet('reconcile')
    expect(from('two', 'web')).toEqual([addressOf('web', 'lab')])
    host.tsnet('sandbox', 'rm', 'two')
    expect(namespaces()).toBe(before)
  })

  test('answers in a namespace that exists already, once its loopback is up, and leaves it as it was', async () => {
    host.run('ip', 'netns', 'add', 'given')
    host.tsnet('sandbox', 'create', 'guest', '--netns', '/run/netns/given')
    host.tsnet('connect', 'lab', 'guest')
    expect(status('given', 'web')[0]).not.toBe('NOERROR')
    host.run('ip', '-n', 'given', 'link', 'set', 'lo', 'up')
    await until('the resolver', () => status('given', 'web')[0] === 'NOERROR')
    expect(from('given', 'web')).toEqual([addressOf('web', 'lab')])
    expect(from('box', 'guest')).toEqual([addressOf('guest', 'lab')])
    expect(host.tryRun('ls', '/etc/netns/given').status).not.toBe(0)
    host.tsnet('sandbox', 'rm', 'guest')
    expect(host.run('ip', 'netns', 'exec', 'given', 'ss', '-Hluntp')).toBe('')
    expect(host.run('ip', 'netns', 'exec', 'given', 'nft', 'list', 'tables')).toBe('')
    host.run('ip', 'netns', 'del', 'given')
  })

  test('stays away where another resolver has 127.0.0.11', async () => {
    host.run('ip', 'netns', 'add', 'given')
    host.run('ip', '-n', 'given', 'link', 'set', 'lo', 'up')
    const argv = ['ip', 'netns', 'exec', 'given', process.execPath, upstreamProgram, 'theirs', '5353', '127.0.0.11']
    await host.serve('theirs', ...argv)
    await until('their resolver', () => host.logOf('theirs').includes('ready'))
    host.tsnet('sandbox', 'create', 'guest', '--netns', '/run/netns/given')
    expect(host.run('ip', 'netns', 'exec', 'given', 'nft', 'list', 'tables')).toBe('')
    expect(host.logOf('tsnet')).toMatch(/another resolver answers there/)
    host.tsnet('sandbox', 'rm', 'guest')
    await host.end('theirs')
    host.run('ip', 'netns', 'del', 'given')
  })
})
