import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Driver, OtherHosts, Remote, Step, WantedNetwork, Wiring } from '../../src/cnm/driver.js'
import type { Network, Subnet } from '../../src/cnm/types.js'
import { createDrivers } from '../../src/drivers/index.js'
import { OtherBridges } from '../../src/drivers/other-bridges.js'
import type { OverlayOptions } from '../../src/drivers/overlay/options.js'
import { unavailable } from '../../src/errors.js'
import { createFirewall, createSpoofGuard, type Firewall } from '../../src/firewall/firewall.js'
import { Flows } from '../../src/firewall/flows.js'
import { ensureForeignAccept } from '../../src/firewall/foreign.js'
import { withSpoofGuard } from '../../src/firewall/guarded.js'
import { HostPorts } from '../../src/firewall/host-ports.js'
import type { Nftables } from '../../src/firewall/nft.js'
import { openRunner } from '../../src/firewall/runner.js'
import { noLog } from '../../src/log.js'
import { hostMacOf } from '../../src/names.js'
import { addressOf } from '../../src/net/subnets.js'
import { Conntrack } from '../../src/netlink/conntrack.js'
import { Kernel } from '../../src/netlink/kernel.js'
import { enterNetnsForGood, type Netns } from '../../src/netlink/netns.js'
import { until } from './machine.js'
import { run, runJson, tryRun } from './netns.js'

export type OverlayNetwork = Network<OverlayOptions>

/** What a host asks of the world that it is in. */
interface Told {
  remotes(host: OverlayHost, networkId: string): Remote[] | undefined
  using(networkId: string): OverlayHost[]
}

/** One of the hosts of an OverlayWorld. */
export class OverlayHost {
  kernel: Kernel
  readonly endpoints = new Map<string, { network: OverlayNetwork; wiring: Wiring; netns: string }>()
  driver!: Driver<OverlayOptions>
  firewall!: Firewall
  runner!: Nftables
  plan!: (wanted: readonly WantedNetwork[]) => Promise<Step[]>
  vtep: string | undefined
  close: () => Promise<void> = async () => undefined

  constructor(
    readonly world: Told,
    readonly number: number,
    readonly name: string,
    readonly netns: Netns,
    v6: boolean,
  ) {
    this.kernel = Kernel.open(netns)
    this.vtep = v6 ? `2001:db8::1${number}` : `192.0.2.1${number}`
  }

  /** This process is on the host from here on. */
  enter(): void {
    enterNetnsForGood(this.netns)
  }

  async start(): Promise<void> {
    this.enter()
    const { kernel } = this
    const runner = await openRunner('libnftables')
    this.runner = runner
    this.firewall = withSpoofGuard(createFirewall(runner), createSpoofGuard(runner))
    await this.firewall.ensure()
    const hostPorts = new HostPorts()
    const conntrack = Conntrack.open(this.netns)
    const hostAddresses = () => new Set(kernel.addresses().map(({ address }) => addressOf(address)))
    const drivers = createDrivers({
      kernel,
      firewall: this.firewall,
      hostPorts,
      flows: new Flows(conntrack, hostAddresses, noLog),
      otherBridges: new OtherBridges(kernel, this.firewall),
      acceptForeign: async () => void (await ensureForeignAccept({ name: 'nftables', runner }, noLog)),
      obstacles: () => [],
      unguarded: undefined,
      others: this.others(),
      publishDefault: 'any',
    })
    this.driver = drivers.get('overlay') as Driver<OverlayOptions>
    this.plan = wanted => drivers.plan(wanted)
    this.close = async () => {
      await hostPorts.close()
      conntrack.close()
      runner.close()
      kernel.close()
    }
  }

  /** The daemon ends and starts again: what it knew is gone, what it made is not. */
  async restart(): Promise<void> {
    await this.close()
    this.kernel = Kernel.open(this.netns)
    await this.start()
  }

  others(): OtherHosts {
    return {
      host: this.name,
      underlay: () => {
        if (this.vtep === undefined) throw unavailable('no address for other hosts')
        return { vtep: this.vtep, link: 'eth0' }
      },
      remotes: id => this.world.remotes(this, id),
      vteps: id =>
        this.world
          .using(id)
          .filter(host => host !== this)
          .flatMap(({ vtep }) => vtep ?? []),
    }
  }

