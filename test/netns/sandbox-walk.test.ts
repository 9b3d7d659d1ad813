import { afterAll, beforeAll, expect, test } from 'vitest'
import { Host } from '../helpers/host.js'
import { random } from '../helpers/random.js'

// A sandbox on three networks while they come and go: after every step of a random walk its routes, gateways, addresses
// and hosts file are what a model says that they are.

const seed = Number(process.env.TSNET_TEST_SEED ?? Date.now() % 1_000_000)
const steps = Number(process.env.TSNET_TEST_STEPS ?? 100)

interface Net {
  name: string
  subnets: string[]
  internal: boolean
}
const nets: Net[] = [
  { name: 'alpha', subnets: ['10.41.0.0/24'], internal: false },
  { name: 'beta', subnets: ['10.42.0.0/24', 'fd00:42::/64'], internal: false },
  { name: 'gamma', subnets: ['10.43.0.0/24', 'fd00:43::/64'], internal: true },
]

/** What the model remembers of an attachment. */
interface Attached {
  net: Net
  priority: number
  metric: number
  route: boolean
  ifname: string
  addresses: string[]
}

let host: Host
beforeAll(async () => {
  host = await Host.startWithTsnet('--log-level', 'warn')
  host.tsnet('sandbox', 'create', 'box')
})
afterAll(() => host?.stop())

const gatewayOf = (subnet: string): string => subnet.replace(/0\/24$/, '1').replace(/::\/64$/, '::1')
const isSix = (text: string): boolean => text.includes(':')

/** `DESTINATION VIA IFNAME METRIC` of every route that the sandbox should have. */
function modelRoutes(attached: readonly Attached[], six: boolean): string[] {
  const usual = six ? 1024 : 0
  const lines: string[] = []
  for (const { net, ifname, metric, route } of attached) {
    for (const subnet of net.subnets) if (isSix(subnet) === six) lines.push(`${subnet} - ${ifname} ${six ? 256 : 0}`)
    if (route && !six) lines.push(`198.18.${nets.indexOf(net)}.0/24 - ${ifname} ${metric || usual}`)
  }
  const able = attached.filter(({ net }) => !net.internal && net.subnets.some(subnet => isSix(subnet) === six))
  const families = ({ net }: Attached): number => (net.internal ? 0 : net.subnets.length)
  able.sort((a, b) => b.priority - a.priority || families(b) - families(a) || (a.net.name < b.net.name ? -1 : 1))
  const best = able[0]
  const subnet = best?.net.subnets.find(candidate => isSix(candidate) === six)
  if (best !== undefined && subnet !== undefined)
    lines.push(`default ${gatewayOf(subnet)} ${best.ifname} ${best.metric || usual}`)
  return lines.sort()
}

function kernelRoutes(six: boolean): string[] {
  const routes = host.json('ip', '-j', '-n', 'box', six ? '-6' : '-4', 'route')
  return routes
    .filter(({ dst }) => dst !== 'fe80::/64')
    .map(({ dst, gateway, dev, metric }) => `${dst} ${gateway ?? '-'} ${dev} ${metric ?? 0}`)
    .sort()
}

const kernelAddresses = (): string[] =>
  host
    .json<{ ifname: string; addr_info: { local: string; prefixlen: number; scope: string }[] }[]>(
      'ip',
      '-j',
      '-n',
      'box',
      'addr',
    )
    .flatMap(({ ifname, addr_info }) =>
      addr_info
        .filter(({ scope }) => scope === 'global')
        .map(({ local, prefixlen }) => `${ifname} ${local}/${prefixlen}`),
    )
    .sort()

const hostsAddresses = (): string[] =>
  host
    .run('cat', '/etc/netns/box/hosts')
    .split('\n')
    .map(line => line.split(/\s+/))
    .filter(([, ...names]) => names.includes('box'))
    .map(([address]) => address ?? '')
    .sort()

test(`${steps} random steps on three networks, seed ${seed}`, { timeout: 300_000 }, async () => {
  const pick = random(seed)
  const existing = new Set<Net>()
  const attached = new Map<Net, Attached>()
  const walked: string[] = []

  const create = (net: Net): void => {
    const flags = net.subnets.flatMap(subnet => ['--subnet', subnet])
    host.tsnet('network', 'create', net.name, ...flags, ...(net.internal ? ['--internal'] : []))
    existing.add(net)
  }
  const connect = (net: Net): void => {
    const [priority, metric, route] = [pick(3) - 1, pick(3) * 10, pick(2) === 1]
    const taken = [...attached.values()].map(({ ifname }) => ifname)
    const ifname = ['eth0', 'eth1', 'eth2'].find(name => !taken.includes(name)) ?? ''
    const options = ['-o', `gw_priority=${priority}`, '-o', `metric=${metric}`]
    const extra = route ? ['--route', `198.18.${nets.indexOf(net)}.0/24`] : []
    const addresses = host.tsnet('connect', net.name, 'box', ...options, ...extra).split('\n')
    attached.set(net, { net, priority, metric, route, ifname, addresses })
  }
  const disconnect = (net: Net): void => {
    host.tsnet('disconnect', net.name, 'box')
    attached.delete(net)
  }
  const restart = async (): Promise<void> => {
    await host.killTsnet()
    await host.startTsnet('--log-level', 'warn')
  }
  const step = async (): Promise<string> => {
    const net = nets[pick(nets.length)] as Net
    if (pick(25) === 0) return restart().then(() => 'kill -9 and start again')
    if (!existing.has(net)) return create(net) ?? `create ${net.name}`
    if (!attached.has(net)) {
      if (pick(4) > 0) return connect(net) ?? `connect ${net.name}`
      host.tsnet('network', 'rm', net.name)
      existing.delete(net)
      return `remove ${net.name}`
    }
    return disconnect(net) ?? `disconnect ${net.name}`
  }

  for (let n = 0; n < steps; n++) {
    walked.push(await step())
    const now = [...attached.values()]
    const where = `seed ${seed}, step ${n}: ${walked.slice(-6).join(', ')}`
    const addresses = now.flatMap(({ ifname, addresses }) => addresses.map(address => `${ifname} ${address}`)).sort()
    expect(kernelAddresses(), where).toEqual(addresses)
    for (const six of [false, true]) expect(kernelRoutes(six), where).toEqual(modelRoutes(now, six))
    expect(hostsAddresses(), where).toEqual(addresses.map(text => text.replace(/^\S+ |\/\d+$/g, '')).sort())
    if (n % 20 === 19) expect(host.tsnet('reconcile', '--dry-run'), where).toBe('')
  }
  expect(new Set(walked).size).toBe(13)
})
