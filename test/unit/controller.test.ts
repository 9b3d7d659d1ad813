import { beforeEach, describe, expect, it, vi } from 'vitest'
import { dockerId, FakeDaemon, lab, pool, tcp80 } from '../helpers/fake-daemon.js'

let daemon: FakeDaemon

beforeEach(async () => {
  daemon = await FakeDaemon.start()
})

describe('networks', () => {
  it("of dockerd whose ids begin alike would share their links: the second is refused and the first's links stay", async () => {
    const spec = { options: {}, internal: false, ipv6: false, pools: [pool] }
    await daemon.cnm.docker.createNetwork({ ...spec, networkId: dockerId })
    const before = await daemon.everything()
    const alike = { ...spec, networkId: `${dockerId.slice(0, -1)}0`, pools: [{ ...pool, subnet: '172.31.0.0/24' }] }
    await expect(daemon.cnm.docker.createNetwork(alike)).rejects.toThrow('network name docker-dddddddddddd is taken')
    expect(await daemon.everything()).toBe(before)
  })

  it('have the gateway first and keep what was asked', async () => {
    const network = await daemon.cnm.createNetwork({
      ...lab,
      labels: { a: 'b' },
      auxAddresses: { router: '10.30.0.9' },
    })
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
    expect((await daemon.cnm.network(network.id.slice(0, 8))).name).toBe('lab')
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
    await daemon.cnm.createNetwork(lab)
    const before = await daemon.everything()
    await expect(daemon.cnm.createNetwork(spec)).rejects.toMatchObject({
      kind,
      message: expect.stringContaining(message),
    })
    expect(await daemon.everything()).toBe(before)
  })

  it('are not removed while in use, and leave nothing when they are', async () => {
    const before = await daemon.everything()
    await daemon.cnm.createNetwork(lab)
    await daemon.cnm.createSandbox({ name: 'box' })
    await daemon.cnm.connect('lab', 'box', {})
    await expect(daemon.cnm.deleteNetwork('lab')).rejects.toThrow('remove network lab: network lab is in use by box')
    await daemon.cnm.disconnect('lab', 'box')
    await daemon.cnm.deleteSandbox('box')
    await daemon.cnm.deleteNetwork('lab')
    expect(await daemon.everything()).toBe(before)
  })

  it("prune spares used ones and Docker's", async () => {
    await daemon.cnm.createNetwork(lab)
    await daemon.cnm.createNetwork({ name: 'used' })
    await daemon.cnm.createSandbox({ name: 'box' })
    await daemon.cnm.connect('used', 'box', {})
    await daemon.cnm.docker.createNetwork({
      networkId: dockerId,
      options: {},
      internal: false,
      ipv6: false,
      pools: [pool],
    })
    expect(await daemon.cnm.pruneNetworks()).toEqual(['lab'])
    expect(daemon.cnm.networks().map(network => network.name)).toEqual([`docker-${dockerId.slice(0, 12)}`, 'used'])
  })
})

