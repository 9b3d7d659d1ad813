import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { ended, type Ran } from '../helpers/built-cli.js'
import { eachHasNetns } from '../helpers/cli-netns.js'
import type { CliWorld } from '../helpers/cli-world.js'
import type { FakeCnm } from '../helpers/fake-cnm.js'
import { netnsPath } from '../helpers/netns.js'

let world: CliWorld
let cnm: FakeCnm
let ns: string

eachHasNetns('tst-exec', (made, name) => {
  world = made
  cnm = made.cnm
  ns = name
})
afterEach(() => rmSync(`/etc/netns/${ns}`, { recursive: true, force: true }))

const sh = (script: string): Promise<Ran> => world.tsnet(['exec', ns, '--', 'sh', '-c', script])
const inodeOf = (path: string): number => statSync(path).ino

describe('exec', () => {
  test('runs the command in the namespace, as the same process', async () => {
    const child = world.start(['exec', ns, '--', 'sh', '-c', 'echo $$; readlink /proc/self/ns/net; exec cat'])
    const got = ended(child)
    child.stdin?.end()
    const [pid, namespace] = (await got).stdout.trim().split('\n')
    expect(Number(pid)).toBe(child.pid)
    expect(namespace).toBe(`net:[${inodeOf(netnsPath(ns))}]`)
  })

  test('needs no --', async () =>
    expect((await world.tsnet(['exec', ns, 'ip', '-j', 'link'])).stdout).toBe(
      execFileSync('ip', ['-n', ns, '-j', 'link'], { encoding: 'utf8' }),
    ))

  test('hands stdin, stdout, stderr and every argument through untouched', async () => {
    const words = ['a b', '', '*', '$HOME', '--format', '-q', "it's"]
    const script = 'cat; printf "<%s>" "$@"; echo oops >&2'
    const got = await world.tsnet(['exec', ns, '--', 'sh', '-c', script, 'sh', ...words], { input: 'in\nput' })
    expect(got).toMatchObject({
      status: 0,
      stdout: `in\nput${words.map(word => `<${word}>`).join('')}`,
      stderr: 'oops\n',
    })
  })

  test('ends with the exit code of the command, or its signal', async () => {
    expect(await sh('exit 42')).toMatchObject({ status: 42, stderr: '' })
    expect(await sh('kill -TERM $$')).toMatchObject({ status: null, signal: 'SIGTERM' })
  })

  test('passes the environment on', async () => {
    const got = await world.tsnet(['exec', ns, '--', 'env'], { env: { COLOUR: 'blue = green\nred' } })
    expect(got.stdout).toContain('COLOUR=blue = green\nred\n')
  })

  test('leaves nothing of its own: no ignored signal, no open descriptor', async () => {
    const script = 'grep -E "^Sig(Ign|Blk)" /proc/self/status; ls /proc/self/fd | wc -l; umask; nice'
    const { stdout } = await ended(spawn('sh', ['-c', script]))
    expect((await sh(script)).stdout).toBe(stdout)
    expect(await sh('yes | head -1')).toMatchObject({ status: 0, stdout: 'y\n', stderr: '' })
  })

  test('runs the command with the soft limit of open files that the caller had, which Node raises', async () => {
    const tsnet = `${process.execPath} ${world.cli.script}`
    for (const words of [`exec ${ns}`, 'run --rm']) {
      const got = ended(
        spawn('sh', ['-c', `ulimit -Sn 321; ${tsnet} ${words} -- sh -c "ulimit -Sn; ulimit -Hn"; ulimit -Hn`], {
          env: { ...process.env, TSNET_SOCKET: world.socketPath },
        }),
      )
      const [soft, hard, want] = (await got).stdout.trim().split('\n')
      expect({ soft, hard }).toEqual({ soft: '321', hard: want })
    }
  })

  test('leaves stdin and stdout blocking', async () => {
    const { stdout } = await sh('grep flags /proc/self/fdinfo/0 /proc/self/fdinfo/1 /proc/self/fdinfo/2')
    const flags = [...stdout.matchAll(/flags:\s*(\d+)/g)].map(([, octal = '']) => Number.parseInt(octal, 8) & 0o4000)
    expect(flags).toEqual([0, 0, 0])
  })

  test('a command that is not there is 127, one that cannot be executed 126, each with one line', async () => {
    const run = (command: string) => world.tsnet(['exec', ns, '--', command])
    expect(await run('no-such-command')).toMatchObject({
      status: 127,
      stdout: '',
      stderr: 'tsnet: no-such-command: command not found\n',
    })
    expect(await run('/no/such/file')).toMatchObject({ status: 127, stderr: expect.stringMatching(/^tsnet: .*\n$/) })
    expect(await run('/etc/passwd')).toMatchObject({
      status: 126,
      stderr: 'tsnet: /etc/passwd: not an executable file\n',
    })
    const garbage = join(world.dir, 'garbage')
    writeFileSync(garbage, '#!/no/such/interpreter\n', { mode: 0o755 })
    expect(await run(garbage)).toMatchObject({ status: 126, stderr: expect.stringMatching(/^tsnet: .*garbage: .*\n$/) })
  })

  test('a script without #! is given to the shell, as execvp does', async () => {
    const script = join(world.dir, 'script')
    writeFileSync(script, 'echo "$1"; exit 3\n', { mode: 0o755 })
    expect(await world.tsnet(['exec', ns, '--', script, 'hello'])).toMatchObject({ status: 3, stdout: 'hello\n' })
  })

  test('an unknown sandbox is 4, one without its namespace too', async () => {
    expect(await world.tsnet(['exec', 'nobody', '--', 'true'])).toMatchObject({
      status: 4,
      stderr: 'tsnet: there is no sandbox nobody\n',
    })
    await cnm.createSandbox({ name: 'gone', netns: '/run/netns/tst-exec-gone' })
    expect(await world.tsnet(['exec', 'gone', '--', 'true'])).toMatchObject({
      status: 4,
      stderr: 'tsnet: no network namespace at /run/netns/tst-exec-gone\n',
    })
  })

  test('entering takes root', async () => {
    const got = await world.tsnet(['exec', ns, '--', 'true'], { uid: 65534, gid: 65534 })
    expect(got).toMatchObject({ status: 3, stderr: 'tsnet: entering a sandbox needs root\n' })
  })
})

