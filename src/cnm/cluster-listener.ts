import { messageOf } from '../errors.js'
import type { ClusterAddresses } from '../ipam/types.js'
import { addressOf } from '../net/subnets.js'
import { eventsOf } from './changes.js'
import type { Cluster, ClusterListener } from './cluster.js'
import type { EndpointDeps } from './endpoints.js'
import { verifyHere } from './hosts.js'
import { memberOwner } from './membership.js'
import type { Endpoint, Network } from './types.js'

/** What the controller does for the listener: with its locks. */
export interface ListenerActions {
  /** Detach an endpoint of this host, whoever made it, and put its sandbox in order. */
  detach(endpoint: Endpoint, network: Network): Promise<void>
  reconcile(): Promise<unknown>
  addresses: ClusterAddresses
}

/** What this host does when the cluster's store answers, and when other hosts change something. */
export function clusterListener(deps: EndpointDeps, cluster: Cluster, actions: ListenerActions): ClusterListener {
  const { state, drivers, names, events, log } = deps

  /** Always said: whoever looks after the machine has to learn why a sandbox is without its network. */
  const detach = async (endpoint: Endpoint, network: Network, because: string): Promise<void> => {
    const words = `endpoint ${endpoint.name} left network ${network.name}: ${because}`
    try {
      await actions.detach(endpoint, network)
      events.emit({
        type: 'cluster',
        action: 'lost',
        id: endpoint.id,
        name: endpoint.name,
        network: network.name,
        words,
      })
      log.error({ network: network.name, endpoint: endpoint.name }, words)
    } catch (error) {
      log.error({ network: network.name, endpoint: endpoint.name, err: error }, `${words}, but ${messageOf(error)}`)
    }
  }

  return {
    endpointsOf: networkId =>
      state
        .endpointsOfNetwork(networkId)
        .filter(endpoint => endpoint.state === 'joined')
        .map(endpoint => ({ endpoint, sandbox: state.sandboxNameOf(endpoint) })),

    async reclaim() {
      for (const { poolId, address, owner, by, host } of await actions.addresses.resync()) {
        const network = state.networks().find(({ subnets }) => subnets.some(subnet => subnet.poolId === poolId))
        const endpoint = state.endpoint(owner)
        const because = `its address ${address} was given to ${by}${host === undefined ? '' : ` on host ${host}`} while this host was away`
        if (network === undefined) continue
        if (endpoint !== undefined) await detach(endpoint, network, because)
        const member = owner === memberOwner(cluster.host) ? cluster.member(network.id) : undefined
        // the reconcile that follows gets another one
        if (member !== undefined)
          await cluster.reduceMember({
            ...member,
            addresses: member.addresses.filter(cidr => addressOf(cidr) !== address),
          })
      }
    },

    async up() {
      await actions.reconcile()
      events.emit({ type: 'cluster', action: 'up', name: cluster.host, words: "the cluster's store answers" })
    },

    down(because) {
      events.emit({ type: 'cluster', action: 'down', name: cluster.host, words: because })
    },

    verify: networkId => verifyHere(deps, networkId),

    networkChanged(before, after) {
      for (const event of eventsOf({
        of: 'network',
        ...(before === undefined ? {} : { before }),
        ...(after === undefined ? {} : { after }),
      }))
        events.emit(event)
      names.update(state, 'networks')
      if (before === undefined || after !== undefined) return
      for (const endpoint of state.endpointsOfNetwork(before.id))
        void detach(endpoint, before, 'the network was removed while this host was away')
      actions.addresses
        .releaseMade(before.subnets.map(({ poolId }) => poolId))
        .catch(error =>
          log.warn({ network: before.name, err: error }, `could not release its pools yet: ${messageOf(error)}`),
        )
    },

    remotesChanged(networkId, before, after) {
      const network = cluster.networks().find(({ id }) => id === networkId)
      if (network !== undefined && before.length + after.length > 0)
        drivers
          .get(network.driver)
          .updateRemotes?.(network, before, after)
          ?.catch(error =>
            log.error({ network: network.name, err: error }, `could not follow the cluster: ${messageOf(error)}`),
          )
      names.update(state, 'peers')
    },
  }
}
