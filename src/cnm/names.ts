import type { Endpoint, Network, Peer, Sandbox } from './types.js'

/** What names are made of, as it is at the moment of the call. An object that has changed is another object. */
export interface NamedWorld {
  networks(): readonly Network[]
  sandboxes(): readonly Sandbox[]
  endpoints(): readonly Endpoint[]
  /** endpoints on other hosts */
  peers(): readonly Peer[]
}

/**
 * Whoever answers questions about names. It can neither fail nor slow down what it is told of: it takes note, opens or
 * closes a socket, and reads the world when it is asked something.
 */
export interface NameService {
  /** A change has been committed, or the kernel made what it should be: `what` is the kind of object that changed. */
  update(world: NamedWorld, what: ChangedObjects): void
  /** Let go of a sandbox's namespace, which is about to be deleted: an open socket would keep it alive. */
  release(sandbox: Sandbox): void
}

export type ChangedObjects = 'networks' | 'sandboxes' | 'endpoints' | 'peers' | 'everything'

/** For a controller that nobody asks about names. */
export const noNames: NameService = { update() {}, release() {} }

/** What dockerd says of the objects that it made through us. It never says so in a plugin call. */
export interface DockerNames {
  networks: { id: string; name: string }[]
  endpoints: { id: string; name: string; aliases: string[] }[]
  /** names of all containers that there are; absent: not asked */
  containers?: string[]
}
