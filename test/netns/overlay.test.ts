import { afterAll, beforeAll, expect, test } from 'vitest'
import { needRoot, sweep } from '../helpers/netns.js'
import { type OverlayHost, OverlayWorld, reaches } from '../helpers/overlay-world.js'

const prefix = 'tst-ovl'
let world: OverlayWorld
beforeAll(async () => {
  needRoot()
  sweep(prefix)
  world = await OverlayWorld.make(prefix, 2)
})
afterAll(() => world?.close())

test('containers on two hosts reach each other', async () => {
  const blue = world.network('blue', ['10.50.0.0/24', 'fd00:50::/64'])
  const [h0, h1] = world.hosts as [OverlayHost, OverlayHost]
  const a = await world.attach(h0, blue, ['10.50.0.2', 'fd00:50::2'])
  const b = await world.attach(h1, blue, ['10.50.0.3', 'fd00:50::3'])
  expect([
    reaches(a, '10.50.0.3'),
    reaches(b, '10.50.0.2'),
    reaches(a, 'fd00:50::3'),
    reaches(b, 'fd00:50::2'),
  ]).toEqual([true, true, true, true])
  console.log(h0.run('bridge', 'fdb'), h0.run('ip', 'neigh'), h0.run('ip', 'addr'))
  expect([
    reaches(h0.name, '10.50.0.3'),
    reaches(b, '10.50.0.240'),
    reaches(h0.name, 'fd00:50::3'),
    reaches(b, 'fd00:50::f0'),
  ]).toEqual([true, true, true, true])
  expect(await h0.repair(blue)).toEqual([])
})
