import { checkLinkName } from '../../names.js'
import { type OptionsOf, option, parseBoolean, parseWhole } from '../../options.js'
import { modeOptions } from '../bridged/modes.js'
import { bridgedOptions } from '../bridged/options.js'

const { icc, masquerade, anti_spoof, host_binding, publish_default, from, ifprefix, routes, internal } = bridgedOptions

/** Short name, Docker's name (drivers/bridge/labels.go and netlabel/labels.go in moby), default, rule and help of every bridge option. */
export const bridgeOptions = {
  bridge: option({
    alias: 'com.docker.network.bridge.name',
    default: '',
    parse: text => checkLinkName(text, 'bridge name'),
    help: 'name of the bridge link; br- and the first 12 digits of the network id when empty',
  }),
  mtu: option({
    alias: 'com.docker.network.driver.mtu',
    default: 1500,
    parse: parseWhole(68, 65535),
    help: 'MTU in bytes of the bridge and of both ends of every endpoint',
  }),
  icc,
  masquerade,
  ...modeOptions,
  anti_spoof,
  host_binding,
  publish_default,
  from,
  ifprefix,
  inhibit_ipv4: option({
    alias: 'com.docker.network.bridge.inhibit_ipv4',
    default: false,
    parse: parseBoolean,
    help: 'put no IPv4 address on the bridge: the gateway is somewhere else on its segment',
  }),
  routes,
  internal,
}

export type BridgeOptions = OptionsOf<typeof bridgeOptions>
