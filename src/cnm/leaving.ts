import { setImmediate as turn } from 'node:timers/promises'
import { addressOf } from '../net/subnets.js'
import { withUndo } from '../undo.js'
import type { CnmDeps } from './deps.js'
import { attached, type EndpointDeps, rewire, wiringOf } from './endpoints.js'
import { cleanUp } from './leftovers.js'
import { subnetOf } from './networks.js'
import type { Endpoint, Network, Sandbox } from './types.js'

/**
 * Detach a sandbox of ours from one of its networks: first the default route goes by another, then the endpoint is forgotten with
 * the network's lock held (`forget`). The caller holds the sandbox's lock.
 */
export async function detach(
  deps: EndpointDeps,
  sandbox: Sandbox,
  endpoint: Endpoint,
  forget: () => Promise<Leaving>,
): Promise<Leaving> {
  const isLast = attached(deps, sandbox).every(({ id }) => id === endpoint.id)
  const tidy = async (): Promise<void> => rewire(deps, sandbox, endpoint)
  const leaving = await withUndo(async undo => {
    undo.add(`put sandbox ${sandbox.name} back in order`, () => rewire(deps, sandbox))
    if (!isLast) await tidy()
    return await forget()
  })
  // then its files alone are left to be put right, which has time until the kernel has deleted the link
  if (isLast) await cleanUp(deps, `write the files of sandbox ${sandbox.name}`, tidy)
  return leaving
}

/** What goes on after an endpoint is forgotten; nobody holds a lock for it. To be called in this order. */
export interface Leaving {
  /** Its links are gone, and so its interface; its addresses are free. */
  gone(): Promise<void>
  /** The connections that came by its ports have ended. */
  ended(): Promise<void>
}

/**
 * Forget an endpoint, whichever door made it; absent parts are fine. The caller holds the network's lock. What a crash leaves
 * after this has nobody it belongs to, which is how start-up finds it; so does what is left of a network that is no more.
 */
export async function forgetEndpoint(
  deps: EndpointDeps,
  network: Network | undefined,
  endpoint: Endpoint,
): Promise<Leaving> {
  if (network === undefined) {
    await deps.state.deleteEndpoint(endpoint)
    return { gone: async () => undefined, ended: async () => undefined }
  }
  const driver = deps.drivers.get(network.driver)
  const wiring = wiringOf(deps, endpoint)
  const releases = addressesOf(network, endpoint).map(({ poolId, address }) =>
    deps.ipam.startRelease(poolId, address, endpoint.id),
  )
  const what = `of endpoint ${endpoint.name} of network ${network.name}`
  let first: Promise<void> | undefined
  const deleteLink = (): void => {
    first = driver.deleteEndpoint(network, wiring)
    first.catch(() => undefined) // told by `gone`
  }
  await withUndo(async undo => {
    const forgotten = deps.state.deleteEndpoint(
      endpoint,
      releases.flatMap(({ parts }) => parts),
    )
    if (canMakeAgain(network, endpoint)) {
      // Store and kernel have threads of their own. What the store refuses, as where the disk is full, it mostly refuses at once.
      await Promise.race([forgotten, turn()])
      deleteLink()
      undo.add(`make the link ${what} again`, () => joinAgain(deps, network, endpoint, first))
    }
    await forgotten
  })
  if (first === undefined) deleteLink()
  // while the kernel deletes the link
  await cleanUp(deps, `revoke the ports ${what}`, async () => driver.revoke?.(network, endpoint, endpoint.bindings))
  const linkIsGone = (): Promise<void> => {
    const tried = first ?? driver.deleteEndpoint(network, wiring)
    first = undefined
    return tried
  }
  return {
    async gone() {
      await cleanUp(deps, `delete the link ${what}`, linkIsGone)
      // not before nobody has the address any more: it would be in use twice
      for (const release of releases) await cleanUp(deps, `release the addresses ${what}`, () => release.free())
    },
    ended: async () => await driver.endFlows?.(network, endpoint.bindings),
  }
}

/** Of this host alone: a container's inside is dockerd's work, and what other hosts hear of an endpoint follows the store. */
const canMakeAgain = ({ scope }: Network, { sandboxId }: Endpoint): boolean =>
  scope === 'local' && sandboxId !== undefined

/** Undo the deletion of an endpoint's link, once it has ended. */
async function joinAgain(
  deps: EndpointDeps,
  network: Network,
  endpoint: Endpoint,
  deletion?: Promise<void>,
): Promise<void> {
  await deletion?.catch(() => undefined)
  const { sandboxId = '' } = endpoint
  await deps.drivers.get(network.driver).join(network, wiringOf(deps, endpoint))
  rewire(deps, deps.state.sandbox(sandboxId))
}

export async function removeEndpoint(deps: EndpointDeps, network: Network, endpoint: Endpoint): Promise<void> {
  const leaving = await forgetEndpoint(deps, network, endpoint)
  await leaving.gone()
  await leaving.ended()
}

export async function releaseAddresses({ ipam }: CnmDeps, network: Network, endpoint: Endpoint): Promise<void> {
  for (const { poolId, address } of addressesOf(network, endpoint))
    await ipam.releaseAddress(poolId, address, endpoint.id)
}

/** What dockerd asked our IPAM for it releases itself, after the endpoint is gone: until then nobody else may get it. */
function addressesOf(network: Network, { createdBy, addresses }: Endpoint): { poolId: string; address: string }[] {
  return addresses.flatMap(cidr => {
    const subnet = subnetOf(network, cidr)
    if (subnet === undefined || (createdBy === 'docker' && subnet.assignedBy === 'tsnet')) return []
    return [{ poolId: subnet.poolId, address: addressOf(cidr) }]
  })
}
