import type {
  Driver,
  Drivers,
  InsideDifference,
  Namespaces,
  Step,
  WantedNetwork,
  WantedSandbox,
} from '../../src/cnm/driver.js'
import type { Endpoint, Network, Sandbox } from '../../src/cnm/types.js'
import { conflict, invalid, notFound } from '../../src/errors.js'

/**
 * A host in memory, for faults that a real one does not have on demand: every verb notes itself and fails when it is the
 * `failAt`-th since `reset`. `state()` is everything that exists, as text, for "after = before".
 */
export class FakeWorld {
  failAt = 0
  #verbs = 0
  readonly networks = new Set<string>()
  readonly links = new Set<string>()
  readonly ports = new Map<string, string>()
  readonly namespaces = new Map<string, string>()

  /** Start counting verbs; the `failAt`-th throws. 0: none does. */
  reset(failAt = 0): void {
    this.failAt = failAt
    this.#verbs = 0
  }

  get verbs(): number {
    return this.#verbs
  }

  state(): string {
    const parts = [this.networks, this.links, this.ports, this.namespaces]
    return JSON.stringify(parts.map(part => [...part].sort()))
  }

  verb(name: string): void {
    if (++this.#verbs === this.failAt) throw new Error(`fault in ${name}`)
  }
}

const networkKey = (network: Network): string => `${network.name} ${network.subnets.map(s => s.subnet).join()}`

function fakeDriver(world: FakeWorld): Driver {
  return {
    scope: 'local',
    segment: 'own',
    parseOptions: raw => {
      if ('wrong' in raw) throw invalid('unknown option wrong')
      return { internal: raw.internal === 'true' }
    },
    optionHelp: () => [],
    ifnamePrefix: () => 'eth',
    validate: () => {},
    async ensureNetwork(network) {
      world.verb('ensureNetwork')
      for (const key of world.networks) if (key.startsWith(`${network.name} `)) world.networks.delete(key)
      world.networks.add(networkKey(network))
    },
    async deleteNetwork(network) {
      for (const key of world.networks) if (key.startsWith(`${network.name} `)) world.networks.delete(key)
    },
    async join(_network, { endpoint, place }) {
      world.verb('join')
      const inside = world.namespaces.get(place?.netns ?? '')
      if (!world.links.has(endpoint.hostLink) && inside?.split('+').includes(place?.ifname ?? ''))
        throw conflict(`there is a link ${place?.ifname} already`)
      world.links.add(endpoint.hostLink)
      if (place !== undefined) world.namespaces.set(place.netns, `${inside}+${place.ifname}`)
    },
    attachment: (network, endpoint) => ({
      link: endpoint.hostLink,
      mtu: 1500,
      gateways: network.subnets[0]?.gateway === undefined ? {} : { 4: network.subnets[0].gateway },
      routes: [],
    }),
    isLost: endpoint => !world.links.has(endpoint.hostLink),
    async deleteEndpoint(_network, { endpoint }) {
      world.links.delete(endpoint.hostLink)
      for (const [path, inside] of world.namespaces)
        if (endpoint.ifname !== undefined) world.namespaces.set(path, inside.replace(`+${endpoint.ifname}`, ''))
    },
    async publish(_network, endpoint, ports) {
      world.verb('publish')
      return ports.map(spec => {
        const hostPort = spec.hostPort?.first ?? 40_000
        world.ports.set(`${hostPort}`, endpoint.name)
        const containerPort = spec.containerPort.first
        return { protocol: spec.protocol, hostIp: '0.0.0.0', hostPort, containerIp: '', containerPort, size: 1 }
      })
    },
    async revoke(_network, _endpoint, bindings) {
      for (const { hostPort } of bindings) world.ports.delete(`${hostPort}`)
    },
  }
}

export const fakeDrivers = (world: FakeWorld): Drivers => {
  const driver = fakeDriver(world)
  return {
    get(type) {
      if (type === 'bridge') return driver
      throw invalid(`unknown driver ${type}`)
    },
    fixed: () => [],
    async plan(wanted: readonly WantedNetwork[]): Promise<Step[]> {
      return wanted
        .filter(({ network }) => !world.networks.has(networkKey(network)))
        .map(({ network }) => ({ words: `create ${network.name}`, apply: () => driver.ensureNetwork(network) }))
    },
    planFirewall: async () => [],
    planTouched: async () => [],
    hasSettings: () => true,
    linkNames: wanted => wanted.flatMap(({ endpoints }) => endpoints.map(({ endpoint }) => endpoint.hostLink)),
    bridges: () => [],
    obstacles: () => [],
    notes: () => [],
    hasLink: name => world.links.has(name),
  }
}

/** Inside of a namespace: its links after `+`, and what was wired last. */
export class FakeNamespaces implements Namespaces {
  readonly wired = new Map<string, string>()
  constructor(readonly world: FakeWorld) {}

  pathOf = (name: string): string => `/run/netns/${name}`
  exists = (path: string): boolean => this.world.namespaces.has(path)
  check(path: string): void {
    if (!this.exists(path)) throw notFound(`no network namespace at ${path}`)
  }
  create({ netns }: Sandbox): void {
    this.world.verb('create namespace')
    this.world.namespaces.set(netns, '')
  }
  delete({ netns }: Sandbox): void {
    this.world.namespaces.delete(netns)
    this.wired.delete(netns)
  }
  freeLinkName(path: string, prefix: string): string {
    let number = 0
    while (this.hasLink(path, `${prefix}${number}`)) number++
    return `${prefix}${number}`
  }
  hasLink(path: string, ifname: string): boolean {
    return this.world.namespaces.get(path)?.split('+').includes(ifname) ?? false
  }
  compare(wanted: WantedSandbox): InsideDifference | undefined {
    const { links, sandbox } = wanted
    if (!this.exists(sandbox.netns)) return undefined
    const missing = links.flatMap(({ ifname }) => (this.hasLink(sandbox.netns, ifname) ? [] : ifname))
    if (missing.length > 0 || this.wired.get(sandbox.netns) === this.#text(wanted)) return { missing }
    return { missing, step: { words: `wire ${sandbox.name}`, apply: () => this.apply(wanted) } }
  }
  apply(wanted: WantedSandbox): void {
    if (wanted.links.length > 0) this.world.verb('wire')
    this.wired.set(wanted.sandbox.netns, this.#text(wanted))
  }
  adjust(): void {}
  identity = (path: string): string => path
  #text({ links, gateways }: WantedSandbox): string {
    return JSON.stringify([links.map(({ ifname, addresses }) => [ifname, addresses]), gateways])
  }
}

export const dockerEndpoint = (
  networkId: string,
  digit: string,
  address: string,
): Pick<Endpoint, 'addresses'> & {
  networkId: string
  endpointId: string
} => ({ networkId, endpointId: digit.repeat(64), addresses: [address] })
