import { writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { HostView, NetworkView, OverlayReport } from '../../src/cnm/specs.js'
import type { Peer } from '../../src/cnm/types.js'
import { unavailable } from '../../src/errors.js'
import { type CliWorld, eachHasCli } from '../helpers/cli-world.js'
import type { FakeCnm } from '../helpers/fake-cnm.js'
import { FakeDockerd } from '../helpers/fake-dockerd.js'

let world: CliWorld
let cnm: FakeCnm

eachHasCli(made => {
  world = made
  cnm = world.cnm
})

const output = (...args: string[]): Promise<string> => world.output(...args)

const host = (name: string, more: Partial<HostView> = {}): HostView => ({
  name,
  id: `id-of-${name}`,
  vtep: '192.0.2.1',
  version: '0.1.0',
  startedAt: '2026-01-02T03:04:05.000Z',
  state: 'up',
  lastSeen: '2026-01-02T03:04:06.000Z',
  endpoints: 2,
  networks: ['blue', 'red'],
  ...more,
})

const daemonAlone =
  'this daemon keeps its objects on this host alone: for networks of many hosts start it with --store etcd://HOST:2379'

describe('host', () => {
  beforeEach(() => {
    cnm.allHosts = [host('one'), host('two', { state: 'down', endpoints: 0, networks: [] })]
  })

  test('ls: table, JSON, names', async () => {
    const lines = [
      'NAME   STATE   ADDRESS     VERSION   LAST SEEN                  ENDPOINTS   NETWORKS',
      'one    up      192.0.2.1   0.1.0     2026-01-02T03:04:06.000Z   2           blue,red',
      'two    down    192.0.2.1   0.1.0     2026-01-02T03:04:06.000Z   0           -',
    ]
    expect(await output('host', 'ls')).toBe(`${lines.join('\n')}\n`)
    expect(await output('host', 'ls', '-q')).toBe('one\ntwo\n')
    expect(JSON.parse(await output('host', 'ls', '--format', 'json'))).toEqual(cnm.allHosts)
  })

  test('inspect prints hosts by name and id', async () => {
    expect(JSON.parse(await output('host', 'inspect', 'two', 'id-of-one'))).toEqual([...cnm.allHosts].reverse())
    await world.refuse(4, 'there is no host tw', 'host', 'inspect', 'tw', '-q')
  })

  test('rm forgets one that is down, and one that is up with --force', async () => {
    expect(await output('host', 'rm', 'two')).toBe('two\n')
    await world.refuse(5, 'host one is up', 'host', 'rm', 'one')
    expect(JSON.parse(await output('host', 'rm', '--force', 'one', '--format', 'json'))).toEqual({ deleted: ['one'] })
    expect(cnm.allHosts).toEqual([])
    expect(cnm.calls.at(-1)).toEqual(['removeHost', 'one', { force: true }])
  })

  test('of a daemon without a cluster is 7, and says how to have one', async () => {
    cnm.failNext('hosts', unavailable(daemonAlone))
    await world.refuse(7, daemonAlone, 'host', 'ls')
  })
})

describe('overlay verify', () => {
  const all = ['links', 'mtu', 'fdb', 'neighbours', 'reach'] as const
  const good: OverlayReport = {
    network: '',
    ok: true,
    hosts: [{ host: 'one', state: 'answered', checked: [...all], found: [] }],
  }

  beforeEach(() => cnm.createNetwork({ name: 'blue' }))

  test('prints a row a host, and ends with 0 when nothing is wrong', async () => {
    cnm.overlay = { ...good, hosts: [...good.hosts, { host: 'idle', state: 'answered', checked: [], found: [] }] }
    const lines = [
      'HOST   STATE   LINKS   MTU   FDB   NEIGHBOURS   REACH',
      'one    up      ok      ok    ok    ok           ok',
      'idle   up      -       -     -     -            -',
    ]
    expect(await output('overlay', 'verify', 'blue')).toBe(`${lines.join('\n')}\n`)
    expect(cnm.calls.at(-1)).toEqual(['verifyOverlay', 'blue'])
  })

  test('prints what is wrong below, a line each, and ends with 1', async () => {
    const found = [
      { check: 'fdb', words: 'forwarding entry of 02:42:0a:32:00:07 is missing' },
      { check: 'fdb', words: 'forwarding entry of 02:42:0a:32:00:09 is stale' },
      { check: 'reach', words: 'no answer from 10.50.0.3' },
    ] as const
    cnm.overlay = {
      ...good,
      ok: false,
      hosts: [
        { host: 'one', state: 'answered', checked: [...all], found: [...found] },
        { host: 'three', state: 'down', checked: [], found: [] },
        { host: 'two', state: 'silent', checked: [], found: [] },
      ],
    }
    const lines = [
      'HOST    STATE    LINKS   MTU   FDB   NEIGHBOURS   REACH',
      'one     up       ok      ok    2     ok           1',
      'three   down     -       -     -     -            -',
      'two     silent   -       -     -     -            -',
      'one: forwarding entry of 02:42:0a:32:00:07 is missing',
      'one: forwarding entry of 02:42:0a:32:00:09 is stale',
      'one: no answer from 10.50.0.3',
      'three: the daemon has not been heard of; what it should have is not verified',
      'two: the daemon is up, but has not answered in time',
    ]
    const got = await world.tsnet(['overlay', 'verify', 'blue'])
    expect(got).toMatchObject({ status: 1, stderr: '', stdout: `${lines.join('\n')}\n` })
    expect(await world.tsnet(['overlay', 'verify', 'blue', '-q'])).toMatchObject({ status: 1, stdout: '', stderr: '' })
    const json = await world.tsnet(['overlay', 'verify', 'blue', '--format', 'json'])
    expect(json.status).toBe(1)
    expect(JSON.parse(json.stdout)).toEqual({ ...cnm.overlay, network: 'blue' })
  })
})

describe('a network of many hosts', () => {
  let blue: NetworkView
  const peer = (name: string, address: string, more: Partial<Peer>): Peer => ({
    ...{ id: name, networkId: blue.id, name, createdBy: 'docker', addresses: [address], mac: '02:42:0a:32:00:02' },
    ...{ hostLink: '', aliases: [], routes: [], ports: [], bindings: [], state: 'joined', createdAt: '' },
    ...{ host: 'one', sandbox: name, ...more },
  })

  beforeEach(async () => {
    blue = await cnm.createNetwork({ name: 'blue', driver: 'overlay' })
    blue.scope = 'global'
    blue.endpoints.push(peer('web', '10.50.0.2/16', {}), peer('db', '10.50.0.3/16', { host: 'two' }))
  })

  test('is listed with its scope', async () => {
    const [header = '', row = ''] = (await output('network', 'ls')).split('\n')
    expect(row.slice(header.indexOf('SCOPE')).split(' ')[0]).toBe('global')
  })

  test('is inspected with the host of each endpoint, as JSON and as a table', async () => {
    expect(JSON.parse(await output('network', 'inspect', 'blue'))).toEqual([blue])
    const lines = [
      'NETWORK   HOST   NAME   ADDRESSES      MAC                 PORTS',
      'blue      one    web    10.50.0.2/16   02:42:0a:32:00:02   -',
      'blue      two    db     10.50.0.3/16   02:42:0a:32:00:02   -',
    ]
    expect(await output('network', 'inspect', 'blue', '--format', 'table')).toBe(`${lines.join('\n')}\n`)
  })

  test('is inspected with what is known while the store is away, and a word on stderr that it may not be all', async () => {
    blue.incomplete = 'etcd does not answer'
    const got = await world.tsnet(['network', 'inspect', 'blue'])
    expect(got).toMatchObject({
      status: 0,
      stderr: 'tsnet: network blue: endpoints of other hosts may be missing: etcd does not answer\n',
    })
    expect(JSON.parse(got.stdout)).toEqual([blue])
  })

  test('lets go of an endpoint of another host with disconnect --force', async () => {
    expect(await output('disconnect', '--force', 'blue', 'two/db')).toBe('')
    expect(cnm.calls.at(-1)).toEqual(['disconnect', 'blue', 'two/db', { force: true, wait: true }])
  })
})

describe('docker attach', () => {
  let dockerd: FakeDockerd
  let blue: NetworkView

  beforeEach(async () => {
    dockerd = await FakeDockerd.start(join(world.dir, 'docker.sock'))
    blue = await cnm.createNetwork({ name: 'blue', subnets: ['10.50.0.0/16', 'fd00:50::/64'], internal: true })
    for (const [i, gateway] of ['10.50.0.1', 'fd00:50::1'].entries()) blue.subnets[i]!.gateway = gateway
  })
  afterEach(() => dockerd.close())

  test("has dockerd make a network of the plugin's driver, with every subnet and gateway said", async () => {
    expect(await output('docker', 'attach', 'blue')).toBe(`${'1'.repeat(64)}\n`)
    expect(dockerd.created).toEqual([
      {
        Name: 'blue',
        CheckDuplicate: true,
        Driver: 'netplug',
        Internal: true,
        EnableIPv6: true,
        Options: { network: 'blue' },
        IPAM: {
          Driver: 'netplug',
          Options: { network: 'blue' },
          Config: [
            { Subnet: '10.50.0.0/16', Gateway: '10.50.0.1' },
            { Subnet: 'fd00:50::/64', Gateway: 'fd00:50::1' },
          ],
        },
      },
    ])
  })

  test('may give it another name, and leaves out subnets that another Docker network brought', async () => {
    blue.subnets[0]!.dockerNetworkId = 'e'.repeat(64)
    const got = await output('docker', 'attach', 'blue', '--name', 'front', '--format', 'json')
    expect(JSON.parse(got)).toEqual({ id: '1'.repeat(64), name: 'front' })
    expect(dockerd.created).toMatchObject([
      { Name: 'front', Options: { network: 'blue' }, IPAM: { Config: [{ Subnet: 'fd00:50::/64' }] } },
    ])
  })

  test('is done once: again it prints the same id', async () => {
    const first = await output('docker', 'attach', 'blue')
    expect(await output('docker', 'attach', 'blue')).toBe(first)
    expect(await output('docker', 'attach', blue.id)).toBe(first)
    expect(dockerd.created).toHaveLength(1)
  })

  test('takes no network whose name only begins so', async () => {
    dockerd.networks = [{ Id: 'b'.repeat(64), Name: 'blue-2', Driver: 'netplug', Options: { network: 'blue' } }]
    expect(await output('docker', 'attach', 'blue')).toBe(`${'1'.repeat(64)}\n`)
  })

  test.each([
    ['bridge', { network: 'blue' }],
    ['netplug', { network: 'red' }],
    ['netplug', null],
  ])('refuses a network of that name that is something else: driver %s, options %j', async (Driver, Options) => {
    dockerd.networks = [{ Id: 'b'.repeat(64), Name: 'blue', Driver, Options }]
    await world.refuse(
      5,
      /^tsnet: Docker has a network blue already, of driver .* --name\n$/,
      'docker',
      'attach',
      'blue',
    )
    expect(dockerd.created).toEqual([])
  })

  test("tells dockerd's own refusals", async () => {
    dockerd.refuseNext = [500, 'Pool overlaps with other one on this address space']
    await world.refuse(
      7,
      'dockerd refuses network blue: Pool overlaps with other one on this address space',
      'docker',
      'attach',
      'blue',
    )
    dockerd.refuseNext = [409, 'network with name blue already exists']
    await world.refuse(5, /already exists/, 'docker', 'attach', 'blue')
  })

  test('says when dockerd is too old, is not there, or is something else', async () => {
    dockerd.version = { Version: '18.09.1', ApiVersion: '1.39' }
    await world.refuse(
      7,
      /is of version 18\.09\.1 with API 1\.39: it must be 20\.10 or later/,
      'docker',
      'attach',
      'blue',
    )
    const elsewhere = join(world.dir, 'none.sock')
    const attach = ['docker', 'attach', 'blue', '--docker-socket']
    await world.refuse(
      7,
      `dockerd, which is to have the network, does not answer on ${elsewhere}`,
      ...attach,
      elsewhere,
    )
    const other = createServer((_, response) => response.end('hello')).listen(join(world.dir, 'other.sock'))
    await world.refuse(7, /other\.sock is not dockerd\n$/, ...attach, join(world.dir, 'other.sock'))
    await new Promise(resolve => other.close(resolve))
    writeFileSync(join(world.dir, 'file'), '')
    await world.refuse(7, /does not answer/, ...attach, join(world.dir, 'file'))
  })
})

test.each(['host ls', 'host inspect', 'host rm', 'overlay verify', 'docker attach'])(
  'the help of %s has an example that begins with it',
  async command => {
    expect(await output(...command.split(' '), '--help')).toContain(`Examples:\n  tsnet ${command}`)
  },
)
