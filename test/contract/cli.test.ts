import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { ended, loadedModules } from '../helpers/built-cli.js'
import { type CliWorld, eachHasCli } from '../helpers/cli-world.js'
import type { FakeCnm } from '../helpers/fake-cnm.js'

let world: CliWorld
let cnm: FakeCnm

eachHasCli(made => {
  world = made
  cnm = world.cnm
})

const output = (...args: string[]): Promise<string> => world.output(...args)

describe('network', () => {
  test('create prints the id and sends every flag', async () => {
    const args =
      'network create web --driver bridge --subnet 10.20.0.0/24 --subnet fd00:20::/64 --ip-range 10.20.0.128/25'
    const more =
      '--gateway 10.20.0.254 --aux-address r=10.20.0.5 --ipv6 --internal -o mtu=1400 --opt icc=false --label a=b'
    const printed = await output(...`${args} ${more}`.split(' '))
    expect(printed).toBe(`${(await cnm.network('web')).id}\n`)
    expect(cnm.calls).toEqual([
      [
        'createNetwork',
        {
          name: 'web',
          driver: 'bridge',
          subnets: ['10.20.0.0/24', 'fd00:20::/64'],
          ipRanges: ['10.20.0.128/25'],
          gateways: ['10.20.0.254'],
          auxAddresses: { r: '10.20.0.5' },
          ipv6: true,
          internal: true,
          options: { mtu: '1400', icc: 'false' },
          labels: { a: 'b' },
        },
      ],
    ])
  })

  test('create without flags sends the name alone', async () => {
    await output('network', 'create', 'web')
    expect(cnm.calls).toEqual([['createNetwork', { name: 'web' }]])
  })

  test('ls, inspect: table, JSON, ids', async () => {
    const { id } = await cnm.createNetwork({ name: 'web' })
    const table = await output('network', 'ls')
    const row = `${id.slice(0, 12)}   web    bridge   local   10.30.0.0/24   0           tsnet`
    expect(table).toBe(`NETWORK ID     NAME   DRIVER   SCOPE   SUBNETS        ENDPOINTS   CREATED BY\n${row}\n`)
    expect(await output('network', 'ls', '-q')).toBe(`${id}\n`)
    expect(JSON.parse(await output('network', 'ls', '--format', 'json'))).toEqual(cnm.networks())
    expect(JSON.parse(await output('--format', 'json', 'network', 'ls'))).toEqual(cnm.networks())
    expect(JSON.parse(await output('network', 'inspect', 'web'))).toEqual(cnm.networks())
    expect(JSON.parse(await output('network', 'create', 'two', '--format', 'json'))).toEqual(await cnm.network('two'))
  })

  test('inspect prints what it finds and fails for what it does not', async () => {
    await cnm.createNetwork({ name: 'web' })
    const got = await world.tsnet(['network', 'inspect', 'no', 'web'])
    expect(got).toMatchObject({ status: 4, stderr: 'tsnet: there is no network no\n' })
    expect(JSON.parse(got.stdout)).toEqual(cnm.networks())
  })

  test('rm goes on past failures and ends with the first one', async () => {
    for (const name of ['a', 'b', 'c']) await cnm.createNetwork({ name })
    await cnm.createSandbox({ name: 'box' })
    await cnm.connect('b', 'box', {})
    expect(await world.tsnet(['network', 'rm', 'a', 'b', 'no', 'c'])).toEqual({
      status: 5,
      signal: null,
      stdout: 'a\nc\n',
      stderr: 'tsnet: delete network b: it is in use\ntsnet: there is no network no\n',
    })
    expect(cnm.networks().map(network => network.name)).toEqual(['b'])
  })

  test('prune prints the names', async () => {
    for (const name of ['a', 'b']) await cnm.createNetwork({ name })
    expect(await output('network', 'prune')).toBe('a\nb\n')
    expect(JSON.parse(await output('network', 'prune', '--format', 'json'))).toEqual({ deleted: [] })
  })
})

describe('sandbox', () => {
  test('create prints the name', async () => {
    expect(await output('sandbox', 'create', 'box')).toBe('box\n')
    expect(await output('sandbox', 'create', 'proc', '--pid', '42')).toBe('proc\n')
    expect(cnm.calls.at(-1)).toEqual(['createSandbox', { name: 'proc', pid: 42 }])
  })

  test('create sends an absolute path, since the daemon works elsewhere', async () => {
    const got = await world.tsnet(['sandbox', 'create', 'box', '--netns', 'ns'], { cwd: world.dir })
    expect(got.status).toBe(0)
    expect(cnm.calls).toEqual([['createSandbox', { name: 'box', netns: join(world.dir, 'ns') }]])
  })

  test('ls, inspect, rm', async () => {
    const { id } = await cnm.createSandbox({ name: 'box' })
    const row = `${id.slice(0, 12)}   box    /run/netns/box   present   -`
    expect(await output('sandbox', 'ls')).toBe(`SANDBOX ID     NAME   NETNS            STATE     NETWORKS\n${row}\n`)
    expect(await output('sandbox', 'ls', '-q')).toBe('box\n')
    expect(JSON.parse(await output('sandbox', 'ls', '--format', 'json'))).toEqual(cnm.sandboxes())
    expect(JSON.parse(await output('sandbox', 'inspect', 'box'))).toEqual(cnm.sandboxes())
    expect(await output('sandbox', 'rm', 'box')).toBe('box\n')
    expect(cnm.sandboxes()).toEqual([])
  })
})

