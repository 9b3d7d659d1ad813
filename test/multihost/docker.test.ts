import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { expectAgreement } from '../helpers/cluster-judge.js'
import {
  expectAllReach,
  expectAsBefore,
  expectNoReach,
  expectReach,
  removeAllSandboxes,
  snapshots,
} from '../helpers/cluster-tidy.js'
import { type ClusterHost, ClusterWorld, underlay } from '../helpers/cluster-world.js'
import { attachmentOf, refusal, removeAll, removeContainers, runContainer } from '../helpers/docker.js'
import { until } from '../helpers/machine.js'
import { expectRefused } from '../helpers/tidy-host.js'
import { ask, endServe, isClosed, startServe } from '../helpers/vantage.js'

// Three hosts with a dockerd each: what libnetwork's overlay was tried with until 2021 (test/integration/dnet/overlay*.bats and
// multi.bats), and what two doors to one network on many hosts make possible.

let world: ClusterWorld
let [h1, h2, h3]: ClusterHost[] = []
let bare: Map<string, string>

beforeAll(async () => {
  world = await ClusterWorld.start({ docker: true })
  ;[h1, h2, h3] = world.hosts
})
afterAll(() => world?.stop())

beforeEach(() => {
  bare = snapshots(world)
})
afterEach(async () => {
  for (const host of world.hosts) removeAll(host)
  removeAllSandboxes(world)
  await expectAsBefore(world, bare)
})

const subnet = '10.50.0.0/16'
const gateway = '10.50.0.1'

/** The network once, and Docker's part of it on each host. */
function multihost(...options: string[]): void {
  h1!.tsnet('network', 'create', 'multihost', '--driver', 'overlay', '--subnet', subnet, ...options)
  for (const host of world.hosts) bind(host, 'multihost', subnet)
}

const bind = (host: ClusterHost, network: string, cidr: string, ...flags: string[]): string =>
  host.docker(
    ...['network', 'create', '-d', 'tsnet', '--ipam-driver', 'tsnet', '--subnet', cidr],
    ...['-o', `network=${network}`, '--ipam-opt', `network=${network}`, ...flags, network],
  )

const addressOf = (host: ClusterHost, container: string, network = 'multihost'): string =>
  attachmentOf(host, container, network).IPAddress

/** `container_1` on h1 and so on: where they are, and what they are known by. */
async function runOnEach(network: string, ...flags: string[]) {
  const places = []
  for (const host of world.hosts) {
    const name = `container_${host.n}`
    await runContainer(host, name, network, '--dns', gateway, ...flags)
    places.push({ host, name, at: host.container(name), known: [addressOf(host, name, network), name] })
  }
  return places
}

