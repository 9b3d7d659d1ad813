import { afterAll, beforeAll, expect, test } from 'vitest'
import { addressOf, gateway, multihost, runOnEach } from '../helpers/cluster-docker.js'
import { expectAgreement } from '../helpers/cluster-judge.js'
import { eachLeavesAllAsFound, expectAllReach, expectNoReach, expectReach } from '../helpers/cluster-tidy.js'
import { type ClusterHost, ClusterWorld, underlay } from '../helpers/cluster-world.js'
import { createContainer, refusal, removeAll, removeContainers, runContainer } from '../helpers/docker.js'
import { image } from '../helpers/image.js'
import { until } from '../helpers/machine.js'
import { expectRefused } from '../helpers/tidy-host.js'
import { ask, endServe, isClosed, pings, startServe } from '../helpers/vantage.js'

// Networks of many hosts with both doors on each: how Docker's part of one comes about, who gets which address, and who finds whom.

let world: ClusterWorld
let [h1, h2, h3]: ClusterHost[] = []

beforeAll(async () => {
  world = await ClusterWorld.start({ docker: true })
  ;[h1, h2, h3] = world.hosts
})
afterAll(() => world?.stop())

eachLeavesAllAsFound(
  () => world,
  () => {
    world.mend()
    for (const host of world.hosts) removeAll(host)
  },
)

const listed = (host: ClusterHost): string[] =>
  host.request<{ name: string }[]>('GET', '/networks').map(({ name }) => name)

test('containers and sandboxes of different hosts reach each other by name, and publish', async () => {
  multihost(world)
  await runContainer(h1!, 'shop', 'multihost', '--dns', gateway, '-p', '8081:80')
  h2!.attach('multihost', 'box', '-p', '8080:80')
  h3!.attach('multihost', 'far')
  await startServe(h2!, 'box', ['80/tcp'], h2!.sandbox('box'))
  await until('the name shop', () => ask(h3!.sandbox('far'), 'tcp', 'shop', 80)?.name === 'shop')
  await until('the name box', () => ask(h1!.container('shop'), 'tcp', 'box', 80)?.name === 'box')
  expect(ask(world.outside, 'tcp', h1!.ip4, 8081)).toEqual({ name: 'shop', peer: underlay.outside4 })
  expect(ask(world.outside, 'tcp', h2!.ip4, 8080)).toEqual({ name: 'box', peer: underlay.outside4 })
  for (const from of [h1!, h2!, h3!, h3!.sandbox('far')]) expect(ask(from, 'tcp', h1!.ip4, 8081)?.name).toBe('shop')
  expect(isClosed(world.outside, 'tcp', h3!.ip4, 8081)).toBe(true)
  await endServe(h2!, 'box')
  await expectAgreement(world)
})

test('tsnet docker attach makes the Docker network on a host, once, with the addresses of the network', async () => {
  h1!.tsnet('network', 'create', 'blue', '--driver', 'overlay', '--subnet', '10.53.0.0/24')
  for (const host of world.hosts) {
    await until(`blue on ${host.name}`, () => listed(host).includes('blue'))
    const id = host.tsnet('docker', 'attach', 'blue')
    expect(host.docker('network', 'ls', '-q', '--no-trunc', '--filter', 'driver=tsnet')).toBe(id)
    expect(host.tsnet('docker', 'attach', 'blue')).toBe(id)
  }
  await runContainer(h1!, 'one', 'blue', '--dns', '10.53.0.1')
  await runContainer(h3!, 'three', 'blue', '--dns', '10.53.0.1')
  const [box] = h2!.attach('blue', 'box')
  await expectReach(h1!.container('one'), 'three', addressOf(h3!, 'three', 'blue'), 'box', box!)
  await expectReach(h2!.sandbox('box'), 'one', 'three')
  expect(addressOf(h3!, 'three', 'blue')).toMatch(/^10\.53\.0\./)
  expectRefused(h1!, 4, 'nope', 'docker', 'attach', 'nope')
  await expectAgreement(world)
})

test('the same docker network create on every host makes one network, with our IPAM', async () => {
  for (const host of world.hosts)
    host.docker(
      ...['network', 'create', '-d', 'tsnet', '-o', 'driver=overlay', '-o', 'network=green'],
      ...['--ipam-driver', 'tsnet', '--subnet', '10.54.0.0/24', 'green'],
    )
  const ids = world.hosts.map(
    host => host.tsnetJson<{ name: string; id: string }[]>('network', 'ls').find(({ name }) => name === 'green')?.id,
  )
  expect(new Set(ids).size).toBe(1)
  const flags = ['--dns', '10.54.0.1']
  for (const host of world.hosts) await runContainer(host, `green_${host.n}`, 'green', ...flags)
  await expectAllReach(world.hosts.map(host => ({ at: host.container(`green_${host.n}`), known: [`green_${host.n}`] })))
  await expectAgreement(world)
})

