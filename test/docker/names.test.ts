import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { attachmentOf, removeAll, removeContainers, runContainer } from '../helpers/docker.js'
import { explained } from '../helpers/faults.js'
import { Host } from '../helpers/host.js'
import { until } from '../helpers/machine.js'
import { eachLeavesAsFound } from '../helpers/tidy-host.js'
import type { Vantage } from '../helpers/vantage.js'

// Names of containers, as dockerd tells them, and of sandboxes, as containers can ask for them.

let host: Host

beforeAll(async () => {
  host = await Host.startWithDocker()
})
afterAll(() => host?.stop())

eachLeavesAsFound(
  () => host,
  () => {
    removeAll(host)
    host.tsnet('sandbox', 'rm', 'box')
    host.tsnet('network', 'rm', 'lab')
  },
)
beforeEach(() => {
  host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24')
  host.tsnet('sandbox', 'create', 'box')
  host.tsnet('connect', 'lab', 'box', '--alias', 'crate')
  const ipam = ['--subnet', '10.30.0.0/24', '--ipam-driver', 'tsnet', '--ipam-opt', 'network=lab']
  host.docker('network', 'create', '-d', 'tsnet', '-o', 'network=lab', ...ipam, 'lab')
})

const ask = (from: string, name: string): string[] =>
  host
    .run('ip', 'netns', 'exec', from, 'dig', '+short', '+tries=1', '@127.0.0.11', name)
    .split('\n')
    .filter(Boolean)
    .sort()

/** As programs in a container ask: the servers of its /etc/resolv.conf, which are Docker's. */
const found = (from: Vantage, name: string): string => from.tryRun('busybox', 'nslookup', '-type=a', name).stdout

interface Row {
  id: string
  name: string
  aliases: string[]
  network: string
}
const ps = (): Row[] => host.tsnetJson<Row[]>('ps')
const known = (name: string): Promise<unknown> =>
  until(`tsnet to know ${name}`, () => ps().some(row => row.name === name))

test('a container is known by its name and its aliases, and by its new name when it gets one', async () => {
  await runContainer(host, 'shop', 'lab', '--network-alias', 'store')
  await known('shop')
  const { IPAddress } = attachmentOf(host, 'shop', 'lab')
  for (const name of ['shop', 'store', 'SHOP.lab']) expect(ask('box', name)).toEqual([IPAddress])
  expect(ps().find(row => row.name === 'shop')?.aliases).toContain('store')
  host.docker('rename', 'shop', 'market')
  await known('market')
  expect(ask('box', 'market')).toEqual([IPAddress])
  expect(ask('box', 'shop')).toEqual([])
})

test('explain finds containers by every name that they have, and nobody by another', async () => {
  for (const name of ['shop', 'store']) await runContainer(host, name, 'lab', '--network-alias', `${name}-2`)
  for (const name of ['shop', 'store']) await known(name)
  const id = ps()
    .find(row => row.name === 'store')!
    .id.slice(0, 12)
  const { IPAddress } = attachmentOf(host, 'store', 'lab')
  for (const to of ['store', 'store-2', 'store.lab', id, IPAddress]) {
    const got = explained(host, 'shop', `${to}:80`)
    expect([to, got.works, got.hops[0]?.words]).toEqual([to, true, expect.stringContaining(`; store is ${IPAddress} `)])
  }
  expect(explained(host, 'box', 'store:53/udp').works).toBe(true)
  expect(explained(host, 'shop', 'stroe').cause?.words).toMatch(/is called stroe$/)
})

test('names survive a restart of the daemon, and those given meanwhile are learned then', async () => {
  await runContainer(host, 'shop', 'lab')
  await known('shop')
  await host.killTsnet()
  host.docker('rename', 'shop', 'market')
  await host.startTsnet()
  await known('market')
  expect(host.tsnetJson<{ changes: string[] }>('reconcile', '--dry-run').changes).toEqual([])
  expect(ask('box', 'market')).toEqual([attachmentOf(host, 'market', 'lab').IPAddress])
})

