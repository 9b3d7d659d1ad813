import { conflict, kindOf } from '../errors.js'
import { checkLinkName } from '../names.js'
import type { EndpointDeps } from './endpoints.js'
import type { Endpoint, Network, Sandbox } from './types.js'

// What links inside of a sandbox are called: as the user asked, else `eth0` or the next that is free.

/** A name that no endpoint of ours has there. Whether anything else has it shows when the link is made: to look first is a visit more. */
export function chooseIfname(
  { state, drivers, namespaces }: EndpointDeps,
  network: Network,
  sandbox: Sandbox,
  asked: string | undefined,
): string {
  if (asked === undefined) {
    const prefix = drivers.get(network.driver).ifnamePrefix(network)
    const taken = new Set(state.endpointsOfSandbox(sandbox.id).map(({ ifname }) => ifname))
    let number = 0
    while (taken.has(`${prefix}${number}`)) number++
    return `${prefix}${number}`
  }
  checkLinkName(asked)
  if (namespaces.hasLink(sandbox.netns, asked))
    throw conflict(`sandbox ${sandbox.name} already has an interface ${asked}`)
  return asked
}

/** Have the links made by `join`, under another name where something else has the one that we chose. */
export async function joinUnderFreeName(
  { namespaces }: EndpointDeps,
  sandbox: Sandbox,
  endpoint: Endpoint,
  prefix: string,
  join: () => Promise<void>,
): Promise<void> {
  try {
    await join()
  } catch (error) {
    const free = kindOf(error) === 'Conflict' ? namespaces.freeLinkName(sandbox.netns, prefix) : endpoint.ifname
    if (free === undefined || free === endpoint.ifname) throw error
    endpoint.ifname = free
    await join()
  }
}
