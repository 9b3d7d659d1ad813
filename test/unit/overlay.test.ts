import { describe, expect, test } from 'vitest'
import type { OtherHosts } from '../../src/cnm/driver.js'
import type { Network } from '../../src/cnm/types.js'
import type { DriverDeps } from '../../src/drivers/driver-deps.js'
import { noOtherHosts } from '../../src/drivers/other-hosts.js'
import { overlay } from '../../src/drivers/overlay/driver.js'
import type { OverlayOptions } from '../../src/drivers/overlay/options.js'
import { gatewayMacOf, hostMacOf, parseMac } from '../../src/names.js'

const someHosts: OtherHosts = {
  host: 'one',
  underlay: () => ({ vtep: '192.0.2.1', link: 'eth0' }),
  remotes: () => [],
  vteps: () => [],
}

/** A driver that has the options to decide about and nothing else. */
const driverWith = (others: OtherHosts) => overlay({ others } as unknown as DriverDeps)
const driver = driverWith(someHosts)

const network = (options: Record<string, string>, subnet = '10.50.0.0/24'): Network<OverlayOptions> => ({
  id: 'ab'.repeat(32),
  name: 'blue',
  driver: 'overlay',
  scope: 'global',
  options: driver.parseOptions(options),
  subnets: [{ family: subnet.includes(':') ? 6 : 4, subnet, auxAddresses: {}, poolId: 'p', assignedBy: 'tsnet' }],
  internal: false,
  labels: {},
  createdBy: 'tsnet',
  createdAt: '2026-01-01T00:00:00.000Z',
  dockerNetworkIds: [],
})

describe('the VNI of an overlay network', () => {
  test('is the one that was asked for, by either name', () => {
    expect(driver.settle!(network({ vni: '77', mtu: '1400' })).options.vni).toBe(77)
    expect(driver.parseOptions({ 'com.docker.network.driver.overlay.vxlanid_list': '4097' }).vni).toBe(4097)
  })

  test('is chosen at random among those that people do not choose', () => {
    const asked = network({ mtu: '1400' })
    const chosen = Array.from({ length: 1000 }, () => driver.settle!(asked).options.vni)
    expect(Math.min(...chosen)).toBeGreaterThanOrEqual(4096)
    expect(Math.max(...chosen)).toBeLessThan(2 ** 24)
    expect(new Set(chosen).size).toBeGreaterThan(990)
    expect(asked.options.vni).toBe(0)
  })

  test('is what no other network of the cluster may have', () =>
    expect(driver.unique!(network({ vni: '77' }))).toEqual(['vni/77']))
})

describe('an overlay network is refused', () => {
  test.each([
    ['vni', '16777216', 'option vni=16777216 must be a whole number from 1 to 16777215'],
    ['vni', '4097,4098', 'option vni=4097,4098 must be a whole number from 1 to 16777215'],
    ['mtu', '67', 'option mtu=67 must be a whole number from 68 to 65535'],
    ['port', '0', 'option port=0 must be a whole number from 1 to 65535'],
    ['ttl', '256', 'option ttl=256 must be a whole number from 0 to 255'],
    ['flod', 'true', 'unknown option flod for driver overlay (did you mean flood?)'],
  ])('for the option %s=%s', (key, value, want) => {
    expect(() => driver.parseOptions({ [key]: value })).toThrow(want)
  })

  test('with IPv6 and too small an MTU for it', () => {
    expect(() => driver.validate(network({ mtu: '1279' }, 'fd00:50::/64'), [])).toThrow(
      'MTU 1279 is too small for IPv6, which needs 1280: choose another with -o mtu=BYTES',
    )
    driver.validate(network({ mtu: '1280' }, 'fd00:50::/64'), [])
    driver.validate(network({ mtu: '1279' }), [])
  })

  test('where there are no other hosts, with what to do about it', () => {
    const alone = driverWith(noOtherHosts)
    const want = {
      kind: 'InvalidParameter',
      message: 'overlay networks need a store that all hosts share: start the daemon with --store etcd://HOST:2379',
    }
    const refusal = (work: () => unknown): unknown => {
      try {
        return work()
      } catch (error) {
        return error
      }
    }
    expect(refusal(() => alone.validate(network({ mtu: '1400' }), []))).toMatchObject(want)
    expect(refusal(() => alone.settle!(network({})))).toMatchObject(want)
  })
})

test('MAC addresses of a network follow from names: one for the gateway, one for each host, all of them local', () => {
  const id = 'ab'.repeat(32)
  const macs = [gatewayMacOf(id), hostMacOf(id, 'one'), hostMacOf(id, 'two'), gatewayMacOf('cd'.repeat(32))]
  expect(new Set(macs).size).toBe(4)
  for (const mac of macs) expect([parseMac(mac), Number.parseInt(mac, 16) & 3]).toEqual([mac, 2])
  expect(gatewayMacOf(id)).toBe(macs[0])
})
