import { isIP } from 'node:net'
import { invalid } from '../../errors.js'
import { ifprefixOption, type OptionsOf, option, parseBoolean } from '../../options.js'
import { type PublishDefault, publishDefaults } from '../../ports/default.js'
import { parseSources } from '../../ports/sources.js'
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
    help: 'host address on which ports are published when -p names none; as publish_default says when empty',
  }),
  publish_default: option<PublishDefault | ''>({
    default: '',
    parse: parsePublishDefault,
    help: 'where ports are published when -p names no address: any, lan or loopback, see below; as --publish-default of the daemon says when empty',
  }),
  from: option<readonly string[]>({
    default: [],
    parse: text => parseSources(text.split(',').filter(Boolean)) ?? [],
    help: 'clients of its published ports, unless a port has its own: subnets with commas in between; everybody when empty',
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

/** @throws {NetError} InvalidParameter: what the options ask for excludes itself */
export function checkPublishing({ host_binding, publish_default }: BridgedOptions): void {
  if (host_binding !== '' && publish_default)
    throw invalid(`option publish_default=${publish_default} has no effect beside host_binding=${host_binding}`)
}

function parsePublishDefault(text: string): PublishDefault {
  const known = publishDefaults.find(word => word === text)
  if (known === undefined) throw new Error(`must be one of ${publishDefaults.join(', ')}`)
  return known
}

function parseHostAddress(text: string): string {
  if (isIP(text) === 0) throw new Error('must be an IP address')
  return text
}
