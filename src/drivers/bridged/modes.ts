import type { Family } from '../../cnm/types.js'
import { invalid } from '../../errors.js'
import { type GatewayMode, gatewayModes } from '../../firewall/rules.js'
import { checkLinkName } from '../../names.js'
import { type OptionsOf, option } from '../../options.js'
import { canonicalAddress, familyOf, isUnspecified } from '../../ports/address.js'
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

const hostAddressOption = (family: Family, help: string) =>
  option({
    alias: `com.docker.network.host_ipv${family}`,
    default: '',
    parse: text => {
      const address = canonicalAddress(text)
      if (address === undefined || familyOf(address) !== family || isUnspecified(address))
        throw new Error(`must be an IPv${family} address of the host`)
      return address
    },
    help,
  })

/** As Docker writes them: `eth1:wg0`. */
const parseLinks = (text: string): string[] =>
  text.split(':').map(name => {
    // a plus sign at the end would mean every name that begins so, to iptables
    if (/[^\w.@-]/.test(name)) throw new Error('must be names of links, with colons in between')
    return checkLinkName(name, 'link')
  })

export const modeOptions = {
  gateway_mode_ipv4: modeOption(
    4,
    'how its endpoints meet the world by IPv4: nat, nat-unprotected, routed or isolated, see below',
  ),
  gateway_mode_ipv6: modeOption(6, 'the same for IPv6'),
  host_ipv4: hostAddressOption(
    4,
    'address of the host that IPv4 traffic leaves with; that of the link it leaves by when empty',
  ),
  host_ipv6: hostAddressOption(6, 'the same for IPv6'),
  trusted_interfaces: option<readonly string[]>({
    alias: 'com.docker.network.bridge.trusted_host_interfaces',
    default: [],
    parse: parseLinks,
    help: "links of the host, colons in between, from which published ports are also reached at the endpoints' own addresses, those published at 127.0.0.1 too",
  }),
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

export function hostAddressesOf({ options }: BridgedNetwork): Partial<Record<Family, string>> {
  const { host_ipv4, host_ipv6 } = options
  return { ...(host_ipv4 && { 4: host_ipv4 }), ...(host_ipv6 && { 6: host_ipv6 }) }
}

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
    const why = whyNoMasquerade(network, mode)
    if (hostAddressesOf(network)[family] !== undefined && why !== undefined)
      throw invalid(`option host_ipv${family} has no effect with ${why}`)
  }
}

function whyNoMasquerade({ internal, options }: BridgedNetwork, mode: GatewayMode): string | undefined {
  if (internal) return '--internal'
  if (mode === 'routed') return 'gateway mode routed'
  return options.masquerade ? undefined : 'masquerade=false'
}
