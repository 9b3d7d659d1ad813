import { forbidden } from '../errors.js'
import type { DriverDeps, HostDriver } from './driver-deps.js'

/** The host's own network, and having none: one network each, without links, addresses or rules of ours. */
export const host = fixed(
  'host',
  "a sandbox has the host's network from its beginning or not at all: tsnet run --network host",
)
export const none = fixed('none', 'a sandbox that is attached to no network has loopback only')

const nothing = async (): Promise<void> => undefined

function fixed(name: string, instead: string): (deps: DriverDeps) => HostDriver<unknown> {
  const refuse = (): never => {
    throw forbidden(`network ${name} is there already and the only one of its kind: ${instead}`)
  }
  return () => ({
    scope: 'local',
    segment: 'own',
    fixed: instead,
    // asked before anything is made, at every door
    parseOptions: refuse,
    optionHelp: () => [],
    validate: refuse,
    ensureNetwork: nothing,
    deleteNetwork: nothing,
    join: refuse,
    ifnamePrefix: () => 'eth',
    attachment: refuse,
    isLost: () => false,
    deleteEndpoint: nothing,
    plan: async () => [],
    linkNames: () => [],
    elements: () => [],
  })
}
