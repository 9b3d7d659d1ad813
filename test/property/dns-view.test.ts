import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { NamedWorld } from '../../src/cnm/names.js'
import type { Endpoint, Network, Peer, Sandbox } from '../../src/cnm/types.js'
import { View } from '../../src/dns/view.js'

const ids = ['a', 'b', 'c', 'd']
const endpoint = fc.record({
  id: fc.constantFrom(...ids, 'e', 'f', 'g'),
  networkId: fc.constantFrom('blue', 'red'),
  name: fc.constantFrom('web', 'db', 'x'),
  aliases: fc.subarray(['web', 'all']),
  addresses: fc.subarray(['10.0.0.1/8', '10.0.0.2/8', 'fd00::1/64']),
  sandboxId: fc.constantFrom('box', 'other'),
  state: fc.constantFrom('joined', 'created'),
})
const unique = <T>(one: fc.Arbitrary<T>) =>
  fc.uniqueArray(one, { selector: each => (each as { id: string }).id, maxLength: 7 })
const world = fc.record({
  networks: unique(
    fc.record({ id: fc.constantFrom('blue', 'red'), name: fc.constantFrom('lab', 'net'), internal: fc.boolean() }),
  ),
  endpoints: unique(endpoint),
  peers: unique(endpoint.map(each => ({ ...each, sandbox: '/path', host: 'two' }))),
})

test('a view that followed every change knows what a new one knows', () => {
  const sandboxes = ['box', 'other'].map(id => ({ id, name: `${id}-name` }) as Sandbox)
  const names = ['web', 'db', 'x', 'all', 'web.lab', 'db.net', 'box-name', 'other-name']
  const answers = (view: View) =>
    sandboxes.map(({ id }) => {
      const { zones, external } = view.inside([id])
      const known = zones.map(zone => [
        zone.network,
        names.map(name => [...new Set(zone.addressesOf(name))].sort()),
        zone.nameOf('9.9.9.10.in-addr.arpa'),
        ['1.0.0.10.in-addr.arpa', '2.0.0.10.in-addr.arpa'].map(name => zone.nameOf(name) !== undefined),
      ])
      return [external, known.map(each => JSON.stringify(each)).sort()]
    })
  fc.assert(
    fc.property(fc.array(fc.tuple(world, fc.boolean()), { minLength: 2, maxLength: 8 }), worlds => {
      const view = new View()
      let last: NamedWorld | undefined
      for (const [{ networks, endpoints, peers }, keep] of worlds) {
        // some objects stay the very ones that they were
        const kept = <T extends { id: string }>(now: readonly T[], before: readonly T[] = []): T[] =>
          keep ? now.map(each => before.find(old => old.id === each.id) ?? each) : [...now]
        const lists = {
          networks: kept(networks as Network[], last?.networks()),
          endpoints: kept(endpoints as unknown as Endpoint[], last?.endpoints()),
          peers: kept(peers as unknown as Peer[], last?.peers()),
        }
        last = {
          networks: () => lists.networks,
          endpoints: () => lists.endpoints,
          peers: () => lists.peers,
          sandboxes: () => sandboxes,
        }
        view.update(last, new Set(['sandboxes', 'networks', 'endpoints', 'peers']))
        const fresh = new View()
        fresh.update(last, new Set(['everything']))
        expect(answers(view)).toEqual(answers(fresh))
      }
    }),
    { numRuns: 500 },
  )
})