  /** The network with what is this host's own of it. */
  view(network: OverlayNetwork): OverlayNetwork {
    const own = ({ family, subnet }: Subnet) =>
      subnet.replace(family === 4 ? /\.0\/.*/ : /\/.*/, family === 4 ? `.${240 + this.number}` : `f${this.number}`)
    return { ...network, subnets: network.subnets.map(subnet => ({ ...subnet, hostAddress: own(subnet) })) }
  }

  wanted(networks: readonly OverlayNetwork[]): WantedNetwork[] {
    return networks.map(network => ({
      network: this.view(network),
      endpoints: [...this.endpoints.values()]
        .filter(one => one.network.id === network.id)
        .map(one => ({ endpoint: one.wiring.endpoint })),
    }))
  }

  async planned(...networks: OverlayNetwork[]): Promise<Step[]> {
    this.enter()
    return await this.plan(this.wanted(networks))
  }

  /** Carries out a plan; returns what it said. */
  async repair(...networks: OverlayNetwork[]): Promise<string[]> {
    const steps = await this.planned(...networks)
    for (const step of steps) await step.apply()
    return steps.map(({ words }) => words)
  }

  own(network: OverlayNetwork): Remote {
    const addresses = this.view(network).subnets.flatMap(({ hostAddress }) => hostAddress ?? [])
    return { mac: hostMacOf(network.id, this.name), addresses, vtep: this.vtep ?? '' }
  }

  /** Everything that networks leave traces in. */
  snapshot(): string {
    const elements = this.run('nft', '-j', 'list', 'table', 'inet', 'tsnet').match(/"elem"/g) ?? []
    const neighbours = this.run('ip', 'neigh', 'show', 'nud', 'permanent')
    // less the multicast groups that every link is in
    const forwarding = this.run('bridge', 'fdb').replace(/^(33:33|01:00).*\n/gm, '')
    return [this.run('ip', '-br', 'address'), forwarding, neighbours, `${elements.length} sets with elements`].join(
      '\n',
    )
  }

  run(...command: string[]): string {
    const [program = '', ...args] = command
    return run(this.name, program, ...args)
  }

  json<T = Record<string, unknown>[]>(...command: string[]): T {
    const [program = '', ...args] = command
    return runJson<T>(this.name, program, ...args)
  }
}

/** Options of a ping that is not expected to be answered: a second tells. */
export const soon = ['-W', '1'] as const

/** One ping is answered, with patience for a busy machine; where none is expected, say `...soon`. */
export const reaches = (from: string, address: string, ...more: string[]): boolean =>
  tryRun(from, 'ping', '-c', '1', '-W', '5', ...more, address).status === 0

/**
 * What a link of a namespace sees while `work` runs: a line for each packet, the inner one included, as tcpdump prints it. A
 * datagram to port 9 of an address behind the link shows that all before it have been seen.
 */
export async function captured(netns: string, link: string, behind: string, work: () => unknown): Promise<string[]> {
  const argv = ['netns', 'exec', netns, 'tcpdump', '-i', link, '--immediate-mode', '-lnve']
  const child = spawn('ip', argv, { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  let text = ''
  child.stderr.on('data', chunk => {
    said += chunk
  })
  child.stdout.on('data', chunk => {
    text += chunk
  })
  const isMark = (packet: string): boolean => packet.includes(`${behind}.9: `)
  await until('tcpdump to listen', () => said.includes('listening on'))
  await work()
  run(netns, 'bash', '-c', `echo > /dev/udp/${behind}/9`)
  await until('tcpdump to see the mark', () => isMark(text))
  child.kill('SIGINT')
  await once(child, 'close')
  // a packet begins with the time; the inner one and all details stand on lines of their own
  const packets = text.replace(/\n(?!\d\d:\d\d:\d\d\.)/g, ' ').split('\n')
  return packets.filter(packet => packet.trim() !== '' && !isMark(packet))
}
