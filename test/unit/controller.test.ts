import { beforeEach, describe, expect, it } from 'vitest'
import { Controller } from '../../src/cnm/controller.js'
import { State } from '../../src/cnm/state.js'
import { Ipam } from '../../src/ipam/ipam.js'
import { noLog } from '../../src/log.js'
import { MemoryStore } from '../../src/store/memory.js'
import { dockerEndpoint, FakeNamespaces, FakeWorld, fakeDrivers } from '../helpers/fake-world.js'

const dockerId = 'd'.repeat(64)
const pool = { family: 4 as const, assignedBy: 'docker' as const, subnet: '172.30.0.0/24', auxAddresses: {} }
const tcp80 = [
  { protocol: 'tcp' as const, hostPort: { first: 8080, last: 8080 }, containerPort: { first: 80, last: 80 } },
]

let world: FakeWorld
let store: MemoryStore
let namespaces: FakeNamespaces
let cnm: Controller
let ipam: Ipam
let hostSubnets: string[]

/** A daemon on the same host and store: the first one, or the one after a restart. */
async function start(): Promise<void> {
  ipam = new Ipam({ store, hostSubnets: () => [], hostId: 'test', coolDownMs: 0 })
  await ipam.load()
  const state = new State(store)
  await state.load()
  cnm = new Controller({
    state,
    ipam,
    drivers: fakeDrivers(world),
    namespaces,
    hostSubnets: () => hostSubnets,
    log: noLog,
  })
}

beforeEach(async () => {
  world = new FakeWorld()
  store = new MemoryStore()
  namespaces = new FakeNamespaces(world)
  hostSubnets = []
  await start()
})

/** Everything that exists: on the host, in the store, in the address pools. */
async function everything(): Promise<string> {
  const stored = (await store.list('')).entries
    .filter(entry => !entry.key.startsWith('ipam/'))
    .map(entry => entry.value)
  const pools = ipam.pools().map(({ id, subnet, owner }) => [subnet, owner, ipam.addresses(id)])
  return JSON.stringify([world.state(), stored, pools])
}

const lab = { name: 'lab', subnets: ['10.30.0.0/24'] }

describe('networks', () => {
  it('have the gateway first and keep what was asked', async () => {
    const network = await cnm.createNetwork({ ...lab, labels: { a: 'b' }, auxAddresses: { router: '10.30.0.9' } })
    expect(network.subnets).toMatchObject([
      { subnet: '10.30.0.0/24', gateway: '10.30.0.1', auxAddresses: { router: '10.30.0.9' } },
    ])
    expect(network).toMatchObject({
      name: 'lab',
      driver: 'bridge',
      labels: { a: 'b' },
      createdBy: 'tsnet',
      internal: false,
    })
    expect(cnm.network(network.id.slice(0, 8)).name).toBe('lab')
  })

  it.each([
    [{ name: 'lab' }, 'create network lab: network name lab is taken', 'Conflict'],
    [{ name: 'web', subnets: ['10.30.0.128/25'] }, 'overlaps network lab (10.30.0.0/24)', 'Conflict'],
    [{ name: 'web', subnets: ['10.31.0.5/24'] }, '10.31.0.0/24', 'InvalidParameter'],
    [
      { name: 'web', subnets: ['10.31.0.0/24'], gateways: ['10.32.0.1'] },
      'gateway 10.32.0.1 is outside of subnet 10.31.0.0/24',
      'InvalidParameter',
    ],
    [{ name: 'web', gateways: ['10.32.0.1'] }, 'gateway 10.32.0.1 needs a --subnet', 'InvalidParameter'],
    [
      { name: 'web', subnets: ['10.31.0.0/24'], gateways: ['10.31.0.1', '10.31.0.2'] },
      'has two gateways',
      'InvalidParameter',
    ],
    [{ name: 'web', driver: 'brigde' }, 'unknown driver brigde', 'InvalidParameter'],
    [{ name: 'web', options: { wrong: '1' } }, 'unknown option wrong', 'InvalidParameter'],
    [{ name: 'a b' }, 'network name "a b"', 'InvalidParameter'],
  ])('%j is refused and changes nothing', async (spec, message, kind) => {
    await cnm.createNetwork(lab)
    const before = await everything()
    await expect(cnm.createNetwork(spec)).rejects.toMatchObject({ kind, message: expect.stringContaining(message) })
    expect(await everything()).toBe(before)
  })

  it('are not removed while in use, and leave nothing when they are', async () => {
    const before = await everything()
    await cnm.createNetwork(lab)
    await cnm.createSandbox({ name: 'box' })
    await cnm.connect('lab', 'box', {})
    await expect(cnm.deleteNetwork('lab')).rejects.toThrow('remove network lab: network lab is in use by box')
    await cnm.disconnect('lab', 'box')
    await cnm.deleteSandbox('box')
    await cnm.deleteNetwork('lab')
    expect(await everything()).toBe(before)
  })

  it("prune spares used ones and Docker's", async () => {
    await cnm.createNetwork(lab)
    await cnm.createNetwork({ name: 'used' })
    await cnm.createSandbox({ name: 'box' })
    await cnm.connect('used', 'box', {})
    await cnm.docker.createNetwork({ networkId: dockerId, options: {}, internal: false, ipv6: false, pools: [pool] })
    expect(await cnm.pruneNetworks()).toEqual(['lab'])
    expect(cnm.networks().map(network => network.name)).toEqual([`docker-${dockerId.slice(0, 12)}`, 'used'])
  })
})

