import { afterAll, beforeAll, test } from 'vitest'
import { reportMissing, reportPeers, reportRatio, timed } from '../helpers/bench.js'
import { Host } from '../helpers/host.js'
import { image } from '../helpers/image.js'

// What dockerd's commands take on a network of tsnet and on one of Docker's own bridges, by turns, with one dockerd.

const turns = Number(process.env.TSNET_BENCH_TURNS ?? 12)
const ports = 500
const networks = { tsnet: 'ours', "Docker's bridge": 'theirs' } as const
type Who = keyof typeof networks

let host: Host

beforeAll(async () => {
  host = await Host.startWithDocker()
  host.docker('network', 'create', '-d', 'tsnet', '--subnet', '10.82.0.0/16', networks.tsnet)
  host.docker('network', 'create', '--subnet', '10.83.0.0/16', networks["Docker's bridge"])
}, 300_000)
afterAll(() => host?.stop())

/** Both by turns, the first of each turn by turns too; a list of milliseconds each. */
async function byTurns(count: number, work: (who: Who, turn: number) => Promise<number>) {
  const times: Record<Who, number[]> = { tsnet: [], "Docker's bridge": [] }
  for (let i = 0; i < count; i++) {
    const order: Who[] = ['tsnet', "Docker's bridge"]
    for (const who of i % 2 === 0 ? order : order.reverse()) times[who].push(await work(who, i))
  }
  return times
}

function both(what: string, times: Record<Who, number[]>, atMost: number): void {
  reportPeers('docker', what, 'ms', times)
  reportRatio('docker', `${what}: tsnet against Docker's bridge`, times.tsnet, times["Docker's bridge"], { atMost })
}

const sleeper = ['sleep', '1000']

test('docker run --rm -p', async () => {
  const times = await byTurns(turns, who =>
    timed(() => host.docker('run', '--rm', '-p', '8080:80', '--network', networks[who], image, 'true')),
  )
  both('docker run --rm -p', times, 0.8)
})

test('docker network connect and disconnect', async () => {
  host.docker('run', '-d', '--name', 'stays', '--network', 'none', image, ...sleeper)
  // a container of the network none cannot be connected to another one
  host.docker('network', 'disconnect', 'none', 'stays')
  const disconnects: Record<Who, number[]> = { tsnet: [], "Docker's bridge": [] }
  const connects = await byTurns(turns, async who => {
    const ms = await timed(() => host.docker('network', 'connect', networks[who], 'stays'))
    disconnects[who].push(await timed(() => host.docker('network', 'disconnect', networks[who], 'stays')))
    return ms
  })
  host.docker('rm', '-f', 'stays')
  both('docker network connect', connects, 0.4)
  both('docker network disconnect', disconnects, 0.6)
})

test(`docker run and rm -f with ${ports} published ports`, async () => {
  const removes: Record<Who, number[]> = { tsnet: [], "Docker's bridge": [] }
  const range = `20000-${20000 + ports - 1}`
  // one turn is half a minute of Docker's bridge
  const runs = await byTurns(1, async who => {
    const argv = ['run', '-d', '--name', 'many', '-p', `${range}:${range}`, '--network', networks[who]]
    const ms = await timed(() => host.docker(...argv, image, ...sleeper))
    removes[who].push(await timed(() => host.docker('rm', '-f', 'many')))
    return ms
  })
  both(`docker run -p with ${ports} ports`, runs, 0.05)
  both(`docker rm -f with ${ports} ports`, removes, 0.05)
})

test('which dockerd it is', () => {
  reportMissing('docker', 'dockerd', host.docker('version', '--format', '{{.Server.Version}}'))
  reportMissing('docker', 'dockerd 28.5', 'not measured: this release of Debian has no package of it')
})
