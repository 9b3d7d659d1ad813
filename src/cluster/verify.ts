import type { HostReport } from '../cnm/cluster.js'
import type { Findings } from '../cnm/driver.js'
import { messageOf } from '../errors.js'
import type { Log } from '../log.js'
import { randomId, shortId } from '../names.js'
import type { Change, Entry, Operation, Store } from '../store/store.js'

export const verifyKeys = {
  /** what each host follows */
  requests: 'verify/',
  request: (id: string) => `verify/${id}`,
  answers: (id: string) => `verify-answer/${id}/`,
  answer: (id: string, host: string) => `verify-answer/${id}/${host}`,
}

/** One host asks others what is wrong about a network on them. All that is written about it ends with the asker's lease. */
export interface VerifyRequest {
  networkId: string
  hosts: string[]
  /** the asker's */
  lease: string
}

export interface VerificationDeps {
  shared: Store
  /** this host's name */
  host: string
  isUp: (host: string) => boolean
  /** What is wrong about a network here. */
  look: (networkId: string) => Promise<Findings>
  log: Log
}

/** How much longer than it waits the asker keeps what was written, for answers under way. */
const graceMs = 5_000

/** Hosts ask each other to look at themselves, by way of the store that they share: no host needs to reach another one for that. */
export class Verification {
  readonly #deps: VerificationDeps

  constructor(deps: VerificationDeps) {
    this.#deps = deps
  }

  /** What others ask, as `follow` tells it. */
  readonly requests = {
    reset: (entries: Entry<VerifyRequest>[]): void => {
      for (const { key, value } of entries) this.#hear(key, value)
    },
    apply: (changes: Change<VerifyRequest>[]): void => {
      for (const change of changes) if (change.type === 'put') this.#hear(change.key, change.value)
    },
  }

  /** @param present what there is on the network: the hosts that it is on are asked */
  async ask(networkId: string, present: readonly { host: string }[], timeoutMs: number): Promise<HostReport[]> {
    const hosts = [...new Set(present.map(({ host }) => host))].sort()
    const up = hosts.filter(this.#deps.isUp)
    const answers = up.length === 0 ? new Map<string, Findings>() : await this.#collect(networkId, up, timeoutMs)
    return hosts.map((host): HostReport => {
      const { checked, found } = answers.get(host) ?? { checked: [], found: [] }
      return { host, state: answers.has(host) ? 'answered' : up.includes(host) ? 'silent' : 'down', checked, found }
    })
  }

  async #collect(networkId: string, hosts: string[], timeoutMs: number): Promise<Map<string, Findings>> {
    const { shared } = this.#deps
    const id = shortId(randomId())
    const lease = await shared.lease(timeoutMs + graceMs)
    try {
      const request: VerifyRequest = { networkId, hosts, lease: lease.id }
      const asked = await shared.txn([], [putLeased(verifyKeys.request(id), request, lease.id)])
      const answers = new Map<string, Findings>()
      const prefix = verifyKeys.answers(id)
      for await (const changes of shared.watch<Findings>(prefix, asked, AbortSignal.timeout(timeoutMs))) {
        for (const change of changes)
          if (change.type === 'put') answers.set(change.key.slice(prefix.length), change.value)
        if (answers.size === hosts.length) break
      }
      return answers
    } finally {
      // else it ends by itself
      await lease.revoke().catch(() => undefined)
    }
  }

  #hear(key: string, request: VerifyRequest): void {
    const { host, log } = this.#deps
    if (!request.hosts.includes(host)) return
    this.#answer(key.slice(verifyKeys.requests.length), request).catch(error =>
      log.debug({ err: error }, 'nobody waits any more for what is wrong here'),
    )
  }

  async #answer(id: string, { networkId, lease }: VerifyRequest): Promise<void> {
    const { shared, host, look } = this.#deps
    const answer = await look(networkId).catch(
      (error: unknown): Findings => ({
        checked: [],
        found: [{ check: 'links', words: `it could not be verified: ${messageOf(error)}` }],
      }),
    )
    await shared.txn([], [putLeased(verifyKeys.answer(id, host), answer, lease)])
  }
}

const putLeased = (key: string, value: unknown, lease: string): Operation => ({ type: 'put', key, value, lease })
