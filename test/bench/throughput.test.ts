import { afterAll, beforeAll, test } from 'vitest'
import { reportCurve } from '../helpers/bench.js'
import { BenchApi } from '../helpers/bench-api.js'
import { bytePort, compareWays, type End, exchanges, serveWire, streamPort, type Way } from '../helpers/bench-wire.js'
import { addresses, Host } from '../helpers/host.js'
import { image } from '../helpers/image.js'

// What containers get of the wire on a network of tsnet and on one of Docker's own bridges, by turns. The programs run in the
// containers' network namespaces.

const networks = { tsnet: 'ours', "Docker's bridge": 'theirs' } as const
type Who = keyof typeof networks
const everybody = Object.keys(networks) as Who[]
const publishedAt = { tsnet: 6000, "Docker's bridge": 7000 } as const

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
  for (const who of everybody) await serveWire(who, inside(`${networks[who]}-server`))
  await serveWire('outside', outside())
}, 300_000)
afterAll(() => host?.stop())

const inside = (container: string): End => ({
  machine: host,
  enter: ['nsenter', '-t', pids.get(container)!, '--net'],
})
const outside = (): End => ({ machine: host.outside, enter: [] })

const addressOf = (container: string): string =>
  host.docker('inspect', '-f', '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}', container)

const toPublished = (who: Who): Way => ({
  from: outside(),
  address: addresses.host4,
  ports: [publishedAt[who], publishedAt[who] + 1],
})

/** From where to where, for each of the two. */
const ways: Record<string, (who: Who) => Way> = {
  'container to container': who => ({
    from: inside(`${networks[who]}-client`),
    address: addressOf(`${networks[who]}-server`),
    ports: [streamPort, bytePort],
  }),
  'outside to a published port': toPublished,
  'container to outside': who => ({
    from: inside(`${networks[who]}-client`),
    address: addresses.outside4,
    ports: [streamPort, bytePort],
  }),
}

test.each(Object.entries(ways))('%s', async (where, find) => {
  const both = everybody.map((who): [string, Way] => [who, find(who)])
  await compareWays('throughput', where, both, { atLeast: 1, withinMargin: true })
})

test('one byte there and back through a published port beside more and more ports', async () => {
  const api = new BenchApi(host)
  await api.call('POST', '/networks', { name: 'crowd', subnets: ['10.84.0.0/16'] })
  await api.call('POST', '/sandboxes', { name: 'crowd' })
  await api.connect('crowd', 'crowd')
  const sizes: [number, number[]][] = [0, 1000, 10_000].map(size => [size, []])
  let published = 0
  for (const [size, times] of sizes) {
    // onto other numbers, so that every port is an element of its own
    for (; published < size; published += 500) await api.publish('crowd', 20_000 + published, 8000 + published, 500)
    for (let i = 0; i < 8; i++) times.push(1 / (await exchanges(toPublished('tsnet'))))
  }
  api.close()
  reportCurve('throughput', 'one byte through a published port', 'beside 10000 ports against none', sizes)
})
