import { statSync } from 'node:fs'
import type { ChangedObjects, NamedWorld, NameService } from '../cnm/names.js'
import type { Network, Sandbox } from '../cnm/types.js'
import { messageOf } from '../errors.js'
import type { Log } from '../log.js'
import { holds } from '../net/subnets.js'
import { openInetSocket } from '../netlink/inet-socket.js'
import { hasCode } from '../netlink/libc.js'
import { type Netns, openNetns } from '../netlink/netns.js'
import { everySeconds } from '../ticks.js'
import { Forwarder } from './forward.js'
import { insideAddress, leaveInside, listenInside, port } from './inside.js'
import { Listener } from './listener.js'
import { loopbackState } from './loopback.js'
import { formatReply, type Query } from './message.js'
import { type Asker, decide } from './resolver.js'
import { hostServers } from './upstream.js'
import { View } from './view.js'

/** How often listeners are compared with what is there: namespaces may go and addresses come without our doing. */
const compareSeconds = 2

export interface NameServerOptions {
  log: Log
  /** the host's resolv.conf */
  resolvConf?: string
}

interface Inside {
  sandbox: Sandbox
  /** device and inode of the namespace */
  identity: string
  /** absent: somebody else answers there, or nobody can yet */
  listener?: Listener
}

interface AtGateway {
  networkId: string
  listener?: Listener
}

/**
 * The resolver: in each sandbox at 127.0.0.11, and for everybody else of a network at the network's gateway address, where
 * that is the host's. Names of the asker's networks are answered, anything else is asked from the host's servers.
 */
export class NameServer implements NameService {
  readonly #log: Log
  readonly #home = identityOf('/proc/self/ns/net')
  /** by sandbox id */
  readonly #inside = new Map<string, Inside>()
  /** namespaces that have a listener, by identity */
  readonly #answered = new Set<string>()
  /** by address */
  readonly #gateways = new Map<string, AtGateway>()
  /** of sandboxes with servers of their own, by sandbox id */
  readonly #own = new Map<string, Forwarder>()
  readonly #host: Forwarder
  readonly #stopComparing: () => void
  /** reasons why an address is not listened at, so that each is told once */
  readonly #told = new Map<string, string>()
  /** ids of sandboxes by the namespace that they are in: more than one where they share it */
  #sharing: Map<string, string[]> | undefined
  #world: NamedWorld = { networks: () => [], sandboxes: () => [], endpoints: () => [], peers: () => [] }
  readonly #view = new View()
  /** what has changed since the view was last asked */
  readonly #changed = new Set<ChangedObjects>()

