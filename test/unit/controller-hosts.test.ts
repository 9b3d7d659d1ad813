import { beforeEach, describe, expect, test } from 'vitest'
import type { Cluster } from '../../src/cnm/cluster.js'
import type { Findings } from '../../src/cnm/driver.js'
import type { EndpointDeps } from '../../src/cnm/endpoints.js'
import { disconnectPeer, networkView, verifyHere, verifyOverlay, wholeNetworkView } from '../../src/cnm/hosts.js'
import type { Endpoint, Member, Network, Peer } from '../../src/cnm/types.js'
import { unavailable } from '../../src/errors.js'

const network = {
  ...{ id: 'a'.repeat(64), name: 'blue', driver: 'overlay', scope: 'global', options: {}, subnets: [] },
  ...{ internal: false, labels: {}, createdBy: 'tsnet', createdAt: '', dockerNetworkIds: [] },
} satisfies Network

const endpoint = (id: string, more: Partial<Endpoint> = {}): Endpoint => ({
  ...{ id, networkId: network.id, name: id, createdBy: 'tsnet', sandboxId: 'box', addresses: ['10.50.0.2/16'] },
  ...{ mac: '02:42:0a:32:00:02', hostLink: '', ifname: 'eth0', aliases: [], routes: [], ports: [], bindings: [] },
  ...{ state: 'joined', createdAt: '' },
  ...more,
})
const peer = (id: string, host: string, more: Partial<Peer> = {}): Peer => ({
  ...endpoint(id),
  ...{ host, sandbox: `${id}-box` },
  ...more,
})
const member = (host: string): Member => ({
  ...{ networkId: network.id, host, addresses: [], mac: '', dockerNetworkIds: [], assignedBy: 'tsnet' },
})

/** A controller's surroundings with one endpoint `web` here, and a cluster with `db` on host two. */
function surroundings() {
  const stored = {
    peers: [peer('db', 'two'), peer('web', 'one', { aliases: ['as the others know it'] })],
    members: [member('two'), member('one')],
    remotes: [{ mac: '02:42:0a:32:00:03', addresses: ['10.50.0.3'], vtep: '192.0.2.2' }],
  }
  const removed: Peer[] = []
  const findings: Findings[] = []
  const verified: unknown[] = []
  const cluster = {
    host: 'one',
    down: undefined as string | undefined,
    downBecause: () => cluster.down,
    peers: () => [peer('db', 'two'), peer('other', 'two', { networkId: 'b' })],
    readNetwork: async () => {
      if (cluster.down !== undefined) throw unavailable(`etcd: ${cluster.down}`)
      return stored
    },
    removePeer: async (gone: Peer) => void removed.push(gone),
    verify: async () => [
      { host: 'one', state: 'answered' as const, checked: ['fdb' as const], found: [] },
      ...cluster.more,
    ],
    more: [] as Awaited<ReturnType<Cluster['verify']>>,
  }
  const own = [endpoint('web')]
  const driver = {
    verify: async (...args: unknown[]) => {
      verified.push(args)
      return findings.shift() ?? { checked: [], found: [] }
    },
  }
  const state = {
    cluster: cluster as typeof cluster | undefined,
    network: () => network,
    endpointsOfNetwork: () => own,
    sandbox: () => ({ id: 'box', name: 'webbox', netns: '/run/netns/webbox' }),
    sandboxNameOf: () => 'webbox',
  }
  const deps = {
    state,
    drivers: { get: () => driver, obstacles: () => [], notes: () => [] },
  } as unknown as EndpointDeps
  return { deps, state, cluster, stored, removed, findings, verified, own, driver }
}

let here: ReturnType<typeof surroundings>
beforeEach(() => {
  here = surroundings()
})

