import { isIP } from 'node:net'
import { checkLinkName } from '../../names.js'
import { ifprefixOption, type OptionsOf, option, parseBoolean, parseWhole } from '../../options.js'
import { routesOption } from '../routes.js'

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
  icc: option({
    alias: 'com.docker.network.bridge.enable_icc',
    default: true,
    parse: parseBoolean,
    help: 'endpoints of this network may talk to each other',
  }),
  masquerade: option({
    alias: 'com.docker.network.bridge.enable_ip_masquerade',
    default: true,
    parse: parseBoolean,
    help: "traffic out of the host leaves with the host's address",
  }),
  host_binding: option({
    alias: 'com.docker.network.bridge.host_binding_ipv4',
    default: '',
    parse: parseHostAddress,
    help: 'host address on which ports are published when -p names none; every address when empty',
  }),
  ifprefix: ifprefixOption,
  inhibit_ipv4: option({
    alias: 'com.docker.network.bridge.inhibit_ipv4',
    default: false,
    parse: parseBoolean,
    help: 'put no IPv4 address on the bridge: the gateway is somewhere else on its segment',
  }),
  routes: routesOption,
  internal: option({
    alias: 'com.docker.network.internal',
    default: false,
    parse: parseBoolean,
    help: 'the same as --internal: no way out of the host and none in',
  }),
}

export type BridgeOptions = OptionsOf<typeof bridgeOptions>

function parseHostAddress(text: string): string {
  if (isIP(text) === 0) throw new Error('must be an IP address')
  return text
}
