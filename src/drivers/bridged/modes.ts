import type { Family } from '../../cnm/types.js'
import { invalid } from '../../errors.js'
import { type GatewayMode, gatewayModes } from '../../firewall/rules.js'
import { type OptionsOf, option } from '../../options.js'
import type { BridgedNetwork } from './links.js'

// How a network's endpoints meet the world: an option for each family, and what follows from it (firewall/rules.ts says what they mean).

const parseMode = (text: string): GatewayMode => {
  const mode = gatewayModes.find(known => known === text)
  if (mode === undefined) throw new Error(`must be one of ${gatewayModes.join(', ')}`)
  return mode
}

const modeOption = (family: Family, help: string) =>
  option<GatewayMode>({
    alias: `com.docker.network.bridge.gateway_mode_ipv${family}`,
    default: 'nat',
    parse: parseMode,
    help,
  })

export const modeOptions = {
  gateway_mode_ipv4: modeOption(
    4,
    'how its endpoints meet the world by IPv4: nat, nat-unprotected, routed or isolated, see below',
  ),
  gateway_mode_ipv6: modeOption(6, 'the same for IPv6'),
}

export type ModeOptions = OptionsOf<typeof modeOptions>

/** Kinds of network that have no such option, and records of 0.1, have nat. */
export const modeOf = ({ options }: Pick<BridgedNetwork, 'options'>, family: Family): GatewayMode =>
  (family === 4 ? options.gateway_mode_ipv4 : options.gateway_mode_ipv6) ?? 'nat'

const families = [4, 6] as const

export const modesOf = (network: BridgedNetwork): Record<Family, GatewayMode> => ({
  4: modeOf(network, 4),
  6: modeOf(network, 6),
})

/** The families in which ports are opened at the endpoints' own addresses instead of the host's. */
export const directFamilies = (network: BridgedNetwork): Set<Family> =>
  new Set(families.filter(family => modeOf(network, family) === 'routed'))

/** @throws {NetError} InvalidParameter: what the options ask for excludes itself */
export function checkModes(network: BridgedNetwork): void {
  for (const family of families) {
    const name = `gateway_mode_ipv${family}`
    const mode = modeOf(network, family)
    if (mode === 'isolated' && !network.internal)
      throw invalid(`option ${name}=isolated is for --internal networks alone: without the host nothing gets in or out`)
  }
}