describe('sandboxes and endpoints', () => {
  beforeEach(async () => {
    await cnm.createNetwork(lab)
    await cnm.createSandbox({ name: 'box' })
  })

  it('get the lowest free addresses and interface names', async () => {
    await cnm.createNetwork({ name: 'db', subnets: ['10.40.0.0/24'] })
    expect(await cnm.connect('lab', 'box', {})).toMatchObject({ addresses: ['10.30.0.2/24'], ifname: 'eth0' })
    expect(await cnm.connect('db', 'box', {})).toMatchObject({ addresses: ['10.40.0.2/24'], ifname: 'eth1' })
  })

  it.each([
    [{ ip: '10.31.0.5' }, 'address 10.31.0.5 is in no subnet of network lab (10.30.0.0/24)', 'InvalidParameter'],
    [{ ip: '10.30.0.1' }, 'already used', 'Conflict'],
    [{ ip6: 'fd00::5' }, 'it has none for IPv6', 'InvalidParameter'],
    [{ mac: '01:00:5e:00:00:01' }, 'multicast', 'InvalidParameter'],
    [{ ifname: 'sixteen-bytes-xx' }, '16 bytes', 'InvalidParameter'],
    [{ options: { x: 'y' } }, 'unknown option x', 'InvalidParameter'],
    [
      { routes: [{ destination: '10.9.0.0/16', via: '10.31.0.1' }] },
      'next hop 10.31.0.1 is in no subnet',
      'InvalidParameter',
    ],
  ])('connect with %j is refused and changes nothing', async (spec, message, kind) => {
    const before = await everything()
    await expect(cnm.connect('lab', 'box', spec)).rejects.toMatchObject({
      kind,
      message: expect.stringContaining(message),
    })
    expect(await everything()).toBe(before)
  })

  it('are attached to a network once', async () => {
    await cnm.connect('lab', 'box', {})
    await expect(cnm.connect('lab', 'box', {})).rejects.toThrow(
      'connect sandbox box to network lab: sandbox box is already attached to network lab',
    )
  })

  it.each([1, 2, 3, 4])('a connect that fails at verb %i of the host leaves everything as before', async k => {
    const before = await everything()
    world.reset(k)
    const work = cnm.connect('lab', 'box', { ports: tcp80 })
    if (k <= 3) {
      await expect(work).rejects.toThrow('fault in')
      expect(await everything()).toBe(before)
    } else await expect(work).resolves.toMatchObject({ bindings: [{ hostPort: 8080 }] })
  })

  it('a connect that fails at any call of the store leaves everything as before', async () => {
    const before = await everything()
    let failures = 0
    for (let k = 1; ; k++) {
      const first = store.calls
      let told = false
      store.fault = ({ nth }) => {
        if (nth !== first + k) return undefined
        told = true
        return 'before'
      }
      const error = await cnm.connect('lab', 'box', { ports: tcp80 }).catch((e: unknown) => e)
      store.fault = () => undefined
      if (!told) break
      failures++
      expect(error).toBeInstanceOf(Error)
      expect(await everything()).toBe(before)
    }
    expect(failures).toBeGreaterThanOrEqual(2)
  })

  it('a hundred at once get a hundred addresses', async () => {
    const names = Array.from({ length: 100 }, (_, i) => `b${i}`)
    await Promise.all(names.map(name => cnm.createSandbox({ name })))
    const got = await Promise.all(names.map(name => cnm.connect('lab', name, {})))
    expect(new Set(got.flatMap(endpoint => endpoint.addresses)).size).toBe(100)
  })

  it('removing a sandbox and connecting it at the same time ends in a sandbox that is gone', async () => {
    await Promise.allSettled([cnm.deleteSandbox('box'), cnm.connect('lab', 'box', {})])
    expect(cnm.sandboxes()).toEqual([])
    expect(cnm.endpoints()).toEqual([])
  })
})

