import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createServer as createTcpServer } from 'node:net'
import { join } from 'node:path'
import { describe, expect, test, vi } from 'vitest'
import { NetError } from '../../src/errors.js'
import { ended } from '../helpers/built-cli.js'
import { type CliWorld, eachHasCli } from '../helpers/cli-world.js'
import type { FakeCnm } from '../helpers/fake-cnm.js'

let world: CliWorld
let cnm: FakeCnm

eachHasCli(made => {
  world = made
  cnm = world.cnm
})

const output = (...args: string[]): Promise<string> => world.output(...args)

describe('exit codes', () => {
  test.each([
    ['Internal', 1],
    ['InvalidParameter', 2],
    ['Forbidden', 3],
    ['NotFound', 4],
    ['Conflict', 5],
    ['NotImplemented', 6],
    ['Unavailable', 7],
  ] as const)('%s is %i', async (kind, status) => {
    cnm.failNext('pruneNetworks', new NetError(kind, 'it did not work'))
    await world.refuse(status, 'it did not work', 'network', 'prune')
  })

  test('bad usage is 2, in one line that suggests the nearest word', async () => {
    await world.refuse(2, "unknown command 'netwrk' (did you mean network?)", 'netwrk')
    await world.refuse(2, "unknown command 'lst' (did you mean ls?)", 'network', 'lst')
    await world.refuse(2, "unknown option '--subnt' (did you mean --subnet?)", 'network', 'create', 'x', '--subnt', 'y')
    await world.refuse(2, "missing required argument 'name'", 'network', 'create')
    await world.refuse(2, /too many arguments/, 'network', 'create', 'a', 'b')
    await world.refuse(2, /Allowed choices are table, json/, 'network', 'ls', '--format', 'xml')
    await world.refuse(2, '-o mtu must be KEY=VALUE', 'network', 'create', 'x', '-o', 'mtu')
    await world.refuse(2, /^tsnet: port "0:80"/, 'connect', 'lab', 'box', '-p', '0:80')
    await world.refuse(2, /cannot be used with/, 'sandbox', 'create', 'x', '--pid', '1', '--netns', 'y')
    await world.refuse(2, /^tsnet: network name "a b" must be/, 'network', 'create', 'a b')
    await world.refuse(2, /^tsnet: subnet "10.0.0.0\/99" is not/, 'network', 'create', 'a', '--subnet', '10.0.0.0/99')
    await world.refuse(2, /^tsnet: MAC address 02:42 must be/, 'connect', 'lab', 'box', '--mac', '02:42')
    await world.refuse(2, /has 16 bytes/, 'connect', 'lab', 'box', '--ifname', 'a'.repeat(16))
    await world.refuse(
      2,
      '--ip needs a network to attach to: add --network NETWORK',
      'run',
      '--ip',
      '10.0.0.1',
      '--',
      'true',
    )
    await world.refuse(2, /^tsnet: option -q stands where the command should be/, 'exec', 'box', '-q', '--', 'true')
    expect(cnm.calls).toEqual([])
  })

  test('what has no meaning in a namespace of another is 2, and says why', async () => {
    const run = (network: string, ...flags: string[]) => ['run', '--network', network, ...flags, '--', 'true']
    await world.refuse(
      2,
      /^tsnet: --publish .* the ports of the command are the ports of the host/,
      ...run('host', '-p', '80:80'),
    )
    await world.refuse(2, /^tsnet: --ip has no meaning with --network host/, ...run('host', '--ip', '10.0.0.1'))
    await world.refuse(
      2,
      /^tsnet: --mac is for box: its namespace/,
      ...run('container:box', '--mac', '02:00:00:00:00:01'),
    )
    await world.refuse(2, /^tsnet: --netns and --network host each name/, ...run('host', '--netns', '/run/netns/x'))
    await world.refuse(2, /cannot be used with option '--netns/, ...run('lab', '--netns', '/x', '--pid', '1'))
    expect(cnm.calls).toEqual([])
  })

  test('a command for want of which the help is printed is 2, help on request 0', async () => {
    expect(await world.tsnet([])).toMatchObject({
      status: 2,
      stdout: '',
      stderr: expect.stringContaining('Usage: tsnet'),
    })
    expect(await world.tsnet(['network'])).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('Usage: tsnet network'),
    })
    expect(await output('network', '--help')).toContain('Usage: tsnet network')
    expect(await output('help', 'run')).toContain('Usage: tsnet run')
  })
})

