import { afterAll, beforeAll, expect, test } from 'vitest'
import { addresses, Host } from '../helpers/host.js'
import { repo } from '../helpers/machine.js'

// What a user can get wrong: one line on stderr that names the value, the right exit code, and nothing changed.

let host: Host
let before: string

beforeAll(async () => {
  host = await Host.startWithTsnet()
  host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24')
  host.tsnet('sandbox', 'create', 'box')
  host.tsnet('connect', 'lab', 'box', '-p', '8080:80')
  host.tsnet('sandbox', 'create', 'other')
  await host.serve('squatter', 'socat', 'TCP-LISTEN:9090,fork', 'SYSTEM:true')
  before = host.snapshot()
})
afterAll(() => host?.stop())

const create = ['network', 'create', 'new']
const connect = ['connect', 'lab', 'other']

test.each<[what: string, argv: string[], exit: number, says: RegExp]>([
  [
    'a subnet that overlaps a network',
    [...create, '--subnet', '10.30.0.128/25'],
    5,
    /10\.30\.0\.128\/25 overlaps.* lab .*10\.30\.0\.0\/24/,
  ],
  [
    'a subnet that overlaps the uplink',
    [...create, '--subnet', `${addresses.host4}/32`],
    5,
    /198\.51\.100\.2\/32.*198\.51\.100\.0\/24/,
  ],
  ['a subnet with host bits', [...create, '--subnet', '10.31.0.1/24'], 2, /10\.31\.0\.1\/24.*10\.31\.0\.0\/24/],
  ['a subnet that is none', [...create, '--subnet', '10.31.0.0/33'], 2, /10\.31\.0\.0\/33/],
  [
    'a gateway outside the subnet',
    [...create, '--subnet', '10.31.0.0/24', '--gateway', '10.32.0.1'],
    2,
    /10\.32\.0\.1.*10\.31\.0\.0\/24/,
  ],
  [
    'a range outside the subnet',
    [...create, '--subnet', '10.31.0.0/24', '--ip-range', '10.32.0.0/25'],
    2,
    /10\.32\.0\.0\/25.*10\.31\.0\.0\/24/,
  ],
  ['an unknown option of the driver', [...create, '-o', 'mtuu=1400'], 2, /mtuu.*\bmtu\b/],
  ['a value that an option does not allow', [...create, '-o', 'mtu=big'], 2, /mtu.*big/],
  ['a bridge name over 15 bytes', [...create, '-o', 'bridge=abcdefghijklmnop'], 2, /abcdefghijklmnop.*15/],
  ['an unknown driver', [...create, '--driver', 'brigde'], 2, /brigde.*bridge/],
  ['an unknown flag', [...create, '--subnett', '10.31.0.0/24'], 2, /--subnett.*--subnet\b/],
  ['a network name that is taken', ['network', 'create', 'lab'], 5, /lab/],
  ['a network name with a slash', ['network', 'create', 'a/b'], 2, /a\/b/],
  ['a sandbox name that is taken', ['sandbox', 'create', 'box'], 5, /box/],
  [
    'a namespace that is not there',
    ['sandbox', 'create', 'new', '--netns', '/run/netns/nowhere'],
    4,
    /\/run\/netns\/nowhere/,
  ],
  ['a MAC that is none', [...connect, '--mac', '02:42:zz'], 2, /02:42:zz/],
  ['a MAC of a group', [...connect, '--mac', '01:00:5e:00:00:01'], 2, /01:00:5e:00:00:01.*(multicast|group)/],
  ['an address that is taken', [...connect, '--ip', '10.30.0.2'], 5, /10\.30\.0\.2.*\bbox\b/],
  ['the address of the gateway', [...connect, '--ip', '10.30.0.1'], 5, /10\.30\.0\.1.*gateway/],
  ['an address outside the subnet', [...connect, '--ip', '10.31.0.2'], 2, /10\.31\.0\.2.*10\.30\.0\.0\/24/],
  ['a port that a sandbox holds', [...connect, '-p', '8080:80'], 5, /8080.*\bbox\b/],
  ['a port that a program holds', [...connect, '-p', '9090:80'], 5, /9090.*\bsocat\b/],
  ['a port that is none', [...connect, '-p', '80800:80'], 2, /80800/],
  ['an interface name over 15 bytes', [...connect, '--ifname', 'abcdefghijklmnop'], 2, /abcdefghijklmnop.*15/],
  ['a network that is not there', ['connect', 'lob', 'other'], 4, /lob/],
  ['a sandbox that is not there', ['connect', 'lab', 'nobody'], 4, /nobody/],
  ['a second attachment to the same network', ['connect', 'lab', 'box'], 5, /box.*lab|lab.*box/],
  ['a disconnect of what is not connected', ['disconnect', 'lab', 'other'], 4, /other/],
  ['a delete of a network in use', ['network', 'rm', 'lab'], 5, /lab.*\bbox\b/],
  ['an unknown command', ['netwrok', 'ls'], 2, /netwrok/],
  ['a run on a network that is not there', ['run', '--rm', '--network', 'nope', '--', 'true'], 4, /nope/],
])('%s is refused', (_what, argv, exit, says) => {
  const got = host.tryTsnet(...argv)
  expect({ status: got.status, stdout: got.stdout, stderr: got.stderr }).toEqual({
    status: exit,
    stdout: '',
    stderr: expect.stringMatching(/^tsnet: [^\n]+\n$/),
  })
  expect(got.stderr).toMatch(says)
  expect(host.snapshot()).toBe(before)
})

test('an inspect of nothing prints an empty array, as docker does, and says what is missing', () => {
  const got = host.tryTsnet('network', 'inspect', 'nope')
  expect(got).toMatchObject({ status: 4, stdout: '[]\n', stderr: expect.stringMatching(/^tsnet: [^\n]*nope[^\n]*\n$/) })
})

test('no daemon on the socket is said in one line, with what to do', () => {
  const got = host.tryTsnet('--socket', '/run/nobody.sock', 'network', 'ls')
  expect(got.status).toBe(7)
  expect(got.stderr).toMatch(/^tsnet: [^\n]*\/run\/nobody\.sock[^\n]*tsnet daemon[^\n]*\n$/)
})

/** As a user whom nothing of the host belongs to. The tree is mounted where such a user may look, wherever it lies here. */
const asNobody = (...argv: string[]) =>
  host.tryRun(
    'setpriv',
    '--reuid=65534',
    '--regid=65534',
    '--clear-groups',
    process.execPath,
    '/run/tree/dist/tsnet.js',
    ...argv,
  )

test('a user who is not root gets one line and exit code 3, from the client and from the daemon', () => {
  host.run('mkdir', '/run/tree')
  host.run('mount', '--bind', repo, '/run/tree')
  for (const argv of [
    ['network', 'ls'],
    ['network', 'create', 'new'],
    ['daemon', '--socket', '/tmp/tsnet.sock'],
  ]) {
    const got = asNobody(...argv)
    expect(got.stderr).toMatch(/^tsnet: [^\n]*root[^\n]*\n$/)
    expect(got.status).toBe(3)
  }
  expect(asNobody('--version').status).toBe(0)
  host.run('umount', '/run/tree')
  expect(host.snapshot()).toBe(before)
})

test('a second daemon on the same socket ends at once and does not disturb the first', () => {
  const got = host.tryTsnet('daemon')
  expect(got.status).toBe(5)
  expect(got.stderr.split('\n').filter(line => line.startsWith('tsnet: '))).toHaveLength(1)
  expect(host.snapshot()).toBe(before)
})
