import type { Endpoint, Family, Network, PortBinding, Route } from './types.js'

/** One difference between what should be and what is, and how to remove it. `tsnet reconcile --dry-run` prints the words. */
export interface Step {
  /** `create bridge br-4f1c09d2ab17 of network web` */
  words: string
  apply(): void | Promise<void>
}

/** Where the sandbox's end of an endpoint goes. Docker's containers have no place: dockerd fetches the link from the host. */
export interface Place {
  /** path of the namespace */
  netns: string
  /** name of the link in there */
  ifname: string
}

/** What a sandbox has to know of an endpoint to use it. */
export interface Attachment {
  /** the link's name in the sandbox's namespace, or in the host's when there is no place */
  link: string
  /** `eth`: what the link's name inside starts with, unless the user chose one */
  ifnamePrefix: string
  mtu: number
  gateways: Partial<Record<Family, string>>
  routes: Route[]
}

export interface Wiring {
  endpoint: Endpoint
  place?: Place
}

/** A network with everything that should be attached to it. */
export interface WantedNetwork<Options = unknown> {
  network: Network<Options>
  endpoints: Wiring[]
}

/**
 * What a kind of network must be able to do. Every verb states an end, not a step: called again with the same
 * arguments it changes nothing. None takes a lock: the controller holds the network's.
 */
export interface Driver<Options = unknown> {
  readonly scope: 'local' | 'global'
  /** Pure. @throws {NetError} InvalidParameter: unknown key (naming the nearest), or a value that its row does not allow */
  parseOptions(raw: Readonly<Record<string, string>>): Options
  /** Rows for help texts and documents: short name, Docker's name, default, help. */
  optionHelp(): OptionHelp[]
  /** Refuse what cannot work, before anything is made. `others` are the networks of this driver. */
  validate(network: Network<Options>, others: readonly Network<Options>[]): void
  ensureNetwork(network: Network<Options>): Promise<void>
  deleteNetwork(network: Network<Options>): Promise<void>
  /** Make the endpoint's links, and the sandbox's end in its place. */
  join(network: Network<Options>, wiring: Wiring): Promise<void>
  attachment(network: Network<Options>, endpoint: Endpoint): Attachment
  deleteEndpoint(network: Network<Options>, endpoint: Endpoint): Promise<void>
  /** Make exactly `endpoint.ports` reachable from outside; returns what was granted. Absent: this kind of network publishes nothing. */
  publish?(network: Network<Options>, endpoint: Endpoint): Promise<PortBinding[]>
  revoke?(network: Network<Options>, endpoint: Endpoint): Promise<void>
  /** Every difference between what is wanted and what the kernel has, in the order in which to remove them. */
  plan(wanted: readonly WantedNetwork<Options>[]): Promise<Step[]>
}

export interface OptionHelp {
  name: string
  alias?: string
  default: string
  help: string
}
