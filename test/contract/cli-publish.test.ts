import { describe, expect, test } from 'vitest'
import { type CliWorld, eachHasCli } from '../helpers/cli-world.js'

let world: CliWorld

eachHasCli(async made => {
  world = made
  await world.cnm.createNetwork({ name: 'lab' })
  await world.cnm.createSandbox({ name: 'box' })
  await world.cnm.connect('lab', 'box', {})
  world.cnm.calls.length = 0
})

const output = (...args: string[]): Promise<string> => world.output('publish', ...args)

describe('publish add', () => {
  test('sends the port, its clients, the network and --replace, and prints where it is', async () => {
    const flags = ['--network', 'lab', '--from', '10.0.0.0/8', '--from', 'fd00::/8', '--replace']
    expect(await output('add', 'box', '192.0.2.1:8080:80', ...flags)).toBe('192.0.2.1:8080->80/tcp\n')
    const port = {
      protocol: 'tcp',
      hostIp: '192.0.2.1',
      hostPort: { first: 8080, last: 8080 },
      containerPort: { first: 80, last: 80 },
      from: ['10.0.0.0/8', 'fd00::/8'],
    }
    expect(world.cnm.calls).toEqual([['publish', 'box', { port, network: 'lab', replace: true }]])
  })

  test.each([
    ['80', {}, 80, 80, 'tcp'],
    ['80/udp', {}, 80, 80, 'udp'],
    ['8080:80/sctp', { hostPort: { first: 8080, last: 8080 } }, 80, 80, 'sctp'],
    ['8000-8009:80', { hostPort: { first: 8000, last: 8009 } }, 80, 80, 'tcp'],
    ['8000-8009:80-89', { hostPort: { first: 8000, last: 8009 } }, 80, 89, 'tcp'],
    ['192.0.2.1::80', { hostIp: '192.0.2.1' }, 80, 80, 'tcp'],
    ['[2001:DB8::1]::80', { hostIp: '2001:db8::1' }, 80, 80, 'tcp'],
    ['[::]:8080:80', { hostIp: '::', hostPort: { first: 8080, last: 8080 } }, 80, 80, 'tcp'],
    ['0.0.0.0:8080:80', { hostIp: '0.0.0.0', hostPort: { first: 8080, last: 8080 } }, 80, 80, 'tcp'],
  ])('takes %s', async (spec, more, first, last, protocol) => {
    await output('add', 'box', spec)
    expect(world.cnm.calls).toEqual([
      ['publish', 'box', { port: { protocol, containerPort: { first, last }, ...more } }],
    ])
  })

  test.each([
    ['0:80', /^tsnet: port "0:80": "0" is no port/],
    ['80/icmp', /^tsnet: port "80\/icmp": the protocol is one of tcp, udp, sctp/],
    ['8000-8001:80-89', /^tsnet: port "8000-8001:80-89": 2 host ports for 10 container ports/],
    ['9000-8000', /^tsnet: port "9000-8000": the range 9000-8000 ends before it begins/],
    ['[192.0.2.1]:80:80', /^tsnet: port .*: "192.0.2.1" is no address of the host/],
    ['2001:db8::1:80:80', /^tsnet: port .*: write \[ip:\]/],
    ['[::1]:80', /^tsnet: port .*: write \[::1\]::80 for a free port/],
    ['localhost:80:80', /^tsnet: port .*: "localhost" is no address of the host/],
  ])('refuses %s without asking the daemon', async (spec, message) => {
    await world.refuse(2, message, 'publish', 'add', 'box', spec)
    expect(world.cnm.calls).toEqual([])
  })

  test('says nothing with --quiet, and the whole endpoint as JSON', async () => {
    expect(await world.output('--quiet', 'publish', 'add', 'box', '80')).toBe('')
    const endpoint = JSON.parse(await world.output('--format', 'json', 'publish', 'add', 'box', '81:81'))
    expect(endpoint).toMatchObject({ sandbox: 'box', bindings: [{ spec: '80' }, { spec: '81:81' }] })
  })

  test('of an unknown sandbox is refused', () =>
    world.refuse(4, 'there is no endpoint nobody', 'publish', 'add', 'nobody', '80'))
})

describe('publish rm and ls', () => {
  test('rm sends the port, and ls lists what is left', async () => {
    await output('add', 'box', '8080:80')
    await output('add', 'box', '53:53/udp', '--from', '10.0.0.0/8')
    expect(await output('rm', 'box', '8080:80', '--network', 'lab')).toBe('')
    const containerPort = { first: 80, last: 80 }
    const port = { protocol: 'tcp', hostPort: { first: 8080, last: 8080 }, containerPort }
    expect(world.cnm.calls).toContainEqual(['unpublish', 'box', { port, network: 'lab' }])
    expect(await output('ls')).toBe(
      'NETWORK   NAME   PORT                 FROM         SPEC        LIVE\n' +
        'lab       box    0.0.0.0:53->53/udp   10.0.0.0/8   53:53/udp   yes\n',
    )
    expect(await output('ls', 'other')).toBe('NETWORK   NAME   PORT   FROM   SPEC   LIVE\n')
    expect(await world.output('--quiet', 'publish', 'ls', 'box')).toBe('53:53/udp\n')
    expect(JSON.parse(await world.output('--format', 'json', 'publish', 'ls', '--network', 'lab'))).toMatchObject([
      { network: 'lab', name: 'box', protocol: 'udp', hostPort: 53, from: ['10.0.0.0/8'] },
    ])
  })
})
