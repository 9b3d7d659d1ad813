import { execFileSync, spawn } from 'node:child_process'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Element, formatElement, tableOf } from '../../src/firewall/elements.js'
import { createFirewall as createRules, createSpoofGuard } from '../../src/firewall/firewall.js'
import { deleteForeignAccept, ensureForeignAccept } from '../../src/firewall/foreign.js'
import { withSpoofGuard } from '../../src/firewall/guarded.js'
import type { Nftables } from '../../src/firewall/nft.js'
import { nftExecRunner } from '../../src/firewall/nft-exec.js'
import { openRunner } from '../../src/firewall/runner.js'
import { noLog } from '../../src/log.js'
import { enterNetnsForGood, openNetns } from '../../src/netlink/netns.js'
import { firewallContract, oneOfEach } from '../helpers/firewall-contract.js'
import { makeNetns, needRoot, netnsPath, removeNetns, sweep } from '../helpers/netns.js'

const prefix = 'tst-nft'
let netns: string
let library: Nftables
let program: Nftables

beforeAll(async () => {
  needRoot()
  sweep(prefix)
  netns = makeNetns(prefix)
  enterNetnsForGood(openNetns(netnsPath(netns)))
  library = await openRunner('libnftables')
  program = await openRunner('nft')
})

afterAll(() => {
  library?.close()
  removeNetns(netns)
})

const nft = (...args: string[]): string => execFileSync('nft', args, { encoding: 'utf8', maxBuffer: 1 << 28 })
/** The judge: the program's own listing, without the handles that count up. */
const judged = (): string =>
  nft('list', 'ruleset')
    .split(/^(?=table )/m)
    .sort() // a table that was made anew stands last
    .join('')

/** All that nftables has of ours. */
const createFirewall = (runner: Nftables) => withSpoofGuard(createRules(runner), createSpoofGuard(runner))

firewallContract('libnftables', () => createFirewall(library))
firewallContract('the nft program', () => createFirewall(program))

