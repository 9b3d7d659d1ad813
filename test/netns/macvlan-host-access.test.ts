import { afterAll, beforeAll, expect, test } from 'vitest'
import { addresses, Host } from '../helpers/host.js'
import {
  attachTo,
  hostAddresses as hostAddressesOf,
  hostRoutes as hostRoutesOf,
  lan,
  lan6,
  range,
  refusalOf,
} from '../helpers/macvlan.js'
import { eachLeavesAsFound, removeByCommands } from '../helpers/tidy-host.js'
import { ask, endServe, isClosed, pings, startServe } from '../helpers/vantage.js'

// host_access=true: the host has a macvlan of its own on the parent, uplink0, with an address that covers nothing but
// itself, and a route to each endpoint.

let host: Host

const { host4, outside4, outside6 } = addresses

beforeAll(async () => {
  host = await Host.startWithTsnet()
})
afterAll(() => host?.stop())

eachLeavesAsFound(
  () => host,
  () => removeByCommands(host),
)

const create = (name: string, ...flags: string[]): string => host.tsnet('network', 'create', name, ...flags)
const refusal = (...args: string[]): string => refusalOf(host, ...args)
const attach = (network: string, sandbox: string, ...flags: string[]): string[] =>
  attachTo(host, network, sandbox, ...flags)
const hostRoutes = (): string[] => hostRoutesOf(host)
const hostAddresses = (network: string): (string | undefined)[] => hostAddressesOf(host, network)
const reaches = (sandbox: string, address: string, seconds?: number): boolean =>
  pings(host.sandbox(sandbox), address, seconds)

const open = [...lan, ...lan6, ...range, '-o', 'host_access=true']

test('host access lets the host and the sandboxes reach each other, both families, at an address that inspect shows', async () => {
  create('lan', ...open)
  const [own4, own6] = hostAddresses('lan')
  expect(own4).toBe('198.51.100.64')
  const [a4, a6] = attach('lan', 'a')
  for (const address of [a4!, a6!]) expect(pings(host, address)).toBe(true)
  for (const address of [own4!, own6!, outside4, outside6]) expect(reaches('a', address)).toBe(true)
  await startServe(host, 'a', ['80/tcp'], host.sandbox('a'))
  expect(ask(host, 'tcp', a4!, 80)).toEqual({ name: 'a', peer: own4 })
  expect(ask(host, 'tcp', a6!, 80)).toEqual({ name: 'a', peer: own6 })
  expect(ask(host.outside, 'tcp', a4!, 80)).toEqual({ name: 'a', peer: outside4 })
  await endServe(host, 'a')
  await startServe(host, 'host', ['80/tcp'])
  expect(ask(host.sandbox('a'), 'tcp', own4!, 80)).toEqual({ name: 'host', peer: a4 })
  expect(ask(host.sandbox('a'), 'tcp', own6!, 80)).toEqual({ name: 'host', peer: a6 })
  await endServe(host, 'host')
})

test('host access leaves the host its LAN, where its first address is found at the MAC address of the parent', () => {
  create('lan', ...open)
  attach('lan', 'a')
  expect(pings(host, outside4) && pings(host, outside6)).toBe(true)
  host.outside.run('ip', 'neigh', 'flush', 'all')
  expect(pings(host.outside, host4)).toBe(true)
  expect(host.outside.run('ip', 'neigh', 'show', host4)).toMatch(String(host.links().get('uplink0')!.address))
  expect(pings(host.outside, hostAddresses('lan')[0]!)).toBe(true)
})

test('host access has a route for each address, which comes and goes with its endpoint', () => {
  create('lan', ...open)
  expect(hostRoutes()).toEqual([])
  const a = attach('lan', 'a')
  const b = attach('lan', 'b')
  expect(hostRoutes().sort()).toEqual([...a, ...b].sort())
  host.tsnet('disconnect', 'lan', 'a')
  expect(hostRoutes().sort()).toEqual([...b].sort())
  expect(attach('lan', 'c', '--ip', a[0]!)[0]).toBe(a[0])
  expect(pings(host, a[0]!)).toBe(true)
})

test('host access keeps the address from sandboxes, and takes the one that is named with --aux-address host=', () => {
  create('lan', ...lan, ...range, '-o', 'host_access=true', '--aux-address', 'host=198.51.100.200')
  expect(hostAddresses('lan')).toEqual(['198.51.100.200'])
  const [a] = attach('lan', 'a')
  expect(reaches('a', '198.51.100.200')).toBe(true)
  host.tsnet('sandbox', 'create', 'b')
  expect(refusal('connect', 'lan', 'b', '--ip', '198.51.100.200')).toMatch(/already used by auxiliary address host/)
  expect(
    refusal('network', 'create', 'two', ...lan, '-o', 'host_access=true', '--aux-address', `host=${host4}`),
  ).toMatch(`auxiliary address host=${host4} is the host's on uplink0; choose a free one`)
  expect(pings(host, a!)).toBe(true)
})

test('host access works for two networks on one parent', () => {
  create('one', ...open)
  create('two', ...lan, ...range, '-o', 'host_access=true')
  const [a] = attach('one', 'a')
  const [b] = attach('two', 'b')
  expect(pings(host, a!) && pings(host, b!)).toBe(true)
  expect(reaches('a', hostAddresses('one')[0]!) && reaches('b', hostAddresses('two')[0]!)).toBe(true)
  expect(reaches('a', b!)).toBe(true)
})

test('host access is for the subnet that an endpoint is in, where there are several', () => {
  create('lan', ...lan, ...range, '--subnet', '10.77.0.0/24', '-o', 'host_access=true')
  attach('lan', 'a', '--ip', '10.77.0.9')
  expect(pings(host, '10.77.0.9')).toBe(true)
  expect(reaches('a', hostAddresses('lan')[1]!)).toBe(true)
})

test('host access does not open the other networks of the host to the LAN', () => {
  create('lan', ...open)
  create('web', '--subnet', '10.30.0.0/24')
  attach('lan', 'a')
  attach('web', 'w')
  host.run('ip', '-n', 'a', 'route', 'add', '10.30.0.0/24', 'via', hostAddresses('lan')[0]!)
  expect(reaches('a', '10.30.0.2', 1)).toBe(false)
  expect(isClosed(host.sandbox('a'), 'tcp', '10.30.0.2', 80)).toBe(true)
})
