import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Network } from '../../src/cnm/types.js'
import { type Measured, measured, medianOf, percentile, report, reportCurve, timed } from '../helpers/bench.js'
import { bytePort, compareWays, serveWire, streamPort } from '../helpers/bench-wire.js'
import { removeAllSandboxes } from '../helpers/cluster-tidy.js'
import { etcdUsage } from '../helpers/cluster-usage.js'
import { type ClusterHost, ClusterWorld, underlay } from '../helpers/cluster-world.js'
import { type Machine, repo, until } from '../helpers/machine.js'
import { hostRecord, peerRecord, publish } from '../helpers/published.js'

// How soon other hosts know, how fast a host learns much at once, and what a stream gets of the wire.

let world: ClusterWorld
let [a, b]: ClusterHost[] = []

beforeAll(async () => {
  world = await ClusterWorld.start({ hosts: 3, options: ['--log-level', 'warn'] })
  ;[a, b] = world.hosts
})
afterAll(() => world?.stop())

const say = (what: string, value: number | Measured, unit: string, target = {}): void =>
  report('overlay', what, value, unit, target)

const clock = (host: ClusterHost, sandbox: string, role: string): ChildProcess => {
  const command = [process.execPath, join(repo, 'test/helpers/reply-clock.mjs'), role, '7']
  const enter = ['-t', String(host.pid), '--mount', '--net', '--', ...host.sandbox(sandbox).argv]
  return spawn('nsenter', [...enter, ...command], { stdio: ['pipe', 'pipe', 'inherit'] })
}

async function ask(host: ClusterHost, path: string, body: object): Promise<void> {
  expect((await host.api('POST', `/${path}`, body)).status).toBeLessThan(300)
}

// The kernel asks for a MAC address once a second: a question that came too early, and is not answered by an announcement, costs
// that second.
test('convergence: from the answer of connect on one host to the first reply on another, 200 times', async () => {
  a!.tsnet('network', 'create', 'blue', '--driver', 'overlay', '--subnet', '10.50.0.0/16')
  b!.attach('blue', 'asker')
  a!.tsnet('sandbox', 'create', 'answerer')
  const answering = clock(a!, 'answerer', 'answer')
  const asking = clock(b!, 'asker', 'ask')
  await Promise.all([once(answering.stdout!, 'data'), once(asking.stdout!, 'data')])
  const replies = createInterface({ input: asking.stdout! })
  const delaysMs: number[] = []
  const connectMs: number[] = []
  for (let i = 0; i < 200; i++) {
    const ip = `10.50.${1 + (i >> 7)}.${1 + (i & 127)}`
    const begunAt = process.hrtime.bigint()
    const connected = await a!.api('POST', '/networks/blue/connect', { sandbox: 'answerer', ip })
    const answeredAt = process.hrtime.bigint()
    asking.stdin!.write(`${ip}\n`)
    expect(connected.status).toBe(201)
    const [line] = (await once(replies, 'line')) as [string]
    const [address, time] = line.split(' ')
    expect(address).toBe(ip)
    delaysMs.push(Number(BigInt(time!) - answeredAt) / 1e6)
    connectMs.push(Number(answeredAt - begunAt) / 1e6)
    await ask(a!, 'networks/blue/disconnect', { sandbox: 'answerer' })
  }
  for (const child of [answering, asking]) child.kill()
  removeAllSandboxes(world)
  say('connect to first reply on another host, median of 200', medianOf(delaysMs), 'ms')
  const p99 = measured(delays => percentile(delays, 99), delaysMs)
  say('connect to first reply on another host, p99 of 200', p99, 'ms', { atMost: 50 })
  say('connect of the first endpoint of a host, median of 200', medianOf(connectMs), 'ms')
})

test('what connect and disconnect cost: time, and transactions and keys of etcd', async () => {
  a!.tsnet('network', 'create', 'cost', '--driver', 'overlay', '--subnet', '10.55.0.0/16')
  const names = Array.from({ length: 20 }, (_, i) => `s${i}`)
  for (const name of ['first', ...names]) await ask(a!, 'sandboxes', { name })
  const cost = async (what: string, verb: string, sandboxes: string[]): Promise<void> => {
    const before = await etcdUsage(world)
    const times: number[] = []
    for (const sandbox of sandboxes) {
      const begin = performance.now()
      await ask(a!, `networks/cost/${verb}`, { sandbox })
      times.push(performance.now() - begin)
    }
    const after = await etcdUsage(world)
    say(`${verb} of ${what}: time, median`, medianOf(times), 'ms')
    say(`${verb} of ${what}: transactions of etcd`, (after.revision - before.revision) / sandboxes.length, '')
    say(`${verb} of ${what}: keys of etcd`, (after.keys - before.keys) / sandboxes.length, '')
  }
  await cost('the first endpoint on a host', 'connect', ['first'])
  await cost('another endpoint', 'connect', names)
  await cost('another endpoint', 'disconnect', names)
  await cost('the last endpoint on a host', 'disconnect', ['first'])
  removeAllSandboxes(world)
})

