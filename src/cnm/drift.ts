import { Damper } from '../damper.js'
import { messageOf } from '../errors.js'
import type { KeyedLock } from '../locks.js'
import { Mender } from '../mender.js'
import { networkLock, sandboxLock } from './deps.js'
import type { Step, WantedNetwork } from './driver.js'
import type { EndpointDeps } from './endpoints.js'
import { isPresent } from './membership.js'
import { insideSteps, linkSteps, tellChange, tellFailure, wantedNetwork } from './reconcile.js'
import { tellDamage } from './repair.js'
import type { Endpoint, Network, Touches } from './types.js'

interface Told {
  link?: string
  entry?: string
  settings?: true
  words: readonly string[]
}

/** So many networks' sysctls are looked at in one turn: a read is some 10 microseconds. */
const networksAtOnce = 16

/**
 * What others change of ours is put back at once: of one network, or inside one sandbox, at a time. Our own changes are told like
 * all others, and found right.
 */
export class Drift {
  readonly #deps: EndpointDeps
  readonly #locks: KeyedLock
  readonly #mender: Mender<Told>
  /** failures that were told, by what they are of: until they end they are told once */
  readonly #failures = new Map<string, ReadonlyMap<string, string>>()
  #nextNetwork = 0

  constructor(deps: EndpointDeps, locks: KeyedLock) {
    this.#deps = deps
    this.#locks = locks
    this.#mender = new Mender({
      damper: new Damper(),
      look: (key, told) => this.#look(key, told),
      failed: (key, error) => deps.log.error({ err: error, key }, `could not repair: ${messageOf(error)}`),
      fought: (key, pauseMs) => this.fought(this.#nameOf(key), pauseMs),
    })
  }

  stop(): void {
    this.#mender.stop()
  }

  touched(touches: Touches): void {
    const { state, drivers } = this.#deps
    for (const network of state.networks()) {
      for (const [entry, words] of touches.entries.get(network.id) ?? []) this.#tell(network, { entry, words })
      const wanted = touches.lost || touches.links.size > 0 ? wantedNetwork(this.#deps, network) : undefined
      if (wanted === undefined) continue
      const own = new Set(drivers.linkNames([wanted]))
      for (const { endpoint } of wanted.endpoints) own.delete(endpoint.hostLink)
      for (const link of own) this.#networkLinkTouched(wanted, link, wordsOf(touches, link))
      for (const { endpoint } of wanted.endpoints) {
        const words = wordsOf(touches, endpoint.hostLink)
        if (words === undefined) continue
        const isGone = touches.gone.has(endpoint.hostLink) || (touches.lost && !drivers.hasLink(endpoint.hostLink))
        // a container's end is dockerd's to make
        if (isGone && endpoint.sandboxId !== undefined) this.#mender.tell(sandboxLock(endpoint.sandboxId), { words })
        if (!isGone) this.#tell(network, { link: endpoint.hostLink, words })
      }
    }
    for (const [id, words] of touches.sandboxes) this.#mender.tell(sandboxLock(id), { words })
  }

  #networkLinkTouched({ network, endpoints }: WantedNetwork, link: string, words: readonly string[] | undefined): void {
    if (words === undefined) return
    this.#tell(network, { link, words })
    const isLan = this.#deps.drivers.get(network.driver).segment === 'lan'
    for (const { sandboxId } of endpoints.map(({ endpoint }) => endpoint)) {
      if (sandboxId === undefined) continue
      const key = sandboxLock(sandboxId)
      // What stands on a link of the LAN goes with it, and can come again when that does. What could not be repaired, or is being
      // repaired, may have lacked this link.
      if (isLan || this.#failures.has(key) || this.#mender.isBusy(key)) this.#mender.tell(key, { words })
    }
  }

  /** Of what news is wanted, besides that of links and addresses. */
  needs(): { entries: boolean; routes: boolean } {
    const networks = this.#deps.state.networks()
    return {
      entries: networks.some(network => network.scope === 'global' && isPresent(this.#deps, network)),
      routes: networks.some(
        ({ scope, subnets }) => scope === 'local' && subnets.some(s => s.hostAddress !== undefined),
      ),
    }
  }

  /** A network stands on this link, which is somebody else's. */
  standsOn(link: string): boolean {
    const { state, drivers } = this.#deps
    return state
      .networks()
      .filter(network => drivers.get(network.driver).segment === 'lan')
      .some(network => drivers.linkNames([{ network, endpoints: [] }]).includes(link))
  }

  /** Whose link in the host's namespace this is, if it is there for an endpoint. */
  endOf(link: string): { network: Network; endpoint: Endpoint } | undefined {
    const endpoint = this.#deps.state.endpointOfLink(link)
    const network = endpoint && this.#deps.state.networkOf(endpoint)
    return endpoint?.state === 'joined' && network !== undefined ? { network, endpoint } : undefined
  }

  /** Namespaces in which something is ours to keep. */
  sandboxes(): { id: string; netns: string }[] {
    const { state } = this.#deps
    const used = new Set(state.endpoints().flatMap(({ sandboxId, state }) => (state === 'joined' ? sandboxId : [])))
    return state.sandboxes().filter(({ id, shares }) => shares === undefined && used.has(id))
  }

  /** The sysctls of some networks, others each time: nobody tells when one is changed. */
  lookAtSettings(): void {
    const { state, drivers } = this.#deps
    const networks = state.networks()
    for (let i = 0; i < Math.min(networksAtOnce, networks.length); i++) {
      const network = networks[this.#nextNetwork++ % networks.length]
      if (network === undefined || !isPresent(this.#deps, network) || drivers.hasSettings(network)) continue
      this.#tell(network, { settings: true, words: [`sysctls of network ${network.name} were changed`] })
    }
  }

  /** Somebody undoes what we do, again and again. */
  fought(name: string, pauseMs: number): void {
    const words = `another program changes ${name} again and again: left alone for ${pauseMs / 1000} s`
    this.#deps.events.emit({ type: 'host', action: 'fight', words })
    this.#deps.log.warn({ pauseMs }, words)
  }

  #tell(network: Network, told: Told): void {
    this.#mender.tell(networkLock(network.id), told)
  }

  #look(key: string, told: readonly Told[]): Promise<string[]> {
    const [kind = '', id = ''] = key.split(':')
    return kind === 'network' ? this.#repairNetwork(id, told) : this.#repairSandbox(id, told)
  }

  #repairNetwork(id: string, told: readonly Told[]): Promise<string[]> {
    return this.#locks.with(networkLock(id), async () => {
      const network = this.#deps.state.networkById(id)
      const wanted = network && wantedNetwork(this.#deps, network)
      if (wanted === undefined) return []
      const links = new Set(told.flatMap(({ link }) => link ?? []))
      const entries = new Set(told.flatMap(({ entry }) => entry ?? []))
      const settings = told.some(one => one.settings === true)
      return await this.#carryOut(networkLock(id), told, [
        () => this.#deps.drivers.planTouched(wanted, { links, entries, settings }),
      ])
    })
  }

  #repairSandbox(id: string, told: readonly Told[]): Promise<string[]> {
    const networks = this.#deps.state.endpointsOfSandbox(id).map(({ networkId }) => networkLock(networkId))
    return this.#locks.withAll([sandboxLock(id), ...networks], async () => {
      const sandbox = this.#deps.state.sandboxById(id)
      // nothing is ours in the namespace of one that is on no network
      if (networks.length === 0 || sandbox === undefined || sandbox.shares !== undefined) return []
      if (!this.#deps.namespaces.exists(sandbox.netns)) return []
      const right = new Set<string>()
      return await this.#carryOut(sandboxLock(id), told, [
        () => linkSteps(this.#deps, [sandbox], right),
        () => insideSteps(this.#deps, [sandbox], right),
      ])
    })
  }

  /** Says what was to be done. What fails in the same way as before is no news. */
  async #carryOut(key: string, told: readonly Told[], stages: readonly (() => Promise<Step[]>)[]): Promise<string[]> {
    const failed = this.#failures.get(key) ?? new Map<string, string>()
    const failing = new Map<string, string>()
    const found: string[] = []
    let said = false
    for (const plan of stages)
      for (const step of await plan()) {
        found.push(step.words)
        if (!failed.has(step.words) && !said) tellDamage(this.#deps, inWords(told))
        said ||= !failed.has(step.words)
        const failure = await attempt(this.#deps, step, failed.get(step.words))
        if (failure !== undefined) failing.set(step.words, failure)
      }
    if (failing.size > 0) this.#failures.set(key, failing)
    else this.#failures.delete(key)
    return found
  }

  #nameOf(key: string): string {
    const [kind = '', id = ''] = key.split(':')
    return kind === 'network'
      ? `network ${this.#deps.state.networkById(id)?.name}`
      : `sandbox ${this.#deps.state.sandboxById(id)?.name}`
  }
}

const wordsOf = ({ links, lost }: Touches, link: string): readonly string[] | undefined =>
  links.get(link) ?? (lost ? [lostWords] : undefined)

/** Carry out one step; what fails as it did the last time is not told again. Returns the failure. */
async function attempt(deps: EndpointDeps, step: Step, before: string | undefined): Promise<string | undefined> {
  try {
    await step.apply()
  } catch (error) {
    const failure = messageOf(error)
    if (failure !== before) tellFailure(deps, step, error)
    return failure
  }
  tellChange(deps, step)
  return undefined
}

const lostWords = 'more was changed than could be followed'
const wordsAtMost = 4

function inWords(told: readonly Told[]): string {
  const all = [...new Set(told.flatMap(({ words }) => words))]
  const more = all.length > wordsAtMost ? [`and ${all.length - wordsAtMost} more`] : []
  return [...all.slice(0, wordsAtMost), ...more].join('; ')
}