test("with Docker's IPAM each host has a range of its own, and an address of another one's is refused", async () => {
  for (const host of world.hosts)
    host.docker(
      ...['network', 'create', '-d', 'tsnet', '-o', 'driver=overlay', '-o', 'network=green'],
      ...['--subnet', '10.55.0.0/16', '--ip-range', `10.55.${host.n}.0/24`, '--gateway', '10.55.0.1', 'green'],
    )
  for (const host of world.hosts) await runContainer(host, `green_${host.n}`, 'green', '--dns', '10.55.0.1')
  const addresses = world.hosts.map(host => addressOf(host, `green_${host.n}`, 'green'))
  expect(new Set(addresses).size).toBe(3)
  await expectReach(h1!.container('green_1'), addresses[1]!, addresses[2]!, 'green_2', 'green_3')
  createContainer(h2!, 'thief', 'green', '--ip', addresses[0]!)
  expect(refusal(h2!, 'start', 'thief')).toContain(`${addresses[0]} is already used by endpoint green_1 on host h1`)
  await expectAgreement(world)
})

test("with Docker's IPAM and no ranges the second host's container is refused, saying who has its address and what to do", async () => {
  for (const host of [h1!, h2!])
    host.docker(
      ...['network', 'create', '-d', 'tsnet', '-o', 'driver=overlay', '-o', 'network=green'],
      ...['--subnet', '10.57.0.0/24', '--gateway', '10.57.0.1', 'green'],
    )
  await runContainer(h1!, 'first', 'green')
  const address = addressOf(h1!, 'first', 'green')
  await until('h2 to know the name', () => h2!.tsnet('network', 'inspect', 'green').includes('"first"'))
  const said = refusal(h2!, 'run', '-d', '--network', 'green', image, 'serve', 'second', '80/tcp')
  expect(said).toContain(`address ${address} is already used by endpoint first on host h1`)
  expect(said).toMatch(
    /make the Docker network with --ipam-driver tsnet, or on each host with an --ip-range of its own/,
  )
})

test('a Docker network that says which overlay it is neither by its name nor rightly is refused with a sentence', () => {
  const overlay = ['network', 'create', '-d', 'tsnet', '-o', 'driver=overlay', '--ipam-driver', 'tsnet']
  const nameless = refusal(h1!, ...overlay, '--subnet', '10.56.0.0/24', 'green')
  expect(nameless).toMatch(/known to other hosts by its name, which Docker does not tell us: add -o network=NAME/)
  const green = [...overlay, '-o', 'network=green', '--subnet']
  h1!.docker(...green, '10.56.0.0/24', '-o', 'mtu=1400', 'green')
  expect(refusal(h2!, ...green, '10.56.0.0/24', '-o', 'mtu=1300', 'green')).toContain('has mtu=1400, not 1300')
  expect(refusal(h2!, ...green, '10.58.0.0/24', 'green')).toMatch(/10\.58\.0\.0\/24 is none of network green/)
  expect(refusal(h1!, 'network', 'create', '-d', 'tsnet', '-o', 'network=nope', 'nope')).toContain('nope')
})

test('a container is found by its name on all hosts once it has started, and by its new one after docker rename', async () => {
  multihost(world)
  h2!.attach('multihost', 'far')
  await runContainer(h3!, 'asker', 'multihost', '--dns', gateway)
  await runContainer(h1!, 'svc', 'multihost', '--network-alias', 'db')
  const askers = [h2!.sandbox('far'), h3!.container('asker')]
  // dockerd tells its name once it has started it
  for (const from of askers)
    for (const name of ['svc', 'db', 'svc.multihost']) await until(`${name} to be found`, () => pings(from, name, 1))
  h1!.docker('rename', 'svc', 'shop')
  for (const from of askers) {
    await until('shop to be found', () => pings(from, 'shop', 1))
    expect(pings(from, 'db')).toBe(true)
    expectNoReach(from, 'svc')
  }
  removeContainers(h1!, 'shop')
  for (const from of askers) await until('shop to be forgotten', () => !pings(from, 'shop', 1))
})

test('a container that dies is forgotten by all hosts, and one that dockerd starts again is found', async () => {
  multihost(world)
  const places = await runOnEach(world)
  const [one, two] = places
  h2!.docker('kill', 'container_2')
  expectNoReach(one!.at, two!.known[0]!)
  await expectAgreement(world)
  h2!.docker('start', 'container_2')
  await expectReach(one!.at, addressOf(h2!, 'container_2'), 'container_2')
  await h3!.end('dockerd', 'KILL')
  await h3!.startDocker()
  // dockerd has ended its container, and says nothing of it
  await until('the links on h3 to go', () => h3!.json('ip', '-j', 'link', 'show', 'type', 'vxlan').length === 0)
  await expectAgreement(world)
  h3!.docker('start', 'container_3')
  await expectReach(one!.at, addressOf(h3!, 'container_3'), 'container_3')
  await expectAgreement(world)
})
