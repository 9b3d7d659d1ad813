import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { attachmentOf, refusal, removeAll, removeContainers, runContainer } from '../helpers/docker.js'
import { addresses, Host } from '../helpers/host.js'
import { until } from '../helpers/machine.js'
import { eachLeavesAsFound } from '../helpers/tidy-host.js'
import { ask, isClosed, pings } from '../helpers/vantage.js'

// The daemon and dockerd die and come back; containers go on talking.

let host: Host

beforeAll(async () => {
  host = await Host.startWithDocker()
})
afterAll(() => host?.stop())

eachLeavesAsFound(
  () => host,
  () => removeAll(host),
)

const { host4, outside4 } = addresses
const talk = (): unknown => ask(host.container('one'), 'tcp', 'two', 80)?.name

const oursToo: [whose: string, flags: string[]][] = [["tsnet's IPAM", ['--ipam-driver', 'tsnet']]]
// another dockerd asks us the same with its own IPAM, less what it asks that
const ipams: typeof oursToo = process.env.TSNET_TEST_DEBIAN ? oursToo : [["Docker's IPAM", []], ...oursToo]
describe.each(ipams)('with %s', (_whose, ipam) => {
  async function twoContainers(...flags: string[]): Promise<void> {
    host.docker('network', 'create', '-d', 'tsnet', ...ipam, '--subnet', '10.20.0.0/24', 'web')
    await runContainer(host, 'one', 'web', ...flags)
    await runContainer(host, 'two', 'web', '-p', '8080:80', ...flags)
  }

  test('while the daemon is dead by kill -9, containers talk and published ports answer', async () => {
    await twoContainers()
    await host.killTsnet()
    expect(talk()).toBe('two')
    expect(ask(host.outside, 'tcp', host4, 8080)).toEqual({ name: 'two', peer: outside4 })
    await host.startTsnet()
    expect(talk()).toBe('two')
    expect(ask(host.outside, 'tcp', host4, 8080)).toEqual({ name: 'two', peer: outside4 })
    expect(host.tsnet('reconcile', '--dry-run')).toBe('')
  })

  test('after kill -9 and a new start, new containers start and old ones stop cleanly', async () => {
    await twoContainers()
    await host.killTsnet()
    await host.startTsnet()
    await runContainer(host, 'three', 'web')
    expect(ask(host.container('three'), 'tcp', 'one', 80)?.name).toBe('one')
    expect(new Set(['one', 'two', 'three'].map(name => attachmentOf(host, name, 'web').IPAddress)).size).toBe(3)
    host.docker('stop', 'one', 'two')
    expect(isClosed(host.outside, 'tcp', host4, 8080)).toBe(true)
    expect(host.tsnetJson('ps')).toHaveLength(1)
    host.docker('start', 'one', 'two')
    await until('the containers to talk again', talk)
  })

  test('containers that stopped while the daemon was dead leave nothing once it is back', async () => {
    await twoContainers()
    await host.killTsnet()
    // dockerd asks a dead plugin for about 15 seconds, then goes on without it
    const stopped = host.start('/usr/bin/docker', 'kill', 'one')
    await host.startTsnet()
    expect((await stopped).status).toBe(0)
    await until('the endpoint to go', () => host.tsnetJson('ps').length === 1, 30_000)
    expect(ask(host.outside, 'tcp', host4, 8080)?.name).toBe('two')
  })

  test('networks work after a restart of dockerd, and containers that restart always are back', async () => {
    await twoContainers('--restart', 'always')
    await host.stopDocker()
    expect(host.tsnetJson('ps')).toEqual([])
    await host.startDocker()
    await until('the containers to talk', talk, 30_000)
    expect(ask(host.outside, 'tcp', host4, 8080)).toEqual({ name: 'two', peer: outside4 })
    await runContainer(host, 'three', 'web')
    expect(ask(host.container('three'), 'tcp', 'one', 80)?.name).toBe('one')
  })

  test('networks work after dockerd has been killed, and no endpoint of its containers is left', async () => {
    await twoContainers()
    const { IPAddress } = attachmentOf(host, 'one', 'web')
    await host.end('dockerd', 'KILL')
    await host.startDocker()
    removeContainers(host, 'one', 'two')
    await runContainer(host, 'three', 'web', '--ip', IPAddress, '-p', '8080:80')
    expect(ask(host.outside, 'tcp', host4, 8080)?.name).toBe('three')
    await until('the endpoints of the dead to go', () => host.tsnetJson('ps').length === 1, 30_000)
  })

  test('both restarted, dockerd first: everything works', async () => {
    await twoContainers('--restart', 'always')
    await host.stopDocker()
    await host.stopTsnet()
    await host.startTsnet()
    await host.startDocker()
    await until('the containers to talk', talk, 30_000)
    expect(pings(host.container('one'), 'two')).toBe(true)
  })
})

const ours = ['--ipam-driver', 'tsnet', '--subnet', '10.20.0.0/24', 'web']
const networkOfOurs = (): string => host.docker('network', 'create', '-d', 'tsnet', ...ours)
const published = (): string | undefined => ask(host.outside, 'tcp', host4, 8080)?.name

test('dockerd that starts before the daemon waits for it, and its containers are back', async () => {
  networkOfOurs()
  await runContainer(host, 'one', 'web', '-p', '8080:80', '--restart', 'always')
  await host.stopDocker()
  await host.stopTsnet()
  const log = host.logOf('dockerd').length
  const starting = host.startDocker()
  await until('dockerd to look for the daemon', () => host.logOf('dockerd').slice(log).includes('locate plugin'))
  await host.startTsnet()
  await starting
  await until('the container to be back', () => published() === 'one')
  expect(host.tsnetJson('ps')).toHaveLength(1)
})

test('with live-restore both may be killed: who lives goes on and stops cleanly, who died meanwhile leaves nothing', async () => {
  await host.stopDocker()
  await host.startDocker('--live-restore')
  networkOfOurs()
  await runContainer(host, 'one', 'web', '-p', '8080:80')
  await runContainer(host, 'two', 'web', '-p', '8081:80')
  const pid = host.docker('inspect', '-f', '{{.State.Pid}}', 'two')
  await host.end('dockerd', 'KILL')
  await host.killTsnet()
  host.run('kill', '-KILL', pid)
  await until('the container to be gone', () => host.tryRun('test', '-e', `/proc/${pid}`).status !== 0)
  expect(published()).toBe('one')
  await host.startTsnet()
  await host.startDocker('--live-restore')
  // dockerd keeps the namespace of a container, with its link, until it is back itself
  await until('the endpoint of the dead to go', () => host.tsnetJson('ps').length === 1)
  expect(published()).toBe('one')
  // dockerd sends no RevokeExternalConnectivity for what it did not start itself
  host.docker('stop', '-t', '0', 'one')
  expect(isClosed(host.outside, 'tcp', host4, 8080)).toBe(true)
  expect(host.tsnetJson('ps')).toEqual([])
  host.docker('start', 'one', 'two')
  await until('the containers to serve again', () => published() === 'one' && talk() === 'two')
})

test('with the daemon down, a container on its network is refused with an error, and others start', async () => {
  host.docker('network', 'create', '-d', 'tsnet', 'web')
  await host.killTsnet()
  expect(refusal(host, 'run', '--rm', '--network', 'web', 'busybox', 'true')).toMatch(/tsnet/)
  host.docker('run', '--rm', '--network', 'none', 'busybox', 'true')
  await host.startTsnet()
  await runContainer(host, 'one', 'web')
})
