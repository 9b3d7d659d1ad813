import { describe, expect, test } from 'vitest'
import { linkAdd, linkDelete, linkSet } from '../../src/netlink/requests.js'
import { NetlinkSocket } from '../../src/netlink/socket.js'
import type { Json } from '../helpers/ip-judge.js'
import { thrown, useKernelWorld } from '../helpers/kernel-world.js'
import { ipJson } from '../helpers/netns.js'

const world = useKernelWorld('tst-nld')

describe('deleting', () => {
  const all = () => true

  test('a link by name and by index, its peer with it', async () => {
    world.kernel.apply(
      linkAdd({ kind: 'veth', name: 'v0', peer: { name: 'v1' } }),
      linkAdd({ kind: 'bridge', name: 'br0' }),
    )
    world.kernel.apply(linkDelete({ name: 'v0' }))
    world.kernel.apply(linkDelete({ index: world.index('br0') }))
    expect(ipJson<Json[]>(world.name, 'link', 'show').map(link => link.ifname)).toEqual(['lo'])
    expect(thrown(() => world.kernel.apply(linkDelete({ name: 'v0' })))).toMatchObject({
      message: 'ip link delete dev v0: no such link',
    })
  })

  test('many at once, in one grace period; absent ones are fine; calls of one tick share it', async () => {
    const names = Array.from({ length: 150 }, (_, i) => `v${i}`)
    world.kernel.apply(...names.map(v => linkAdd({ kind: 'veth', name: v, peer: { name: `p${v}` } })))
    world.kernel.apply(linkAdd({ kind: 'bridge', name: 'keep', group: 5 }))
    const started = performance.now()
    await Promise.all([
      world.kernel.deleteLinks(names.slice(0, 40), all),
      world.kernel.deleteLinks([...names.slice(40), 'absent'], all),
    ])
    const tookMs = performance.now() - started
    expect(ipJson<Json[]>(world.name, 'link', 'show').map(link => link.ifname)).toEqual(['lo', 'keep'])
    // One by one they would take 150 grace periods of 20 ms.
    expect(tookMs).toBeLessThan(2_500)
    await world.kernel.deleteLinks([], all)
    await world.kernel.deleteLinks(['absent'], all)
    await Promise.all([1, 2].map(() => world.kernel.deleteLinks(['keep'], all)))
    expect(ipJson<Json[]>(world.name, 'link', 'show').map(link => link.ifname)).toEqual(['lo'])
  })

  test('only those that are ours, by what they are marked with when it comes to it', async () => {
    const veth = (name: string, alias?: string) =>
      linkAdd({ kind: 'veth', name, peer: { name: `p${name}` }, ...(alias && { alias }) })
    world.kernel.apply(veth('v0', 'mine'), veth('v1', "somebody's"), veth('v2'), veth('v3', 'mine'))
    const deleting = world.kernel.deleteLinks(['v0', 'v1', 'v2', 'v3'], ({ alias }) => alias === 'mine')
    world.kernel.apply(linkSet({ name: 'v3', alias: "somebody's" }))
    await deleting
    expect(
      world.kernel
        .links({ kind: 'veth' })
        .map(({ name }) => name)
        .filter(name => !name.startsWith('p')),
    ).toEqual(['v1', 'v2', 'v3'])
    await world.kernel.deleteLinks(['v1', 'v2', 'v3'], ({ group }) => group === 0)
    expect(world.kernel.links({ kind: 'veth' })).toEqual([])
  })

  test('one is gone, and its peer in another namespace, when the kernel says so and not only when nobody remembers it', async () => {
    for (let i = 0; i < 5; i++) {
      world.kernel.apply(linkAdd({ kind: 'bridge', name: 'br0' }))
      world.kernel.apply(
        linkAdd({ kind: 'veth', name: 'v0', master: world.index('br0'), peer: { name: 'p0', netns: world.box } }),
      )
      await world.kernel.deleteLinks(['v0'], all)
      expect(ipJson<Json[]>(world.name, 'link', 'show').map(link => link.ifname)).toEqual(['lo', 'br0'])
      expect(ipJson<Json[]>(world.boxName, 'link', 'show').map(link => link.ifname)).toEqual(['lo'])
      await world.kernel.deleteLinks(['br0'], all)
    }
  })

  test('does not hold up the event loop', async () => {
    world.kernel.apply(
      ...Array.from({ length: 40 }, (_, i) => linkAdd({ kind: 'veth', name: `v${i}`, peer: { name: `p${i}` } })),
    )
    let ticks = 0
    const timer = setInterval(() => ticks++, 1)
    const waiting = world.kernel.socket.another(NetlinkSocket.open)
    for (let i = 0; i < 40; i += 10) await waiting.exchangeAsync([linkDelete({ name: `v${i}` })])
    waiting.close()
    clearInterval(timer)
    // Each delete waits some 20 ms in the kernel; on this thread, the timer would get one turn a delete.
    expect(ticks).toBeGreaterThan(12)
  })
})