describe('after a restart', () => {
  it('everything is known and nothing is left to do', async () => {
    await cnm.createNetwork(lab)
    await cnm.createSandbox({ name: 'box' })
    await cnm.connect('lab', 'box', { ports: tcp80 })
    const [host, views] = [world.state(), cnm.endpoints()]
    await start()
    expect(await cnm.reconcile({ dryRun: false })).toMatchObject({ changes: [], failures: [] })
    expect([world.state(), cnm.endpoints()]).toEqual([host, views])
  })

  it('of the machine, sandboxes of ours come back, those of processes go, and containers are forgotten', async () => {
    await cnm.createNetwork(lab)
    await cnm.createSandbox({ name: 'box' })
    await cnm.createSandbox({ name: 'once', ephemeral: true })
    await cnm.connect('lab', 'box', {})
    await cnm.connect('lab', 'once', {})
    await cnm.docker.createNetwork({ networkId: dockerId, options: {}, internal: false, ipv6: false, pools: [pool] })
    await cnm.docker.createEndpoint(dockerEndpoint(dockerId, 'e', '172.30.0.2/24'))
    await cnm.docker.join(dockerId, 'e'.repeat(64), '/x')
    for (const part of [world.networks, world.links, world.namespaces]) part.clear()
    namespaces.wired.clear()
    await start()
    const dry = await cnm.reconcile({ dryRun: true })
    expect(world.state()).toBe('[[],[],[],[]]')
    const report = await cnm.reconcile({ dryRun: false })
    expect(report.failures).toEqual([])
    expect(report.changes).toEqual(expect.arrayContaining(dry.changes))
    expect(cnm.endpoints().map(endpoint => [endpoint.name, endpoint.addresses])).toEqual([['box', ['10.30.0.2/24']]])
    expect(cnm.sandboxes().map(sandbox => sandbox.name)).toEqual(['box'])
    expect(await cnm.reconcile({ dryRun: false })).toMatchObject({ changes: [], failures: [] })
  })

  it('addresses whose endpoint was never recorded are released', async () => {
    await cnm.createNetwork(lab)
    const [subnet] = cnm.network('lab').subnets
    await ipam.requestAddress(subnet?.poolId ?? '', { owner: 'f'.repeat(64), ownerName: 'endpoint lost' })
    const report = await cnm.reconcile({ dryRun: false })
    expect(report.changes).toEqual(['release address 10.30.0.2 of endpoint lost, which does not exist'])
  })
})