test('a host that joins a network learns 10,000 endpoints of others', async () => {
  const counts = [10, 1000, 10_000]
  const count = counts.at(-1)!
  a!.tsnet('network', 'create', 'big', '--driver', 'overlay', '--subnet', '10.60.0.0/16', '--ip-range', '10.60.0.0/22')
  const [network] = a!.tsnetJson<[Network]>('network', 'inspect', 'big')
  const hosts = Array.from({ length: 100 }, (_, i) => `sim${i}`)
  const endpoints = Array.from({ length: count }, (_, i) => peerRecord(network, hosts[i % hosts.length]!, i + 1024))
  await publish(
    world,
    hosts.map((name, i) => hostRecord(name, `192.0.2.${120 + i}`)),
  )
  const known = (host: ClusterHost, command: string): number => Number(host.run('sh', '-c', `${command} | wc -l`))
  const learnt = (host: ClusterHost, most: number): Promise<unknown> =>
    until(`${most} neighbours`, () => known(host, 'ip neigh show nud permanent') >= most, 60_000)
  a!.attach('big', 'stays')
  await ask(a!, 'sandboxes', { name: 'comes' })
  const sizes: [number, number[]][] = []
  for (const [i, most] of counts.entries()) {
    await publish(world, endpoints.slice(counts[i - 1] ?? 0, most))
    await learnt(a!, most)
    const times: number[] = []
    for (let turn = 0; turn < 10; turn++) {
      times.push(await timed(() => ask(a!, 'networks/big/connect', { sandbox: 'comes' })))
      await ask(a!, 'networks/big/disconnect', { sandbox: 'comes' })
    }
    sizes.push([most, times])
  }
  reportCurve('overlay', 'connect of another endpoint', `among ${count} remote ones against ${counts[0]}`, sizes)
  await ask(b!, 'sandboxes', { name: 'joiner' })
  const begin = performance.now()
  await ask(b!, 'networks/big/connect', { sandbox: 'joiner' })
  const connectMs = performance.now() - begin
  await learnt(b!, count)
  const learntMs = performance.now() - begin
  const [link] = b!.json<{ ifname: string }[]>('ip', '-j', 'link', 'show', 'type', 'vxlan')
  expect(known(b!, `bridge fdb show dev ${link!.ifname} | grep dst`)).toBeGreaterThanOrEqual(count)
  say(`connect to a network of ${count} remote endpoints`, connectMs, 'ms')
  say(`${count} remote endpoints in the kernel after connect began`, learntMs, 'ms', { atMost: 3000 })
  await world.etcd.ctl('del', '--prefix', `tst/net/${network.id}/endpoint/`)
  await world.etcd.ctl('del', '--prefix', 'tst/host/sim')
  removeAllSandboxes(world)
})

test('the overlay against a VXLAN link made by hand, by turns', async () => {
  a!.tsnet('network', 'create', 'fast', '--driver', 'overlay', '--subnet', '10.70.0.0/24')
  a!.attach('fast', 'client')
  const [server] = b!.attach('fast', 'server')
  const mtu = Number(a!.json('ip', '-j', '-n', 'client', 'link', 'show', 'eth0')[0]!.mtu)
  handMade(a!, 1, mtu, 'client')
  handMade(b!, 2, mtu, 'server')
  await until('the overlay', () => a!.sandbox('client').tryRun('busybox', 'ping', '-c1', '-W1', server!).status === 0)
  const ways = [
    ['tsnet', server!],
    ['VXLAN by hand', '10.71.0.2'],
  ] as const
  await serveWire('server', { machine: b!, enter: b!.sandbox('server').argv })
  const from = { machine: a!, enter: a!.sandbox('client').argv }
  const both = ways.map(([who, address]) => [who, { from, address, ports: [streamPort, bytePort] }] as const)
  await compareWays('overlay', 'host to host', both, { atLeast: 0.97 })
})

/**
 * The same shape as ours, into the same namespace, so that what that does with packets concerns both: a link on a bridge, with
 * a VXLAN link to the other host; both know each other.
 */
function handMade(host: Machine, n: 1 | 2, mtu: number, netns: string): void {
  const other = 3 - n
  const script = `
    ip link add handbr mtu ${mtu} type bridge && ip link set handbr up
    ip link add handvx mtu ${mtu} master handbr type vxlan id 77 local ${underlay.host4(n)} dstport 4790 nolearning
    ip link set handvx up && bridge link set dev handvx learning off
    ip link add handp mtu ${mtu} master handbr type veth peer name hand0 netns ${netns} mtu ${mtu} address 02:77:00:00:00:0${n}
    ip link set handp up && ip -n ${netns} link set hand0 up && ip -n ${netns} addr add 10.71.0.${n}/24 dev hand0
    bridge fdb add 02:77:00:00:00:0${other} dev handvx dst ${underlay.host4(other)}
    bridge fdb add 02:77:00:00:00:0${other} dev handvx master static
    ip -n ${netns} neigh replace 10.71.0.${other} lladdr 02:77:00:00:00:0${other} dev hand0 nud permanent`
  host.run('sh', '-ec', script)
}
