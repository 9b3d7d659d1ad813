import { execFileSync } from 'node:child_process'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Element } from '../../src/firewall/elements.js'
import { createSpoofGuard } from '../../src/firewall/firewall.js'
import { withSpoofGuard } from '../../src/firewall/guarded.js'
import { createIptablesFirewall, type Variant } from '../../src/firewall/iptables.js'
import type { Nftables } from '../../src/firewall/nft.js'
import { openRunner } from '../../src/firewall/runner.js'
import { enterNetnsForGood, openNetns } from '../../src/netlink/netns.js'
import { firewallContract, oneOfEachRule as oneOfEach } from '../helpers/firewall-contract.js'
import { makeNetns, needRoot, netnsPath, removeNetns, sweep } from '../helpers/netns.js'

const prefix = 'tst-ipt'
let netns: string
let runner: Nftables

beforeAll(async () => {
  needRoot()
  sweep(prefix)
  netns = makeNetns(prefix)
  enterNetnsForGood(openNetns(netnsPath(netns)))
  runner = await openRunner()
})
afterAll(() => {
  runner?.close()
  removeNetns(netns)
})

/** All that there is of ours where iptables writes the rules. */
const beside = (variant: Variant) => () => withSpoofGuard(createIptablesFirewall(variant), createSpoofGuard(runner))
firewallContract('iptables-nft', beside('nft'))
firewallContract('iptables-legacy', beside('legacy'))

describe.each(['nft', 'legacy'] as const)('the rules of iptables-%s', variant => {
  const firewall = createIptablesFirewall(variant)
  const programs = [`iptables-${variant}`, `ip6tables-${variant}`]
  const saved = (): string => programs.map(program => execFileSync(`${program}-save`, { encoding: 'utf8' })).join('')

  test('are all that is left alone or taken away: rules and policies of others stay', async () => {
    for (const program of programs)
      for (const line of [
        '-P FORWARD DROP',
        '-A FORWARD -i other0 -j ACCEPT',
        '-t nat -A POSTROUTING -o other0 -j MASQUERADE',
      ])
        execFileSync(program, ['-w', ...line.split(' ')])
    await firewall.ensure(oneOfEach)
    expect(saved()).toContain('TSNET-')
    await firewall.delete()
    const left = saved()
    expect(left).not.toContain('TSNET-')
    expect(left.match(/^:FORWARD DROP/gm)).toHaveLength(2)
    expect(left.match(/other0/g)).toHaveLength(4)
    for (const program of programs) execFileSync(program, ['-w', '-F'])
  })

  test.each([
    ['a rule taken out', '-D TSNET-OURS 1'],
    ['a rule put in', '-I TSNET-GATE -j ACCEPT'],
    ['all rules of a chain taken out', '-F TSNET-FORWARD'],
    ['the way to them taken out', '-D FORWARD 1'],
    ['an element taken out', '-t nat -F TSNET-ANYPORT'],
  ])('are made anew after %s', async (_, line) => {
    await firewall.ensure(oneOfEach)
    expect((await firewall.check()).faults).toEqual([])
    execFileSync(programs[0]!, ['-w', ...line.split(' ')])
    const { elements, faults } = await firewall.check()
    // an element whose every rule is gone is not there, and that is no fault of the rules
    if (elements.length === oneOfEach.length) expect(faults).not.toEqual([])
    await firewall.ensure(oneOfEach)
    await firewall.apply({ add: oneOfEach, delete: [] })
    const now = await firewall.check()
    expect([now.elements.length, now.faults]).toEqual([oneOfEach.length, []])
  })

  test('take a change although another program has changed them meanwhile', async () => {
    await firewall.ensure()
    const element: Element = { set: 'internal', link: 'br-x' }
    await firewall.apply({ add: [element], delete: [] })
    execFileSync(programs[0]!, ['-w', '-F', 'TSNET-INTERNAL'])
    await firewall.ensure()
    await firewall.apply({ add: [], delete: [element] })
    expect((await firewall.check()).elements).not.toContainEqual(element)
  })

  test('cost more the more there are', async () => {
    const port = (i: number): Element => ({
      set: 'publish4_any',
      protocol: 'tcp',
      hostPort: i,
      containerIp: '10.20.0.2',
      containerPort: 80,
    })
    await firewall.delete()
    await firewall.ensure()
    const oneMs = async (from: number): Promise<number> => {
      const times: number[] = []
      for (let i = from; i < from + 9; i++) {
        const start = performance.now()
        await firewall.apply({ add: [port(i)], delete: [] })
        times.push(performance.now() - start)
      }
      return times.sort((a, b) => a - b)[4]!
    }
    const first = await oneMs(1)
    await firewall.apply({ add: Array.from({ length: 10_000 }, (_, i) => port(100 + i)), delete: [] })
    const last = await oneMs(20_000)
    expect((await firewall.check()).elements).toHaveLength(10_018)
    console.log(`iptables-${variant}: one port ${first.toFixed(1)} ms, one more beside 10,000 ${last.toFixed(1)} ms`)
  })
})
