import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { addressOf, bind, gateway, multihost, runOnEach, subnet } from '../helpers/cluster-docker.js'
import { expectAgreement } from '../helpers/cluster-judge.js'
import { eachLeavesAllAsFound, expectAllReach, expectNoReach, expectReach } from '../helpers/cluster-tidy.js'
import { type ClusterHost, ClusterWorld, underlay } from '../helpers/cluster-world.js'
import { createContainer, refusal, removeAll, removeContainers, runContainer } from '../helpers/docker.js'
import { until } from '../helpers/machine.js'
import { expectRefused } from '../helpers/tidy-host.js'
import { pings } from '../helpers/vantage.js'

// Three hosts with a dockerd each: what libnetwork's overlay was tried with until 2021 (test/integration/dnet/overlay*.bats and
// multi.bats).

let world: ClusterWorld
let [h1, h2, h3]: ClusterHost[] = []

beforeAll(async () => {
  world = await ClusterWorld.start({ docker: true })
  ;[h1, h2, h3] = world.hosts
})
afterAll(() => world?.stop())

const found = eachLeavesAllAsFound(
  () => world,
  () => {
    world.mend()
    for (const host of world.hosts) removeAll(host)
  },
)

describe('the scenarios of libnetwork', () => {
  test('overlay: containers reach each other and the world, on other networks too, leave and come back', async () => {
    multihost(world)
    const places = await runOnEach(world)
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
    multihost(world)
    const places = []
    for (const name of ['container_1', 'container_2', 'container_3']) {
      await runContainer(h1!, name, 'multihost', '--dns', gateway)
      places.push({ at: h1!.container(name), known: [name] })
    }
    await expectAllReach(places)
  })

  test('internal: containers reach each other, have no default route, and reach nobody else', async () => {
    multihost(world, '--internal')
    const places = await runOnEach(world)
    await expectAllReach(places)
    for (const { at } of places) {
      expect(at.tryRun('ip', 'route').stdout).not.toContain('default')
      expectNoReach(at, underlay.beyond4)
    }
  })

  test('restart: of tsnet on every host while containers go on, then of dockerd on every host', async () => {
    multihost(world)
    const places = await runOnEach(world, '--restart', 'always')
    for (const host of world.hosts) await host.stopTsnet()
    for (const { at } of places) for (const { known } of places) expect(pings(at, known[0]!)).toBe(true)
    for (const host of world.hosts) await host.startTsnet()
    await expectAllReach(places)
    for (const host of world.hosts) expect(host.tsnet('reconcile', '--dry-run')).toBe('')
    for (const signal of ['TERM', 'KILL'] as const) {
      await Promise.all(world.hosts.map(host => host.end('dockerd', signal, 60_000)))
      await Promise.all(world.hosts.map(host => host.startDocker()))
      for (const place of places) {
        await until(`${place.name} to run`, () => place.at.tryRun('true').status === 0, 30_000)
        place.known = [addressOf(place.host, place.name), place.name]
      }
      await expectAllReach(places)
      await expectAgreement(world)
    }
  })

  test('ungraceful kill: another host removes what a dead one had by force, and gets the same address', async () => {
    multihost(world)
    const places = await runOnEach(world)
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
    found.set('h1', h1.snapshot())
    bind(h1, 'multihost', subnet)
    await runContainer(h1, 'container_1', 'multihost', '--dns', gateway)
    await expectReach(h1.container('container_1'), known[0]!, 'heir', 'container_3')
    await expectReach(places[2]!.at, 'container_1')
    await expectAgreement(world)
  })

  test('a killed host that comes back gives up the addresses that others got meanwhile, and says so', async () => {
    multihost(world)
    await runContainer(h1!, 'svc', 'multihost', '--dns', gateway)
    const [box] = h1!.attach('multihost', 'box')
    const svc = addressOf(h1!, 'svc')
    await h1!.killTsnet()
    await h1!.end('dockerd', 'KILL')
    world.cut(h1!)
    const force = ['disconnect', '--force', 'multihost']
    await until('h1 to be down', () => h2!.tryTsnet(...force, 'svc').status === 0, 30_000)
    h3!.tsnet(...force, 'h1/box')
    await runContainer(h2!, 'heir', 'multihost', '--ip', svc, '--dns', gateway)
    h3!.attach('multihost', 'heiress', '--ip', box!)
    await expectReach(h2!.container('heir'), box!, 'heiress')

    world.mend()
    await h1!.startTsnet()
    await expectAgreement(world)
    const said = h1!.tsnet('events', '--since', '1h', '--until', '0s')
    for (const [name, address, by] of [
      ['svc', svc, 'heir on host h2'],
      ['box', box!, 'heiress on host h3'],
    ]) {
      const words = `endpoint ${name} left network multihost: its address ${address} was given to endpoint ${by} while this host was away`
      expect(said).toContain(words)
      expect(h1!.logOf('tsnet')).toContain(words)
    }
    await expectReach(h2!.container('heir'), box!)
    expectNoReach(h1!.sandbox('box'), svc)
    await h1!.startDocker()
    h1!.docker('start', 'svc')
    expect(addressOf(h1!, 'svc')).not.toBe(svc)
    await expectReach(h1!.container('svc'), svc, 'heir', 'heiress')
    await expectReach(h2!.container('heir'), addressOf(h1!, 'svc'), 'svc')
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
        if (from.name !== to.name) expectNoReach(from.at, to.known[0]!)
        else if (from !== to) await expectReach(from.at, ...to.known)
    // a name that nobody has takes its time
    const [inFirst, , inSecond] = places
    expectNoReach(inFirst!.at, inSecond!.known[1]!)
    expectNoReach(inSecond!.at, inFirst!.known[1]!)
  })

  test('multi: an attachment is one for the whole cluster, and a network stays while any host uses it', async () => {
    multihost(world)
    await runContainer(h1!, 'svc', 'multihost', '--ip', '10.50.0.9')
    for (const host of [h2!, h3!]) {
      createContainer(host, 'thief', 'multihost', '--ip', '10.50.0.9')
      expect(refusal(host, 'start', 'thief')).toContain('address 10.50.0.9 is already used by endpoint svc on host h1')
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
