import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Network } from '../../src/cnm/types.js'
import { median, percentile, report, spreadOfMedian } from '../helpers/bench.js'
import { removeAllSandboxes } from '../helpers/cluster-tidy.js'
import { etcdUsage } from '../helpers/cluster-usage.js'
import { type ClusterHost, ClusterWorld, underlay } from '../helpers/cluster-world.js'
import { type Machine, repo, until } from '../helpers/machine.js'
import { hostRecord, peerRecord, publish } from '../helpers/published.js'

// How soon other hosts know, how fast a host learns much at once, and what a stream gets of the wire.

/** A stream may be this much slower than one made by hand, and that must be more than the machine's own ups and downs. */
const margin = 0.03
/** of one stream of each kind */
const fewestTurns = 15
const mostTurns = 40

let world: ClusterWorld
let [a, b]: ClusterHost[] = []

beforeAll(async () => {
  world = await ClusterWorld.start({ hosts: 3, options: ['--log-level', 'warn'] })
  ;[a, b] = world.hosts
})
afterAll(() => world?.stop())

const say = (what: string, value: number, unit: string, target = {}): void =>
  report('overlay', what, value, unit, target)

const clock = (host: ClusterHost, sandbox: string, role: string): ChildProcess => {
  const command = [process.execPath, join(repo, 'test/helpers/reply-clock.mjs'), role, '7']
  const enter = ['-t', String(host.pid), '--mount', '--net', '--', ...host.sandbox(sandbox).argv]
  return spawn('nsenter', [...enter, ...command], { stdio: ['pipe', 'pipe', 'inherit'] })
}

// retransmission: with the kernel's usual second between two questions for a MAC address, one that came too early and is not
// answered by an announcement costs that second; with 1 ms what is left is our own delay
test.each([
  ['the kernel asks for MAC addresses as usual', []],
  ['the kernel asks for MAC addresses every ms', ['-o', 'sysctls=net.ipv4.neigh.IFNAME.retrans_time_ms=1']],
])(
  'convergence: from the answer of connect on one host to the first reply on another, 200 times, %s',
  async (how, options) => {
    a!.tsnet('network', 'create', 'blue', '--driver', 'overlay', '--subnet', '10.50.0.0/16')
    b!.attach('blue', 'asker', ...options)
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
      expect((await a!.api('POST', '/networks/blue/disconnect', { sandbox: 'answerer' })).status).toBeLessThan(300)
    }
    for (const child of [answering, asking]) child.kill()
    removeAllSandboxes(world)
    say(`connect to first reply on another host, ${how}, median of 200`, median(delaysMs), 'ms')
    say(`connect to first reply on another host, ${how}, p99 of 200`, percentile(delaysMs, 99), 'ms', { atMost: 50 })
    say(`connect of the first endpoint of a host, ${how}, median of 200`, median(connectMs), 'ms')
  },
)

test('what connect and disconnect cost: time, and transactions and keys of etcd', async () => {
  a!.tsnet('network', 'create', 'cost', '--driver', 'overlay', '--subnet', '10.55.0.0/16')
  const names = Array.from({ length: 20 }, (_, i) => `s${i}`)
  a!.tsnet('sandbox', 'create', 'first')
  for (const name of names) a!.tsnet('sandbox', 'create', name)
  const measured = async (what: string, verb: string, sandboxes: string[]): Promise<void> => {
    const before = await etcdUsage(world)
    const times: number[] = []
    for (const sandbox of sandboxes) {
      const begin = performance.now()
      expect((await a!.api('POST', `/networks/cost/${verb}`, { sandbox })).status).toBeLessThan(300)
      times.push(performance.now() - begin)
    }
    const after = await etcdUsage(world)
    say(`${verb} of ${what}: time, median`, median(times), 'ms')
    say(`${verb} of ${what}: transactions of etcd`, (after.revision - before.revision) / sandboxes.length, '')
    say(`${verb} of ${what}: keys of etcd`, (after.keys - before.keys) / sandboxes.length, '')
  }
  await measured('the first endpoint on a host', 'connect', ['first'])
  await measured('another endpoint', 'connect', names)
  await measured('another endpoint', 'disconnect', names)
  await measured('the last endpoint on a host', 'disconnect', ['first'])
  removeAllSandboxes(world)
})