describe('the table in the kernel', () => {
  beforeEach(async () => {
    await createFirewall(library).delete()
  })

  it('is the same by both runners', async () => {
    const results: string[] = []
    for (const runner of [library, program]) {
      const firewall = createFirewall(runner)
      await firewall.delete()
      await firewall.ensure()
      await firewall.apply({ add: oneOfEach, delete: [] })
      results.push(judged())
    }
    expect(results[0]).toContain('chain forward')
    expect(results[0]).toBe(results[1])
  })

  it('is the same whether libnftables or we tell the kernel of elements, and each deletes what the other added', async () => {
    const edges: Element[] = [
      { set: 'snat4', subnet: '255.255.255.254/31', hostIp: '192.0.2.2' },
      { set: 'snat4', subnet: '0.0.0.0/8', hostIp: '192.0.2.3' },
      { set: 'snat6', subnet: 'ffff::/16', hostIp: '2001:db8::2' },
      { set: 'publish4_any_range', protocol: 'udp', ports: { first: 0, last: 65535 }, containerIp: '10.20.0.2' },
      { set: 'own_net6', link: 'br-all', subnet: '::/0' },
    ]
    const all = [...oneOfEach, ...edges]
    const firewall = createFirewall(library)
    // nft puts elements in order before it adds them
    const inOrder = (elements: unknown[]) => elements.map(each => JSON.stringify(each)).sort()
    const listed = () =>
      ['inet', 'bridge'].map(family => {
        const rows = JSON.parse(nft('-j', 'list', 'table', family, 'tsnet')) as {
          nftables: { set?: object; map?: object }[]
        }
        const sets = rows.nftables.flatMap(({ set, map }) => set ?? map ?? [])
        return JSON.stringify(sets, (key, value) =>
          key === 'handle' ? undefined : key === 'elem' ? inOrder(value) : value,
        )
      })
    const commands = (verb: string) =>
      all.map(each => `${verb} element ${tableOf(each.set)} tsnet ${each.set} { ${formatElement(each)} }\n`).join('')
    await firewall.ensure()
    const empty = judged()
    await firewall.apply({ add: all, delete: [] })
    const ours = listed()
    await library.run(commands('delete'))
    expect(judged()).toBe(empty)
    await library.run(commands('add'))
    expect(listed()).toEqual(ours)
    await firewall.apply({ add: [], delete: all })
    expect(judged()).toBe(empty)
  })

  it('is all that is left alone or taken away: tables of others stay', async () => {
    nft('add table inet other')
    const firewall = createFirewall(library)
    await firewall.ensure()
    await firewall.delete()
    expect(judged()).toBe('table inet other {\n}\n')
    nft('delete table inet other')
  })

  const damage: [string, string][] = [
    ['a rule taken out', 'flush chain inet tsnet ours'],
    ['all rules taken out', 'flush table inet tsnet'],
    ['a rule put in', 'insert rule inet tsnet forward accept'],
    ['everything flushed', 'flush ruleset'],
    [
      'a set of another type',
      'delete table inet tsnet; add table inet tsnet; add set inet tsnet publish4 { type mark; }',
    ],
    ['the guard alone flushed', 'delete table bridge tsnet'],
    ['a rule of the guard taken out', 'flush chain bridge tsnet arps'],
    ['an element that means nothing', 'add element inet tsnet publish4_any { 1 . 80 : 10.0.0.2 . 80 }'],
  ]
  it.each(damage)('is made anew after %s', async (_, command) => {
    const firewall = createFirewall(library)
    await firewall.ensure()
    await firewall.apply({ add: oneOfEach, delete: [] })
    const before = judged()
    nft(command)
    expect(judged()).not.toBe(before)
    expect(await firewall.ensure(oneOfEach)).toEqual({ created: true })
    expect(judged()).toBe(before)
    expect(await firewall.ensure()).toEqual({ created: false })
  })

  it.each(['inet', 'bridge'])(
    'keeps its elements when an older version of table %s is replaced, with nothing in between',
    async family => {
      const firewall = createFirewall(library)
      await firewall.ensure()
      await firewall.apply({ add: oneOfEach, delete: [] })
      const before = judged()
      const [, marker = ''] = /set (ruleset_\w+)/.exec(nft('list', 'table', family, 'tsnet')) ?? []
      nft(`delete set ${family} tsnet ${marker}; add set ${family} tsnet ruleset_0ld { type mark; }`)
      expect(await firewall.ensure()).toEqual({ created: true })
      expect(judged()).toBe(before)
    },
  )

  it('takes 10,000 ports at once, and the next one costs what the first did', async () => {
    const port = (i: number): Element => ({
      set: 'publish4',
      protocol: 'tcp',
      hostIp: `192.0.2.${i % 250}`,
      hostPort: 1 + i,
      containerIp: '10.20.0.2',
      containerPort: 80,
    })
    const lines: string[] = []
    for (const runner of [library, program]) {
      const firewall = createFirewall(runner)
      await firewall.delete()
      await firewall.ensure()
      const timeMs = async (work: () => Promise<unknown>) => {
        const start = performance.now()
        await work()
        return performance.now() - start
      }
      const addsMs = async (from: number, count: number) => {
        const times: number[] = []
        for (let i = from; i < from + count; i++)
          times.push(await timeMs(() => firewall.apply({ add: [port(i)], delete: [] })))
        return times.sort((a, b) => a - b)[count >> 1]!
      }
      const first = await addsMs(0, 20)
      const bulk = Array.from({ length: 10_000 }, (_, i) => port(20 + i))
      const bulkMs = await timeMs(() => firewall.apply({ add: bulk, delete: [] }))
      const next = await addsMs(10_020, 20)
      const listMs = await timeMs(async () => expect((await firewall.check()).elements.length).toBe(10_040))
      const deleteMs = await timeMs(() => firewall.apply({ add: [], delete: bulk }))
      expect((await firewall.check()).elements.length).toBe(40)
      const ms = [first, bulkMs, next, listMs, deleteMs].map(n => n.toFixed(3))
      lines.push(
        `${runner.name}: one of the first ${ms[0]} ms, 10,000 at once ${ms[1]} ms, one more ${ms[2]} ms, list ${ms[3]} ms, delete ${ms[4]} ms`,
      )
    }
    console.log(lines.join('\n'))
  })
})