describe('sandboxes and endpoints', () => {
  beforeEach(async () => {
    await daemon.cnm.createNetwork(lab)
    await daemon.cnm.createSandbox({ name: 'box' })
  })

  it('get the lowest free addresses and interface names', async () => {
    await daemon.cnm.createNetwork({ name: 'db', subnets: ['10.40.0.0/24'] })
    expect(await daemon.cnm.connect('lab', 'box', {})).toMatchObject({ addresses: ['10.30.0.2/24'], ifname: 'eth0' })
    expect(await daemon.cnm.connect('db', 'box', {})).toMatchObject({ addresses: ['10.40.0.2/24'], ifname: 'eth1' })
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
    const before = await daemon.everything()
    await expect(daemon.cnm.connect('lab', 'box', spec)).rejects.toMatchObject({
      kind,
      message: expect.stringContaining(message),
    })
    expect(await daemon.everything()).toBe(before)
  })

  it('are attached to a network once', async () => {
    await daemon.cnm.connect('lab', 'box', {})
    await expect(daemon.cnm.connect('lab', 'box', {})).rejects.toThrow(
      'connect sandbox box to network lab: sandbox box is already attached to network lab',
    )
  })

  it.each([1, 2, 3, 4])('a connect that fails at verb %i of the host leaves everything as before', async k => {
    const before = await daemon.everything()
    daemon.world.reset(k)
    const work = daemon.cnm.connect('lab', 'box', { ports: tcp80 })
    if (k <= 3) {
      await expect(work).rejects.toThrow('fault in')
      expect(await daemon.everything()).toBe(before)
    } else await expect(work).resolves.toMatchObject({ bindings: [{ hostPort: 8080 }] })
  })

  it('a connect that fails at any call of the store leaves everything as before', async () => {
    const before = await daemon.everything()
    let failures = 0
    for (let k = 1; ; k++) {
      const first = daemon.store.calls
      let told = false
      daemon.store.fault = ({ nth }) => {
        if (nth !== first + k) return undefined
        told = true
        return 'before'
      }
      const error = await daemon.cnm.connect('lab', 'box', { ports: tcp80 }).catch((e: unknown) => e)
      daemon.store.fault = () => undefined
      if (!told) break
      failures++
      expect(error).toBeInstanceOf(Error)
      expect(await daemon.everything()).toBe(before)
    }
    // address and endpoint are written together
    expect(failures).toBe(1)
  })

  it('a hundred at once get a hundred addresses', async () => {
    const names = Array.from({ length: 100 }, (_, i) => `b${i}`)
    await Promise.all(names.map(name => daemon.cnm.createSandbox({ name })))
    const got = await Promise.all(names.map(name => daemon.cnm.connect('lab', name, {})))
    expect(new Set(got.flatMap(endpoint => endpoint.addresses)).size).toBe(100)
  })

  it('some at once are recorded beside each other', async () => {
    const names = ['b0', 'b1', 'b2']
    await Promise.all(names.map(name => daemon.cnm.createSandbox({ name })))
    const txn = daemon.store.txn.bind(daemon.store)
    let [waiting, all] = [0, () => {}]
    const allWait = new Promise<void>(resolve => {
      all = resolve
    })
    vi.spyOn(daemon.store, 'txn').mockImplementation(async (...args) => {
      if (++waiting === names.length) all()
      await allWait
      return await txn(...args)
    })
    await Promise.all(names.map(name => daemon.cnm.connect('lab', name, {})))
    expect(new Set(daemon.cnm.endpoints().map(({ name }) => name))).toEqual(new Set(names))
  })

  it('a sandbox in which something else is called eth0 has eth1', async () => {
    daemon.world.namespaces.set('/run/netns/box', '+eth0')
    expect(await daemon.cnm.connect('lab', 'box', {})).toMatchObject({ ifname: 'eth1' })
    await daemon.cnm.disconnect('lab', 'box')
    expect(daemon.world.namespaces.get('/run/netns/box')).toBe('+eth0')
    await expect(daemon.cnm.connect('lab', 'box', { ifname: 'eth0' })).rejects.toThrow('already has an interface eth0')
  })

  it('removing a sandbox and connecting it at the same time ends in a sandbox that is gone', async () => {
    await Promise.allSettled([daemon.cnm.deleteSandbox('box'), daemon.cnm.connect('lab', 'box', {})])
    expect(daemon.cnm.sandboxes()).toEqual([])
    expect(daemon.cnm.endpoints()).toEqual([])
  })
})

describe('a disconnect whose record the store refuses', () => {
  const attached = async () => {
    await daemon.cnm.createNetwork(lab)
    await daemon.cnm.createSandbox({ name: 'box' })
    await daemon.cnm.connect('lab', 'box', {})
    return [await daemon.everything(), daemon.namespaces.wired.get('/run/netns/box')]
  }

  it('at once never touched the link', async () => {
    const before = await attached()
    const { calls } = daemon.store
    daemon.store.fault = ({ nth }) => (nth === calls + 1 ? 'before' : undefined)
    daemon.world.reset()
    await expect(daemon.cnm.disconnect('lab', 'box')).rejects.toThrow('disconnect sandbox box from network lab: ')
    expect([await daemon.everything(), daemon.namespaces.wired.get('/run/netns/box')]).toEqual(before)
    // the inside is put back in order, and no link is made
    expect(daemon.world.verbs).toBe(1)
  })

  it('when the link has gone already makes it again, and its inside', async () => {
    const before = await attached()
    const { txn } = daemon.store
    daemon.store.txn = async () => {
      await vi.waitFor(() => expect(daemon.world.links.size).toBe(0))
      daemon.store.txn = txn
      throw new Error('the disk is broken')
    }
    await expect(daemon.cnm.disconnect('lab', 'box')).rejects.toThrow(/: the disk is broken$/)
    expect([await daemon.everything(), daemon.namespaces.wired.get('/run/netns/box')]).toEqual(before)
    await daemon.cnm.disconnect('lab', 'box')
    expect(daemon.world.links.size).toBe(0)
  })
})