describe('the scenarios of libnetwork', () => {
  test('overlay: containers reach each other and the world, on other networks too, leave and come back', async () => {
    multihost()
    const places = await runOnEach('multihost')
    await expectAllReach(places)
    for (const { at } of places) await expectReach(at, underlay.beyond4)

    const [one] = places
    for (const name of ['br1', 'br2']) h1!.docker('network', 'create', '-d', 'tsnet', name)
    for (const name of ['br1', 'br2']) h1!.docker('network', 'connect', name, 'container_1')
    await expectReach(one!.at, underlay.beyond4, 'container_2')
    for (const name of ['br1', 'br2']) h1!.docker('network', 'disconnect', name, 'container_1')
    await expectReach(one!.at, underlay.beyond4, 'container_3')

    h1!.docker('network', 'disconnect', 'multihost', 'container_1')
    expectNoReach(places[1]!.at, one!.known[0]!)
    h1!.docker('network', 'connect', 'multihost', 'container_1')
    one!.known = [addressOf(h1!, 'container_1'), 'container_1']
    await expectAllReach(places)
    await expectReach(one!.at, underlay.beyond4)
    await expectAgreement(world)

    for (const { host, name } of places) removeContainers(host, name)
    for (const host of world.hosts) host.docker('network', 'rm', 'multihost')
    h2!.tsnet('network', 'rm', 'multihost')
    for (const host of world.hosts) expect(host.tsnet('network', 'ls')).not.toContain('multihost')
  })

  test('single host: three containers of one host reach each other by name', async () => {
    multihost()
    const places = []
    for (const name of ['container_1', 'container_2', 'container_3']) {
      await runContainer(h1!, name, 'multihost', '--dns', gateway)
      places.push({ at: h1!.container(name), known: [name] })
    }
    await expectAllReach(places)
  })

  test('internal: containers reach each other, have no default route, and reach nobody else', async () => {
    multihost('--internal')
    const places = await runOnEach('multihost')
    await expectAllReach(places)
    for (const { at } of places) {
      expect(at.tryRun('ip', 'route').stdout).not.toContain('default')
      expectNoReach(at, underlay.beyond4)
    }
  })

  test('restart: of tsnet on every host while containers go on, then of dockerd on every host', async () => {
    multihost()
    const places = await runOnEach('multihost', '--restart', 'always')
    for (const host of world.hosts) {
      await host.stopTsnet()
      await expectReach(places[0]!.at, places[1]!.known[0]!, places[2]!.known[0]!)
      await host.startTsnet()
      await expectAllReach(places)
    }
    for (const host of world.hosts) expect(host.tsnet('reconcile', '--dry-run')).toBe('')
    for (const host of world.hosts) {
      await host.stopDocker()
      await host.startDocker()
    }
    for (const place of places) {
      await until(`${place.name} to run`, () => place.at.tryRun('true').status === 0, 30_000)
      place.known = [addressOf(place.host, place.name), place.name]
    }
    await expectAllReach(places)
    await expectAgreement(world)
  })

  test('ungraceful kill: another host removes what a dead one had by force, and gets the same address', async () => {
    multihost()
    const places = await runOnEach('multihost')
    const { known } = places[0]!
    await world.destroy(h1!)
    const force = ['disconnect', '--force', 'multihost', 'container_1']
    expectRefused(h2!, 5, 'h1', ...force)
    await until('h1 to be down', () => h2!.tryTsnet(...force).status === 0, 30_000)
    await runContainer(h2!, 'heir', 'multihost', '--ip', known[0]!, '--dns', gateway)
    await expectReach(places[2]!.at, known[0]!, 'heir')
    await expectAgreement(world)

    h2!.tsnet('host', 'rm', 'h1')
    h1 = await world.bring(1)
    bare.set('h1', h1.snapshot())
    bind(h1, 'multihost', subnet)
    await runContainer(h1, 'container_1', 'multihost', '--dns', gateway)
    await expectReach(h1.container('container_1'), known[0]!, 'heir', 'container_3')
    await expectReach(places[2]!.at, 'container_1')
    await expectAgreement(world)
  })

  test('two overlays: containers of one reach each other and none of the other, by address or by name', async () => {
    const overlays = [
      { name: 'multihost1', cidr: '10.51.0.0/16', dns: '10.51.0.1' },
      { name: 'multihost2', cidr: '10.52.0.0/16', dns: '10.52.0.1' },
    ]
    const places = []
    for (const { name, cidr, dns } of overlays) {
      h1!.tsnet('network', 'create', name, '--driver', 'overlay', '--subnet', cidr)
      for (const host of [h1!, h2!]) {
        bind(host, name, cidr)
        const container = `${name}_${host.n}`
        await runContainer(host, container, name, '--dns', dns)
        const known = [addressOf(host, container, name), container]
        places.push({ name, at: host.container(container), known })
      }
    }
    for (const from of places)
      for (const to of places)
        if (from.name !== to.name) expectNoReach(from.at, ...to.known)
        else if (from !== to) await expectReach(from.at, ...to.known)
  })

  test('multi: an attachment is one for the whole cluster, and a network stays while any host uses it', async () => {
    multihost()
    await runContainer(h1!, 'svc', 'multihost', '--ip', '10.50.0.9')
    const claim = ['create', '--name', 'thief', '--network', 'multihost', '--ip', '10.50.0.9', 'busybox']
    for (const host of [h2!, h3!]) {
      host.docker(...claim)
      expect(refusal(host, 'start', 'thief')).toMatch(/10\.50\.0\.9.*h1/)
      removeContainers(host, 'thief')
    }
    for (const host of world.hosts) expectRefused(host, 5, 'multihost', 'network', 'rm', 'multihost')
    expect(refusal(h1!, 'network', 'rm', 'multihost')).toContain('has active endpoints')
    for (const host of [h2!, h3!]) host.docker('network', 'rm', 'multihost')
    for (const host of world.hosts) expectRefused(host, 5, 'svc', 'network', 'rm', 'multihost')
    removeContainers(h1!, 'svc')
    bind(h2!, 'multihost', subnet)
    await runContainer(h2!, 'svc', 'multihost', '--ip', '10.50.0.9')
    await expectAgreement(world)
  })
})

