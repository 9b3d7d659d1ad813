import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Host } from '../helpers/host.js'
import { eachLeavesAsFound, expectRefused, removeEverything, tsnetArgv } from '../helpers/tidy-host.js'
import { pings } from '../helpers/vantage.js'

// Whose namespace a sandbox is: the host's, nobody's, another one's.

let host: Host

beforeAll(async () => {
  host = await Host.startWithTsnet()
})
afterAll(() => host?.stop())

eachLeavesAsFound(
  () => host,
  () => removeEverything(host),
)

const inside = (sandbox: string, ...command: string[]): string => host.run('ip', 'netns', 'exec', sandbox, ...command)
const refused = (...args: [status: number, message: string, ...string[]]): void => expectRefused(host, ...args)

describe('the networks host and none', () => {
  test('are there from the beginning, once, and stay', () => {
    const predefined = host.tsnetJson('network', 'ls').map(({ name, driver }) => [name, driver])
    expect(predefined).toEqual([
      ['host', 'host'],
      ['none', 'none'],
    ])
    refused(3, 'network host is part of every host and cannot be removed', 'network', 'rm', 'host')
    refused(3, 'network none is part of every host and cannot be removed', 'network', 'rm', 'none')
    expect(host.tsnet('network', 'prune')).toBe('')
    refused(5, 'network name none is taken', 'network', 'create', 'none')
  })

  test.each([
    [[], 'network host is there already and the only one of its kind'],
    [['-o', 'mtu=1400'], 'tsnet run --network host'],
    [['--subnet', '10.99.0.0/24'], 'the only one of its kind'],
  ])('have no second one: network create --driver host %j', (flags, message) =>
    refused(3, message, 'network', 'create', 'second', '--driver', 'host', ...flags),
  )

  test('take no sandbox, and say what to do instead', () => {
    host.tsnet('sandbox', 'create', 'box')
    refused(3, 'nothing is attached to network host: a sandbox has the host', 'connect', 'host', 'box')
    refused(3, 'nothing is attached to network none: a sandbox that is', 'connect', 'none', 'box', '--ip', '10.1.1.1')
  })
})

describe('tsnet run --network', () => {
  test('none has loopback only, up, with the addresses that the kernel gives it', () => {
    const links = JSON.parse(host.tsnet('run', '--rm', '--network', 'none', '--', 'ip', '-j', 'addr'))
    expect(links).toMatchObject([
      { ifname: 'lo', flags: expect.arrayContaining(['UP']), addr_info: [{ local: '127.0.0.1' }, { local: '::1' }] },
    ])
  })

  test("host is the host's own namespace, whoever calls from where", () => {
    const want = host.run('readlink', '/proc/self/ns/net')
    expect(host.tsnet('run', '--rm', '--network', 'host', '--', 'readlink', '/proc/self/ns/net')).toBe(want.trim())
    host.tsnet('sandbox', 'create', 'elsewhere')
    const from = inside(
      'elsewhere',
      ...tsnetArgv('run', '--rm', '--network', 'host', '--', 'readlink', '/proc/self/ns/net'),
    )
    expect(from).toBe(want)
    expect(host.tryTsnet('run', '--rm', '--network', 'host', '--', 'true').stderr).toBe('')
  })

  test('container:NAME is in the namespace of the other, sees its files, and keeps it from being removed', () => {
    host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24')
    host.tsnet('sandbox', 'create', 'box')
    host.tsnet('connect', 'lab', 'box')
    const share = (...command: string[]) => host.tsnet('run', '--network', 'container:box', ...command)
    expect(share('--rm', '--', 'readlink', '/proc/self/ns/net')).toBe(
      inside('box', 'readlink', '/proc/self/ns/net').trim(),
    )
    expect(share('--name', 'guest', '--', 'cat', '/etc/hosts')).toMatch(/^10\.30\.0\.2\s+box\b/m)
    expect(host.tsnet('exec', 'guest', '--', 'cat', '/etc/hosts')).toMatch(/^10\.30\.0\.2\s+box\b/m)
    refused(5, 'sandbox box is shared by guest; remove that first', 'sandbox', 'rm', 'box')
    refused(3, 'guest shares the namespace of sandbox box: connect sandbox box instead', 'connect', 'lab', 'guest')
    expect(host.tsnet('reconcile')).toBe('')
    host.tsnet('sandbox', 'rm', 'guest')
    expect(pings(host.sandbox('box'), '10.30.0.1')).toBe(true)
  })

  test('container:NAME for a name that nobody has says that no dockerd answers', () => {
    refused(7, 'does not answer on /var/run/docker.sock', 'run', '--network', 'container:nobody', '--', 'true')
    expect(host.tsnet('-q', 'sandbox', 'ls')).toBe('')
  })

  test('NETWORK with --netns or --pid runs in the namespace that is there, attached, and leaves it', () => {
    host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24')
    host.run('ip', 'netns', 'add', 'theirs')
    const links = (...flags: string[]) =>
      host
        .tsnet('run', '--rm', ...flags, '--', 'ip', '-br', 'addr', 'show', 'up')
        .split('\n')
        .map(line => line.split(/\s+/)[0])
    expect(links('--netns', '/run/netns/theirs', '--network', 'lab')).toEqual([expect.stringMatching(/^eth0@/)])
    expect(inside('theirs', 'ip', '-br', 'link')).toMatch(/^lo +DOWN[^\n]*\n$/)
    expect(links('--netns', '/run/netns/theirs')).toEqual([''])
    host.run('ip', 'netns', 'del', 'theirs')
  })
})
