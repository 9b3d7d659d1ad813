import { type Answer, callApi } from './api-client.js'
import { Etcd } from './etcd.js'
import { assertBuilt, BareHost, socketPath } from './host.js'
import { cable, Machine } from './machine.js'

/** Addresses of documentation (RFC 5737, RFC 3849) on the one segment that joins everything. */
export const underlay = {
  host4: (n: number): string => `192.0.2.${n}`,
  host6: (n: number): string => `2001:db8:2::${n}`,
  etcd4: (n: number): string => `192.0.2.${100 + n}`,
  outside4: '192.0.2.254',
  outside6: '2001:db8:2::fe',
  /** behind the outside: the way out of every host */
  beyond4: '203.0.113.1',
  beyond6: '2001:db8:200::1',
} as const

/** Keys of the tests in etcd are below this. */
export const keyPrefix = 'tst'

export interface WorldOptions {
  /** h1, h2, ...; 3 when absent */
  hosts?: number
  /** members of etcd: 1 when absent; 0 for none yet */
  etcd?: 0 | 1 | 3
  /** dockerd on every host too */
  docker?: boolean
  /** false: no daemon is started */
  tsnet?: boolean
  /** more options of every daemon */
  options?: string[]
}

/** A host among others: its uplink is a port of the underlay, its daemon knows the cluster's etcd. */
export class ClusterHost extends BareHost {
  /** of the daemon; the world sets it */
  clusterOptions: string[] = []
  readonly n = Number(this.name.slice(1))
  /** where the others send VXLAN packets */
  readonly ip4 = underlay.host4(this.n)
  readonly ip6 = underlay.host6(this.n)

  static override async start(name: string): Promise<ClusterHost> {
    assertBuilt()
    return new ClusterHost(...(await Machine.boot(name)))
  }

  override startTsnet(...options: string[]): Promise<void> {
    return super.startTsnet(...this.clusterOptions, ...options)
  }

  /** The daemon's REST API, without the 0.1 s that the command line takes to start. */
  api(method: string, path: string, body?: unknown): Promise<Answer> {
    return callApi(this.path(socketPath), method, `/v1${path}`, body)
  }

  /** A sandbox attached to a network; its addresses without prefix lengths. */
  attach(network: string, sandbox: string, ...options: string[]): string[] {
    const known = this.request<{ name: string }[]>('GET', '/sandboxes').some(({ name }) => name === sandbox)
    if (!known) this.request('POST', '/sandboxes', { name: sandbox })
    const addresses =
      options.length > 0
        ? this.tsnet('connect', network, sandbox, ...options).split(/\s+/)
        : this.request<{ addresses: string[] }>('POST', `/networks/${network}/connect`, { sandbox }).addresses
    return addresses.map(address => address.split('/')[0]!)
  }
}

/**
 * Hosts joined by one switch, an etcd beside them, and a machine outside, which is every host's way out and knows no way to the
 * networks behind them. Everything is gone when this process ends, however that is.
 */
export class ClusterWorld {
  readonly hosts: ClusterHost[] = []
  outside!: Machine
  etcd!: Etcd
  readonly #etcdPlaces: Machine[] = []
  /** pairs of ports between which nothing passes */
  readonly #cut = new Set<string>()

  private constructor(
    /** the switch: a port by the name of each machine */
    readonly lan: Machine,
    readonly options: WorldOptions,
  ) {}