describe('the daemon on the socket', () => {
  test('is not there: 7, and how to start it', async () => {
    const args = ['--socket', join(world.dir, 'none.sock'), 'network', 'ls']
    await world.refuse(7, /^tsnet: no daemon answers on .*none\.sock: start it as root with "tsnet daemon"/, ...args)
    writeFileSync(join(world.dir, 'file'), '')
    await world.refuse(7, /^tsnet: no daemon answers on/, 'ps', '--socket', join(world.dir, 'file'))
  })

  test('may not be used by others: 3, and who may', async () => {
    const got = await world.tsnet(['network', 'ls'], { uid: 65534, gid: 65534 })
    expect(got).toMatchObject({ status: 3, stdout: '' })
    expect(got.stderr).toBe(
      `tsnet: no permission to use ${world.socketPath}: it takes root or a member of group docker\n`,
    )
  })

  test('hangs up or is something else: 7', async () => {
    const path = join(world.dir, 'other.sock')
    const rude = createTcpServer(socket => socket.destroy()).listen(path)
    await world.refuse(7, /ended the connection before it had answered\n$/, '--socket', path, 'ps')
    await new Promise(resolve => rude.close(resolve))
    const other = createServer((_, response) => response.writeHead(404).end('page not found')).listen(path)
    await world.refuse(7, /is not a tsnet daemon\n$/, '--socket', path, 'ps')
    await new Promise(resolve => other.close(resolve))
  })
})

describe('starting the daemon', () => {
  test('takes root', async () => {
    const got = await world.tsnet(['daemon'], { uid: 65534, gid: 65534 })
    expect(got).toMatchObject({
      status: 3,
      stdout: '',
      stderr: expect.stringMatching(/^tsnet: the daemon must run as root/),
    })
  })

  test('takes a password off the list of processes', async () => {
    // it refuses its configuration file and ends, which takes it longer than usual
    const slow = 'process.on("exit", () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 25_000))'
    const env = { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(slow)}` }
    const file = join(world.dir, 'none.yaml')
    const child = world.start(['daemon', '--store', 'etcd://root:secret@127.0.0.1:1', '--config', file], { env })
    const end = ended(child)
    try {
      const commandLine = () => readFileSync(`/proc/${child.pid}/cmdline`, 'latin1').replaceAll('\0', ' ').trim()
      await vi.waitFor(() => expect(commandLine()).toBe('tsnet daemon'), { timeout: 20_000, interval: 20 })
    } finally {
      child.kill('SIGKILL')
      await end
    }
  })

  test('refuses a configuration file that it cannot use', async () => {
    const file = join(world.dir, 'tsnet.yaml')
    const refuseConfig = async (text: string, message: string) => {
      writeFileSync(file, text)
      await world.refuse(2, `configuration file ${file}: ${message}`, 'daemon', '--config', file)
    }
    await world.refuse(2, /no such file/, 'daemon', '--config', join(world.dir, 'none.yaml'))
    await refuseConfig('log-levl: debug\n', 'unknown key log-levl (did you mean log-level?)')
    await refuseConfig('host-name: 5\n', 'the value of host-name must be text, not 5')
    await refuseConfig('a: b: c\n', 'Nested mappings are not allowed in compact mappings at line 1, column 4')
    writeFileSync(file, 'store: etcd://root:secret@127.0.0.1:1\n', { mode: 0o644 })
    await world.refuse(
      3,
      `configuration file ${file}: it has a password and everybody can read it: chmod o= ${file}`,
      'daemon',
      '--config',
      file,
    )
    chmodSync(file, 0o640)
    // read, and refused for the next reason
    await world.refuse(2, /^tsnet: log level "loud" must be/, 'daemon', '--config', file, '--log-level', 'loud')
    writeFileSync(file, 'log-level: loud\n')
    await world.refuse(2, /^tsnet: log level "loud" must be/, 'daemon', '--config', file)
  })
})
