import { checkLinkName } from '../../names.js'
import { ifprefixOption, type OptionsOf, option, parseBoolean, parseWhole } from '../../options.js'

const modes = ['bridge', 'private', 'vepa', 'passthru'] as const
export type MacvlanMode = (typeof modes)[number]

/** Short name, Docker's name (drivers/macvlan/macvlan.go and netlabel/labels.go in moby), default, rule and help of every macvlan option. */
export const macvlanOptions = {
  parent: option({
    default: '',
    parse: text => checkLinkName(text, 'parent'),
    help: 'link of the host on whose LAN the network is, or LINK.VID for a VLAN of it; the network is isolated when empty',
  }),
  mode: option<MacvlanMode>({
    alias: 'macvlan_mode',
    default: 'bridge',
    parse: parseMode,
    help: 'who reaches whom on one parent: bridge all, private none, vepa those that the switch sends back, passthru has one endpoint only',
  }),
  mtu: option({
    alias: 'com.docker.network.driver.mtu',
    default: 0,
    parse: text => (text === '0' ? 0 : parseWhole(68, 65535)(text)),
    help: "MTU in bytes of every endpoint; the parent's when 0",
  }),
  host_access: option({
    default: false,
    parse: parseBoolean,
    help: 'the host reaches the endpoints and they reach it, at an address of the network that is kept for it (mode bridge only)',
  }),
  ifprefix: ifprefixOption,
  internal: option({
    alias: 'com.docker.network.internal',
    default: false,
    parse: parseBoolean,
    help: 'the same as --internal: no default route, so nobody is reached beyond the LAN; always so without a parent',
  }),
}

export type MacvlanOptions = OptionsOf<typeof macvlanOptions>

function parseMode(text: string): MacvlanMode {
  const mode = modes.find(known => known === text)
  if (mode === undefined) throw new Error(`must be ${modes.slice(0, -1).join(', ')} or ${modes.at(-1)}`)
  return mode
}
