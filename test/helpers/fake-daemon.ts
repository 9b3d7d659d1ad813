import { Controller } from '../../src/cnm/controller.js'
import type { Containers } from '../../src/cnm/driver.js'
import { EventLog } from '../../src/cnm/event-log.js'
import { type NameService, noNames } from '../../src/cnm/names.js'
import { ensureFixedNetworks } from '../../src/cnm/networks.js'
import { State } from '../../src/cnm/state.js'
import { notFound } from '../../src/errors.js'
import { Ipam } from '../../src/ipam/ipam.js'
import { noLog } from '../../src/log.js'
import { MemoryStore } from '../../src/store/memory.js'
import { FakeNamespaces, FakeWorld, fakeDrivers } from './fake-world.js'

/** A controller on a host in memory; `restart` is a new daemon on the same host and store. */
export class FakeDaemon {
  readonly world = new FakeWorld()
  readonly store = new MemoryStore()
  readonly namespaces = new FakeNamespaces(this.world)
  hostSubnets: string[] = []
  names: NameService = noNames
  ipam!: Ipam
  cnm!: Controller
  events!: EventLog
  /** what Docker would say of its containers */
  containers: Containers = {
    find: async ref => {
      throw notFound(`Docker has no container ${ref}`)
    },
  }

  static async start(): Promise<FakeDaemon> {
    const daemon = new FakeDaemon()
    await daemon.restart()
    return daemon
  }

  async restart(): Promise<void> {
    const { store, world, namespaces } = this
    const hostSubnets = () => this.hostSubnets
    this.ipam = new Ipam({ store, hostSubnets, hostId: 'test', coolDownMs: 0 })
    await this.ipam.load()
    this.events = new EventLog()
    const state = new State(store)
    await state.load()
    const drivers = fakeDrivers(world)
    const { ipam, containers, events, names } = this
    const deps = { state, ipam, drivers, namespaces, containers, names, hostSubnets, events, log: noLog }
    this.cnm = new Controller(deps)
    await ensureFixedNetworks(deps)
  }

  /** Everything that exists: on the host, in the store, in the address pools. */
  async everything(): Promise<string> {
    const { entries } = await this.store.list('')
    const stored = entries.filter(entry => !entry.key.startsWith('ipam/')).map(entry => entry.value)
    const pools = this.ipam.pools().map(({ id, subnet, owner }) => [subnet, owner, this.ipam.addresses(id)])
    return JSON.stringify([this.world.state(), stored, pools])
  }
}

export const lab = { name: 'lab', subnets: ['10.30.0.0/24'] }

export const dockerId = 'd'.repeat(64)
export const pool = {
  family: 4 as const,
  assignedBy: 'docker' as const,
  subnet: '172.30.0.0/24',
  auxAddresses: {},
}
export const tcp80 = [
  { protocol: 'tcp' as const, hostPort: { first: 8080, last: 8080 }, containerPort: { first: 80, last: 80 } },
]
