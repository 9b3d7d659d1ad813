import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { type KernelEvent, watchKernel } from '../../src/netlink/events.js'
import {
  addressAdd,
  addressDelete,
  fdbReplace,
  linkAdd,
  linkDelete,
  linkSet,
  neighbourReplace,
  routeAdd,
} from '../../src/netlink/requests.js'
import { buildCli } from '../helpers/built-cli.js'
import { useKernelWorld } from '../helpers/kernel-world.js'
import { netnsPath, runWithInput } from '../helpers/netns.js'

const world = useKernelWorld('tst-nle')

const openFiles = (): number => readdirSync('/proc/self/fd').length
const many = (count: number): string[] => Array.from({ length: count }, (_, i) => `10.${(i >> 8) + 1}.${i & 255}.1/32`)

describe('watchKernel', () => {
  const until = async (condition: () => boolean): Promise<void> => {
    for (const end = performance.now() + 3000; !condition() && performance.now() < end; ) await sleep(5)
    expect(condition()).toBe(true)
  }

  test('hears links, addresses, routes, neighbours and forwarding entries come and go, until it is told to stop', async () => {
    const before = openFiles()
    const stop = new AbortController()
    const events: KernelEvent[] = []
    watchKernel(
      world.netns,
      ['link', 'address4', 'address6', 'route4', 'route6', 'neighbour'],
      e => events.push(e),
      stop.signal,
    )
    world.kernel.apply(linkAdd({ kind: 'bridge', name: 'br0', up: true, addrGenMode: 'none', alias: 'tsnet:a' }))
    world.kernel.apply(linkAdd({ kind: 'vxlan', name: 'x0', vxlan: { id: 5, local: '192.0.2.1' } }))
    const br0 = world.index('br0')
    world.kernel.apply(
      addressAdd({ index: br0, address: '10.30.0.1/24' }),
      addressAdd({ index: br0, address: 'fd00::1/64', noDad: true }),
      routeAdd({ destination: '10.40.0.0/16', via: '10.30.0.9' }),
      neighbourReplace({ index: br0, address: '10.30.0.9', mac: '02:00:00:00:00:09' }),
      fdbReplace({ index: world.index('x0'), mac: '02:00:00:00:00:09', dst: '192.0.2.9', self: true }),
    )
    // IPv6 addresses are announced when duplicate address detection is done, or left out.
    await until(() => events.some(e => e.what === 'address' && e.address.family === 6))
    world.kernel.apply(linkDelete({ index: br0 }))
    await until(() => events.some(e => e.what === 'link' && e.change === 'deleted' && e.link.name === 'br0'))
    expect(events).toEqual(
      expect.arrayContaining([
        expect.objectContaining({
          what: 'link',
          change: 'new',
          link: expect.objectContaining({ name: 'br0', alias: 'tsnet:a' }),
        }),
        expect.objectContaining({
          what: 'address',
          change: 'new',
          address: expect.objectContaining({ address: '10.30.0.1/24' }),
        }),
        expect.objectContaining({
          what: 'address',
          change: 'new',
          address: expect.objectContaining({ address: 'fd00::1/64' }),
        }),
        expect.objectContaining({
          what: 'route',
          change: 'new',
          route: expect.objectContaining({ destination: '10.40.0.0/16' }),
        }),
        expect.objectContaining({
          what: 'neighbour',
          change: 'new',
          neighbour: expect.objectContaining({ address: '10.30.0.9' }),
        }),
        expect.objectContaining({ what: 'fdb', change: 'new', entry: expect.objectContaining({ dst: '192.0.2.9' }) }),
        expect.objectContaining({
          what: 'address',
          change: 'deleted',
          address: expect.objectContaining({ address: '10.30.0.1/24' }),
        }),
        expect.objectContaining({ what: 'link', change: 'deleted', link: expect.objectContaining({ index: br0 }) }),
      ]),
    )
    const heard = events.length
    stop.abort()
    world.kernel.apply(linkAdd({ kind: 'bridge', name: 'br1' }))
    await sleep(30)
    expect(events).toHaveLength(heard)
    expect(openFiles()).toBe(before)
    watchKernel(world.netns, ['link'], e => events.push(e), stop.signal)
    expect(openFiles()).toBe(before)
  })

  test('says overrun when more has happened than the socket holds, and hears what comes after', async () => {
    const stop = new AbortController()
    const events: KernelEvent[] = []
    watchKernel(world.netns, ['link', 'address4'], e => events.push(e), stop.signal)
    // No await: the event loop gets no turn to read.
    const lo = world.index('lo')
    for (let i = 0; i < 3; i++) {
      world.kernel.apply(...many(2000).map(address => addressAdd({ index: lo, address })))
      world.kernel.apply(...many(2000).map(address => addressDelete({ index: lo, address })))
    }
    await until(() => events.some(e => e.what === 'overrun'))
    world.kernel.apply(linkAdd({ kind: 'bridge', name: 'after' }))
    await until(() => events.some(e => e.what === 'link' && e.link.name === 'after'))
    stop.abort()
  })

  test('whoever gathers hears what a link is in the end, that it went, and that another has its number', async () => {
    const stop = new AbortController()
    const events: KernelEvent[] = []
    watchKernel(world.netns, ['link', 'address4'], e => events.push(e), stop.signal, { gatherMs: 10 })
    // No await: all of it is one moment.
    world.kernel.apply(linkAdd({ kind: 'bridge', name: 'g0', mtu: 1400 }))
    const g0 = world.index('g0')
    for (const mtu of [1401, 1402, 1403]) world.kernel.apply(linkSet({ index: g0, mtu }))
    world.kernel.apply(linkDelete({ index: g0 }), linkAdd({ kind: 'bridge', name: 'g1', index: g0, mtu: 1500 }))
    for (const mtu of [1501, 1502]) world.kernel.apply(linkSet({ index: g0, mtu }))
    await until(() => events.some(e => e.what === 'link' && e.link.name === 'g1'))
    const told = events.flatMap(e => (e.what === 'link' ? `${e.change} ${e.link.name} ${e.link.mtu}` : []))
    expect(told).toEqual(['new g0 1403', 'deleted g0 1403', 'new g1 1502'])
    stop.abort()
  })

  test('promises that a handler settles go on at once, and what it throws is not lost', async () => {
    const stop = new AbortController()
    const heard = new Promise<string>(resolve => {
      watchKernel(world.netns, ['link'], e => e.what === 'link' && resolve(e.link.name), stop.signal)
    })
    world.kernel.apply(linkAdd({ kind: 'bridge', name: 'br0' }))
    expect(await heard).toBe('br0')
    stop.abort()
  })

  test('does not keep a process alive', () => {
    const built = buildCli()
    const program = `
      const { watchKernel } = await import(process.argv[1] + '/netlink/events.js')
      const { openNetns } = await import(process.argv[1] + '/netlink/netns.js')
      watchKernel(openNetns(${JSON.stringify(netnsPath(world.name))}), ['link'], () => {}, new AbortController().signal)
      console.log('watching')`
    const result = spawnSync(process.execPath, ['--input-type=module', '-e', program, dirname(built.script)], {
      encoding: 'utf8',
      timeout: 10_000,
    })
    built.remove()
    expect([result.stdout.trim(), result.status, result.signal]).toEqual(['watching', 0, null])
  })

  test('hears what `ip` does, as `ip` does', async () => {
    const stop = new AbortController()
    const events: KernelEvent[] = []
    watchKernel(world.netns, ['link'], e => events.push(e), stop.signal)
    runWithInput(world.name, 'link add br7 type bridge\nlink set br7 mtu 1234\nlink delete br7\n', 'ip', '-batch', '-')
    await until(() => events.some(e => e.what === 'link' && e.change === 'deleted'))
    expect(events.filter(e => e.what === 'link' && e.change === 'new' && e.link.mtu === 1234)).not.toHaveLength(0)
    stop.abort()
  })
})
