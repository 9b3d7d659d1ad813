import { afterAll, beforeAll, expect, test } from 'vitest'
import { attachmentOf, removeContainers, runContainer } from '../helpers/docker.js'
import { Host } from '../helpers/host.js'
import { eachLeavesAsFound } from '../helpers/tidy-host.js'
import { pings } from '../helpers/vantage.js'

// `tsnet docker attach`: dockerd makes the network that the long line of `docker network create` would.

let host: Host

beforeAll(async () => {
  host = await Host.startWithDocker()
})
afterAll(() => host?.stop())

eachLeavesAsFound(() => host)

const bound = (name: string) => JSON.parse(host.docker('network', 'inspect', name))[0]

test('containers get addresses of the network, beside its sandboxes, and it is attached once', async () => {
  host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24', '--subnet', 'fd00:30::/64')
  host.tsnet('sandbox', 'create', 'box')
  host.tsnet('connect', 'lab', 'box')
  const id = host.tsnet('docker', 'attach', 'lab')
  expect(host.tsnet('docker', 'attach', 'lab')).toBe(id)
  expect(host.tsnet('docker', 'attach', 'lab', '--name', 'again')).not.toBe(id)
  expect(bound('lab')).toMatchObject({
    Id: id,
    Driver: 'tsnet',
    EnableIPv6: true,
    Internal: false,
    Options: { network: 'lab' },
    IPAM: {
      Driver: 'tsnet',
      Options: { network: 'lab' },
      Config: [
        { Subnet: '10.30.0.0/24', Gateway: '10.30.0.1' },
        { Subnet: 'fd00:30::/64', Gateway: 'fd00:30::1' },
      ],
    },
  })
  await runContainer(host, 'shop', 'lab')
  const { IPAddress } = attachmentOf(host, 'shop', 'lab')
  expect(IPAddress).toBe('10.30.0.3')
  expect(pings(host.sandbox('box'), '10.30.0.3')).toBe(true)
  expect(pings(host.sandbox('box'), 'fd00:30::3')).toBe(true)
  removeContainers(host, 'shop')
  host.docker('network', 'rm', 'lab', 'again')
  host.tsnet('sandbox', 'rm', 'box')
  host.tsnet('network', 'rm', 'lab')
})

test('an internal network is internal in Docker too', async () => {
  host.tsnet('network', 'create', 'quiet', '--subnet', '10.31.0.0/24', '--internal')
  host.tsnet('docker', 'attach', 'quiet')
  expect(bound('quiet')).toMatchObject({ Internal: true, EnableIPv6: false })
  host.docker('network', 'rm', 'quiet')
  host.tsnet('network', 'rm', 'quiet')
})