describe("Docker's door", () => {
  const spec = {
    networkId: dockerId,
    options: {},
    internal: false,
    ipv6: false,
    pools: [{ ...pool, gateway: '172.30.0.1' }],
  }
  const endpoint = dockerEndpoint(dockerId, 'e', '172.30.0.2/24')

  it('takes every call twice', async () => {
    const { docker } = cnm
    const before = await everything()
    for (let i = 0; i < 2; i++) await docker.createNetwork(spec)
    const macs = [await docker.createEndpoint(endpoint), await docker.createEndpoint(endpoint)]
    expect(macs[0]).toEqual(macs[1])
    for (let i = 0; i < 2; i++)
      expect((await docker.join(dockerId, endpoint.endpointId, '/x')).gateway4).toBe('172.30.0.1')
    for (let i = 0; i < 2; i++) await docker.publish(dockerId, endpoint.endpointId, tcp80)
    expect([...world.ports.keys()]).toEqual(['8080'])
    for (let i = 0; i < 2; i++) await docker.revoke(dockerId, endpoint.endpointId)
    for (let i = 0; i < 3; i++) await docker.leave(dockerId, endpoint.endpointId)
    for (let i = 0; i < 2; i++) await docker.deleteEndpoint(dockerId, endpoint.endpointId)
    for (let i = 0; i < 2; i++) await docker.deleteNetwork(dockerId)
    expect(await everything()).toBe(before)
  })

  it('cleans up everything in DeleteEndpoint, since Revoke and Leave may never come', async () => {
    await cnm.docker.createNetwork(spec)
    const before = await everything()
    await cnm.docker.createEndpoint(endpoint)
    await cnm.docker.join(dockerId, endpoint.endpointId, '/x')
    await cnm.docker.publish(dockerId, endpoint.endpointId, tcp80)
    await cnm.docker.deleteEndpoint(dockerId, endpoint.endpointId)
    expect(await everything()).toBe(before)
  })

  it('keeps a network that sandboxes still use, as one of ours', async () => {
    await cnm.docker.createNetwork(spec)
    await cnm.createSandbox({ name: 'box' })
    await cnm.connect(dockerId, 'box', {})
    await cnm.docker.deleteNetwork(dockerId)
    expect(cnm.network(dockerId)).toMatchObject({ createdBy: 'tsnet' })
    await cnm.disconnect(dockerId, 'box')
    await cnm.deleteNetwork(dockerId)
  })

  it('refuses an address that a sandbox of ours has, naming it', async () => {
    await cnm.docker.createNetwork(spec)
    await cnm.createSandbox({ name: 'box' })
    await cnm.connect(dockerId, 'box', { ip: '172.30.0.2' })
    await expect(cnm.docker.createEndpoint(endpoint)).rejects.toThrow('172.30.0.2 is already used by endpoint box')
  })

  it('binds to a network of ours, with another subnet or with its own', async () => {
    await cnm.createNetwork(lab)
    const before = await everything()
    await cnm.docker.createNetwork({ ...spec, options: { network: 'lab' } })
    expect(cnm.network('lab').subnets.map(subnet => subnet.subnet)).toEqual(['10.30.0.0/24', '172.30.0.0/24'])
    await cnm.docker.createEndpoint(endpoint)
    expect((await cnm.docker.join(dockerId, endpoint.endpointId, '/x')).gateway4).toBeDefined()
    await expect(cnm.deleteNetwork('lab')).rejects.toThrow('in use by docker-eeeeeeeeeeee')
    await cnm.docker.deleteEndpoint(dockerId, endpoint.endpointId)
    await expect(cnm.deleteNetwork('lab')).rejects.toThrow('remove that with docker network rm first')
    await cnm.docker.deleteNetwork(dockerId)
    expect(await everything()).toBe(before)
  })

  it('serves addresses of a network of ours to dockerd, and dockerd cannot release what is not its own', async () => {
    await cnm.createNetwork(lab)
    const before = await everything()
    const grant = await cnm.docker.requestPool({ family: 4, options: { network: 'lab' } })
    expect(grant).toMatchObject({ subnet: '10.30.0.0/24', gateway: '10.30.0.1/24' })
    await cnm.docker.createNetwork({
      ...spec,
      options: { network: 'lab' },
      pools: [{ ...pool, assignedBy: 'tsnet', subnet: grant.subnet, gateway: '10.30.0.1' }],
    })
    const address = await cnm.docker.requestAddress({ poolId: grant.poolId, gateway: false })
    expect(address).toBe('10.30.0.2/24')
    await cnm.docker.createEndpoint(dockerEndpoint(dockerId, 'e', address))
    await cnm.docker.releaseAddress(grant.poolId, '10.30.0.2')
    await cnm.createSandbox({ name: 'box' })
    expect((await cnm.connect('lab', 'box', {})).addresses).toEqual(['10.30.0.3/24'])
    await cnm.deleteSandbox('box')
    await cnm.docker.deleteEndpoint(dockerId, 'e'.repeat(64))
    await cnm.docker.releaseAddress(grant.poolId, '10.30.0.2')
    await cnm.docker.releaseAddress(grant.poolId, '10.30.0.1')
    await cnm.docker.releasePool(grant.poolId)
    await cnm.docker.deleteNetwork(dockerId)
    expect(await everything()).toBe(before)
  })

  it("with our IPAM: pool, gateway and addresses come before the network and go in dockerd's order", async () => {
    const before = await everything()
    const { docker } = cnm
    const first = await docker.requestPool({ family: 4, options: {} })
    const second = await docker.requestPool({ family: 4, options: {} })
    expect(second.subnet).not.toBe(first.subnet)
    await docker.releasePool(second.poolId)
    const gateway = await docker.requestAddress({ poolId: first.poolId, gateway: true })
    const pools = [
      { ...pool, assignedBy: 'tsnet' as const, subnet: first.subnet, gateway: gateway.split('/')[0] ?? '' },
    ]
    await docker.createNetwork({ ...spec, pools })
    const address = await docker.requestAddress({ poolId: first.poolId, gateway: false })
    await docker.createEndpoint(dockerEndpoint(dockerId, 'e', address))
    await docker.deleteEndpoint(dockerId, 'e'.repeat(64))
    await docker.releaseAddress(first.poolId, address.split('/')[0] ?? '')
    await docker.releaseAddress(first.poolId, pools[0]?.gateway ?? '')
    await docker.releasePool(first.poolId)
    await docker.deleteNetwork(dockerId)
    expect(await everything()).toBe(before)
  })

  it('does not send dockerd in circles for a subnet that the host has already', async () => {
    await cnm.createNetwork(lab)
    hostSubnets = ['10.30.0.0/24']
    const request = { family: 4 as const, options: { network: 'lab' } }
    await expect(cnm.docker.requestPool(request)).rejects.toThrow('--subnet 10.30.0.0/24')
    expect(await cnm.docker.requestPool({ ...request, subnet: '10.30.0.0/24' })).toMatchObject({
      subnet: '10.30.0.0/24',
    })
  })

  it('tells what to do about a network that it does not know', async () => {
    await expect(cnm.docker.createEndpoint(endpoint)).rejects.toThrow('docker network rm it and create it again')
  })
})
