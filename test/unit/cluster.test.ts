import { afterEach, describe, expect, test } from 'vitest'
import { MemoryStore } from '../../src/store/memory.js'
import { endpointOf, networkOf, remoteOf, TestHost, until } from '../helpers/cluster-world.js'

const hosts: TestHost[] = []
afterEach(async () => {
  for (const host of hosts.splice(0)) await host.cluster.close()
})

async function startHosts(shared: MemoryStore, ...names: string[]): Promise<TestHost[]> {
  const started = names.map(name => new TestHost(shared, name))
  hosts.push(...started)
  for (const host of started) await (await host.start()).up()
  return started
}

const vtep = (host: TestHost): string => host.cluster.underlay().vtep
const blue = networkOf('blue')
const web = endpointOf(blue, 'web', '10.50.0.2')

describe('two hosts', () => {
  test('see the networks and endpoints of each other', async () => {
    const [h1, h2] = (await startHosts(new MemoryStore(), 'h1', 'h2')) as [TestHost, TestHost]
    await h1.cluster.createNetwork(blue, ['vni/4100'])
    await until(
      () => h2.cluster.networks().length === 1,
      () => 'h2 knows the network',
    )
    expect(h1.cluster.networks()).toEqual(h2.cluster.networks())
    expect(h2.cluster.networks()).toEqual([blue])
    expect(h2.told).toEqual(['network - -> blue'])
    expect(h1.told).toEqual([])

    await h2.cluster.putMember(h2.member(blue.id))
    await h1.connect(web)
    await until(
      () => h2.remoteChanges.length === 1,
      () => 'h2 is told',
    )
    expect(h2.remoteChanges).toEqual([{ networkId: blue.id, before: [], after: [remoteOf(web, vtep(h1))] }])
    expect(h2.cluster.remotes(blue.id)).toEqual([remoteOf(web, vtep(h1))])
    expect(h2.cluster.peers()).toMatchObject([{ name: 'web', host: 'h1', sandbox: 'sandbox-of-web' }])
    expect(h1.cluster.remotes(blue.id)).toEqual([])
  })
})
