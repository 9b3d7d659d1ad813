import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import { ended, type Ran } from '../helpers/built-cli.js'
import { eachHasNetns } from '../helpers/cli-netns.js'
import type { CliWorld } from '../helpers/cli-world.js'
import type { FakeCnm } from '../helpers/fake-cnm.js'
import { until } from '../helpers/machine.js'
import { ipJson, netnsPath, removeNetns } from '../helpers/netns.js'

let world: CliWorld
let cnm: FakeCnm
let ns: string

eachHasNetns('tst-run', (made, name) => {
  world = made
  cnm = made.cnm
  ns = name
})

/** What the child says first. */
async function firstOutput(child: ChildProcess): Promise<string> {
  const [text] = (await once(child.stdout!.setEncoding('utf8'), 'data')) as [string]
  return text
}

const inodeOf = (path: string): number => statSync(path).ino

describe('run', () => {
  const name = () => `${ns}-r`
  const run = (...args: string[]): Promise<Ran> => world.tsnet(['run', '--name', name(), ...args])
  const sandboxCalls = () => cnm.calls.slice(1).map(([verb, first]) => [verb, first])
  afterEach(() => removeNetns(name()))

  test('creates the sandbox, runs the command in it, returns its exit code and keeps the sandbox', async () => {
    const got = await run('--', 'sh', '-c', 'readlink /proc/self/ns/net; cat; exit 7')
    expect(got).toMatchObject({ status: 7, stdout: `net:[${inodeOf(netnsPath(name()))}]\n`, stderr: '' })
    expect(sandboxCalls()).toEqual([['createSandbox', { name: name(), ephemeral: false }]])
  })

  test('with --rm deletes the sandbox afterwards', async () => {
    expect(await run('--rm', '--', 'sh', '-c', 'exit 5')).toMatchObject({ status: 5, stdout: '', stderr: '' })
    expect(cnm.sandboxes().map(sandbox => sandbox.name)).toEqual([ns])
    expect(existsSync(netnsPath(name()))).toBe(false)
    expect(sandboxCalls()[0]).toEqual(['createSandbox', { name: name(), ephemeral: true }])
  })

  test('without a network has loopback only, and a readable name of its own', async () => {
    const got = await world.tsnet(['run', '--rm', '--', 'ip', '-j', 'link'])
    expect(JSON.parse(got.stdout).map((link: { ifname: string }) => link.ifname)).toEqual(['lo'])
    expect(cnm.calls[1]).toEqual([
      'createSandbox',
      { name: expect.stringMatching(/^run-[0-9a-f]{6}$/), ephemeral: true },
    ])
    expect(cnm.calls.map(([verb]) => verb)).not.toContain('connect')
  })

  test('connects with the options of an attachment before the command starts', async () => {
    await cnm.createNetwork({ name: 'lab' })
    const got = await run('--rm', '--network', 'lab', '--ip', '10.30.0.9', '-p', '8080:80', '--', 'true')
    expect(got).toMatchObject({ status: 0, stderr: '' })
    expect(cnm.calls.find(([verb]) => verb === 'connect')).toMatchObject([
      'connect',
      'lab',
      expect.stringMatching(/^[0-9a-f]{64}$/),
      { ip: '10.30.0.9', ports: [{ hostPort: { first: 8080, last: 8080 } }] },
    ])
  })

  test('whatever keeps the command from starting, the sandbox is gone', async () => {
    const gone = () => expect(cnm.sandboxes().map(sandbox => sandbox.name)).toEqual([ns])
    expect(await run('--network', 'nowhere', '--', 'true')).toMatchObject({
      status: 4,
      stderr: 'tsnet: there is no network nowhere\n',
    })
    gone()
    expect(await run('--', 'no-such-command')).toMatchObject({
      status: 127,
      stderr: 'tsnet: no-such-command: command not found\n',
    })
    gone()
    expect(await run('--rm', '--', '/etc/passwd')).toMatchObject({
      status: 126,
      stderr: expect.stringMatching(/^tsnet: /),
    })
    gone()
    const garbage = join(world.dir, 'garbage')
    writeFileSync(garbage, '#!/no/such/interpreter\n', { mode: 0o755 })
    expect(await run('--', garbage)).toMatchObject({ status: 126, stderr: expect.stringMatching(/^tsnet: .*\n$/) })
    gone()
  })

  test('a name that is taken is 5, and the sandbox that has it stays', async () => {
    const got = await world.tsnet(['run', '--rm', '--name', ns, '--', 'true'])
    expect(got).toMatchObject({ status: 5, stderr: `tsnet: create sandbox ${ns}: the name is taken\n` })
    expect(ipJson(ns, 'link').length).toBe(1)
  })

  test('a command ended by a signal is 128 and its number', async () =>
    expect(await run('--rm', '--', 'sh', '-c', 'kill -KILL $$')).toMatchObject({ status: 137, signal: null }))

  test.each(['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH'] as const)(
    'hands %s to the command, once',
    async signal => {
      const trap = `trap 'echo got ${signal}' ${signal.slice(3)}`
      const script = `${trap}; echo ready; read line || read line; echo end $line`
      const child = world.start(['run', '--rm', '--name', name(), '--', 'sh', '-c', script])
      const got = ended(child)
      expect(await firstOutput(child)).toBe('ready\n')
      child.kill(signal)
      await once(child.stdout!, 'data')
      child.stdin?.end('of it\n')
      expect(await got).toMatchObject({ status: 0, stdout: `ready\ngot ${signal}\nend of it\n`, stderr: '' })
      expect(existsSync(netnsPath(name()))).toBe(false)
    },
  )

  test('a signal that ends the command deletes the sandbox too', async () => {
    const child = world.start(['run', '--rm', '--name', name(), '--', 'sh', '-c', 'echo ready; exec sleep 60'])
    const got = ended(child)
    await firstOutput(child)
    child.kill('SIGTERM')
    expect(await got).toMatchObject({ status: 143 })
    expect(existsSync(netnsPath(name()))).toBe(false)
  })

  test('a signal before the command has started deletes the sandbox and starts nothing', async () => {
    let release = () => {}
    const held = new Promise<void>(resolve => {
      release = resolve
    })
    let asked = false
    const create = cnm.createSandbox.bind(cnm)
    cnm.createSandbox = async spec => {
      asked = true
      await held
      return create(spec)
    }
    const child = world.start(['run', '--name', name(), '--', 'touch', join(world.dir, 'started')])
    const got = ended(child)
    await until('the sandbox to be asked for', () => asked)
    child.kill('SIGINT')
    await sleep(100)
    release()
    expect(await got).toMatchObject({ status: 130, stderr: 'tsnet: SIGINT came before the command was started\n' })
    expect(existsSync(join(world.dir, 'started'))).toBe(false)
    expect(existsSync(netnsPath(name()))).toBe(false)
  })

  test('a terminal gives its signals to the command itself: they are not doubled', async () => {
    // node counts every signal, where a shell takes two that come close together for one
    const log = join(world.dir, 'got')
    const program = `const { appendFileSync, existsSync } = require('node:fs')
      process.on('SIGINT', () => appendFileSync('${log}', 'INT\\n'))
      appendFileSync('${log}', 'ready\\n')
      setInterval(() => existsSync('${log}.end') && process.exit(), 20)`
    writeFileSync(join(world.dir, 'count.cjs'), program)
    const count = `${process.execPath} ${join(world.dir, 'count.cjs')}`
    // exec: the shell between would be ended by the signal too, unless it is one that does this by itself
    const command = `exec ${process.execPath} ${world.cli.script} run --rm --name ${name()} -- ${count}`
    // script(1) gives both a terminal; the 3 is Ctrl-C
    const terminal = spawn('script', ['-qec', command, '/dev/null'], {
      env: { ...process.env, TSNET_SOCKET: world.socketPath },
    })
    const got = ended(terminal)
    await until('the command to be ready', () => existsSync(log) && readFileSync(log, 'utf8').includes('ready'))
    terminal.stdin.write('\x03')
    await until('the command to get the signal', () => readFileSync(log, 'utf8').includes('INT'))
    await sleep(200)
    writeFileSync(`${log}.end`, '')
    expect(await got).toMatchObject({ status: 0 })
    expect(readFileSync(log, 'utf8')).toBe('ready\nINT\n')
    terminal.stdin.end()
  })

  test('a sandbox that cannot be deleted is named, and the exit code is still that of the command', async () => {
    cnm.failNext('deleteSandbox', new Error('it is stuck'))
    const got = await run('--rm', '--', 'sh', '-c', 'exit 3')
    expect(got).toMatchObject({ status: 3, stderr: `tsnet: sandbox ${name()} is left behind: it is stuck\n` })
  })
})
