import { describe, expect, test } from 'vitest'
import type { Network } from '../../src/cnm/types.js'
import type { MacvlanOptions } from '../../src/drivers/macvlan/options.js'
import { doomedLinks, type MacvlanNetwork, parentSteps } from '../../src/drivers/macvlan/parent.js'
import type { Kernel } from '../../src/netlink/kernel.js'
import type { Link } from '../../src/netlink/objects.js'
import { listOf, type Requests } from '../../src/netlink/request.js'

// VLAN parents, planned for a kernel that has 802.1Q: those of the test machines have not (test/netns/macvlan.test.ts sees
// their refusal), so here the links are a list, and what would be sent is read as the `ip` commands that it stands for.

const link = (name: string, more: Partial<Link> = {}): Link => ({
  ...{ index: 7, name, up: true, running: true, mtu: 1500, mac: '02:00:00:00:00:07', group: 0, flags: 1 },
  ...more,
})

function kernelWith(...links: Link[]) {
  const said: string[] = []
  const apply = (...requests: readonly Requests[]): void => {
    said.push(...requests.flatMap(listOf).map(({ op }) => op))
  }
  const find = (name: string | number) => links.find(candidate => candidate.name === name || candidate.index === name)
  return { said, kernel: { link: find, links: () => links, apply } as unknown as Kernel }
}

const network = (name: string, parent: string): MacvlanNetwork => ({
  ...({ id: name.repeat(8), name, driver: 'macvlan', subnets: [], internal: false } as unknown as Network<never>),
  options: { parent, mode: 'bridge', mtu: 0, host_access: false, ifprefix: 'eth', internal: false } as MacvlanOptions,
})

describe('parent eth0.20', () => {
  test('is made as VLAN 20 of eth0, marked and up', () => {
    const { kernel, said } = kernelWith(link('eth0'))
    const steps = parentSteps(kernel, network('one', 'eth0.20'))
    expect(steps.map(({ words }) => words)).toEqual(['create VLAN link eth0.20'])
    for (const step of steps) step.apply()
    expect(said).toEqual([
      'ip link add name eth0.20 link 7 up type vlan id 20',
      'ip link set dev eth0.20 group 0 alias tsnet::vlan',
    ])
  })

  test('is left as it is where it is there, but brought up where it is ours', () => {
    const theirs = kernelWith(link('eth0'), link('eth0.20', { index: 8, up: false }))
    expect(parentSteps(theirs.kernel, network('one', 'eth0.20'))).toEqual([])
    const ours = kernelWith(link('eth0'), link('eth0.20', { index: 8, up: false, alias: 'tsnet::vlan' }))
    for (const step of parentSteps(ours.kernel, network('one', 'eth0.20'))) step.apply()
    expect(ours.said).toEqual(['ip link set dev 8 up'])
  })

  test('goes with the last of its networks, if it is ours', () => {
    const [one, two] = [network('one', 'eth0.20'), network('two', 'eth0.20')]
    const vlan = link('eth0.20', { index: 8, alias: 'tsnet::vlan' })
    const { kernel } = kernelWith(link('eth0'), vlan)
    expect(doomedLinks(kernel, one, [two, network('other', 'eth0')])).toEqual([])
    expect(doomedLinks(kernel, two, [network('other', 'eth0')])).toEqual([vlan])
    expect(doomedLinks(kernelWith(link('eth0'), link('eth0.20')).kernel, two, [])).toEqual([])
  })
})

test.each(['eth0.0', 'eth0.4095', 'eth9.20', 'eth0.20x'])(
  'parent %s is no VLAN that could be made: it is missing',
  parent => {
    const { kernel, said } = kernelWith(link('eth0'))
    const [step] = parentSteps(kernel, network('one', parent))
    expect(step?.words).toBe(`parent ${parent} of network one is missing`)
    expect(() => step?.apply()).toThrow(/until a link of that name is back/)
    expect(said).toEqual([])
  },
)