describe('a view of a global network', () => {
  const names = (view: { endpoints: (Endpoint | Peer)[] }) =>
    view.endpoints.map(each => ('host' in each ? `${each.host}/${each.name} in ${each.sandbox}` : each.name))

  test('has the endpoints of all hosts, and what each host has of it in the order of their names', async () => {
    const view = await wholeNetworkView(here.deps, network)
    expect(names(view)).toEqual(['one/web in webbox', 'two/db in db-box'])
    expect(view.members?.map(({ host }) => host)).toEqual(['one', 'two'])
    expect(view).not.toHaveProperty('incomplete')
  })

  test('has our own as they are here, whatever the others have been told', async () => {
    const { endpoints } = await wholeNetworkView(here.deps, network)
    expect(endpoints[0]?.aliases).toEqual([])
  })

  test('has what is known here while the store does not answer, and says why that is not all', async () => {
    here.cluster.down = 'no answer within 3 s'
    const view = await wholeNetworkView(here.deps, network)
    expect(names(view)).toEqual(['one/web in webbox', 'two/db in db-box'])
    expect(view).toMatchObject({ incomplete: 'no answer within 3 s' })
    expect(view).not.toHaveProperty('members')
  })

  test('asks nobody when networks are listed', () => {
    here.cluster.down = 'no answer within 3 s'
    expect(names(networkView(here.deps, network))).toEqual(['one/web in webbox', 'two/db in db-box'])
  })

  test('of a local network is that of this host', async () => {
    const view = await wholeNetworkView(here.deps, { ...network, scope: 'local' })
    expect(view.endpoints).toEqual(here.own)
    expect(view).not.toHaveProperty('members')
  })
})

describe('an endpoint on another host', () => {
  test.each(['db', 'db-box', 'two/db'])('is let go of by the name %s', async ref => {
    await disconnectPeer(here.deps, network, ref)
    expect(here.removed).toMatchObject([{ id: 'db', host: 'two' }])
  })

  test('is none of this host', async () => {
    for (const ref of ['web', 'one/web', 'nobody'])
      await expect(disconnectPeer(here.deps, network, ref)).rejects.toMatchObject({ kind: 'NotFound' })
    expect(here.removed).toEqual([])
  })

  test('of a name that two hosts have must be named with its host', async () => {
    here.stored.peers.push(peer('db3', 'three', { name: 'db' }))
    await expect(disconnectPeer(here.deps, network, 'db')).rejects.toThrow('db could be two/db or three/db')
    await disconnectPeer(here.deps, network, 'three/db')
    expect(here.removed).toMatchObject([{ id: 'db3' }])
  })
})

describe('verifying a network', () => {
  const wrong = (words: string): Findings => ({ checked: ['fdb'], found: [{ check: 'fdb', words }] })

  test('is good when every host has answered and found nothing', async () => {
    expect(await verifyOverlay(here.deps, network)).toMatchObject({
      network: 'blue',
      ok: true,
      hosts: [{ host: 'one' }],
    })
  })

  test.each([
    { host: 'two', state: 'down' as const, checked: [], found: [] },
    { host: 'two', state: 'silent' as const, checked: [], found: [] },
    { host: 'two', state: 'answered' as const, ...wrong('an entry is missing') },
  ])('is not when %j', async report => {
    here.cluster.more = [report]
    expect(await verifyOverlay(here.deps, network)).toMatchObject({ ok: false, hosts: [{ host: 'one' }, report] })
  })

  test('has a meaning only for networks that span hosts', async () => {
    Reflect.deleteProperty(here.driver, 'verify')
    await expect(verifyOverlay(here.deps, network)).rejects.toMatchObject({ kind: 'InvalidParameter' })
  })

  test('takes a cluster', async () => {
    here.state.cluster = undefined
    await expect(verifyOverlay(here.deps, network)).rejects.toThrow(
      expect.objectContaining({ kind: 'Unavailable', message: expect.stringContaining('--store etcd://') }),
    )
  })

  test('here compares with what the store has of the others', async () => {
    expect(await verifyHere(here.deps, network.id)).toEqual({ checked: [], found: [] })
    expect(here.verified).toMatchObject([
      [
        { network, endpoints: [{ endpoint: { id: 'web' }, place: { netns: '/run/netns/webbox', ifname: 'eth0' } }] },
        { remotes: here.stored.remotes, members: [{ host: 'two' }] },
      ],
    ])
  })

  test('here finds wrong what is wrong twice: the first time it may just have been changing', async () => {
    const both = { check: 'fdb' as const, words: 'stays' }
    here.findings.push(
      { checked: ['fdb'], found: [{ check: 'fdb', words: 'passes' }, both] },
      { checked: ['fdb'], found: [both, { check: 'fdb', words: 'is new' }] },
    )
    expect(await verifyHere(here.deps, network.id)).toEqual({ checked: ['fdb'], found: [both] })
  })

  test('here has nothing to look at where nothing is attached', async () => {
    here.own.length = 0
    expect(await verifyHere(here.deps, network.id)).toEqual({ checked: [], found: [] })
    expect(here.verified).toEqual([])
  })
})
