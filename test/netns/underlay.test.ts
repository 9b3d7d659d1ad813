import { beforeEach, describe, expect, test, vi } from 'vitest'
import { readUnderlay, type Underlay, watchUnderlay } from '../../src/underlay.js'
import { useKernelWorld } from '../helpers/kernel-world.js'
import { runWithInput } from '../helpers/netns.js'

const world = useKernelWorld('tst-underlay')
const ip = (lines: string): string => runWithInput(world.name, lines, 'ip', '-batch', '-')
const read = (advertise?: string): Underlay => readUnderlay(world.kernel, advertise)

beforeEach(() =>
  ip(`
link add eth0 type veth peer name far0
link add eth1 type veth peer name far1
link set lo up
link set eth0 mtu 1480 addrgenmode none
link set eth1 addrgenmode none
link set eth0 up
link set far0 up
link set eth1 up
link set far1 up
address add 192.0.2.1/24 dev eth0
address add 192.0.2.5/24 dev eth0
address add 2001:db8::1/64 dev eth0 nodad
address add 198.51.100.1/24 dev eth1
address add fe80::5/64 dev eth1 nodad
address add 2001:db8:1::1/64 dev eth1 nodad
`),
)

describe("this host's address for the others", () => {
  test('is that of the link of the default route, the first one of the lowest metric', () => {
    ip('route add default via 198.51.100.9 metric 200\nroute add default via 192.0.2.9 metric 100\n')
    expect(read()).toEqual({ vtep: '192.0.2.1', link: 'eth0', mtu: 1480 })
  })

  test('is the one that the route names as source', () => {
    ip('route add default via 192.0.2.9 src 192.0.2.5\n')
    expect(read().vtep).toBe('192.0.2.5')
  })

  test('is of IPv6 where there is no IPv4 default route, and never one of the link alone', () => {
    ip('route add default via 2001:db8:1::9\n')
    expect(read()).toEqual({ vtep: '2001:db8:1::1', link: 'eth1', mtu: 1500 })
    ip('route add default via 192.0.2.9\n')
    expect(read().vtep).toBe('192.0.2.1')
  })

  test('passes over an address that is about to go', () => {
    ip('address add 2001:db8:1::2/64 dev eth1 nodad\naddress change 2001:db8:1::1/64 dev eth1 preferred_lft 0\n')
    ip('route add default via 2001:db8:1::9\n')
    expect(read().vtep).toBe('2001:db8:1::2')
  })

  test('is missing without a default route, and the sentence says what to do', () =>
    expect(() => read()).toThrow(
      expect.objectContaining({ kind: 'Unavailable', message: expect.stringContaining('--advertise') }),
    ))

  test('can be said: an address, or a link', () => {
    ip('route add default via 192.0.2.9\n')
    expect(read('198.51.100.1')).toEqual({ vtep: '198.51.100.1', link: 'eth1', mtu: 1500 })
    expect(read('2001:db8::1').link).toBe('eth0')
    expect(read('eth1').vtep).toBe('198.51.100.1')
    ip('address delete 198.51.100.1/24 dev eth1\n')
    expect(read('eth1').vtep).toBe('2001:db8:1::1')
  })

  test('can be one of loopback, if that is said', () => {
    expect(read('lo').vtep).toBe('127.0.0.1')
    ip('address add 203.0.113.1/32 dev lo\n')
    expect(read('203.0.113.1').link).toBe('lo')
  })

  test.each([
    ['192.0.2.77', 'no link of this host has the advertised address 192.0.2.77'],
    ['fe80::5', 'fe80::5 means another host on every link'],
    ['eth7', 'there is no link eth7 to advertise'],
    ['far0', 'the advertised link far0 has no address'],
  ])('cannot be %s', (advertise, message) => {
    ip('link set far0 addrgenmode none\n')
    expect(() => read(advertise)).toThrow(
      expect.objectContaining({ kind: 'Unavailable', message: expect.stringContaining(message) }),
    )
  })
})

test('is told when it becomes another one, goes, comes back, or has another MTU, and not when endpoints come and go', async () => {
  ip('route add default via 192.0.2.9\n')
  const stop = new AbortController()
  const told: (string | number | undefined)[] = []
  const { kernel, netns } = world
  watchUnderlay({
    kernel,
    netns,
    advertise: undefined,
    changed: (underlay, because) => told.push(underlay?.vtep ?? because, underlay?.mtu),
    signal: stop.signal,
  })
  const expectTold = async (...want: (string | number | undefined)[]): Promise<void> => {
    await vi.waitFor(() => expect(told.splice(0)).toEqual(want), { timeout: 3_000, interval: 20 })
  }
  ip('address add 192.0.2.6/24 dev eth0\nlink add v0 type veth peer name v1\naddress add 10.9.9.9/24 dev v0\n')
  ip('address delete 192.0.2.1/24 dev eth0\n')
  // the kernel removes the secondary ones with the first, unless told to promote them
  await vi.waitFor(() => expect(told.length).toBeGreaterThan(0), { timeout: 3_000 })
  told.length = 0
  ip('address flush dev eth0\naddress add 192.0.2.7/24 dev eth0\nroute replace default via 192.0.2.9\n')
  await vi.waitFor(() => expect(told.at(-2)).toBe('192.0.2.7'), { timeout: 3_000 })
  told.length = 0
  ip('link set eth0 mtu 1400\n')
  await expectTold('192.0.2.7', 1400)
  ip('route delete default\n')
  await expectTold(expect.stringContaining('no default route'), undefined)
  ip('route add default via 192.0.2.9\n')
  await expectTold('192.0.2.7', 1400)
  stop.abort()
  ip('link set eth0 mtu 1300\nlink delete v0\n')
})
