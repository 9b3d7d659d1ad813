import type { Family, Network } from '../../cnm/types.js'
import { conflict, invalid } from '../../errors.js'
import { shortId } from '../../names.js'
import { hostOverlap, withPrefixLength } from '../../net/subnets.js'
import { helpOf, parseOptions } from '../../options.js'
import { BridgedDriver } from '../bridged/driver.js'
import { type BridgeShape, refuseForeign } from '../bridged/links.js'
import { checkModes, modeOf } from '../bridged/modes.js'
import { checkPublishing } from '../bridged/options.js'
import type { DriverDeps, HostDriver } from '../driver-deps.js'
import { checkNetworkRoutes } from '../routes.js'
import { type BridgeOptions, bridgeOptions } from './options.js'

/** Networks of this host alone: nothing is on the bridge but their endpoints. */
export const bridge = (deps: DriverDeps): HostDriver<BridgeOptions> => new BridgeDriver(deps)

type BridgeNetwork = Network<BridgeOptions>

const bridgeNameOf = (network: BridgeNetwork): string => network.options.bridge || `br-${shortId(network.id)}`

class BridgeDriver extends BridgedDriver<BridgeOptions> {
  readonly scope = 'local'

  parseOptions(raw: Readonly<Record<string, string>>): BridgeOptions {
    return parseOptions('driver bridge', bridgeOptions, raw)
  }

  optionHelp() {
    return helpOf(bridgeOptions)
  }

  protected shapeOf(network: BridgeNetwork): BridgeShape {
    const addresses = network.subnets.flatMap(({ family, gateway, subnet }) => {
      if (gateway === undefined || (family === 4 && network.options.inhibit_ipv4)) return []
      if (modeOf(network, family) === 'isolated') return []
      return [{ address: withPrefixLength(gateway, subnet) }]
    })
    return { name: bridgeNameOf(network), addresses, settings: {} }
  }

  /** Without the host on it, nor a way out, the network has nothing for an address of a gateway to be on. */
  hasGateway(network: Pick<BridgeNetwork, 'options' | 'internal'>, family: Family): boolean {
    if (modeOf(network, family) === 'isolated') return false
    return !(family === 4 && network.options.inhibit_ipv4 && network.internal)
  }

  protected linksOf(network: BridgeNetwork): string[] {
    return [bridgeNameOf(network)]
  }

  validate(network: BridgeNetwork, others: readonly BridgeNetwork[]): void {
    const name = bridgeNameOf(network)
    const other = others.find(candidate => bridgeNameOf(candidate) === name)
    if (other !== undefined) throw conflict(`bridge name ${name} is taken by network ${other.name}`)
    const link = this.deps.kernel.link(name)
    if (link !== undefined) refuseForeign(network, link)
    const hostAddresses = this.deps.kernel.addresses().map(({ address }) => address)
    for (const { subnet } of network.subnets) {
      // the bridge would take over what the host now finds on another link, perhaps the one we are reached by
      const overlapped = hostOverlap(subnet, hostAddresses)
      if (overlapped !== undefined)
        throw conflict(`subnet ${subnet} overlaps ${overlapped}, which the host is connected to`)
    }
    if (network.options.mtu < 1280 && network.subnets.some(({ family }) => family === 6))
      throw invalid(`option mtu=${network.options.mtu} is too small for IPv6, which needs 1280`)
    checkNetworkRoutes(network, network.options.routes)
    checkModes(network)
    checkPublishing(network.options)
  }
}