describe('connect', () => {
  beforeEach(async () => {
    await cnm.createNetwork({ name: 'lab' })
    await cnm.createSandbox({ name: 'box' })
  })

  test('prints the addresses and sends every flag', async () => {
    const args =
      'connect lab box --ip 10.30.0.9 --ip6 fd00::9 --mac 02:42:0a:1e:00:09 --ifname lan0 --alias a --alias b'
    const more = '-p 8080:80 --publish 53:53/udp --route 10.99.0.0/16,10.30.0.7 --route 10.98.0.0/16 -o role=server'
    expect(await output(...`${args} ${more}`.split(' '))).toBe('10.30.0.9/24\n')
    const ports = [
      { protocol: 'tcp', hostPort: { first: 8080, last: 8080 }, containerPort: { first: 80, last: 80 } },
      { protocol: 'udp', hostPort: { first: 53, last: 53 }, containerPort: { first: 53, last: 53 } },
    ]
    expect(cnm.calls.at(-1)).toEqual([
      'connect',
      'lab',
      'box',
      {
        ip: '10.30.0.9',
        ip6: 'fd00::9',
        mac: '02:42:0a:1e:00:09',
        ifname: 'lan0',
        aliases: ['a', 'b'],
        ports,
        routes: [{ destination: '10.99.0.0/16', via: '10.30.0.7' }, { destination: '10.98.0.0/16' }],
        options: { role: 'server' },
      },
    ])
  })

  test('with -q prints nothing, with --format json the endpoint', async () => {
    expect(await output('connect', 'lab', 'box', '-q')).toBe('')
    expect(JSON.parse(await output('connect', 'lab', 'box', '--format', 'json'))).toEqual(cnm.endpoints()[1])
  })

  test('ps and disconnect', async () => {
    const { id } = await cnm.connect('lab', 'box', {
      ports: [{ protocol: 'tcp', hostPort: { first: 9000, last: 9002 }, containerPort: { first: 9000, last: 9002 } }],
    })
    const header = 'NETWORK   SANDBOX   NAME   IFNAME   ADDRESSES      MAC                 PORTS'
    const row =
      'lab       box       box    eth0     10.30.0.2/24   02:42:0a:1e:00:02   0.0.0.0:9000-9002->9000-9002/tcp'
    expect(await output('ps')).toBe(`${header}\n${row}\n`)
    expect(await output('ps', '-q')).toBe(`${id}\n`)
    expect(JSON.parse(await output('ps', '--format', 'json'))).toEqual(cnm.endpoints())
    expect(await output('disconnect', 'lab', 'box')).toBe('')
    expect(cnm.endpoints()).toEqual([])
  })
})

describe('reconcile and version', () => {
  test('reconcile prints each change; a failed one is an error', async () => {
    cnm.report = { dryRun: false, changes: ['create bridge br-1', 'delete link x'], failures: [] }
    expect(await output('reconcile', '--dry-run')).toBe('create bridge br-1\ndelete link x\n')
    expect(cnm.calls).toEqual([['reconcile', { dryRun: true }]])
    cnm.report.failures = ['delete link x: Device or resource busy']
    expect(await world.tsnet(['reconcile'])).toMatchObject({
      status: 1,
      stdout: 'create bridge br-1\ndelete link x\n',
      stderr: 'tsnet: delete link x: Device or resource busy\n',
    })
  })

  test('version', async () => {
    expect(await output('version')).toMatch(
      /^client: version \d+\.\d+\.\d+, node [\d.]+\ndaemon: version 9\.8\.7, plugin netplug, dockerSocket .*\n$/,
    )
    expect(JSON.parse(await output('version', '--format', 'json'))).toMatchObject({ daemon: { version: '9.8.7' } })
    expect(await output('--version')).toMatch(/^\d+\.\d+\.\d+\n$/)
    const alone = await world.tsnet(['version'], { env: { TSNET_SOCKET: '/nowhere' } })
    expect(alone).toMatchObject({ status: 7, stdout: expect.stringMatching(/^client: .*\n$/) })
  })
})

describe('as a program among others', () => {
  test('a reader that has gone is no error, and the work is done all the same', async () => {
    for (const name of ['a', 'b', 'c']) await cnm.createNetwork({ name })
    const child = world.start(['network', 'rm', 'a', 'b', 'c'])
    child.stdout?.destroy()
    expect(await ended(child)).toMatchObject({ status: 0, stderr: '' })
    expect(cnm.networks()).toEqual([])
  })

  test('network ls loads nothing of the daemon', async () => {
    const loaded = await loadedModules(world.cli, ['network', 'ls'], { TSNET_SOCKET: world.socketPath })
    expect(loaded.some(url => url.includes('/commander/'))).toBe(true)
    const heavy =
      /node_modules\/(zod|express|koffi|pino|lmdb|yaml|ip-address)\/|dist\/(api|cnm|netlink|firewall|store\/(?!etcd-url)|daemon)/
    expect(loaded.filter(url => heavy.test(url))).toEqual([])
  })

  test.each([
    'network create',
    'network ls',
    'network inspect',
    'network rm',
    'network prune',
    'sandbox create',
    'sandbox ls',
    'sandbox inspect',
    'sandbox rm',
    'connect',
    'disconnect',
    'exec',
    'run',
    'ps',
    'reconcile',
    'version',
    'daemon',
  ])('the help of %s has an example that begins with it', async command => {
    expect(await output(...command.split(' '), '--help')).toContain(`Examples:\n  tsnet ${command}`)
  })
})
