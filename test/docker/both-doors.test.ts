import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { attachmentOf, refusal, removeAll, removeContainers, runContainer } from '../helpers/docker.js'
import { addresses, Host } from '../helpers/host.js'
import { eachLeavesAsFound } from '../helpers/tidy-host.js'
import { ask, endServe, pings, startServe, untilServed } from '../helpers/vantage.js'

// One network, by its two doors: a container that Docker attached and a namespace that the command line attached.

let host: Host

beforeAll(async () => {
  host = await Host.startWithDocker()
})
afterAll(() => host?.stop())

eachLeavesAsFound(
  () => host,
  async () => {
    await endServe(host, 'box')
    removeAll(host)
    host.tsnet('sandbox', 'rm', 'box')
    host.tsnet('network', 'rm', 'lab')
  },
)
beforeEach(async () => {
  host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24')
  host.tsnet('sandbox', 'create', 'box')
  host.tsnet('connect', 'lab', 'box', '-p', '8080:80')
  await startServe(host, 'box', ['80/tcp'], host.sandbox('box'))
})

const talkBothWays = (container: string): void => {
  expect(ask(host.container('shop'), 'tcp', '10.30.0.2', 80)).toEqual({ name: 'box', peer: container })
  expect(ask(host.sandbox('box'), 'tcp', container, 80)).toEqual({ name: 'shop', peer: '10.30.0.2' })
}

test("with Docker's IPAM, a container of another subnet and a sandbox talk, each seeing the other's own address", async () => {
  host.docker('network', 'create', '-d', 'tsnet', '-o', 'network=lab', 'lab')
  await runContainer(host, 'shop', 'lab', '-p', '8081:80')
  const { IPAddress } = attachmentOf(host, 'shop', 'lab')
  expect(IPAddress).not.toMatch(/^10\.30\.0\./)
  talkBothWays(IPAddress)
  expect(ask(host.outside, 'tcp', addresses.host4, 8080)).toEqual({ name: 'box', peer: addresses.outside4 })
  expect(ask(host.outside, 'tcp', addresses.host4, 8081)).toEqual({ name: 'shop', peer: addresses.outside4 })
  expect(pings(host.container('shop'), addresses.beyond4)).toBe(true)
})

test("with --ipam-driver tsnet --ipam-opt network=lab the container has one of lab's addresses", async () => {
  const ipam = ['--subnet', '10.30.0.0/24', '--ipam-driver', 'tsnet', '--ipam-opt', 'network=lab']
  host.docker('network', 'create', '-d', 'tsnet', '-o', 'network=lab', ...ipam, 'lab')
  await runContainer(host, 'shop', 'lab', '-p', '8081:80')
  expect(attachmentOf(host, 'shop', 'lab')).toMatchObject({ IPAddress: '10.30.0.3', Gateway: '10.30.0.1' })
  talkBothWays('10.30.0.3')
  host.tsnet('sandbox', 'create', 'late')
  host.tsnet('connect', 'lab', 'late')
  expect(pings(host.sandbox('late'), '10.30.0.3')).toBe(true)
  expect(host.tsnetJson<{ sandbox: string }[]>('ps').map(({ sandbox }) => sandbox)).toHaveLength(3)
  host.tsnet('sandbox', 'rm', 'late')
})

test('both still talk after the daemon was killed and started, and after dockerd was', async () => {
  host.docker('network', 'create', '-d', 'tsnet', '-o', 'network=lab', 'lab')
  await runContainer(host, 'shop', 'lab')
  await host.killTsnet()
  talkBothWays(attachmentOf(host, 'shop', 'lab').IPAddress)
  await host.startTsnet()
  talkBothWays(attachmentOf(host, 'shop', 'lab').IPAddress)
  await host.stopDocker()
  expect(pings(host.sandbox('box'), '10.30.0.1')).toBe(true)
  await host.startDocker()
  host.docker('start', 'shop')
  await untilServed(host.container('shop'), 'shop', ['80/tcp'])
  talkBothWays(attachmentOf(host, 'shop', 'lab').IPAddress)
})

test('the network stays while Docker uses it, and stays when Docker has let go of it', async () => {
  host.docker('network', 'create', '-d', 'tsnet', '-o', 'network=lab', 'lab')
  await runContainer(host, 'shop', 'lab')
  expect(host.tryTsnet('network', 'rm', 'lab').status).toBe(5)
  removeContainers(host, 'shop')
  host.docker('network', 'rm', 'lab')
  expect(host.tsnet('network', 'ls')).toMatch(/\blab\b/)
  expect(pings(host.sandbox('box'), '10.30.0.1')).toBe(true)
})

test('a network that is not there cannot be joined', () => {
  expect(refusal(host, 'network', 'create', '-d', 'tsnet', '-o', 'network=nope', 'lab')).toMatch(/nope/)
})
