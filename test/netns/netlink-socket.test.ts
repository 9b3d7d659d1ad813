import { spawn, spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test, vi } from 'vitest'
import { kindOf, messageOf } from '../../src/errors.js'
import { Kernel } from '../../src/netlink/kernel.js'
import { addressAdd, addressDelete, linkAdd, linkDelete, linkSet, tolerant } from '../../src/netlink/requests.js'
import { NetlinkSocket } from '../../src/netlink/socket.js'
import { buildCli } from '../helpers/built-cli.js'
import { refusal, useKernelWorld } from '../helpers/kernel-world.js'
import { ipJson, netnsPath, tryRun } from '../helpers/netns.js'

const world = useKernelWorld('tst-nls')

const openFiles = (): number => readdirSync('/proc/self/fd').length
const many = (count: number): string[] => Array.from({ length: count }, (_, i) => `10.${(i >> 8) + 1}.${i & 255}.1/32`)

describe('lists', () => {
  test('of 3,000 addresses are whole, and 3,000 are added in one call', () => {
    const lo = world.index('lo')
    world.kernel.apply(...many(3000).map(address => addressAdd({ index: lo, address })))
    const want = ipJson<{ addr_info: { local: string; family: string; prefixlen: number }[] }[]>(
      world.name,
      '-4',
      'address',
      'show',
    )
      .flatMap(link => link.addr_info)
      .map(info => `${info.local}/${info.prefixlen}`)
    const got = world.kernel.addresses({ family: 4 }).map(address => address.address)
    expect(want).toHaveLength(3001)
    expect(got.sort()).toEqual(want.sort())
    expect(world.kernel.routes({ table: 255, family: 4 }).length).toBeGreaterThanOrEqual(3001)
  })

  test('that change while they are read are whole or refused, never part of the truth', async () => {
    const lo = world.index('lo')
    const steady = many(2500)
    world.kernel.apply(...steady.map(address => addressAdd({ index: lo, address })))
    // Another process adds and deletes all the time: every attempt to read may be interrupted.
    const script = Array.from(
      { length: 200 },
      (_, i) => `address add 172.16.${i}.1/32 dev lo\naddress delete 172.16.${i}.1/32 dev lo\n`,
    ).join('')
    const churn = spawn(
      'ip',
      ['netns', 'exec', world.name, 'sh', '-c', `while :; do printf '%s' "$0" | ip -batch - ; done`, script],
      { stdio: 'ignore', detached: true },
    )
    try {
      await sleep(50)
      let whole = 0
      const refused: string[] = []
      // on a busy machine the other process may be a while without a turn
      const start = performance.now()
      const isEnough = (): boolean => whole + refused.length > 5 && world.kernel.socket.rereads > 0
      while (performance.now() < start + (isEnough() ? 2_000 : 20_000)) {
        try {
          const got = new Set(world.kernel.addresses({ index: lo, family: 4 }).map(address => address.address))
          expect(steady.filter(address => !got.has(address))).toEqual([])
          whole++
        } catch (error) {
          refused.push(`${kindOf(error)}: ${messageOf(error)}`)
        }
      }
      expect(new Set(refused).size).toBeLessThanOrEqual(1)
      for (const said of refused) expect(said).toContain('Unavailable: ip address show')
      expect(whole + refused.length).toBeGreaterThan(5)
      expect(world.kernel.socket.rereads).toBeGreaterThan(0)
    } finally {
      process.kill(-(churn.pid as number), 'SIGKILL')
    }
    await sleep(50)
    expect(world.kernel.addresses({ index: lo, family: 4 }).length).toBeGreaterThanOrEqual(2501)
  })
})