  static async start(options: WorldOptions = {}): Promise<ClusterWorld> {
    const world = new ClusterWorld(await Machine.start('switch'), options)
    try {
      await world.#build()
      if (options.etcd !== 0) await world.startEtcd()
      await Promise.all(world.hosts.map(host => world.#startHost(host)))
    } catch (error) {
      await world.stop()
      throw error
    }
    return world
  }

  async #build(): Promise<void> {
    const { hosts = 3, etcd = 1 } = this.options
    this.lan.run('ip', 'link', 'add', 'lan0', 'up', 'type', 'bridge', 'mcast_snooping', '0')
    this.lan.run('nft', cutTable)
    this.outside = await Machine.start('outside')
    this.outside.refuseAtOnce()
    const a = underlay
    this.#plug(this.outside, 'outside', a.outside4, a.outside6)
    for (const beyond of [`${a.beyond4}/32`, `${a.beyond6}/128`])
      this.outside.run('ip', 'addr', 'add', beyond, 'dev', 'lo')
    const places = Array.from({ length: Math.max(etcd, 1) }, (_, i) => Machine.start(`etcd${i + 1}`))
    this.#etcdPlaces.push(...(await Promise.all(places)))
    this.#etcdPlaces.forEach((place, i) => {
      this.#plug(place, place.name, a.etcd4(i + 1))
    })
    const booted = Array.from({ length: hosts }, (_, i) => ClusterHost.start(`h${i + 1}`))
    for (const host of await Promise.all(booted)) this.adopt(host)
  }

  /** Connect a host to the switch and tell it of the cluster. */
  adopt(host: ClusterHost): void {
    this.hosts.push(host)
    this.hosts.sort((a, b) => a.n - b.n)
    this.#plug(host, host.name, host.ip4, host.ip6)
    host.run('ip', 'route', 'add', 'default', 'via', underlay.outside4)
    host.run('ip', '-6', 'route', 'add', 'default', 'via', underlay.outside6)
    // refuses at once, so that nobody waits for names that nobody has
    host.run('sh', '-c', `echo nameserver ${underlay.outside4} >/etc/resolv.conf`)
    const identity = ['--host-name', host.name, '--advertise', host.ip4]
    host.clusterOptions = ['--store', this.storeUrl, ...identity, ...(this.options.options ?? [])]
  }

  async #startHost(host: ClusterHost): Promise<void> {
    if (this.options.tsnet !== false) await host.startTsnet()
    if (this.options.docker) await host.startDocker()
  }

  #plug(machine: Machine, port: string, ip4: string, ip6?: string): void {
    const link = machine instanceof ClusterHost ? 'uplink0' : 'eth0'
    cable(this.lan, port, machine, link)
    this.lan.run('ip', 'link', 'set', port, 'master', 'lan0')
    machine.run('ip', 'addr', 'add', `${ip4}/24`, 'dev', link)
    if (ip6) machine.run('ip', 'addr', 'add', `${ip6}/64`, 'dev', link, 'nodad')
  }

  host(n: number): ClusterHost {
    const host = this.hosts.find(host => host.n === n)
    if (!host) throw new Error(`this world has no host h${n}`)
    return host
  }

  get storeUrl(): string {
    return `etcd://${this.#etcdPlaces.map((_, i) => `${underlay.etcd4(i + 1)}:2379`).join(',')}/${keyPrefix}`
  }

  async startEtcd(): Promise<void> {
    const members = this.#etcdPlaces.map((place, i) => ({
      address: underlay.etcd4(i + 1),
      enter: ['nsenter', '-t', String(place.pid), '--net', '--'],
    }))
    this.etcd = await Etcd.start({ members })
  }

  /** The machine of a member of etcd, to cut it off. */
  etcdPlace(index: number): Machine {
    return this.#etcdPlaces[index]!
  }

  /** From now on nothing passes between two machines; nobody is told. Without `other`: between it and everybody. */
  cut(machine: Machine, ...others: Machine[]): void {
    const all = [this.outside, ...this.#etcdPlaces, ...this.hosts].filter(one => one !== machine)
    for (const other of others.length > 0 ? others : all)
      for (const pair of [`"${machine.name}" . "${other.name}"`, `"${other.name}" . "${machine.name}"`])
        this.#cut.add(pair)
    this.#applyCut()
  }

  /** Everything passes again that concerns this machine; without one, everything. */
  mend(machine?: Machine): void {
    for (const pair of this.#cut) if (!machine || pair.includes(`"${machine.name}"`)) this.#cut.delete(pair)
    this.#applyCut()
  }

  #applyCut(): void {
    const pairs = [...this.#cut].join(', ')
    this.lan.run('nft', `flush set bridge cut pairs; ${pairs && `add element bridge cut pairs { ${pairs} }`}`)
  }

  /** The cable out of its port, or in again: the machine sees that its link has no carrier. */
  unplug(machine: Machine): void {
    this.lan.run('ip', 'link', 'set', machine.name, 'down')
  }
  replug(machine: Machine): void {
    this.lan.run('ip', 'link', 'set', machine.name, 'up')
  }

  /** The host ends at once, with its kernel's state, its processes and its disk. */
  async destroy(host: ClusterHost): Promise<void> {
    this.hosts.splice(this.hosts.indexOf(host), 1)
    await host.stop()
    // its end of the cable goes when the kernel gets to it, and takes this one with it
    this.lan.tryRun('ip', 'link', 'del', host.name)
  }

  /** A new host of this number, as it comes out of the box. */
  async bring(n: number): Promise<ClusterHost> {
    const host = await ClusterHost.start(`h${n}`)
    this.adopt(host)
    await this.#startHost(host)
    return host
  }

  /** What etcd has, as etcdctl says: values by their keys without the prefix. */
  async records(): Promise<Map<string, unknown>> {
    interface Answer {
      kvs?: { key: string; value?: string }[]
    }
    const { kvs = [] } = JSON.parse(await this.etcd.ctl('get', '', '--prefix', '-w', 'json')) as Answer
    const plain = (text = ''): string => Buffer.from(text, 'base64').toString()
    return new Map(
      kvs.map(({ key, value }) => {
        const path = plain(key).replace(new RegExp(`^/?${keyPrefix}/`), '')
        return [path, (JSON.parse(plain(value)) as { value: unknown }).value]
      }),
    )
  }

  async stop(): Promise<void> {
    await this.etcd?.stop()
    const machines = [...this.hosts, ...this.#etcdPlaces, this.outside, this.lan]
    await Promise.all(machines.map(machine => machine?.stop()))
  }
}

/** What the switch does not let pass: frames from one port to another. */
const cutTable = `table bridge cut {
  set pairs { type ifname . ifname; }
  chain forward { type filter hook forward priority 0; iifname . oifname @pairs drop; }
}`
