import { isIP } from 'node:net'
import { ifprefixOption, type OptionsOf, option, parseBoolean } from '../../options.js'
import { routesOption } from '../routes.js'
import type { ModeOptions } from './modes.js'

/** Of every kind of network whose endpoints are ports of a bridge in the host's namespace. */
export const bridgedOptions = {
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
  anti_spoof: option<boolean | 'auto'>({
    default: 'auto',
    parse: text => (text === 'auto' ? text : parseBoolean(text)),
    help: "an endpoint cannot send with another's MAC or IP address, nor pass for the gateway; auto: yes, wherever the kernel has nftables for bridges",
  }),
  host_binding: option({
    alias: 'com.docker.network.bridge.host_binding_ipv4',
    default: '',
    parse: parseHostAddress,
    help: 'host address on which ports are published when -p names none; every address when empty',
  }),
  ifprefix: ifprefixOption,
  routes: routesOption,
  internal: option({
    alias: 'com.docker.network.internal',
    default: false,
    parse: parseBoolean,
    help: 'the same as --internal: no way out of the host and none in',
  }),
}

export type BridgedOptions = OptionsOf<typeof bridgedOptions> & {
  /** bytes */
  mtu: number
} & Partial<ModeOptions>

function parseHostAddress(text: string): string {
  if (isIP(text) === 0) throw new Error('must be an IP address')
  return text
}