describe('beside other programs', () => {
  it('works while iptables changes its own tables as fast as it can', async () => {
    nft('flush ruleset')
    const firewall = createFirewall(library)
    await firewall.ensure()
    const loop = 'while :; do iptables -A FORWARD -j ACCEPT; iptables -D FORWARD -j ACCEPT; done'
    const other = spawn('sh', ['-c', loop], { stdio: 'ignore' })
    const ended = new Promise(resolve => other.on('close', resolve))
    try {
      const until = performance.now() + 2000
      for (let i = 0; performance.now() < until; i++) {
        const element: Element = { set: 'lo_only', protocol: 'tcp', hostIp: '127.0.0.1', hostPort: i % 60_000 }
        await firewall.apply({ add: [element], delete: [] })
        if (i % 50 === 0) expect((await firewall.check()).elements).toContainEqual(element)
        await firewall.apply({ add: [], delete: [element] })
        await new Promise(resolve => setImmediate(resolve))
      }
      expect((await firewall.check()).elements).toEqual([])
    } finally {
      other.kill()
      await ended
      nft('flush ruleset')
    }
  })

  it.each(['libnftables', 'nft'] as const)(
    'has no iptables chain to add a rule to where there is none (%s)',
    async name => {
      const runner = name === 'nft' ? program : library
      nft('flush ruleset')
      expect(await ensureForeignAccept({ name: 'nftables', runner }, noLog)).toEqual({ added: [] })
      await deleteForeignAccept({ name: 'nftables', runner })
      execFileSync('iptables', ['-P', 'FORWARD', 'DROP'])
      const before = judged()
      expect(await ensureForeignAccept({ name: 'nftables', runner }, noLog)).toEqual({ added: ['ip filter FORWARD'] })
      execFileSync('iptables', [
        '-C',
        'FORWARD',
        '-m',
        'mark',
        '--mark',
        '0x800000/0x800000',
        '-m',
        'comment',
        '--comment',
        'tsnet',
        '-j',
        'ACCEPT',
      ])
      expect(await ensureForeignAccept({ name: 'nftables', runner }, noLog)).toEqual({ added: [] })
      await deleteForeignAccept({ name: 'nftables', runner })
      expect(judged()).toBe(before)
      nft('flush ruleset')
    },
  )

  it('costs little to look whether iptables has our rule', async () => {
    execFileSync('iptables', ['-P', 'FORWARD', 'DROP'])
    for (let i = 0; i < 50; i++) execFileSync('iptables', ['-A', 'FORWARD', '-i', `docker${i}`, '-j', 'ACCEPT'])
    await ensureForeignAccept({ name: 'nftables', runner: library }, noLog)
    const start = performance.now()
    for (let i = 0; i < 20; i++)
      expect((await ensureForeignAccept({ name: 'nftables', runner: library }, noLog)).added).toEqual([])
    console.log(`iptables' FORWARD of 50 rules looked at in ${((performance.now() - start) / 20).toFixed(2)} ms`)
    nft('flush ruleset')
  })
})

describe('runners', () => {
  it.each(['libnftables', 'nft'] as const)('give nft words for what nft refuses (%s)', async name => {
    const runner = name === 'nft' ? program : library
    await expect(runner.run('list table inet nothing-here')).rejects.toThrow('No such file or directory')
    await expect(runner.run('add rubbish')).rejects.toThrow('syntax error')
    expect(await runner.run('add table inet tst; delete table inet tst')).toBe('')
  })

  it('prefer the library', async () => {
    const runner = await openRunner()
    expect(runner.name).toBe('libnftables')
    runner.close()
    await expect(runner.run('list tables')).rejects.toThrow('closed')
  })

  it('say so when the program is not there', async () => {
    await expect(nftExecRunner('/nowhere/nft').run('list tables')).rejects.toThrow('ENOENT')
  })
})
