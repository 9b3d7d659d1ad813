import type { ForwardedBridge } from '../cnm/types.js'
import { KeyedLock } from '../locks.js'
import type { Log } from '../log.js'
import type { Backend } from './backend.js'
import { doorObstacles, legacyInput } from './foreign-doors.js'
import { legacyForwardChains, legacyObstacles } from './foreign-legacy.js'
import { type ForeignChain, foreignChains, nftForwardChains, obstaclesOf } from './foreign-nft.js'

/**
 * Other people's firewalls. An accept of ours does not outvote their drop (dockerd sets the policy of iptables' FORWARD to drop), so
 * one rule in their FORWARD chain accepts what carries our mark, which only chain `ours` of ruleset.nft gives. It stands after the jump to
 * DOCKER-USER, where there is one: what an administrator forbids there stays forbidden. Never touched: policies and others' rules.
 */

/** A FORWARD chain of iptables, by either of its kernel sides. */
export interface ForwardChain {
  /** `ip filter FORWARD` */
  readonly name: string
  /** in order; undefined where there is no such chain, which then drops nothing */
  rules(): Promise<ForwardRule[] | undefined>
  /** Delete `stale`, and put our rule after `after`, or first of all: one transaction. */
  put(stale: readonly ForwardRule[], after: ForwardRule | undefined): Promise<void>
  delete(stale: readonly ForwardRule[]): Promise<void>
}

export interface ForwardRule {
  /** by which the chain's program finds it again */
  id: string
  ours: boolean
  jumpsTo: string | undefined
}

/** Our own rules' kernel side, where they are iptables', needs none: they are in its FORWARD chain themselves. */
const forwardChains = ({ name, runner }: Host): ForwardChain[] => [
  ...(runner === undefined || name === 'iptables-nft' ? [] : nftForwardChains(runner)),
  ...(name === 'iptables-legacy' ? [] : legacyForwardChains()),
]

/** What is needed of the backend. */
type Host = Pick<Backend, 'name' | 'runner'>

/** iptables's FORWARD chains accept what our own rules accepted; lists the chains for which that was not so already. */
export async function ensureForeignAccept(host: Host, log: Log): Promise<{ added: string[] }> {
  const added: string[] = []
  for (const chain of forwardChains(host)) {
    const rules = await chain.rules()
    if (!rules) continue
    const userJump = rules.findIndex(rule => rule.jumpsTo === 'DOCKER-USER')
    const ours = rules.findIndex(rule => rule.ours)
    // dockerd puts its own jumps on top whenever it starts; after DOCKER-USER's and ours, nothing of theirs drops what is ours.
    if (ours !== -1 && (ours === userJump + 1 || (userJump === -1 && ours === 0))) continue
    await chain.put(
      rules.filter(rule => rule.ours),
      rules[userJump],
    )
    added.push(chain.name)
    log.info({ chain: chain.name }, 'iptables accepts what tsnet accepted')
  }
  return { added }
}

/** Take our rule out of their chains; absent is fine. */
export async function deleteForeignAccept(host: Host): Promise<void> {
  for (const chain of forwardChains(host)) {
    const ours = ((await chain.rules()) ?? []).filter(rule => rule.ours)
    if (ours.length > 0) await chain.delete(ours)
  }
}

interface ForeignDeps {
  backend: Pick<Backend, 'name' | 'runner' | 'priority'>
  log: Log
  /** something about other firewalls is worth an event */
  told: (words: string) => void
}

/** Other programs' firewalls as the daemon follows them: one word with them where that helps, and what is known of them. */
export class ForeignFirewalls {
  readonly #deps: ForeignDeps
  /** What was read of a chain must still be so when it is written. */
  readonly #locks = new KeyedLock()
  #chains: ForeignChain[] = []
  #obstacles = new Set<string>()

  constructor(deps: ForeignDeps) {
    this.#deps = deps
  }

  /** There is a network to be accepted for, or will be in a moment. */
  accept(): Promise<void> {
    return this.#locks.with('chains', () => this.#accept())
  }

  async #accept(): Promise<void> {
    const { added } = await ensureForeignAccept(this.#deps.backend, this.#deps.log)
    for (const chain of added) this.#deps.told(`iptables accepts in ${chain} what tsnet accepted`)
  }

  /** Look again: these are our networks' bridges, which nobody but the table `inet tsnet` should keep from forwarding. */
  review(bridges: () => readonly ForwardedBridge[]): Promise<void> {
    return this.#locks.with('chains', () => this.#review(bridges()))
  }

  async #review(bridges: readonly ForwardedBridge[]): Promise<void> {
    const { backend, log, told } = this.#deps
    if (bridges.length === 0) {
      await deleteForeignAccept(backend)
      return
    }
    await this.#accept()
    this.#chains = await passedChains(backend)
    const obstacles = new Set(bridges.flatMap(bridge => this.obstacles(bridge)))
    for (const obstacle of obstacles)
      if (!this.#obstacles.has(obstacle)) {
        log.warn({ obstacle }, "another program's firewall drops what tsnet accepts")
        told(`another program's firewall drops what tsnet accepts: ${obstacle}`)
      }
    this.#obstacles = obstacles
  }

  /** Whose rules surely drop new connections from or to the network behind a bridge, or to the host for it, as of the last look. */
  obstacles(bridge: ForwardedBridge): string[] {
    return [
      ...obstaclesOf(this.#chains, bridge, this.#deps.backend.priority),
      ...(bridge.internal ? [] : legacyObstacles()),
      ...doorObstacles(this.#chains, bridge.doors),
    ]
  }
}

/** Other programs' chains that packets of our networks pass, and what comes to the host for them. */
export const passedChains = async ({ runner }: Pick<Backend, 'runner'>): Promise<ForeignChain[]> => [
  ...(runner === undefined ? [] : await foreignChains(runner, ['forward', 'input'])),
  ...(await legacyInput()),
]
