import { afterAll, beforeAll, expect, test } from 'vitest'
import type { DoctorReport } from '../../src/cnm/diagnosis.js'
import { refusal, removeAll, removeContainers, runContainer } from '../helpers/docker.js'
import { addresses, Host, tsnetCommand } from '../helpers/host.js'
import { until } from '../helpers/machine.js'
import { type Fate, PluginProxy } from '../helpers/plugin-proxy.js'
import { eachLeavesAsFound } from '../helpers/tidy-host.js'
import { ask } from '../helpers/vantage.js'

// What dockerd asks when something goes wrong: calls twice, out of order, or not at all (moby libnetwork/endpoint.go,
// network.go, drivers/remote/driver.go). A real dockerd is given each of its reasons; everything works afterwards, and nothing is left.

/** dockerd tries again for 15 s when it is hung up on: `scripts/soak` waits for that. */
const patient = process.env.TSNET_CALLS === 'all'

let host: Host
let proxy: PluginProxy

beforeAll(async () => {
  host = await Host.start()
  proxy = new PluginProxy(host)
  await proxy.start()
  await host.startTsnet(...PluginProxy.options)
  await host.startDocker()
})
afterAll(() => host?.stop())

eachLeavesAsFound(
  () => host,
  () => {
    proxy.have()
    removeAll(host)
  },
)

const createNetwork = ['network', 'create', '-d', 'tsnet', '--ipam-driver', 'tsnet', '--subnet', '10.20.0.0/24', 'web']
const run = ['run', '--rm', '--name', 'one', '--network', 'web', 'busybox', 'true']
const answersOutside = (): string | undefined => ask(host.outside, 'tcp', addresses.host4, 8080)?.name
const endpoints = (): { name: string }[] => host.request('GET', '/endpoints')
const networks = (): string[] =>
  host
    .request<{ createdBy: string; name: string }[]>('GET', '/networks')
    .filter(({ createdBy }) => createdBy === 'docker')
    .map(({ name }) => name)

/** A container comes and publishes its port, and is the only one that has an endpoint. */
async function works(): Promise<void> {
  await runContainer(host, 'two', 'web', '-p', '8080:80')
  expect(answersOutside()).toBe('two')
  expect(endpoints()).toHaveLength(1)
  removeContainers(host, 'two')
  expect(endpoints()).toEqual([])
}

test('every call twice: the second changes nothing', async () => {
  // dockerd says again which address it wants, and never that it wants any
  proxy.have(['Request(Address|Pool).*"(Address|Pool)":""', 'honest'], ['', 'twice'])
  const dual = ['--ipv6', '--subnet', '10.20.0.0/24', '--subnet', 'fd00:20::/64', '--ipam-driver', 'tsnet']
  host.docker('network', 'create', '-d', 'tsnet', ...dual, 'web')
  host.docker('network', 'create', '-d', 'tsnet', '--subnet', '10.21.0.0/24', 'red')
  await runContainer(host, 'one', 'web', '-p', '8080:80')
  expect(answersOutside()).toBe('one')
  host.docker('network', 'connect', 'red', 'one')
  host.docker('network', 'disconnect', 'red', 'one')
  host.docker('restart', '-t', '0', 'one')
  await until('the container to serve again', () => answersOutside() === 'one')
  expect(endpoints()).toHaveLength(1)
})

const afterEndpoint: [Fate, string][] = [
  ['refused', 'RequestAddress 1, CreateEndpoint 1, ReleaseAddress 1'],
  ['denied', 'RequestAddress 1, CreateEndpoint 1, ReleaseAddress 1'],
  ['odd', 'RequestAddress 1, CreateEndpoint 1, DeleteEndpoint 1, ReleaseAddress 1'],
  // its further tries have no body
  ...(patient ? ([['lost', 'RequestAddress 1, CreateEndpoint 5, ReleaseAddress 1']] as [Fate, string][]) : []),
]
test('a CreateEndpoint that fails, or seems to: whatever dockerd takes back, no endpoint stays', async () => {
  host.docker(...createNetwork)
  for (const [fate, calls] of afterEndpoint) {
    proxy.have(['CreateEndpoint', fate])
    expect([fate, proxy.during(() => refusal(host, ...run))]).toEqual([fate, calls])
    expect([fate, endpoints()]).toEqual([fate, []])
  }
  proxy.have()
  await works()
})

test('a Join that fails, or seems to: Leave may come or not, and nothing stays', async () => {
  host.docker(...createNetwork)
  for (const fate of ['refused', 'denied'] as const) {
    proxy.have(['Join', fate])
    expect(proxy.during(() => refusal(host, ...run))).toMatch(
      /Join 1, (Leave \d, )?DeleteEndpoint 1, ReleaseAddress 1$/,
    )
    expect([fate, endpoints()]).toEqual([fate, []])
  }
  proxy.have()
  await works()
})

