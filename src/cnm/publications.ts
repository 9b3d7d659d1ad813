import { conflict, doing, invalid, notFound } from '../errors.js'
import type { KeyedLock } from '../locks.js'
import { clash, formatBinding, formatPortSpec, specOf } from '../ports/spec.js'
import { withUndo } from '../undo.js'
import { networkLock } from './deps.js'
import { asLive, specsOf } from './docker-ports.js'
import type { Replaced } from './driver.js'
import { candidateOf, type EndpointDeps } from './endpoints.js'
import { byPreference } from './gateways.js'
import type { LivePorts } from './kept-ports.js'
import type { PublishSpec } from './specs.js'
import type { Endpoint, Network, PortBinding, PortSpec } from './types.js'

/** Ports of endpoints that run already, whoever attached them: `tsnet publish`. */
export class Publications {
  readonly #deps: EndpointDeps
  readonly #locks: KeyedLock

  constructor(deps: EndpointDeps, locks: KeyedLock) {
    this.#deps = deps
    this.#locks = locks
  }

  /** Publish one port; with `replace`, whoever has it loses it in the same moment. Returns the endpoint as it is now. */
  add(ref: string, { port, network, replace = false }: PublishSpec): Promise<Endpoint> {
    if (replace && port.hostPort === undefined)
      throw invalid(`port ${formatPortSpec(port)}: replace needs a host port, such as 8080:80`)
    return doing(`publish ${formatPortSpec(port)} for ${ref}`, async () => {
      const chosen = this.#choose(ref, network)
      const holders = replace ? this.#holding(port).map(({ networkId }) => networkId) : []
      const keys = [chosen.networkId, ...holders].map(networkLock)
      return await this.#locks.withAll([...new Set(keys)], () => this.#add(chosen.id, port, replace))
    })
  }

