import { beforeEach, describe, expect, it } from 'vitest'
import { conflict, unavailable } from '../../src/errors.js'
import { FakeDaemon, lab } from '../helpers/fake-daemon.js'

let daemon: FakeDaemon

beforeEach(async () => {
  daemon = await FakeDaemon.start()
  await daemon.cnm.createNetwork(lab)
})

const container = {
  id: 'c'.repeat(64),
  name: 'web',
  netns: '/proc/77/ns/net',
  files: { hosts: '/var/lib/docker/hosts' },
}

describe("sharing another one's namespace", () => {
  it('is the same namespace, and nothing is connected to it there', async () => {
    const box = await daemon.cnm.createSandbox({ name: 'box' })
    const guest = await daemon.cnm.createSandbox({ name: 'guest', share: 'container:box' })
    expect(guest).toMatchObject({
      netns: box.netns,
      owned: false,
      shares: { with: 'sandbox', id: box.id, name: 'box' },
    })
    await expect(daemon.cnm.connect('lab', 'guest', {})).rejects.toMatchObject({
      kind: 'Forbidden',
      message: expect.stringContaining('guest shares the namespace of sandbox box: connect sandbox box instead'),
    })
  })

  it('keeps the other from being removed until it ends, and ends without a trace', async () => {
    await daemon.cnm.createSandbox({ name: 'box' })
    await daemon.cnm.connect('lab', 'box', {})
    const before = await daemon.everything()
    await daemon.cnm.createSandbox({ name: 'guest', share: 'container:box' })
    await expect(daemon.cnm.deleteSandbox('box')).rejects.toMatchObject({
      kind: 'Conflict',
      message: 'remove sandbox box: sandbox box is shared by guest; remove that first',
    })
    await daemon.cnm.deleteSandbox('guest')
    expect(await daemon.everything()).toBe(before)
    await daemon.cnm.deleteSandbox('box')
  })

  it('of one that shares is sharing with whom that one does', async () => {
    const box = await daemon.cnm.createSandbox({ name: 'box' })
    await daemon.cnm.createSandbox({ name: 'one', share: 'container:box' })
    expect((await daemon.cnm.createSandbox({ name: 'two', share: 'container:one' })).shares).toMatchObject({
      id: box.id,
    })
    await daemon.cnm.deleteSandbox('one')
    await expect(daemon.cnm.deleteSandbox('box')).rejects.toThrow('shared by two')
  })

  it('while the other is being removed is refused or keeps it, never half of both', async () => {
    await daemon.cnm.createSandbox({ name: 'box' })
    await Promise.allSettled([
      daemon.cnm.createSandbox({ name: 'guest', share: 'container:box' }),
      daemon.cnm.deleteSandbox('box'),
    ])
    const names = daemon.cnm.sandboxes().map(({ name }) => name)
    expect([[], ['box', 'guest']]).toContainEqual(names)
  })

  it('with the host names the namespace for others to find', async () => {
    daemon.world.namespaces.set('/proc/self/ns/net', '')
    const host = await daemon.cnm.createSandbox({ name: 'h', share: 'host' })
    expect(host).toMatchObject({ netns: `/proc/${process.pid}/ns/net`, missing: false, shares: { with: 'host' } })
    await expect(daemon.cnm.connect('lab', 'h', {})).rejects.toThrow('shares the namespace of the host')
    await daemon.cnm.deleteSandbox('h')
    expect(daemon.world.namespaces.has('/proc/self/ns/net')).toBe(true)
  })

  it('with a container of Docker goes by name, where no sandbox has that, and ends with the process', async () => {
    daemon.world.namespaces.set(container.netns, '')
    daemon.containers = { find: async () => container }
    await daemon.restart()
    const guest = await daemon.cnm.createSandbox({ name: 'guest', share: 'container:web' })
    expect(guest).toMatchObject({
      netns: container.netns,
      ephemeral: true,
      shares: { with: 'container', name: 'web', files: container.files },
    })
    await expect(daemon.cnm.connect('lab', 'guest', {})).rejects.toThrow('docker network connect NETWORK web')
    daemon.world.namespaces.delete(container.netns)
    await daemon.cnm.reconcile({ dryRun: false })
    expect(daemon.cnm.sandboxes()).toEqual([])
  })

  it.each([
    ['nobody', undefined, 'there is no sandbox and no container nobody', 'NotFound'],
    ['late', conflict('container late does not run'), 'container late does not run', 'Conflict'],
    ['far', unavailable('dockerd does not answer'), 'dockerd does not answer', 'Unavailable'],
  ])('container:%s is refused', async (name, error, message, kind) => {
    if (error !== undefined)
      daemon.containers.find = async () => {
        throw error
      }
    await expect(daemon.cnm.createSandbox({ name: 'guest', share: `container:${name}` })).rejects.toMatchObject({
      kind,
      message: expect.stringContaining(message),
    })
    await expect(daemon.cnm.createSandbox({ name: 'guest', share: 'nobody' })).rejects.toThrow('host or container:NAME')
  })

  it('comes back after a reboot with the sandbox whose namespace it is', async () => {
    await daemon.cnm.createSandbox({ name: 'box' })
    await daemon.cnm.createSandbox({ name: 'once', ephemeral: true })
    await daemon.cnm.createSandbox({ name: 'guest', share: 'container:box' })
    await daemon.cnm.createSandbox({ name: 'other', share: 'container:once' })
    daemon.world.namespaces.clear()
    await daemon.restart()
    expect((await daemon.cnm.reconcile({ dryRun: false })).failures).toEqual([])
    expect(daemon.cnm.sandboxes().map(({ name, missing }) => [name, missing])).toEqual([
      ['box', false],
      ['guest', false],
    ])
    expect(await daemon.cnm.reconcile({ dryRun: false })).toMatchObject({ changes: [], failures: [] })
  })
})

