import { execFileSync } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Element } from '../../src/firewall/elements.js'
import { createFirewall } from '../../src/firewall/firewall.js'
import { isOurProgram } from '../../src/firewall/program.js'
import { openRunner, type RunnerChoice } from '../../src/firewall/runner.js'
import { noLog } from '../../src/log.js'
import { enterNetnsForGood, openNetns } from '../../src/netlink/netns.js'
import { watchHost } from '../../src/watch.js'
import { until } from '../helpers/machine.js'
import { makeNetns, needRoot, netnsPath, removeNetns, sweep } from '../helpers/netns.js'

// What the daemon is told of changes to the firewall and to links, and that its own changes are not told.

const prefix = 'tst-wat'
let netns: string
let stop: () => void
let causes: string[]
let links: string[]
let fights: string[]
let isRepaired: boolean
let looks: number

beforeAll(() => {
  needRoot()
  sweep(prefix)
})
beforeEach(() => {
  netns = makeNetns(prefix)
  enterNetnsForGood(openNetns(netnsPath(netns)))
  causes = []
  links = []
  fights = []
  isRepaired = false
  looks = 0
})
afterEach(() => {
  stop?.()
  removeNetns(netns)
})

function watch(): void {
  const here = netns
  stop = watchHost({
    mustLook: () => false,
    isOurs: link => link.alias === 'ours',
    look: async () => {
      // the watch of an earlier test may look once more
      if (here === netns) looks++
    },
    tables: new Set(['inet tsnet']),
    shared: false,
    isOurProgram,
    firewallChanged: async cause => causes.push(cause) > 0 && isRepaired,
    fought: (what, pauseMs) => void fights.push(`${what} ${pauseMs}`),
    news: event => {
      if (event.what === 'link') links.push(`${event.change} ${event.link.name}`)
    },
    linkGone: async () => {},
    linkCarries: async () => {},
    log: noLog,
  }).stop
}

const nft = (command: string): string => execFileSync('nft', ['-f', '-'], { encoding: 'utf8', input: command })
const bridge = (i: number): Element => ({ set: 'bridges', link: `br-${i}` })

describe.each<[RunnerChoice, number]>([
  ['libnftables', 1000],
  ['nft', 100],
])('the firewall, changed by %s', (choice, changes) => {
  test(`${changes} changes of our own, and 10,000 elements at once, cause no work`, async () => {
    const runner = await openRunner(choice)
    const firewall = createFirewall(runner)
    await firewall.ensure()
    watch()
    for (let i = 0; i < changes; i++) await firewall.apply({ add: [bridge(i)], delete: i === 0 ? [] : [bridge(i - 1)] })
    const many = Array.from({ length: 10_000 }, (_, i) => bridge(10_000 + i))
    await firewall.apply({ add: many, delete: [] })
    await firewall.apply({ add: [], delete: many })
    await firewall.delete()
    await firewall.ensure()
    expect([causes, looks]).toEqual([[], 0])
    // what is told of ours comes before what is told of another's
    nft('add element inet tsnet bridges { "theirs" }')
    await until('the change of another to be told', () => causes.length > 0)
    expect(causes).toEqual([expect.stringMatching(/^nft \(process \d+\) added elements of table inet tsnet$/)])
    expect(looks).toBe(0)
    runner.close()
  })
})

test.each([
  ['flush ruleset', /^nft \(process \d+\) deleted the table inet tsnet$/],
  ['delete table inet tsnet', /^nft \(process \d+\) deleted the table inet tsnet$/],
  ['flush table inet tsnet', /^nft \(process \d+\) deleted rules, .*of table inet tsnet$/],
  ['delete element inet tsnet bridges { "br-1" }', /^nft \(process \d+\) deleted elements of table inet tsnet$/],
  ['delete element inet tsnet bridges { "br-1" }; flush chain inet tsnet ours', /deleted elements, deleted rules/],
])('`nft %s` by another is told in words', async (command, words) => {
  const runner = await openRunner('libnftables')
  const firewall = createFirewall(runner)
  await firewall.ensure()
  await firewall.apply({ add: [bridge(1)], delete: [] })
  watch()
  nft(command)
  await until('the change to be told', () => causes.length > 0)
  expect(causes).toEqual([expect.stringMatching(words)])
  runner.close()
})

test("changes to other programs' tables make us look at those, many of them a few times", async () => {
  watch()
  for (let i = 0; i < 50; i++) nft(`add table inet other${i}`)
  await until('a look', () => looks > 0)
  await sleep(100)
  expect(looks).toBeGreaterThan(0)
  expect(looks).toBeLessThan(30)
  expect(causes).toEqual([])
})

test('elements of other programs, and ports of their bridges, are no reason to look', async () => {
  const ip = (...args: string[]) => execFileSync('ip', ['link', ...args])
  nft('add table inet other; add set inet other some { type mark; }')
  ip('add', 'br-other', 'type', 'bridge')
  watch()
  ip('set', 'br-other', 'mtu', '1400')
  await until('a look at what was not known', () => looks > 0)
  const before = looks
  for (let i = 0; i < 5; i++) {
    ip('add', `port${i}`, 'master', 'br-other', 'type', 'veth', 'peer', 'name', `peer${i}`)
    nft(`add element inet other some { ${i} }`)
  }
  nft('add table inet tsnet')
  await until('the last change to be told', () => causes.length > 0)
  expect(looks).toBe(before)
  nft('add chain inet other rules')
  await until('a look', () => looks > before)
})

test('what becomes of a link is told by name', async () => {
  watch()
  for (const verb of ['add', 'delete']) execFileSync('ip', ['link', verb, 'br-gone', 'type', 'bridge'])
  await until('the link to be told', () => links.includes('deleted br-gone'), 5000)
  expect(links[0]).toBe('new br-gone')
})

test('whoever changes our table again and again is told, and then it is left alone for a while', async () => {
  nft('add table inet tsnet')
  isRepaired = true
  watch()
  const flip = async (): Promise<boolean> => {
    nft('add chain inet tsnet theirs; delete chain inet tsnet theirs')
    return fights.length > 0
  }
  await until('the fight to be told', flip, 30_000)
  expect(fights).toEqual(['the firewall 1000'])
  expect(causes.length).toBeGreaterThanOrEqual(60)
})

test('what happens to a bridge of ours is no reason to look, until it goes', async () => {
  const ip = (...args: string[]) => execFileSync('ip', ['link', ...args])
  ip('add', 'br-ours', 'type', 'bridge')
  ip('set', 'br-ours', 'alias', 'ours')
  watch()
  for (let mtu = 1400; mtu < 1410; mtu++) ip('set', 'br-ours', 'mtu', String(mtu))
  ip('delete', 'br-ours')
  await until('the bridge to be told', () => links.some(one => one.startsWith('deleted')))
  expect(looks).toBe(1)
})

test('more than the socket holds is told too', async () => {
  nft('add table inet tsnet; add set inet tsnet many { type mark; }')
  watch()
  // No await: the event loop gets no turn to read.
  const many = Array.from({ length: 50_000 }, (_, i) => i).join(', ')
  for (let i = 0; i < 3; i++) nft(`add element inet tsnet many { ${many} }; flush set inet tsnet many`)
  await until('the overrun to be told', () => causes.length > 0)
  expect(causes.join()).toContain('more was changed than could be followed')
})
