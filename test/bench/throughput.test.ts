import { join } from 'node:path'
import { afterAll, beforeAll, test } from 'vitest'
import { reportPeers, reportRatio } from '../helpers/bench.js'
import { addresses, Host } from '../helpers/host.js'
import { image } from '../helpers/image.js'
import { type Machine, repo, until } from '../helpers/machine.js'

// What containers get of the wire on a network of tsnet and on one of Docker's own bridges, by turns: one TCP stream, and one byte
// there and back. The programs run in the containers' network namespaces.

const turns = Number(process.env.TSNET_BENCH_TURNS ?? 5)
/** The noise of a run on a quiet machine; the ratio's own margin is beside it. */
const noise = 0.03
const networks = { tsnet: 'ours', "Docker's bridge": 'theirs' } as const
type Who = keyof typeof networks
const everybody = Object.keys(networks) as Who[]
const streamPort = 5201
const bytePort = 5202
const publishedAt = { tsnet: 6000, "Docker's bridge": 7000 } as const
const oneByte = [process.execPath, join(repo, 'test/helpers/one-byte.mjs')]

let host: Host
/** by container, in the host's numbering */
const pids = new Map<string, string>()

beforeAll(async () => {
  host = await Host.startWithDocker()
  host.docker('network', 'create', '-d', 'tsnet', '--subnet', '10.82.0.0/16', networks.tsnet)
  host.docker('network', 'create', '--subnet', '10.83.0.0/16', networks["Docker's bridge"])
  for (const who of everybody)
    for (const role of ['server', 'client']) {
      const name = `${networks[who]}-${role}`
      const at = publishedAt[who]
      const ports = role === 'server' ? ['-p', `${at}:${streamPort}`, '-p', `${at + 1}:${bytePort}`] : []
      host.docker('run', '-d', '--name', name, ...ports, '--network', networks[who], image, 'sleep', '1000')
      pids.set(name, host.docker('inspect', '-f', '{{.State.Pid}}', name))
    }
  for (const who of everybody) await serve(host, `${who} server`, inside(`${networks[who]}-server`))
  await serve(host.outside, 'outside', [])
}, 300_000)
afterAll(() => host?.stop())

const inside = (container: string): string[] => ['nsenter', '-t', pids.get(container)!, '--net']

async function serve(machine: Machine, name: string, enter: string[]): Promise<void> {
  await machine.serve(`${name} iperf3`, ...enter, 'iperf3', '--server', '--port', String(streamPort))
  await machine.serve(`${name} bytes`, ...enter, ...oneByte, 'serve', String(bytePort))
  await until('the servers', () => machine.logOf(`${name} bytes`).includes('ready'))
}

async function stream(from: Machine, enter: string[], address: string, port: number): Promise<number> {
  const argv = [...enter, 'iperf3', '--client', address, '--port', String(port), '--time', '1', '--json']
  const got = await from.start(...argv)
  const { end, error } = JSON.parse(got.stdout) as {
    error?: string
    end: { sum_received?: { bits_per_second: number } }
  }
  if (end.sum_received === undefined) throw new Error(`iperf3 to ${address}: ${error}`)
  return end.sum_received.bits_per_second / 1e9
}

async function bytes(from: Machine, enter: string[], address: string, port: number): Promise<number> {
  const got = await from.start(...enter, ...oneByte, 'ask', address, String(port), '1')
  if (got.status !== 0) throw new Error(`one byte to ${address}: ${got.stderr}`)
  return Number(got.stdout) / 1000
}

const addressOf = (container: string): string =>
  host.docker('inspect', '-f', '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}', container)

/** From where to where, for each of the two. */
const ways: Record<string, (who: Who) => { from: Machine; enter: string[]; address: string; ports: [number, number] }> =
  {
    'container to container': who => ({
      from: host,
      enter: inside(`${networks[who]}-client`),
      address: addressOf(`${networks[who]}-server`),
      ports: [streamPort, bytePort],
    }),
    'outside to a published port': who => ({
      from: host.outside,
      enter: [],
      address: addresses.host4,
      ports: [publishedAt[who], publishedAt[who] + 1],
    }),
    'container to outside': who => ({
      from: host,
      enter: inside(`${networks[who]}-client`),
      address: addresses.outside4,
      ports: [streamPort, bytePort],
    }),
  }

test.each(Object.entries(ways))('%s', async (way, find) => {
  const places = new Map(everybody.map(who => [who, find(who)]))
  const streams: Record<Who, number[]> = { tsnet: [], "Docker's bridge": [] }
  const exchanges: Record<Who, number[]> = { tsnet: [], "Docker's bridge": [] }
  for (let i = 0; i < turns; i++)
    for (const who of i % 2 === 0 ? everybody : [...everybody].reverse()) {
      const { from, enter, address, ports } = places.get(who)!
      streams[who].push(await stream(from, enter, address, ports[0]))
      exchanges[who].push(await bytes(from, enter, address, ports[1]))
    }
  for (const [what, unit, values] of [
    ['TCP stream', 'Gbit/s', streams],
    ['one byte there and back', 'thousands a second', exchanges],
  ] as const) {
    reportPeers('throughput', `${what}, ${way}`, unit, values)
    const title = `${what}, ${way}: tsnet against Docker's bridge`
    reportRatio('throughput', title, values.tsnet, values["Docker's bridge"], { atLeast: 1 - noise })
  }
})
