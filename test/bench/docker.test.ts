import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { ratioOf, report, reportCurve, reportMissing, reportPeers, timed } from '../helpers/bench.js'
import { BenchApi, inParallel } from '../helpers/bench-api.js'
import { Host } from '../helpers/host.js'
import { image } from '../helpers/image.js'
import { repo, until } from '../helpers/machine.js'

// What dockerd's commands take on a network of tsnet, on one of Docker's own bridges, and on one of a plugin that does nothing but
// make links, by turns, with one dockerd; once with that of this Debian and once with the newest of Debian.

const turns = Number(process.env.TSNET_BENCH_TURNS ?? 15)
const ports = 500
const settleMs = 200
const [tsnet, bridge, links] = ['tsnet', "Docker's bridge", 'a plugin of links alone'] as const
const networks = { [tsnet]: 'ours', [bridge]: 'theirs', [links]: 'bare' } as const
type Who = keyof typeof networks
const everybody: readonly Who[] = [tsnet, bridge, links]

/** Where scripts/bench puts another Debian, and how `dockerdOf` is told of one. */
const newest = '/var/cache/tsnet-test/sid'

const sleeper = ['sleep', '1000']

if (!existsSync(newest))
  test('the newest dockerd', () => reportMissing('docker', 'dockerd 28.5', `not measured: there is no ${newest}`))

describe.each(['', newest].filter(debian => debian === '' || existsSync(debian)))('dockerd of Debian %j', debian => {
  let host: Host
  let which: string

  beforeAll(async () => {
    process.env.TSNET_TEST_DEBIAN = debian
    host = await Host.startWithDocker()
    const version = host.docker('version', '--format', '{{.Server.Version}}')
    which = `dockerd ${version.split('.').slice(0, 2).join('.')}`
    reportMissing('docker', which, version)
    const plugin = '/run/docker/plugins/bare.sock'
    await host.serve('bare', process.execPath, join(repo, 'test/helpers/bare-plugin.mjs'), plugin)
    await until('the bare plugin', () => host.tryRun('socat', '/dev/null', `UNIX-CONNECT:${plugin}`).status === 0)
    const drivers = { [tsnet]: 'tsnet', [bridge]: 'bridge', [links]: 'bare' }
    for (const [i, who] of everybody.entries())
      host.docker('network', 'create', '-d', drivers[who], '--subnet', `10.${82 + i}.0.0/16`, networks[who])
    host.docker('run', '-d', '--name', 'stays', '--network', 'none', image, ...sleeper)
    // a container of the network none cannot be connected to another one
    host.docker('network', 'disconnect', 'none', 'stays')
  }, 300_000)
  afterAll(() => host?.stop())

  /** All by turns, the first of each turn by turns too; a list of milliseconds each. */
  async function byTurns(count: number, all: readonly Who[], work: (who: Who, turn: number) => Promise<number>) {
    const times: Record<string, number[]> = Object.fromEntries(all.map(who => [who, []]))
    for (let i = 0; i < count; i++)
      for (let k = 0; k < all.length; k++) {
        const who = all[(i + k) % all.length]!
        const measure = (): Promise<number> => work(who, i)
        times[who]!.push(await (who === tsnet ? measure() : withoutTsnet(measure)))
      }
    return times
  }

  /** Our daemon looks at what others change in the kernel, some 30 ms of a processor for each container of theirs: not on their time. */
  async function withoutTsnet<T>(work: () => Promise<T>): Promise<T> {
    host.pause('tsnet')
    try {
      return await work()
    } finally {
      host.resume('tsnet')
      await sleep(settleMs)
    }
  }

  function compare(what: string, times: Readonly<Record<string, readonly number[]>>, atMost: number): void {
    reportPeers('docker', `${what}, ${which}`, 'ms', times)
    const against = (who: Who, target = {}): void => {
      const title = `${what}, ${which}: ${who} against Docker's bridge`
      report('docker', title, ratioOf(times[who]!, times[bridge]!), 'x', target)
    }
    against(tsnet, { atMost })
    if (times[links] !== undefined) against(links)
  }

  test('docker run --rm -p', async () => {
    const times = await byTurns(turns, everybody, who =>
      timed(() => host.docker('run', '--rm', '-p', '8080:80', '--network', networks[who], image, 'true')),
    )
    compare('docker run --rm -p', times, 0.8)
  })

  test('docker network connect and disconnect', async () => {
    const disconnects: Record<string, number[]> = Object.fromEntries(everybody.map(who => [who, []]))
    const asking: number[] = []
    const connects = await byTurns(turns, everybody, async (who, turn) => {
      const ms = await timed(() => host.docker('network', 'connect', networks[who], 'stays'))
      disconnects[who]!.push(await timed(() => host.docker('network', 'disconnect', networks[who], 'stays')))
      if (asking.length === turn) asking.push(await timed(() => host.docker('network', 'inspect', 'none')))
      return ms
    })
    compare('docker network connect', { ...connects, 'docker network inspect': asking }, 0.4)
    compare('docker network disconnect', disconnects, 0.6)
  })

  const crowded = async (): Promise<void> => {
    const ipam = ['--subnet', '10.86.0.0/16', '--ipam-driver', 'tsnet', '--ipam-opt', 'network=crowd']
    host.tsnet('network', 'create', 'crowd', '--subnet', '10.86.0.0/16')
    host.docker('network', 'create', '-d', 'tsnet', '-o', 'network=crowd', ...ipam, 'crowd')
    const api = new BenchApi(host)
    const sizes: [number, number[]][] = [0, 100, 200, 300].map(size => [size, []])
    for (const [size, times] of sizes) {
      const names = Array.from({ length: size === 0 ? 0 : 100 }, (_, i) => `s${size - 1 - i}`)
      await inParallel(names, 16, async name => {
        await api.call('POST', '/sandboxes', { name })
        await api.connect('crowd', name)
      })
      for (let i = 0; i < turns; i++) {
        times.push(await timed(() => host.docker('network', 'connect', 'crowd', 'stays')))
        host.docker('network', 'disconnect', 'crowd', 'stays')
      }
    }
    api.close()
    reportCurve('docker', `docker network connect, ${which}`, 'among 300 endpoints against none', sizes)
  }

  const manyPorts = async (): Promise<void> => {
    const removes: Record<string, number[]> = { [tsnet]: [], [bridge]: [] }
    const range = `20000-${20000 + ports - 1}`
    // one turn is half a minute of Docker's bridge
    const runs = await byTurns(1, [tsnet, bridge], async who => {
      const argv = ['run', '-d', '--name', 'many', '-p', `${range}:${range}`, '--network', networks[who]]
      const ms = await timed(() => host.docker(...argv, image, ...sleeper))
      removes[who]!.push(await timed(() => host.docker('rm', '-f', 'many')))
      return ms
    })
    compare(`docker run -p with ${ports} ports`, runs, 0.05)
    compare(`docker rm -f with ${ports} ports`, removes, 0.05)
  }
  // 28.5 takes the same minute for its own bridge, and no other way with a plugin
  if (debian === '') {
    test('docker network connect beside more and more endpoints', crowded)
    test(`docker run and rm -f with ${ports} published ports`, manyPorts)
  }
})
