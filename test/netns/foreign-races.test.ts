import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import type { ForwardedBridge } from '../../src/cnm/types.js'
import { ForeignFirewalls } from '../../src/firewall/foreign.js'
import type { Nftables } from '../../src/firewall/nft.js'
import { openRunner } from '../../src/firewall/runner.js'
import { noLog } from '../../src/log.js'
import { enterNetnsForGood, openNetns } from '../../src/netlink/netns.js'
import { makeNetns, needRoot, netnsPath, removeNetns, run, sweep } from '../helpers/netns.js'

// Our rule in iptables' FORWARD, when a look at the host and the first use of a network fall together.

const prefix = 'tst-for'
let netns: string
let runner: Nftables
let foreign: ForeignFirewalls

beforeAll(() => {
  needRoot()
  sweep(prefix)
})
beforeEach(async () => {
  netns = makeNetns(prefix)
  enterNetnsForGood(openNetns(netnsPath(netns)))
  run(netns, 'iptables-nft', '-P', 'FORWARD', 'DROP')
  runner = await openRunner('libnftables')
  foreign = new ForeignFirewalls({ backend: { name: 'nftables', runner, priority: 0 }, log: noLog, told: () => {} })
})
afterEach(() => {
  runner.close()
  removeNetns(netns)
})

const ours = (): number => run(netns, 'iptables-nft', '-S', 'FORWARD').split('tsnet').length - 1

test('it stays when a network comes while it is being deleted after the last one', async () => {
  await foreign.accept()
  await Promise.all([foreign.review(() => []), foreign.accept()])
  expect(ours()).toBe(1)
})

test('it is there once, however many networks come at once', async () => {
  await Promise.all(Array.from({ length: 5 }, () => foreign.accept()))
  expect(ours()).toBe(1)
})

test('which bridges there are is asked when the look begins, not when it was asked for', async () => {
  const bridges: ForwardedBridge[] = []
  const looks = [foreign.accept(), foreign.review(() => bridges)]
  bridges.push({ name: 'br-1', published: [4], direct: [], doors: [] })
  await Promise.all(looks)
  expect(ours()).toBe(1)
  bridges.pop()
  await foreign.review(() => bridges)
  expect(ours()).toBe(0)
})