test('a host that joins a network learns 10,000 endpoints of others', async () => {
  const count = 10_000
  a!.tsnet('network', 'create', 'big', '--driver', 'overlay', '--subnet', '10.60.0.0/16', '--ip-range', '10.60.0.0/22')
  const [network] = a!.tsnetJson<[Network]>('network', 'inspect', 'big')
  const hosts = Array.from({ length: 100 }, (_, i) => `sim${i}`)
  const endpoints = Array.from({ length: count }, (_, i) => peerRecord(network, hosts[i % hosts.length]!, i + 1024))
  await publish(world, [...hosts.map((name, i) => hostRecord(name, `192.0.2.${120 + i}`)), ...endpoints])
  b!.tsnet('sandbox', 'create', 'joiner')
  const begin = performance.now()
  expect((await b!.api('POST', '/networks/big/connect', { sandbox: 'joiner' })).status).toBe(201)
  const connectMs = performance.now() - begin
  const known = (command: string): number => Number(b!.run('sh', '-c', `${command} | wc -l`))
  await until(`${count} neighbours`, () => known('ip neigh show nud permanent') >= count, 60_000)
  const learntMs = performance.now() - begin
  const [link] = b!.json<{ ifname: string }[]>('ip', '-j', 'link', 'show', 'type', 'vxlan')
  expect(known(`bridge fdb show dev ${link!.ifname} | grep dst`)).toBeGreaterThanOrEqual(count)
  say(`connect to a network of ${count} remote endpoints`, connectMs, 'ms')
  say(`${count} remote endpoints in the kernel after connect began`, learntMs, 'ms', { atMost: 3000 })
  await world.etcd.ctl('del', '--prefix', `tst/net/${network.id}/endpoint/`)
  for (const name of hosts) await world.etcd.ctl('del', `tst/host/${name}`)
  removeAllSandboxes(world)
})

test('a TCP stream over the overlay against one over a VXLAN link made by hand, in turns', async () => {
  a!.tsnet('network', 'create', 'fast', '--driver', 'overlay', '--subnet', '10.70.0.0/24')
  a!.attach('fast', 'client')
  const [server] = b!.attach('fast', 'server')
  const mtu = Number(a!.json('ip', '-j', '-n', 'client', 'link', 'show', 'eth0')[0]!.mtu)
  handMade(a!, 1, mtu, 'client')
  handMade(b!, 2, mtu, 'server')
  await until('the overlay', () => a!.sandbox('client').tryRun('busybox', 'ping', '-c1', '-W1', server!).status === 0)
  const ours: number[] = []
  const theirs: number[] = []
  const ratios: number[] = []
  while (ratios.length < fewestTurns || (spreadOfMedian(ratios) > margin && ratios.length < mostTurns)) {
    const one = async () => ours.push(await throughput('client', 'server', server!))
    const other = async () => theirs.push(await throughput('client', 'server', '10.71.0.2'))
    // neither always goes first
    for (const measure of ratios.length % 2 === 0 ? [one, other] : [other, one]) await measure()
    ratios.push(ours.at(-1)! / theirs.at(-1)!)
  }
  say('TCP stream, made by hand', median(theirs), 'Gbit/s')
  say('TCP stream, tsnet', median(ours), 'Gbit/s')
  say('TCP stream, tsnet against made by hand, median of turns', median(ratios), '', { atLeast: 1 - margin })
  say('turns', ratios.length, '')
  say('how far such a median lies from the true one (95 %)', spreadOfMedian(ratios), '', { atMost: margin })
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

/** From a namespace of the first host to one of the second, in Gbit/s. */
async function throughput(from: string, to: string, address: string): Promise<number> {
  await b!.serve('iperf3', ...b!.sandbox(to).argv, 'iperf3', '--server', '--one-off')
  await sleep(100)
  const argv = [...a!.sandbox(from).argv, 'iperf3', '--client', address, '--time', '1', '--json']
  const { stdout } = await a!.start(...argv)
  await b!.end('iperf3')
  const { end } = JSON.parse(stdout) as { end: { sum_received: { bits_per_second: number } } }
  return end.sum_received.bits_per_second / 1e9
}