test('names are learned again when dockerd is back', async () => {
  await host.stopDocker()
  await host.startDocker()
  await runContainer(host, 'late', 'lab')
  await known('late')
  expect(ask('box', 'late')).toEqual([attachmentOf(host, 'late', 'lab').IPAddress])
})

test('a name that a sandbox has stays its own, and finds both', async () => {
  await runContainer(host, 'box', 'lab')
  const { IPAddress } = attachmentOf(host, 'box', 'lab')
  await until('the name to be known', () => ask('box', 'box').length === 2)
  expect(ask('box', 'box')).toEqual(['10.30.0.2', IPAddress].sort())
  expect(ps().map(row => row.name)).toContainEqual(expect.stringMatching(/^docker-[0-9a-f]{12}$/))
})

test("a container finds other containers by Docker's resolver, and sandboxes with --dns at the gateway", async () => {
  await runContainer(host, 'plain', 'lab')
  await runContainer(host, 'shop', 'lab', '--dns', '10.30.0.1')
  await known('shop')
  expect(found(host.container('plain'), 'shop')).toContain(attachmentOf(host, 'shop', 'lab').IPAddress)
  expect(found(host.container('plain'), 'box')).not.toContain('10.30.0.2')
  expect(found(host.container('shop'), 'plain')).toContain(attachmentOf(host, 'plain', 'lab').IPAddress)
  for (const name of ['box', 'crate', 'box.lab']) expect(found(host.container('shop'), name)).toContain('10.30.0.2')
  expect(host.run('dig', '+short', '@10.30.0.1', 'shop')).toContain(attachmentOf(host, 'shop', 'lab').IPAddress)
})

test("a network of Docker's own making has its name, where that is free", async () => {
  host.docker('network', 'create', '-d', 'tsnet', '--subnet', '10.31.0.0/24', 'front')
  await until('the name of the network', () => host.tsnet('network', 'ls').includes('front'))
  await runContainer(host, 'shop', 'front')
  await known('shop')
  expect(ps().find(row => row.name === 'shop')?.network).toBe('front')
  const [link] = host
    .json('ip', '-j', '-d', 'link', 'show', 'type', 'bridge')
    .filter(each => each.ifalias === 'tsnet:front')
  expect(link).toBeDefined()
  const aliases = host.json('ip', '-j', '-d', 'link').map(each => each.ifalias)
  expect(aliases).toContain('tsnet:front:shop')
  expect(host.tsnetJson<{ changes: string[] }>('reconcile', '--dry-run').changes).toEqual([])
  await host.killTsnet()
  await host.startTsnet()
  expect(host.tsnet('network', 'ls')).toContain('front')
  expect(host.tsnetJson<{ changes: string[] }>('reconcile', '--dry-run').changes).toEqual([])
  removeContainers(host, 'shop')
  host.docker('network', 'rm', 'front')
  expect(host.tsnet('network', 'ls')).not.toContain('front')
})

test('a name that is taken leaves the network the one that stands for its id', async () => {
  host.tsnet('network', 'create', 'front', '--subnet', '10.32.0.0/24')
  const id = host.docker('network', 'create', '-d', 'tsnet', '--subnet', '10.31.0.0/24', 'front')
  await runContainer(host, 'shop', 'front')
  await known('shop')
  expect(host.tsnetJson<{ name: string }[]>('network', 'ls').map(network => network.name)).toContain(
    `docker-${id.slice(0, 12)}`,
  )
  removeContainers(host, 'shop')
  host.docker('network', 'rm', 'front')
  host.tsnet('network', 'rm', 'front')
})

test("in a container's namespace, Docker's resolver keeps its address", async () => {
  await runContainer(host, 'shop', 'lab')
  await known('shop')
  const key = host.docker('inspect', '-f', '{{.NetworkSettings.SandboxKey}}', 'shop')
  host.tsnet('sandbox', 'create', 'guest', '--netns', key)
  expect(host.logOf('tsnet')).toMatch(/another resolver answers there/)
  expect(found(host.container('shop'), 'shop')).toContain(attachmentOf(host, 'shop', 'lab').IPAddress)
  host.tsnet('sandbox', 'rm', 'guest')
})