describe('a namespace that a sandbox has', () => {
  it('is not adopted by another one', async () => {
    await daemon.cnm.createSandbox({ name: 'box' })
    await expect(daemon.cnm.createSandbox({ name: 'twin', netns: '/run/netns/box' })).rejects.toMatchObject({
      kind: 'Conflict',
      message: expect.stringContaining('share it with container:box'),
    })
    await daemon.cnm.createSandbox({ name: 'guest', share: 'container:box' })
  })
})

describe('inspect', () => {
  it('finds everything of a name, of every kind, and by the start of an id', async () => {
    const box = await daemon.cnm.createSandbox({ name: 'lab' })
    const { id } = await daemon.cnm.connect('lab', 'lab', {})
    expect(daemon.cnm.inspect('lab').map(({ kind }) => kind)).toEqual(['network', 'sandbox', 'endpoint'])
    expect(daemon.cnm.inspect(id.slice(0, 10))).toMatchObject([{ kind: 'endpoint', id, network: 'lab' }])
    expect(daemon.cnm.inspect(box.id)).toMatchObject([{ kind: 'sandbox', name: 'lab' }])
    expect(() => daemon.cnm.inspect('nothing')).toThrow('there is no network, sandbox or endpoint nothing')
  })
})

describe('events', () => {
  it('tell of every change once it is stored, and of nothing that failed', async () => {
    const stop = new AbortController()
    const got: string[] = []
    const events = daemon.cnm.events({ signal: stop.signal })
    await daemon.cnm.createSandbox({ name: 'box' })
    await expect(daemon.cnm.connect('lab', 'box', { ip: '10.99.0.1' })).rejects.toThrow()
    await daemon.cnm.connect('lab', 'box', {})
    await daemon.cnm.deleteSandbox('box')
    daemon.events.close()
    for await (const { type, action, name } of events) got.push(`${type} ${action} ${name}`)
    expect(got).toEqual([
      'sandbox create box',
      'endpoint create box',
      'endpoint connect box',
      'endpoint disconnect box',
      'endpoint remove box',
      'sandbox remove box',
    ])
  })
})
