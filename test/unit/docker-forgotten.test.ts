import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { dockerId, FakeDaemon, lab, pool } from '../helpers/fake-daemon.js'
import { dockerEndpoint } from '../helpers/fake-world.js'

// What dockerd asked for and does not know of, because our answer was lost or dockerd died.

let daemon: FakeDaemon
let before: string
const endpointId = 'e'.repeat(64)
const subnet = '172.30.0.0/24'

beforeEach(async () => {
  daemon = await FakeDaemon.start()
  before = await daemon.everything()
})
afterEach(() => void vi.useRealTimers())

/** A Docker network that has its subnet and gateway from our IPAM. */
async function dockerNetwork(networkId = dockerId): Promise<string> {
  const { docker } = daemon.cnm
  const { poolId } = await docker.requestPool({ family: 4, subnet, options: {} })
  await docker.requestAddress({ poolId, gateway: true, address: '172.30.0.1' })
  const pools = [{ ...pool, assignedBy: 'tsnet' as const, subnet, gateway: '172.30.0.1' }]
  await docker.createNetwork({ networkId, options: {}, internal: false, ipv6: false, pools })
  return poolId
}

test('an endpoint that was never joined ends when dockerd gives its address back', async () => {
  const { docker } = daemon.cnm
  const poolId = await dockerNetwork()
  const whole = await daemon.everything()
  const address = await docker.requestAddress({ poolId, gateway: false })
  await docker.createEndpoint(dockerEndpoint(dockerId, 'e', address))
  await docker.releaseAddress(poolId, address.split('/')[0]!)
  expect(await daemon.everything()).toBe(whole)
})

test('an endpoint whose Join never came ends at the reconcile after a minute, and its address is free', async () => {
  const { docker } = daemon.cnm
  const poolId = await dockerNetwork()
  const whole = await daemon.everything()
  const address = await docker.requestAddress({ poolId, gateway: false })
  await docker.createEndpoint(dockerEndpoint(dockerId, 'e', address))
  expect((await daemon.cnm.reconcile({ dryRun: false })).changes).toEqual([])
  vi.useFakeTimers({ now: Date.now() + 61_000, toFake: ['Date'] })
  expect((await daemon.cnm.reconcile({ dryRun: false })).changes).toHaveLength(2)
  expect(await daemon.everything()).toBe(whole)
})

test('it ends after a minute in any case', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  const { docker } = daemon.cnm
  const poolId = await dockerNetwork()
  const whole = await daemon.everything()
  const address = await docker.requestAddress({ poolId, gateway: false })
  await docker.createEndpoint(dockerEndpoint(dockerId, 'e', address))
  await vi.advanceTimersByTimeAsync(61_000)
  await vi.waitFor(async () => expect(await daemon.everything()).toBe(whole))
})

test('a network whose subnet dockerd has given back makes room for another with that subnet', async () => {
  const { docker } = daemon.cnm
  const poolId = await dockerNetwork()
  await docker.releasePool(poolId)
  const other = 'd'.repeat(64)
  const again = await dockerNetwork(other)
  expect(daemon.cnm.networks().map(({ id }) => id)).toEqual([other])
  await docker.releasePool(again)
  await docker.deleteNetwork(other)
  expect(await daemon.everything()).toBe(before)
})

test('it goes after a minute in any case, unless something is on it', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  const { docker } = daemon.cnm
  await daemon.cnm.createSandbox({ name: 'box' })
  const poolId = await dockerNetwork()
  await daemon.cnm.connect(dockerId, 'box', {})
  await docker.releasePool(poolId)
  await vi.advanceTimersByTimeAsync(61_000)
  expect(daemon.cnm.networks()).toHaveLength(1)
  await daemon.cnm.disconnect(dockerId, 'box')
  await docker.releasePool(poolId)
  await vi.advanceTimersByTimeAsync(61_000)
  await vi.waitFor(() => expect(daemon.cnm.networks()).toEqual([]))
})

test('a network that another Docker network had its addresses from stays', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  const { docker } = daemon.cnm
  await dockerNetwork()
  const { name } = await daemon.cnm.network(dockerId)
  const { poolId } = await docker.requestPool({ family: 4, subnet, options: { network: name } })
  // its CreateNetwork was refused
  await docker.releasePool(poolId)
  await vi.advanceTimersByTimeAsync(61_000)
  await expect(dockerNetwork('d'.repeat(64))).rejects.toThrow(`overlaps network ${name}`)
  expect(daemon.cnm.networks()).toHaveLength(1)
})

test('neither a network of ours nor an endpoint that was joined ends by what dockerd gives back', async () => {
  const { docker } = daemon.cnm
  await daemon.cnm.createNetwork(lab)
  const { poolId } = await docker.requestPool({ family: 4, options: { network: 'lab' } })
  const networkId = dockerId
  const pools = [{ ...pool, assignedBy: 'tsnet' as const, subnet: '10.30.0.0/24', gateway: '10.30.0.1' }]
  await docker.createNetwork({ networkId, options: { network: 'lab' }, internal: false, ipv6: false, pools })
  const address = await docker.requestAddress({ poolId, gateway: false })
  await docker.createEndpoint(dockerEndpoint(dockerId, 'e', address))
  await docker.join(dockerId, endpointId, '/x')
  await docker.releaseAddress(poolId, address.split('/')[0]!)
  await docker.releasePool(poolId)
  expect(daemon.cnm.endpoints()).toHaveLength(1)
  await expect(docker.requestPool({ family: 4, subnet: '10.30.0.0/24', options: {} })).rejects.toThrow('network lab')
})