  constructor({ log, resolvConf }: NameServerOptions) {
    this.#log = log
    this.#host = new Forwarder({
      servers: hostServers(address => this.#gateways.get(address)?.listener !== undefined, resolvConf),
      open: spec => openInetSocket(spec),
    })
    this.#stopComparing = everySeconds(compareSeconds, () => this.#guarded('everything'))
  }

  update(world: NamedWorld, what: ChangedObjects): void {
    this.#world = world
    this.#changed.add(what)
    this.#guarded(what)
  }

  release({ id }: Sandbox): void {
    const inside = this.#inside.get(id)
    if (inside?.listener !== undefined) {
      inside.listener.close()
      this.#answered.delete(inside.identity)
      // one of our making goes with all that is in it
      if (!inside.sandbox.owned) this.#undoRedirect(inside)
    }
    this.#inside.delete(id)
    this.#sharing = undefined
    this.#own.delete(id)
  }

  /**
   * A published port 53 of the same address takes precedence: the kernel redirects what arrives there anyway. Ours is
   * tried again at the next comparison, and is back once the port is free.
   */
  makeRoom(hostIp: string, wanted: number): void {
    if (wanted !== port) return
    for (const [address, { networkId, listener }] of this.#gateways) {
      const clash = hostIp === address || hostIp === (address.includes(':') ? '::' : '0.0.0.0')
      if (!clash || listener === undefined) continue
      listener.close()
      this.#gateways.set(address, { networkId })
    }
  }

  close(): void {
    this.#stopComparing()
    for (const { sandbox } of [...this.#inside.values()]) this.release(sandbox)
    for (const { listener } of this.#gateways.values()) listener?.close()
    this.#gateways.clear()
  }

  /** Names are never a reason for anything else to fail. */
  #guarded(what: ChangedObjects): void {
    try {
      if (what === 'everything') this.#dropGone()
      if (what === 'everything' || what === 'sandboxes') this.#compareSandboxes()
      if (what === 'everything' || what === 'networks') this.#compareGateways()
    } catch (error) {
      this.#log.error({ err: error }, 'could not bring the resolver up to date')
    }
  }

  /** A namespace whose path or process is gone, or is another one now, is kept alive by nothing but our sockets. */
  #dropGone(): void {
    for (const { sandbox, identity, listener } of [...this.#inside.values()])
      if (listener === undefined || identityOf(sandbox.netns) !== identity) this.release(sandbox)
    for (const [address, { listener }] of this.#gateways) if (listener === undefined) this.#gateways.delete(address)
  }

  #compareSandboxes(): void {
    // one that shares another's namespace finds the resolver of that one there
    const own = this.#world.sandboxes().filter(({ shares }) => shares === undefined)
    const wanted = new Map(own.map(sandbox => [sandbox.id, sandbox]))
    for (const { sandbox } of [...this.#inside.values()]) if (!wanted.has(sandbox.id)) this.release(sandbox)
    for (const sandbox of wanted.values()) if (!this.#inside.has(sandbox.id)) this.#listenInside(sandbox)
  }

  #listenInside(sandbox: Sandbox): void {
    const identity = identityOf(sandbox.netns)
    if (identity === undefined || identity === this.#home) return
    const inside: Inside = { sandbox, identity }
    this.#inside.set(sandbox.id, inside)
    this.#sharing = undefined
    // two sandboxes of one namespace share the resolver in it
    if (this.#answered.has(identity)) return
    const listener = this.#attempt(`${insideAddress} in sandbox ${sandbox.name}`, () => {
      const netns = openNetns(sandbox.netns)
      try {
        return this.#openInside(sandbox, identity, netns)
      } finally {
        netns.close()
      }
    })
    if (listener === undefined) return
    inside.listener = listener
    this.#answered.add(identity)
  }

  #openInside(sandbox: Sandbox, identity: string, netns: Netns): Listener | undefined {
    const state = sandbox.owned ? 'free' : loopbackState(netns, insideAddress)
    if (state === 'taken') this.#tell(`${insideAddress} in sandbox ${sandbox.name}`, 'another resolver answers there')
    if (state !== 'free') return undefined
    const answer = (query: Query) => this.#reply(query, this.#askerInside(identity), this.#forwarderOf(sandbox))
    try {
      return listenInside(netns, answer)
    } catch (error) {
      // without nftables in there the port itself is ours, and nobody else in the sandbox may have it
      this.#log.warn(
        { err: error, sandbox: sandbox.name },
        'port 53 of a sandbox is bound, not redirected: its programs cannot have it',
      )
      return new Listener({ address: insideAddress, port }, answer, netns)
    }
  }

  #undoRedirect({ sandbox, identity }: Inside): void {
    if (identityOf(sandbox.netns) !== identity) return
    try {
      const netns = openNetns(sandbox.netns)
      try {
        leaveInside(netns)
      } finally {
        netns.close()
      }
    } catch (error) {
      this.#log.debug({ err: error, sandbox: sandbox.name }, 'the redirection of port 53 is left behind')
    }
  }

  #askerInside(identity: string): Asker {
    if (this.#sharing === undefined) {
      this.#sharing = new Map()
      for (const { sandbox, identity: place } of this.#inside.values())
        this.#sharing.set(place, [...(this.#sharing.get(place) ?? []), sandbox.id])
    }
    return this.#current().inside(this.#sharing.get(identity) ?? [])
  }

  /** `--dns` means servers as the sandbox itself would reach them. */
  #forwarderOf({ id, netns: path, dns }: Sandbox): Forwarder {
    if (dns === undefined || dns.servers.length === 0) return this.#host
    const known = this.#own.get(id)
    if (known !== undefined) return known
    const forwarder = new Forwarder({
      servers: () => dns.servers,
      open: spec => {
        const netns = openNetns(path)
        try {
          return openInetSocket(spec, netns)
        } finally {
          netns.close()
        }
      },
    })
    this.#own.set(id, forwarder)
    return forwarder
  }

  #compareGateways(): void {
    const wanted = new Map<string, Network>()
    for (const network of this.#world.networks())
      for (const { gateway } of network.subnets) if (gateway !== undefined) wanted.set(gateway, network)
    for (const [address, { networkId, listener }] of this.#gateways)
      if (wanted.get(address)?.id !== networkId) {
        listener?.close()
        this.#gateways.delete(address)
      }
    for (const [address, network] of wanted)
      if (!this.#gateways.has(address)) this.#gateways.set(address, this.#listenAt(address, network))
  }

  #listenAt(address: string, { id, name }: Network): AtGateway {
    const answer = (query: Query, from: string) =>
      this.#reply(query, this.#current().at(id, from, isOfNetwork), this.#host)
    const listener = this.#attempt(
      `${address}, the gateway of network ${name}`,
      () => new Listener({ address, port }, answer),
    )
    return { networkId: id, ...(listener === undefined ? {} : { listener }) }
  }

  #attempt(where: string, open: () => Listener | undefined): Listener | undefined {
    try {
      const listener = open()
      if (listener !== undefined) this.#told.delete(where)
      return listener
    } catch (error) {
      // a router's address, a link that is down, a namespace that has just gone: nobody asks there, or later
      if (!hasCode(error, 'EADDRNOTAVAIL')) this.#tell(where, messageOf(error))
      return undefined
    }
  }

  #tell(where: string, reason: string): void {
    if (this.#told.get(where) === reason) return
    this.#told.set(where, reason)
    this.#log.warn({ reason }, `names are not answered at ${where}, port 53`)
  }

  #current(): View {
    if (this.#changed.size > 0) this.#view.update(this.#world, this.#changed)
    this.#changed.clear()
    return this.#view
  }

  #reply(query: Query, asker: Asker | undefined, forwarder: Forwarder): Buffer | Promise<Buffer> {
    if (asker === undefined) return formatReply(query, 'REFUSED')
    const decision = decide(query.question, asker)
    switch (decision.kind) {
      case 'answer': {
        const { type, data } = decision
        return formatReply(
          query,
          'NOERROR',
          data.map(each => ({ type, data: each })),
        )
      }
      case 'empty':
        return formatReply(query, 'NOERROR')
      case 'nxdomain':
        return formatReply(query, 'NXDOMAIN')
      case 'forward':
        return forwarder.ask(query).then(reply => reply ?? formatReply(query, 'SERVFAIL'))
    }
  }
}

const isOfNetwork = (network: Network, address: string): boolean =>
  network.subnets.some(({ subnet }) => subnet.includes(':') === address.includes(':') && holds(subnet, address))

/** Which namespace is at this path; undefined where nothing is. */
function identityOf(path: string): string | undefined {
  try {
    const { dev, ino } = statSync(path)
    return `${dev}:${ino}`
  } catch {
    return undefined
  }
}
