import { beforeEach, describe, expect, it } from 'vitest'
import type { NameService } from '../../src/cnm/names.js'
import { NameServer } from '../../src/dns/server.js'
import { noLog } from '../../src/log.js'
import { dockerId, FakeDaemon, lab, pool } from '../helpers/fake-daemon.js'
import { dockerEndpoint } from '../helpers/fake-world.js'

let daemon: FakeDaemon
let told: string[]

beforeEach(async () => {
  daemon = new FakeDaemon()
  told = []
  daemon.names = {
    update: (world, what) => void told.push(`${what}: ${world.endpoints().map(endpoint => endpoint.name)}`),
    release: sandbox => void told.push(`release ${sandbox.name}: ${daemon.world.namespaces.has(sandbox.netns)}`),
  } satisfies NameService
  await daemon.restart()
})

describe('the name service', () => {
  it('is told of every change once it is done, and lets go of a namespace before it is deleted', async () => {
    await daemon.cnm.createNetwork(lab)
    await daemon.cnm.createSandbox({ name: 'box' })
    await daemon.cnm.connect('lab', 'box', {})
    await daemon.cnm.disconnect('lab', 'box')
    await daemon.cnm.deleteSandbox('box')
    await daemon.cnm.reconcile({ dryRun: false })
    expect(told).toEqual([
      'networks: ',
      'sandboxes: ',
      'endpoints: box',
      'endpoints: ',
      'release box: true',
      'sandboxes: ',
      'everything: ',
    ])
  })

  it('hears nothing of what failed', async () => {
    await daemon.cnm.createNetwork(lab)
    told.length = 0
    daemon.world.reset(1)
    await expect(daemon.cnm.createSandbox({ name: 'box' })).rejects.toThrow('fault')
    expect(told).toEqual([])
  })

  it('never throws, whatever is wrong with the world', () => {
    const server = new NameServer({ log: noLog })
    const broken = (): never => {
      throw new Error('broken')
    }
    for (const what of ['networks', 'sandboxes', 'endpoints', 'peers', 'everything'] as const)
      server.update({ networks: broken, sandboxes: broken, endpoints: broken, peers: broken }, what)
    server.close()
  })
})

describe("Docker's names", () => {
  const id = 'e'.repeat(64)
  const placeholder = `docker-${dockerId.slice(0, 12)}`
  const learn = (name: string, aliases: string[] = []) =>
    daemon.cnm.learnDockerNames({ networks: [], endpoints: [{ id, name, aliases }] })

  beforeEach(async () => {
    const { docker } = daemon.cnm
    await docker.createNetwork({ networkId: dockerId, options: {}, internal: false, ipv6: false, pools: [pool] })
    await docker.createEndpoint(dockerEndpoint(dockerId, 'e', '172.30.0.2/24'))
    await docker.join(dockerId, id, '/x')
  })

  it('replace what stood for them, survive a restart, and change with Docker', async () => {
    await daemon.cnm.learnDockerNames({ networks: [{ id: dockerId, name: 'front' }], endpoints: [] })
    await learn('shop', ['store'])
    await daemon.restart()
    expect((await daemon.cnm.network('front')).endpoints).toMatchObject([{ name: 'shop', aliases: ['store'] }])
    await learn('market')
    expect(daemon.cnm.endpoints()).toMatchObject([{ name: 'market', aliases: [], network: 'front' }])
    expect(daemon.ipam.pools().map(({ owner }) => owner)).toEqual(['network front'])
  })

  it('of networks are taken where they are free only', async () => {
    await daemon.cnm.createNetwork({ ...lab, name: 'front' })
    await daemon.cnm.learnDockerNames({ networks: [{ id: dockerId, name: 'front' }], endpoints: [] })
    expect((await daemon.cnm.network(dockerId)).name).toBe(placeholder)
  })

  it('of endpoints that somebody has are aliases', async () => {
    await daemon.cnm.createSandbox({ name: 'shop' })
    await daemon.cnm.connect(placeholder, 'shop', {})
    await learn('Shop', ['store'])
    expect(daemon.cnm.endpoints().find(endpoint => endpoint.id === id)).toMatchObject({
      name: `docker-${id.slice(0, 12)}`,
      aliases: ['Shop', 'store'],
    })
  })

  it("of what is unknown, not Docker's or no name at all change nothing", async () => {
    const before = daemon.cnm.endpoints()
    await daemon.cnm.learnDockerNames({
      networks: [
        { id: 'f'.repeat(64), name: 'x' },
        { id: dockerId, name: 'no name' },
      ],
      endpoints: [{ id: 'f'.repeat(64), name: 'x', aliases: [] }],
    })
    await learn('no name', ['no alias'])
    expect(daemon.cnm.endpoints()).toEqual(before)
    expect(daemon.cnm.networks().map(({ name }) => name)).toEqual([placeholder])
  })

  it('heard twice are written once', async () => {
    await learn('shop')
    told.length = 0
    await learn('shop')
    expect(told).toEqual([])
  })
})