  /** Revoke everything that this very `-p` or `publish add` has published. */
  remove(ref: string, { port, network }: PublishSpec): Promise<void> {
    const text = formatPortSpec(port)
    return doing(`unpublish ${text} of ${ref}`, async () => {
      if (await this.#forget(ref, text, network)) return
      const { id, networkId } = this.#choose(ref, network)
      await this.#locks.with(networkLock(networkId), async () => {
        const [endpoint, of] = this.#running(id)
        const ended = endpoint.bindings.filter(binding => specOf(binding) === text)
        if (ended.length === 0)
          throw notFound(`${endpoint.name} publishes no ${text} on network ${of.name}${has(endpoint)}`)
        const driver = this.#deps.drivers.get(of.driver)
        const updated = without(endpoint, ended)
        await withUndo(async undo => {
          undo.add('publish the port again', () => driver.republish?.(of, endpoint, ended))
          await driver.revoke?.(of, endpoint, ended)
          await this.#deps.state.putEndpoints([updated], this.#live(updated))
        })
        await driver.endFlows?.(of, ended)
      })
    })
  }

  /** Of a container of Docker's that does not run now, what is kept for its next life. */
  async #forget(name: string, text: string, networkRef: string | undefined): Promise<boolean> {
    const { state } = this.#deps
    if (state.endpoints().some(endpoint => endpoint.name === name)) return false
    const networkId = networkRef === undefined ? undefined : state.network(networkRef).id
    const kept = state.livePorts().filter(of => of.name === name && (networkId ?? of.networkId) === of.networkId)
    const fewer = kept
      .map(of => ({ ...of, ports: of.ports.filter(port => formatPortSpec(port) !== text) }))
      .filter(({ ports }, i) => ports.length !== kept[i]?.ports.length)
    if (fewer.length > 0) await state.putEndpoints([], fewer)
    return fewer.length > 0
  }

  async #add(id: string, port: PortSpec, replace: boolean): Promise<Endpoint> {
    const { state, drivers } = this.#deps
    const [endpoint, network] = this.#running(id)
    const driver = drivers.get(network.driver)
    const losers = new Map<Endpoint, PortBinding[]>()
    const giveWay: Replaced = wanted => {
      const holders = this.#holding(port)
      for (const holder of replace ? holders : holders.filter(other => other.id === id)) {
        const specs = new Set(holder.bindings.filter(b => wanted.some(w => clash(b, w))).map(specOf))
        if (specs.size === 0) continue
        if (!replace) throw conflict(`${endpoint.name} publishes it already${has(endpoint)}; --replace changes it`)
        losers.set(
          holder,
          holder.bindings.filter(b => specs.has(specOf(b))),
        )
      }
      return [...losers].map(([loser, bindings]) => ({
        network: this.#deps.state.network(loser.networkId),
        endpoint: loser,
        bindings,
      }))
    }
    return await withUndo(async undo => {
      const granted = ((await driver.publish?.(network, endpoint, [port], giveWay)) ?? []).map(asLive)
      for (const [loser, lost] of losers)
        undo.add(`give ${loser.name} its ports back`, () => this.#giveBack(loser, lost))
      // done first: the firewall knows a host port's element by the port, whoever has it
      undo.add('revoke the port', () => driver.revoke?.(network, endpoint, granted))
      const changed = new Map([...losers].map(([loser, lost]) => [loser.id, without(loser, lost)]))
      const now = changed.get(id) ?? endpoint
      changed.set(id, { ...now, bindings: [...now.bindings, ...granted] })
      const updated = [...changed.values()]
      await state.putEndpoints(
        updated,
        updated.flatMap(each => this.#live(each)),
      )
      return changed.get(id) ?? endpoint
    })
  }

  async #giveBack(loser: Endpoint, lost: PortBinding[]): Promise<void> {
    const network = this.#deps.state.network(loser.networkId)
    await this.#deps.drivers.get(network.driver).republish?.(network, loser, lost)
  }

  /** Endpoints that have something at these host ports, at whatever address. */
  #holding({ protocol, hostPort }: PortSpec): Endpoint[] {
    if (hostPort === undefined) return []
    const isAt = (b: PortBinding): boolean =>
      b.protocol === protocol && b.hostPort <= hostPort.last && hostPort.first < b.hostPort + b.size
    return this.#deps.state.endpoints().filter(endpoint => endpoint.bindings.some(isAt))
  }

  /** What is to be kept of a container's ports for its next life. */
  #live(endpoint: Endpoint): LivePorts[] {
    if (endpoint.createdBy !== 'docker') return []
    const { networkId, name } = endpoint
    return [{ networkId, name, ports: specsOf(endpoint.bindings.filter(({ live }) => live)) }]
  }

  #running(id: string): [Endpoint, Network] {
    const endpoint = this.#deps.state.endpoint(id)
    if (endpoint === undefined) throw notFound('the endpoint has gone meanwhile')
    return [endpoint, this.#deps.state.network(endpoint.networkId)]
  }

  /** By the name or id of a sandbox, an endpoint or a container: on the network that is named, else on that of its default route. */
  #choose(ref: string, networkRef: string | undefined): Endpoint {
    const { state, drivers } = this.#deps
    const onNetwork = networkRef === undefined ? undefined : state.network(networkRef)
    const named = state.endpoints().filter(endpoint => this.#isCalled(endpoint, ref) && endpoint.state === 'joined')
    const found = named.filter(({ networkId }) => onNetwork === undefined || networkId === onNetwork.id)
    if (found.length === 0)
      throw notFound(`nothing called ${ref} is attached to ${onNetwork ? `network ${onNetwork.name}` : 'a network'}`)
    const publishing = byPreference(found.map(endpoint => candidateOf(this.#deps, endpoint))).filter(
      ({ network }) => drivers.get(network.driver).publish !== undefined && !network.internal,
    )
    if (publishing[0] !== undefined) return publishing[0].endpoint
    const names = found.map(({ networkId }) => state.network(networkId).name)
    throw invalid(`${ref} is attached to ${names.join(' and ')} alone, where no ports are published`)
  }

  #isCalled(endpoint: Endpoint, ref: string): boolean {
    const { id, name, sandboxId, aliases } = endpoint
    if (id === ref || name === ref || sandboxId === ref) return true
    if (!/^[0-9a-f]{12,64}$/.test(ref)) return false
    // dockerd makes a container's short id an alias of it
    return [id, sandboxId ?? ''].some(known => known.startsWith(ref)) || aliases.includes(ref.slice(0, 12))
  }
}

function without(endpoint: Endpoint, ended: readonly PortBinding[]): Endpoint {
  const specs = new Set(ended.filter(b => b.live === undefined).map(specOf))
  return {
    ...endpoint,
    bindings: endpoint.bindings.filter(binding => !ended.includes(binding)),
    // dockerd's are compared with what it asks for next
    ports: endpoint.createdBy === 'docker' ? endpoint.ports : endpoint.ports.filter(p => !specs.has(formatPortSpec(p))),
  }
}

const has = ({ bindings }: Endpoint): string =>
  bindings.length === 0 ? '' : ` (it has ${bindings.map(formatBinding).join(', ')})`