describe('both doors on many hosts', () => {
  test('containers and sandboxes of different hosts reach each other by name, and publish', async () => {
    multihost()
    await runContainer(h1!, 'shop', 'multihost', '--dns', gateway, '-p', '8081:80')
    h2!.attach('multihost', 'box', '-p', '8080:80')
    h3!.attach('multihost', 'far')
    await startServe(h2!, 'box', ['80/tcp'], h2!.sandbox('box'))
    await until('the name shop', () => ask(h3!.sandbox('far'), 'tcp', 'shop', 80)?.name === 'shop')
    await until('the name box', () => ask(h1!.container('shop'), 'tcp', 'box', 80)?.name === 'box')
    expect(ask(world.outside, 'tcp', h1!.ip4, 8081)).toEqual({ name: 'shop', peer: underlay.outside4 })
    expect(ask(world.outside, 'tcp', h2!.ip4, 8080)).toEqual({ name: 'box', peer: underlay.outside4 })
    expect(ask(h3!.sandbox('far'), 'tcp', h1!.ip4, 8081)?.name).toBe('shop')
    expect(isClosed(world.outside, 'tcp', h3!.ip4, 8081)).toBe(true)
    await endServe(h2!, 'box')
    await expectAgreement(world)
  })

  test('tsnet docker attach makes the Docker network on a host, and says so when it is there', async () => {
    h1!.tsnet('network', 'create', 'blue', '--driver', 'overlay', '--subnet', '10.53.0.0/24')
    for (const host of world.hosts) {
      await until(`blue on ${host.name}`, () => host.tsnet('network', 'ls').includes('blue'))
      host.tsnet('docker', 'attach', 'blue')
    }
    await runContainer(h1!, 'one', 'blue', '--dns', '10.53.0.1')
    await runContainer(h3!, 'three', 'blue', '--dns', '10.53.0.1')
    await expectReach(h1!.container('one'), 'three', addressOf(h3!, 'three', 'blue'))
    expect(addressOf(h3!, 'three', 'blue')).toMatch(/^10\.53\.0\./)
    expectRefused(h1!, 5, 'blue', 'docker', 'attach', 'blue')
    expectRefused(h1!, 4, 'nope', 'docker', 'attach', 'nope')
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
    await expectAllReach(
      world.hosts.map(host => ({ at: host.container(`green_${host.n}`), known: [`green_${host.n}`] })),
    )
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
    h2!.docker('create', '--name', 'thief', '--network', 'green', '--ip', addresses[0]!, 'busybox')
    expect(refusal(h2!, 'start', 'thief')).toContain(addresses[0])
    await expectAgreement(world)
  })

  test('a container that dies is forgotten by all hosts, and one that dockerd starts again is found', async () => {
    multihost()
    const places = await runOnEach('multihost')
    const [one, two] = places
    h2!.docker('kill', 'container_2')
    expectNoReach(one!.at, two!.known[0]!)
    await expectAgreement(world)
    h2!.docker('start', 'container_2')
    await expectReach(one!.at, addressOf(h2!, 'container_2'), 'container_2')
    await h3!.end('dockerd', 'KILL')
    await h3!.startDocker()
    h3!.docker('start', 'container_3')
    await expectReach(one!.at, addressOf(h3!, 'container_3'), 'container_3')
    await expectAgreement(world)
  })
})