describe('a socket', () => {
  test('goes on after errors, with the next answer to the next question', () => {
    for (let i = 0; i < 300; i++) {
      expect(refusal(() => world.kernel.apply(linkSet({ name: 'absent', up: true })))).toBe(
        'NotFound: ip link set dev absent up: no such link',
      )
      expect(world.kernel.link('lo')?.name).toBe('lo')
      expect(world.kernel.link(9999)).toBeUndefined()
    }
  })

  test('takes 500 requests that all fail, more than its buffer holds answers for', () => {
    const lo = world.index('lo')
    const absent = many(500).map(address => addressDelete({ index: lo, address }))
    expect(refusal(() => world.kernel.apply(...absent))).toContain('(and 99 more failed)')
    world.kernel.apply(...absent.map(request => tolerant(request, 'EADDRNOTAVAIL')))
    expect(world.kernel.addresses({ family: 4 })).toHaveLength(1)
  })

  test('leaves no descriptor open', async () => {
    const before = openFiles()
    for (let i = 0; i < 20; i++) {
      const other = Kernel.open(world.netns)
      other.apply(linkAdd({ kind: 'bridge', name: `b${i}` }))
      const deleted = other.deleteLinks([`b${i}`], () => true)
      // What is under way ends before the sockets go.
      other.close()
      await deleted
    }
    // but for the program of their filter, which is loaded once for all
    await vi.waitFor(() => expect(openFiles()).toBeLessThanOrEqual(before + 1), { timeout: 15_000 })
    expect(world.kernel.links().map(link => link.name)).toEqual(['lo'])
  })

  test('answers synchronous calls while another request waits in the kernel, and takes asynchronous ones in turn', async () => {
    world.kernel.apply(...[1, 2, 3].map(i => linkAdd({ kind: 'veth', name: `v${i}`, peer: { name: `p${i}` } })))
    const waiting = world.kernel.socket.another(NetlinkSocket.open)
    const order: string[] = []
    const deletes = ['v1', 'v2', 'v3', 'v1'].map(async name => {
      const failures = await waiting.exchangeAsync([linkDelete({ name })])
      order.push(...(failures.length > 0 ? failures.map(messageOf) : [name]))
    })
    expect(world.kernel.link('lo')?.name).toBe('lo')
    await Promise.all(deletes)
    waiting.close()
    expect(order).toEqual(['v1', 'v2', 'v3', 'ip link delete dev v1: no such link'])
    expect(world.kernel.links().map(link => link.name)).toEqual(['lo'])
  })

  test('without the right to change anything is Forbidden', () => {
    const program = `
      const { Kernel } = await import(process.argv[1] + '/netlink/kernel.js')
      const { currentNetns } = await import(process.argv[1] + '/netlink/netns.js')
      const { linkAdd } = await import(process.argv[1] + '/netlink/requests.js')
      const here = currentNetns()
      let said = ''
      try { Kernel.open(here).apply(linkAdd({ kind: 'bridge', name: 'tst-nls-no' })) } catch (error) { said = error.kind + ': ' + error.message }
      console.log(said)`
    const built = buildCli()
    const dist = dirname(built.script)
    // root without the capability, not another user: the tree may lie where only root may look
    const powerless = [
      'setpriv',
      '--bounding-set',
      '-net_admin',
      process.execPath,
      '--input-type=module',
      '-e',
      program,
    ]
    const result = spawnSync('ip', ['netns', 'exec', world.name, ...powerless, dist], { encoding: 'utf8' })
    built.remove()
    expect(result.stdout.trim()).toMatch(/^Forbidden: .*(not permitted|needs root)/i)
  })

  test('with TSNET_DEBUG=netlink says what it asked, decoded, and what came of it', () => {
    const built = buildCli()
    const program = `
      const { Kernel } = await import(process.argv[1] + '/netlink/kernel.js')
      const { openNetns } = await import(process.argv[1] + '/netlink/netns.js')
      const { linkAdd } = await import(process.argv[1] + '/netlink/requests.js')
      const kernel = Kernel.open(openNetns(${JSON.stringify(netnsPath(world.name))}))
      kernel.apply(linkAdd({ kind: 'bridge', name: 'br0', mtu: 1400 }))
      try { kernel.apply(linkAdd({ kind: 'bridge', name: 'br0' })) } catch {}`
    const args = ['--input-type=module', '-e', program, dirname(built.script)]
    const env = { ...process.env, TSNET_DEBUG: 'netlink' }
    const { stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', env })
    built.remove()
    const [first, second] = stderr.split('\n')
    expect(first).toBe(
      'netlink: ip link add name br0 mtu 1400 type bridge: ok {"family":0,"type":0,"index":0,"flags":0,"change":0,"attrs":{"ifname":"br0","mtu":1400,"info":{"kind":"bridge"}}}',
    )
    expect(second).toContain('netlink: ip link add name br0 type bridge: File exists {')
  })
})

test('the 1,024th port of a bridge is refused as such', () => {
  world.kernel.apply(linkAdd({ kind: 'bridge', name: 'br0' }))
  const master = world.index('br0')
  world.kernel.apply(
    ...Array.from({ length: 512 }, (_, i) => linkAdd({ kind: 'veth', name: `v${i}`, master, peer: { name: `p${i}` } })),
  )
  const ports = Array.from({ length: 511 }, (_, i) => linkSet({ name: `p${i}`, master }))
  world.kernel.apply(...ports)
  expect(refusal(() => world.kernel.apply(linkSet({ name: 'p511', master })))).toBe(
    `Conflict: ip link set dev p511 master ${master}: the bridge has 1023 ports, as many as the kernel allows`,
  )
  expect(
    refusal(() => world.kernel.apply(linkAdd({ kind: 'veth', name: 'more', master, peer: { name: 'less' } }))),
  ).toContain('the bridge has 1023 ports, as many as the kernel allows')
  expect(world.kernel.link('more')).toBeUndefined()
  expect(tryRun(world.name, 'ip', 'link', 'set', 'p511', 'master', 'br0').stderr).toContain('Exchange full')
})
