import { readdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import {
  type Measured,
  medianOf,
  ratioOf,
  report,
  reportMissing,
  reportPeers,
  reportSlope,
  timed,
} from '../helpers/bench.js'
import { BenchApi, inParallel } from '../helpers/bench-api.js'
import { Floor } from '../helpers/bench-floor.js'
import { cni, netavark, type Peer } from '../helpers/bench-peers.js'
import { Host } from '../helpers/host.js'

// What it costs to attach a namespace that exists, with one published port, and to detach it: by tsnet's API, by the kernel's
// messages alone, and by what others do it with, by turns.

const turns = Number(process.env.TSNET_BENCH_TURNS ?? 60)
/** of those that take tens of ms: enough for a ratio of ten */
const peerTurns = Math.ceil(turns / 4)
const many = Number(process.env.TSNET_BENCH_MANY ?? 1000)
const pollMs = 3

let host: Host
let api: BenchApi
let floor: Floor

beforeAll(async () => {
  host = await Host.start()
  await host.startTsnet('--log-level', 'warn')
  api = new BenchApi(host)
  floor = await Floor.open(host.pid)
})
afterAll(async () => {
  api?.close()
  floor?.close()
  await host?.stop()
})

const say = (what: string, value: number | Measured, unit: string, target = {}): void =>
  report('attach', what, value, unit, target)

/** Namespaces of nobody's, by their paths here. */
function namespaces(prefix: string, count: number): string[] {
  host.run('sh', '-ec', `for i in $(seq 0 ${count - 1}); do ip netns add ${prefix}$i; done`)
  return Array.from({ length: count }, (_, i) => host.path(`/run/netns/${prefix}${i}`))
}

const sandboxes = (prefix: string, count: number): Promise<string[]> =>
  Promise.all(
    Array.from({ length: count }, async (_, i) => {
      await api.call('POST', '/sandboxes', { name: `${prefix}${i}` })
      return `${prefix}${i}`
    }),
  )

/** All that the times of one are made of. */
interface Times {
  attach: number[]
  detach: number[]
}
const times = (): Times => ({ attach: [], detach: [] })

test('one namespace after the other, tsnet and its peers by turns', async () => {
  await api.call('POST', '/networks', { name: 'one', subnets: ['10.85.0.0/16'] })
  const warmUp = 20
  const names = await sandboxes('s', turns + warmUp)
  const bare = namespaces('f', turns + warmUp)
  const peers = [cni(host.pid, host.dir), netavark(host.pid, host.dir)]
  for (const { name, missing } of peers) if (missing !== undefined) reportMissing('attach', name, missing)
  const able = peers.filter(peer => peer.missing === undefined).map(peer => ({ peer, ...times() }))
  const paths = new Map(able.map(({ peer }, i) => [peer, namespaces(`p${i}x`, peerTurns)]))
  const ours = times()
  const least = times()
  for (let i = -warmUp; i < turns; i++) {
    const [ours1, floor1] = [names[i + warmUp]!, bare[i + warmUp]!]
    const steps = [
      async () => [ours, await timed(() => api.connect('one', ours1, 20_100 + i))] as const,
      async () => [least, await timed(() => floor.attach(i + warmUp, floor1))] as const,
    ]
    // neither always goes first
    for (const step of i % 2 === 0 ? steps : steps.reverse()) {
      const [who, ms] = await step()
      if (i >= 0) who.attach.push(ms)
    }
    if (i >= 0 && i % 4 === 0)
      for (const { peer, attach } of able) attach.push(await timed(() => peer.attach(i / 4, paths.get(peer)![i / 4]!)))
  }
  for (let i = 0; i < turns; i++) {
    ours.detach.push(await timed(() => api.disconnect('one', names[i + warmUp]!)))
    least.detach.push(await timed(() => floor.detach(i + warmUp)))
    if (i % 4 === 0)
      for (const { peer, detach } of able) detach.push(await timed(() => peer.detach(i / 4, paths.get(peer)![i / 4]!)))
  }
  const all = { tsnet: ours, 'kernel messages alone': least, ...ofPeers(able) }
  const column = (which: keyof Times) => Object.fromEntries(Object.entries(all).map(([who, t]) => [who, t[which]]))
  reportPeers('attach', 'attach with a published port', 'ms', column('attach'))
  say('attach: tsnet against the kernel messages alone', ratioOf(ours.attach, least.attach), 'x', { atMost: 2 })
  const beside = ours.attach.filter((_, i) => i % 4 === 0)
  for (const { peer, attach } of able)
    say(`attach: ${peer.name} against tsnet`, ratioOf(attach, beside), 'x', { atLeast: 10 })
  reportPeers('attach', 'detach: time until answered', 'ms', column('detach'))
  say('detach: time until answered, median', medianOf(ours.detach), 'ms', { atMost: 3 })
})

const ofPeers = (able: ({ peer: Peer } & Times)[]): Record<string, Times> =>
  Object.fromEntries(able.map(({ peer, attach, detach }) => [peer.name, { attach, detach }]))

test(`${many} namespaces, 16 at a time, each with a published port`, async () => {
  await api.call('POST', '/networks', { name: 'many', subnets: ['10.84.0.0/16'] })
  const names = await sandboxes('m', many)
  let answers: number[] = []
  const order = new Map(names.map((name, i) => [name, i]))
  const allMs = await timed(async () => {
    answers = await inParallel(names, 16, name => api.connect('many', name, 21_000 + order.get(name)!))
  })
  say(`${many} attached, 16 at a time`, allMs, 'ms', { atMost: 2500 * (many / 1000) })
  reportSlope('attach', 'attach, 16 at a time', answers, { atMost: 1.2 })

  const some = names.slice(0, 100)
  // not by the kernel's list, which keeps out those who change links while it is made
  const linksOf = () => readdirSync(host.path('/sys/class/net')).filter(name => name.startsWith('tsn')).length
  const crowd = new BenchApi(host, some.length)
  const before = linksOf()
  expect(before).toBeGreaterThanOrEqual(some.length)
  const begin = performance.now()
  const answered = inParallel(some, some.length, name => crowd.disconnect('many', name))
  while (linksOf() > before - some.length) await sleep(pollMs)
  const goneMs = performance.now() - begin
  const waits = await answered
  crowd.close()
  say(`${some.length} detached at once: answers, median`, medianOf(waits), 'ms')
  say(`${some.length} detached at once: until the kernel has none of their links left`, goneMs, 'ms', { atMost: 150 })
})