describe('mounts inside', () => {
  test("/sys shows the sandbox's links", async () => {
    execFileSync('ip', ['-n', ns, 'link', 'add', 'only-here', 'type', 'veth', 'peer', 'only-there'])
    expect((await sh('ls /sys/class/net')).stdout.split('\n')).toContain('only-here')
    expect(existsSync('/sys/class/net/only-here')).toBe(false)
  })

  test('what was mounted in /sys is still there', async () => {
    const below = (mountinfo: string) =>
      [...new Set(mountinfo.split('\n').map(line => line.split(' ')[4] ?? ''))]
        .filter(path => path.startsWith('/sys/'))
        .sort()
    const want = below(readFileSync('/proc/self/mountinfo', 'utf8'))
    expect(want.length).toBeGreaterThan(0)
    expect(below((await sh('cat /proc/self/mountinfo')).stdout)).toEqual(want)
  })

  test('files of /etc/netns/NAME lie over those of /etc, inside only', async () => {
    const before = readFileSync('/etc/hosts', 'utf8')
    mkdirSync(`/etc/netns/${ns}`, { recursive: true })
    writeFileSync(`/etc/netns/${ns}/hosts`, '10.30.0.2 box\n')
    writeFileSync(`/etc/netns/${ns}/resolv.conf`, 'nameserver 10.30.0.1\n')
    const got = await sh('cat /etc/hosts /etc/resolv.conf')
    expect(got).toMatchObject({ status: 0, stdout: '10.30.0.2 box\nnameserver 10.30.0.1\n', stderr: '' })
    expect(readFileSync('/etc/hosts', 'utf8')).toBe(before)
  })

  test('a file that has nothing to lie over is reported, and the command runs', async () => {
    mkdirSync(`/etc/netns/${ns}`, { recursive: true })
    writeFileSync(`/etc/netns/${ns}/tst-nothing`, '')
    const got = await sh('echo ran')
    expect(got).toMatchObject({ status: 0, stdout: 'ran\n' })
    expect(got.stderr).toMatch(/^tsnet: \/etc\/netns\/.*\/tst-nothing over \/etc\/tst-nothing: [^\n]*\n$/)
  })

  test('what is mounted inside stays inside', async () => {
    // other suites make and remove namespaces meanwhile, whose mounts are not our affair
    const mounts = () =>
      readFileSync('/proc/self/mountinfo', 'utf8')
        .split('\n')
        .filter(line => !line.includes('/netns'))
    const before = mounts()
    const got = await sh(`mount -t tmpfs tmpfs ${world.dir} && touch ${world.dir}/inside && ls ${world.dir}`)
    expect(got).toMatchObject({ status: 0, stdout: 'inside\n', stderr: '' })
    expect(existsSync(join(world.dir, 'inside'))).toBe(false)
    expect(mounts()).toEqual(before)
  })
})