test('ports that cannot be published, or seem so: the container does not start, and its port is free', async () => {
  host.docker(...createNetwork)
  for (const fate of ['refused', 'denied'] as const) {
    proxy.have(['ProgramExternal', fate])
    const calls = proxy.during(() => refusal(host, 'run', '--rm', '-p', '8080:80', ...run.slice(2)))
    expect(calls).toMatch(/Program\w+ 1, (Revoke\w+ \d, )?Leave \d, DeleteEndpoint 1, ReleaseAddress 1$/)
    expect([fate, endpoints()]).toEqual([fate, []])
  }
  proxy.have()
  await works()
})

test('a CreateNetwork that fails, or seems to: the subnet is free for the next', async () => {
  for (const fate of patient ? (['refused', 'denied', 'lost'] as const) : (['refused', 'denied'] as const)) {
    proxy.have(['CreateNetwork', fate])
    // dockerd says nothing more of a network that it was told of, but gives back its subnet
    expect(proxy.during(() => refusal(host, ...createNetwork))).toMatch(
      /CreateNetwork \d, ReleaseAddress 1, ReleasePool 1$/,
    )
    proxy.have()
    host.docker(...createNetwork)
    expect(networks()).toHaveLength(1)
    await works()
    host.docker('network', 'rm', 'web')
    expect(networks()).toEqual([])
  }
})

test("with Docker's own IPAM nobody gives back what was never answered: doctor names it, and its remedy works", () => {
  proxy.have(['CreateNetwork', 'denied'])
  refusal(host, 'network', 'create', '-d', 'tsnet', '--subnet', '10.20.0.0/24', 'web')
  host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24')
  refusal(host, 'network', 'create', '-d', 'tsnet', '-o', 'network=lab', '--subnet', '10.31.0.0/24', 'red')
  proxy.have()
  const { stdout } = host.tryTsnet('--format', 'json', 'doctor')
  const lost = (JSON.parse(stdout) as DoctorReport).checks.filter(({ words }) => words.includes('does not know'))
  expect(lost.map(({ state, what }) => `${state} ${what.slice(0, 15)}`)).toEqual([
    'warn network docker-',
    'warn network lab',
  ])
  for (const { fix = '' } of lost) host.run('sh', '-ec', fix.replace(/^tsnet/, tsnetCommand))
  host.tsnet('network', 'rm', 'lab')
})

/** In which call dockerd dies, done or not; then what brings it about. */
const deaths: [method: string, Fate, ...command: string[]][] = [
  ['Leave', 'swallowed', 'rm', '-f', 'one'],
  ['Join', 'stuck', 'start', 'one'],
]
const moreDeaths: typeof deaths = [
  ['DeleteEndpoint', 'stuck', 'rm', '-f', 'one'],
  ['Join', 'swallowed', 'start', 'one'],
  ['CreateEndpoint', 'stuck', 'start', 'one'],
]
test.each(patient ? [...deaths, ...moreDeaths] : deaths)(
  'dockerd is killed in the middle of %s, which is %s',
  async (...death) => {
    const [, , command] = death
    host.docker(...createNetwork)
    await runContainer(host, 'one', 'web', '-p', '8080:80')
    if (command === 'start') host.docker('stop', '-t', '0', 'one')
    await killedIn(...death)
    host.tryDocker('rm', '-f', 'one')
    // at once where dockerd says so at its next start; what it does not know of ends after a minute
    await until('the endpoint to go', () => endpoints().length === 0, 90_000)
    await works()
  },
)

test('dockerd is killed between giving a subnet back and deleting its network: it deletes it at its next start', async () => {
  host.docker(...createNetwork)
  await killedIn('DeleteNetwork', 'swallowed', 'network', 'rm', 'web')
  host.docker(...createNetwork)
  expect(networks()).toHaveLength(1)
  await works()
})

/** dockerd dies while it waits for this call, and starts again. */
async function killedIn(method: string, fate: Fate, ...command: string[]): Promise<void> {
  proxy.have([method, fate])
  const from = proxy.calls.length
  const failing = host.start('/usr/bin/docker', ...command)
  await until(`dockerd to ask for ${method}`, () => proxy.calls.slice(from).some(call => call.endsWith(method)))
  await host.end('dockerd', 'KILL')
  expect((await failing).status).not.toBe(0)
  proxy.have()
  await host.startDocker()
}
