import { beforeEach, describe, expect, it } from 'vitest'
import { put } from '../../src/store/store.js'
import { dockerId, FakeDaemon, lab, pool, tcp80 } from '../helpers/fake-daemon.js'
import { dockerEndpoint } from '../helpers/fake-world.js'

let daemon: FakeDaemon

beforeEach(async () => {
  daemon = await FakeDaemon.start()
})

describe('after a restart', () => {
  it('everything is known and nothing is left to do', async () => {
    await daemon.cnm.createNetwork(lab)
    await daemon.cnm.createSandbox({ name: 'box' })
    await daemon.cnm.connect('lab', 'box', { ports: tcp80 })
    const [host, views] = [daemon.world.state(), daemon.cnm.endpoints()]
    await daemon.restart()
    expect(await daemon.cnm.reconcile({ dryRun: false })).toMatchObject({ changes: [], failures: [] })
    expect([daemon.world.state(), daemon.cnm.endpoints()]).toEqual([host, views])
  })

  it('of the machine, sandboxes of ours come back, those of processes go, and containers are forgotten', async () => {
    await daemon.cnm.createNetwork(lab)
    await daemon.cnm.createSandbox({ name: 'box' })
    await daemon.cnm.createSandbox({ name: 'once', ephemeral: true })
    await daemon.cnm.connect('lab', 'box', {})
    await daemon.cnm.connect('lab', 'once', {})
    await daemon.cnm.docker.createNetwork({
      networkId: dockerId,
      options: {},
      internal: false,
      ipv6: false,
      pools: [pool],
    })
    await daemon.cnm.docker.createEndpoint(dockerEndpoint(dockerId, 'e', '172.30.0.2/24'))
    await daemon.cnm.docker.join(dockerId, 'e'.repeat(64), '/x')
    for (const part of [daemon.world.networks, daemon.world.links, daemon.world.namespaces]) part.clear()
    daemon.namespaces.wired.clear()
    await daemon.restart()
    const dry = await daemon.cnm.reconcile({ dryRun: true })
    expect(daemon.world.state()).toBe('[[],[],[],[]]')
    const report = await daemon.cnm.reconcile({ dryRun: false })
    expect(report.failures).toEqual([])
    expect(report.changes).toEqual(expect.arrayContaining(dry.changes))
    expect(daemon.cnm.endpoints().map(endpoint => [endpoint.name, endpoint.addresses])).toEqual([
      ['box', ['10.30.0.2/24']],
    ])
    expect(daemon.cnm.sandboxes().map(sandbox => sandbox.name)).toEqual(['box'])
    expect(await daemon.cnm.reconcile({ dryRun: false })).toMatchObject({ changes: [], failures: [] })
  })

  it('an endpoint of a network that is no more goes, and keeps nothing else of its sandbox from working', async () => {
    await daemon.cnm.createNetwork(lab)
    await daemon.cnm.createSandbox({ name: 'box' })
    const { sandboxId } = await daemon.cnm.connect('lab', 'box', {})
    const orphan = { ...daemon.cnm.endpoints()[0]!, id: 'f'.repeat(64), networkId: 'e'.repeat(64), name: 'orphan' }
    const key = `endpoint/${orphan.networkId}/${orphan.id}`
    await daemon.store.txn([], [put(key, { ...orphan, sandboxId, ifname: 'eth9', addresses: ['10.99.0.2/24'] })])
    await daemon.restart()
    expect(daemon.cnm.endpoints().map(({ name, network }) => [name, network])).toEqual([
      ['box', 'lab'],
      ['orphan', orphan.networkId],
    ])
    await daemon.cnm.disconnect('lab', 'box')
    await daemon.cnm.connect('lab', 'box', {})
    expect(await daemon.cnm.reconcile({ dryRun: false })).toMatchObject({
      changes: ['remove endpoint orphan of a network that is no more'],
      failures: [],
    })
    expect(await daemon.store.get(key)).toBeUndefined()
    await daemon.store.txn([], [put(key, { ...orphan, sandboxId })])
    await daemon.restart()
    await daemon.cnm.deleteSandbox('box')
    expect(daemon.cnm.endpoints()).toEqual([])
  })

  it('a namespace whose sandbox was never recorded is removed, but not while it is being made', async () => {
    const before = await daemon.everything()
    const creating = daemon.cnm.createSandbox({ name: 'half' })
    expect(await daemon.cnm.reconcile({ dryRun: false })).toMatchObject({ changes: [], failures: [] })
    await creating
    await daemon.cnm.deleteSandbox('half')
    // the store dies after the intent: neither the record nor its undoing is written
    const calls = daemon.store.calls
    daemon.store.fault = ({ nth }) => (nth > calls + 1 ? 'before' : undefined)
    await expect(daemon.cnm.createSandbox({ name: 'half' })).rejects.toThrow()
    daemon.store.fault = () => undefined
    daemon.world.namespaces.set('/run/netns/half', '')
    await daemon.restart()
    expect((await daemon.cnm.reconcile({ dryRun: false })).changes).toEqual([
      'remove namespace /run/netns/half, which was being made for sandbox half',
    ])
    expect(await daemon.everything()).toBe(before)
  })

  it('addresses whose endpoint was never recorded are released', async () => {
    await daemon.cnm.createNetwork(lab)
    const [subnet] = (await daemon.cnm.network('lab')).subnets
    await daemon.ipam.requestAddress(subnet?.poolId ?? '', { owner: 'f'.repeat(64), ownerName: 'endpoint lost' })
    const report = await daemon.cnm.reconcile({ dryRun: false })
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
    const { docker } = daemon.cnm
    const before = await daemon.everything()
    for (let i = 0; i < 2; i++) await docker.createNetwork(spec)
    const macs = [await docker.createEndpoint(endpoint), await docker.createEndpoint(endpoint)]
    expect(macs[0]).toEqual(macs[1])
    for (let i = 0; i < 2; i++)
      expect((await docker.join(dockerId, endpoint.endpointId, '/x')).gateway4).toBe('172.30.0.1')
    for (let i = 0; i < 2; i++) await docker.publish(dockerId, endpoint.endpointId, tcp80)
    expect([...daemon.world.ports.keys()]).toEqual(['8080'])
    for (let i = 0; i < 2; i++) await docker.revoke(dockerId, endpoint.endpointId)
    for (let i = 0; i < 3; i++) await docker.leave(dockerId, endpoint.endpointId)
    for (let i = 0; i < 2; i++) await docker.deleteEndpoint(dockerId, endpoint.endpointId)
    for (let i = 0; i < 2; i++) await docker.deleteNetwork(dockerId)
    expect(await daemon.everything()).toBe(before)
  })

  it('cleans up everything in DeleteEndpoint, since Revoke and Leave may never come', async () => {
    await daemon.cnm.docker.createNetwork(spec)
    const before = await daemon.everything()
    await daemon.cnm.docker.createEndpoint(endpoint)
    await daemon.cnm.docker.join(dockerId, endpoint.endpointId, '/x')
    await daemon.cnm.docker.publish(dockerId, endpoint.endpointId, tcp80)
    await daemon.cnm.docker.deleteEndpoint(dockerId, endpoint.endpointId)
    expect(await daemon.everything()).toBe(before)
  })

  it('keeps a network that sandboxes still use, as one of ours', async () => {
    await daemon.cnm.docker.createNetwork(spec)
    await daemon.cnm.createSandbox({ name: 'box' })
    await daemon.cnm.connect(dockerId, 'box', {})
    await daemon.cnm.docker.deleteNetwork(dockerId)
    expect(await daemon.cnm.network(dockerId)).toMatchObject({ createdBy: 'tsnet' })
    await daemon.cnm.disconnect(dockerId, 'box')
    await daemon.cnm.deleteNetwork(dockerId)
  })

  it('refuses an address that a sandbox of ours has, naming it', async () => {
    await daemon.cnm.docker.createNetwork(spec)
    await daemon.cnm.createSandbox({ name: 'box' })
    await daemon.cnm.connect(dockerId, 'box', { ip: '172.30.0.2' })
    await expect(daemon.cnm.docker.createEndpoint(endpoint)).rejects.toThrow(
      '172.30.0.2 is already used by endpoint box',
    )
  })

  it('binds to a network of ours, with another subnet or with its own', async () => {
    await daemon.cnm.createNetwork(lab)
    const before = await daemon.everything()
    await daemon.cnm.docker.createNetwork({ ...spec, options: { network: 'lab' } })
    expect((await daemon.cnm.network('lab')).subnets.map(subnet => subnet.subnet)).toEqual([
      '10.30.0.0/24',
      '172.30.0.0/24',
    ])
    await daemon.cnm.docker.createEndpoint(endpoint)
    expect((await daemon.cnm.docker.join(dockerId, endpoint.endpointId, '/x')).gateway4).toBeDefined()
    await expect(daemon.cnm.deleteNetwork('lab')).rejects.toThrow('in use by docker-eeeeeeeeeeee')
    await daemon.cnm.docker.deleteEndpoint(dockerId, endpoint.endpointId)
    await expect(daemon.cnm.deleteNetwork('lab')).rejects.toThrow('remove that with docker network rm first')
    await daemon.cnm.docker.deleteNetwork(dockerId)
    expect(await daemon.everything()).toBe(before)
  })

  it('serves addresses of a network of ours to dockerd, and dockerd cannot release what is not its own', async () => {
    await daemon.cnm.createNetwork(lab)
    const before = await daemon.everything()
    const grant = await daemon.cnm.docker.requestPool({ family: 4, options: { network: 'lab' } })
    expect(grant).toMatchObject({ subnet: '10.30.0.0/24', gateway: '10.30.0.1/24' })
    await daemon.cnm.docker.createNetwork({
      ...spec,
      options: { network: 'lab' },
      pools: [{ ...pool, assignedBy: 'tsnet', subnet: grant.subnet, gateway: '10.30.0.1' }],
    })
    const address = await daemon.cnm.docker.requestAddress({ poolId: grant.poolId, gateway: false })
    expect(address).toBe('10.30.0.2/24')
    await daemon.cnm.docker.createEndpoint(dockerEndpoint(dockerId, 'e', address))
    await daemon.cnm.docker.join(dockerId, 'e'.repeat(64), '/x')
    await daemon.cnm.docker.releaseAddress(grant.poolId, '10.30.0.2')
    await daemon.cnm.createSandbox({ name: 'box' })
    expect((await daemon.cnm.connect('lab', 'box', {})).addresses).toEqual(['10.30.0.3/24'])
    await daemon.cnm.deleteSandbox('box')
    await daemon.cnm.docker.deleteEndpoint(dockerId, 'e'.repeat(64))
    await daemon.cnm.docker.releaseAddress(grant.poolId, '10.30.0.2')
    await daemon.cnm.docker.releaseAddress(grant.poolId, '10.30.0.1')
    await daemon.cnm.docker.releasePool(grant.poolId)
    await daemon.cnm.docker.deleteNetwork(dockerId)
    expect(await daemon.everything()).toBe(before)
  })

  it("with our IPAM: pool, gateway and addresses come before the network and go in dockerd's order", async () => {
    const before = await daemon.everything()
    const { docker } = daemon.cnm
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
    expect(await daemon.everything()).toBe(before)
  })

  it('does not send dockerd in circles for a subnet that the host has already', async () => {
    await daemon.cnm.createNetwork(lab)
    daemon.hostSubnets = ['10.30.0.0/24']
    const request = { family: 4 as const, options: { network: 'lab' } }
    await expect(daemon.cnm.docker.requestPool(request)).rejects.toThrow('--subnet 10.30.0.0/24')
    expect(await daemon.cnm.docker.requestPool({ ...request, subnet: '10.30.0.0/24' })).toMatchObject({
      subnet: '10.30.0.0/24',
    })
  })

  it('tells what to do about a network that it does not know', async () => {
    await expect(daemon.cnm.docker.createEndpoint(endpoint)).rejects.toThrow('docker network rm it and create it again')
  })
})
