import { spawnSync } from 'node:child_process'
import { existsSync, readlinkSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { readlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { kindOf, messageOf } from '../../src/errors.js'
import { createNetns, currentNetns, deleteNetns, inNetns, openNetns, openNetnsOfPid } from '../../src/netlink/netns.js'
import { readSysctl, writeSysctl } from '../../src/netlink/sysctl.js'
import { type BuiltCli, buildCli } from '../helpers/built-cli.js'
import { ipJson, makeNetns, needRoot, netnsPath, removeNetns, run, sweep, uniqueName } from '../helpers/netns.js'

const prefix = 'tst-ns'
const here = '/proc/thread-self/ns/net'

beforeAll(() => {
  needRoot()
  sweep(prefix)
})
afterAll(() => sweep(prefix))

const failure = (work: () => unknown): string => {
  try {
    work()
  } catch (error) {
    return `${kindOf(error)}: ${messageOf(error)}`
  }
  return 'nothing was thrown'
}

/** A shell on the machine, outside of any test namespace. */
const shell = (command: string) => spawnSync('sh', ['-c', command], { encoding: 'utf8' })

describe('createNetns and deleteNetns', () => {
  test('what one makes `ip netns` lists, enters and deletes; and the other way round', () => {
    const name = uniqueName(prefix)
    const ns = createNetns(netnsPath(name))
    expect(shell('ip netns list').stdout).toContain(name)
    expect(ipJson<{ ifname: string }[]>(name, 'link', 'show').map(link => link.ifname)).toEqual(['lo'])
    expect(inNetns(ns, () => readlinkSync(here))).toBe(run(name, 'readlink', here).trim())
    expect(readlinkSync(here)).not.toBe(run(name, 'readlink', here).trim())
    ns.close()
    expect(shell(`ip netns delete ${name}`).status).toBe(0)
    expect(existsSync(netnsPath(name))).toBe(false)

    const other = makeNetns(prefix)
    deleteNetns(netnsPath(other))
    expect(shell('ip netns list').stdout).not.toContain(other)
    expect(existsSync(netnsPath(other))).toBe(false)
  })

  test('a taken path is a Conflict and stays what it is', () => {
    const name = makeNetns(prefix)
    const before = openNetns(netnsPath(name))
    expect(failure(() => createNetns(netnsPath(name)))).toBe(
      `Conflict: network namespace ${netnsPath(name)} exists already`,
    )
    const after = openNetns(netnsPath(name))
    expect(after.identity()).toBe(before.identity())
    before.close()
    after.close()
    removeNetns(name)
  })

  test('a directory of its own is made, shared, and seen from another mount namespace', () => {
    const dir = `/run/${uniqueName(prefix)}`
    const paths = [`${dir}/a`, `${dir}/b`]
    for (const path of paths) createNetns(path).close()
    const mounts = shell(`grep ' ${dir}[ /]' /proc/self/mountinfo`).stdout.trim().split('\n')
    // One mount for the directory, however often it is asked for, and one a namespace.
    expect(mounts.filter(line => line.includes(` ${dir} `))).toHaveLength(1)
    expect(mounts.every(line => line.includes('shared:'))).toBe(true)
    // Deleting goes through to a mount namespace that copied the mount.
    const held = shell(
      `unshare --mount --propagation slave sh -c 'umount -l ${dir}/a 2>/dev/null; grep -c " ${dir}/b " /proc/self/mountinfo'`,
    )
    expect(held.stdout.trim()).not.toBe('0')
    for (const path of paths) deleteNetns(path)
    expect(paths.some(path => existsSync(path))).toBe(false)
    shell(`umount -l ${dir}`)
    rmSync(dir, { recursive: true })
  })

  test('absent is fine; what is no namespace stays', () => {
    deleteNetns(netnsPath(uniqueName(prefix)))
    const file = netnsPath(uniqueName(prefix))
    writeFileSync(file, 'precious')
    expect(failure(() => deleteNetns(file))).toBe(`InvalidParameter: ${file} is not a network namespace`)
    expect(statSync(file).size).toBe(8)
    // A crash between making the file and mounting on it leaves this.
    writeFileSync(file, '')
    deleteNetns(file)
    expect(existsSync(file)).toBe(false)
  })

  test("of a symbolic link to another's namespace only the link goes", () => {
    const name = makeNetns(prefix)
    const link = netnsPath(uniqueName(prefix))
    symlinkSync(netnsPath(name), link)
    deleteNetns(link)
    expect(existsSync(link)).toBe(false)
    expect(ipJson(name, 'link', 'show')).toHaveLength(1)
    removeNetns(name)
  })

  test('a directory that cannot be made leaves nothing and says so', () => {
    expect(failure(() => createNetns('/proc/no/such'))).not.toBe('nothing was thrown')
    const home = currentNetns()
    expect(home.identity()).toBe(openNetnsOfPid(process.pid).identity())
    home.close()
  })
})

describe('openNetns', () => {
  const fifo = `/tmp/${uniqueName(prefix)}`
  test.each([
    ['/run/netns/tst-ns-absent', 'NotFound: no network namespace at /run/netns/tst-ns-absent'],
    ['/etc/passwd', 'InvalidParameter: /etc/passwd is not a network namespace'],
    ['/etc', 'InvalidParameter: /etc is not a network namespace'],
    ['/dev/null', 'InvalidParameter: /dev/null is not a network namespace'],
    ['/proc/self/ns/mnt', 'InvalidParameter: /proc/self/ns/mnt is not a network namespace'],
    ['/etc/passwd/x', 'NotFound: no network namespace at /etc/passwd/x'],
    ['box', 'InvalidParameter: network namespace "box" is not an absolute path'],
    ['', 'InvalidParameter: network namespace "" is not an absolute path'],
  ])('%j: %s', (path, want) => {
    expect(failure(() => openNetns(path))).toBe(want)
  })

  test('a FIFO is refused without waiting for its other end', () => {
    shell(`mkfifo ${fifo}`)
    expect(failure(() => openNetns(fifo))).toBe(`InvalidParameter: ${fifo} is not a network namespace`)
    rmSync(fifo)
  })

  test('by process id', () => {
    const mine = openNetnsOfPid(process.pid)
    expect(mine.identity()).toMatch(/^\d+:\d+$/)
    expect(`net:[${mine.identity().split(':')[1]}]`).toBe(readlinkSync(here))
    mine.close()
    mine.close()
    expect(failure(() => openNetnsOfPid(4_194_303))).toBe('NotFound: no process has the id 4194303')
    expect(failure(() => openNetnsOfPid(0))).toContain('InvalidParameter: process id 0')
    expect(failure(() => openNetnsOfPid(1.5))).toContain('InvalidParameter: process id 1.5')
  })

  test('no descriptor is left open by a refusal', () => {
    // what else this process opens meanwhile is its own business
    const count = () => Number(shell(`ls -l /proc/${process.pid}/fd | grep -cE ' -> (/etc/passwd|net:)'`).stdout)
    const before = count()
    for (let i = 0; i < 20; i++) {
      failure(() => openNetns('/etc/passwd'))
      failure(() => createNetns('/etc/passwd'))
    }
    expect(count()).toBe(before)
  })
})

describe('inNetns', () => {
  test('comes back, also when the work throws, also when nested', () => {
    const [outer, inner] = [makeNetns(prefix), makeNetns(prefix)]
    const [a, b] = [openNetns(netnsPath(outer)), openNetns(netnsPath(inner))]
    const home = readlinkSync(here)
    expect(() =>
      inNetns(a, (): number => {
        expect(readlinkSync(here)).toBe(run(outer, 'readlink', here).trim())
        expect(inNetns(b, () => readlinkSync(here))).toBe(run(inner, 'readlink', here).trim())
        expect(readlinkSync(here)).toBe(run(outer, 'readlink', here).trim())
        throw new Error('on purpose')
      }),
    ).toThrow('on purpose')
    expect(readlinkSync(here)).toBe(home)
    a.close()
    b.close()
    removeNetns(outer)
    removeNetns(inner)
  })

  test('work that returns a promise does not compile', () => {
    const ns = currentNetns()
    // @ts-expect-error what comes after an await would happen outside
    const wrong = () => inNetns(ns, async () => 3)
    expect(wrong).toBeTypeOf('function')
    ns.close()
  })

  test('the threads of the pool stay outside', async () => {
    const name = makeNetns(prefix)
    const ns = openNetns(netnsPath(name))
    const home = readlinkSync(here)
    const seen: Promise<string>[] = []
    inNetns(ns, () => {
      expect(readlinkSync(here)).not.toBe(home)
      // More than there are threads, and all begun from within.
      for (let i = 0; i < 16; i++) seen.push(readlink(here))
    })
    expect(new Set(await Promise.all(seen))).toEqual(new Set([home]))
    ns.close()
    removeNetns(name)
  })

  describe('in a fresh process', () => {
    let built: BuiltCli
    beforeAll(() => {
      built = buildCli()
    })
    afterAll(() => built?.remove())

    /** Run a program in which `netns` is the module, and `ns` the namespace that it is given. */
    const node = (name: string, program: string) => {
      const module = join(dirname(built.script), 'netlink', 'netns.js')
      const head = `const netns = await import(${JSON.stringify(module)}); const fs = await import('node:fs')
        const here = '${here}'; const ns = netns.openNetns(${JSON.stringify(netnsPath(name))})\n`
      return spawnSync(process.execPath, ['--input-type=module', '-e', head + program], {
        encoding: 'utf8',
        timeout: 20_000,
      })
    }

    test('the first use of the pool may be within a namespace', () => {
      const name = makeNetns(prefix)
      const result = node(
        name,
        `const seen = []
         netns.inNetns(ns, () => { for (let i = 0; i < 16; i++) seen.push(fs.promises.readlink(here)) })
         console.log(JSON.stringify([...new Set(await Promise.all(seen))]))`,
      )
      expect(result.stderr).toBe('')
      expect(JSON.parse(result.stdout)).toEqual([readlinkSync(here)])
      removeNetns(name)
    })

    test('a process that cannot come back ends at once', () => {
      const name = makeNetns(prefix)
      const result = node(
        name,
        `const home = fs.readlinkSync(here)
         netns.inNetns(ns, () => {
           for (const fd of fs.readdirSync('/proc/self/fd')) {
             let target = ''
             try { target = fs.readlinkSync('/proc/self/fd/' + fd) } catch {}
             if (target === home) fs.closeSync(Number(fd))
           }
         })
         console.log('went on')`,
      )
      expect(result.signal).toBe('SIGABRT')
      expect(result.stdout).toBe('')
      expect(result.stderr).toContain('tsnet: no way back to the own network namespace: setns: Bad file descriptor')
      removeNetns(name)
    })
  })
})

describe('sysctl', () => {
  test('is read and written in the namespace, and only where it differs', () => {
    const name = makeNetns(prefix)
    const ns = openNetns(netnsPath(name))
    const setting = 'net.ipv4.conf.lo.rp_filter'
    const host = readSysctl(undefined, setting)
    const want = host === '2' ? '1' : '2'
    expect(writeSysctl(ns, setting, want)).toBe(true)
    expect(writeSysctl(ns, setting, Number(want))).toBe(false)
    expect(run(name, 'cat', '/proc/sys/net/ipv4/conf/lo/rp_filter').trim()).toBe(want)
    expect(readSysctl(ns, setting)).toBe(want)
    expect(readSysctl(undefined, setting)).toBe(host)
    run(name, 'ip', 'link', 'add', 'a.b', 'type', 'bridge')
    expect(writeSysctl(ns, 'net.ipv4.conf.a/b.rp_filter', want)).toBe(true)
    expect(run(name, 'cat', '/proc/sys/net/ipv4/conf/a.b/rp_filter').trim()).toBe(want)
    ns.close()
    removeNetns(name)
  })

  test.each([
    ['net.ipv4.no_such', 'NotFound: this kernel has no sysctl net.ipv4.no_such here'],
    ['net.ipv4...x', 'InvalidParameter: sysctl "net.ipv4...x" is not words joined by dots'],
    ['net.//.//.etc', 'InvalidParameter: sysctl "net.//.//.etc" is not words joined by dots'],
  ])('%s is refused', (setting, want) => {
    expect(failure(() => readSysctl(undefined, setting))).toBe(want)
  })

  test('a value that the kernel does not take is InvalidParameter', () => {
    const name = makeNetns(prefix)
    const ns = openNetns(netnsPath(name))
    expect(failure(() => writeSysctl(ns, 'net.ipv4.ip_forward', 'maybe'))).toContain(
      'InvalidParameter: sysctl net.ipv4.ip_forward',
    )
    ns.close()
    removeNetns(name)
  })
})
