import { afterAll, beforeAll, expect, test } from 'vitest'
import { attachmentOf, linkIn, refusal, removeAll, removeContainers, runContainer } from '../helpers/docker.js'
import { Host } from '../helpers/host.js'
import { eachLeavesAsFound } from '../helpers/tidy-host.js'

// `docker network create --ipam-driver tsnet`: pools and addresses from our allocator, as dockerd asks for them.

let host: Host

beforeAll(async () => {
  host = await Host.startWithDocker()
})
afterAll(() => host?.stop())

eachLeavesAsFound(
  () => host,
  () => removeAll(host),
)

const create = ['network', 'create', '-d', 'tsnet', '--ipam-driver', 'tsnet']
const createNetwork = (name: string, ...flags: string[]) => host.docker(...create, ...flags, name)

interface IpamConfig {
  Subnet: string
  Gateway?: string
}
const configOf = (network: string): IpamConfig[] =>
  (JSON.parse(host.docker('network', 'inspect', network)) as { IPAM: { Config: IpamConfig[] } }[])[0]!.IPAM.Config

test('networks without a subnet get different ones, and Docker is told which', () => {
  createNetwork('one')
  createNetwork('two')
  const [one, two] = [configOf('one')[0]!, configOf('two')[0]!]
  expect(one.Subnet).not.toBe(two.Subnet)
  expect(host.run('ip', 'route', 'show', 'exact', one.Subnet)).toMatch(/dev br-/)
})

test('--ip-range, --gateway and --aux-address are kept', async () => {
  createNetwork(
    'web',
    ...['--subnet', '10.20.0.0/24', '--ip-range', '10.20.0.128/30', '--gateway', '10.20.0.254'],
    ...['--aux-address', 'printer=10.20.0.128'],
  )
  for (const name of ['one', 'two', 'three']) await runContainer(host, name, 'web')
  expect(['one', 'two', 'three'].map(name => attachmentOf(host, name, 'web').IPAddress)).toEqual([
    '10.20.0.129',
    '10.20.0.130',
    '10.20.0.131',
  ])
  expect(attachmentOf(host, 'one', 'web').Gateway).toBe('10.20.0.254')
  expect(refusal(host, 'run', '--name', 'four', '--network', 'web', '--ip', '10.20.0.128', 'busybox', 'true')).toMatch(
    /10\.20\.0\.128/,
  )
})

test('a network that is full says so, and has room again when a container has gone', async () => {
  createNetwork('tiny', '--subnet', '10.20.0.0/30')
  await runContainer(host, 'one', 'tiny')
  expect(refusal(host, 'run', '--name', 'two', '--network', 'tiny', 'busybox', 'true')).toMatch(/10\.20\.0\.0\/30/)
  removeContainers(host, 'one', 'two')
  await runContainer(host, 'three', 'tiny')
  expect(attachmentOf(host, 'three', 'tiny').IPAddress).toBe('10.20.0.2')
})

test('an overlapping subnet is refused by naming the network that has it', () => {
  createNetwork('web', '--subnet', '10.20.0.0/24')
  host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24')
  expect(refusal(host, ...create, '--subnet', '10.30.0.0/25', 'new')).toMatch(/10\.30\.0\.0\/25 overlaps.*lab/)
  expect(refusal(host, ...create, '--subnet', '10.20.0.128/25', 'new')).toMatch(/10\.20\.0\.128\/25 overlaps/)
  host.tsnet('network', 'rm', 'lab')
})

test('a taken address is refused', async () => {
  createNetwork('web', '--subnet', '10.20.0.0/24')
  await runContainer(host, 'one', 'web', '--ip', '10.20.0.7')
  expect(refusal(host, 'run', '--name', 'two', '--network', 'web', '--ip', '10.20.0.7', 'busybox', 'true')).toMatch(
    /10\.20\.0\.7/,
  )
})

test('dockerd started again repeats its requests, and no address is given twice', async () => {
  createNetwork('web', '--subnet', '10.20.0.0/24', '--ipv6', '--subnet', 'fd00:20::/64')
  await runContainer(host, 'one', 'web', '--restart', 'always')
  await host.stopDocker()
  await host.stopTsnet()
  await host.startTsnet()
  await host.startDocker()
  await runContainer(host, 'two', 'web')
  const used = ['one', 'two'].flatMap(name => linkIn(host, name, 'eth0')?.addresses ?? [])
  expect(used).toHaveLength(4)
  expect(new Set(used).size).toBe(4)
  expect(used).not.toContain('10.20.0.1/24')
})
