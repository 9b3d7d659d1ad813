import { type OptionsOf, option, parseBoolean, parseWhole } from '../../options.js'
import { bridgedOptions } from '../bridged/options.js'

const orZero =
  (parse: (text: string) => number) =>
  (text: string): number =>
    text === '0' ? 0 : parse(text)

/** VNIs that are chosen for users start here: small ones are what people and other programs choose. */
export const firstChosenVni = 4096
/** A VNI has 24 bits (RFC 7348 5). */
export const lastVni = 2 ** 24 - 1

/** Short name, Docker's name (drivers/overlay/overlay.go and netlabel/labels.go in moby), default, rule and help of every overlay option. */
export const overlayOptions = {
  vni: option({
    alias: 'com.docker.network.driver.overlay.vxlanid_list',
    default: 0,
    parse: orZero(parseWhole(1, lastVni)),
    help: 'VXLAN network identifier, the same on every host; one that no network of the cluster has when 0',
  }),
  mtu: option({
    alias: 'com.docker.network.driver.mtu',
    default: 0,
    parse: orZero(parseWhole(68, 65535)),
    help: 'MTU in bytes inside; when 0, that of the link between the hosts less 50 bytes, or 70 where they speak IPv6',
  }),
  port: option({
    default: 4789,
    parse: parseWhole(1, 65535),
    help: 'UDP port of VXLAN, the same on every host',
  }),
  ttl: option({
    default: 0,
    parse: parseWhole(0, 255),
    help: "TTL of the packets between hosts; the kernel's usual one when 0",
  }),
  flood: option({
    default: false,
    parse: parseBoolean,
    help: 'what goes to everybody (broadcast, multicast) goes to every host of the network, one packet to each',
  }),
  ...bridgedOptions,
}

export type OverlayOptions = OptionsOf<typeof overlayOptions>
