import { createHash, randomBytes } from 'node:crypto'
import { invalid } from './errors.js'

/** Names and ids: what they may look like, and how we make our own. One place, so that every door says the same. */

/** The kernel's rule for link names (dev_valid_name in net/core/dev.c), and no '%', which the kernel takes for a pattern. */
export function checkLinkName(name: string, what = 'interface name'): string {
  const size = Buffer.byteLength(name)
  if (size < 1 || size > 15) throw invalid(`${what} "${name}" has ${size} bytes: it must have 1 to 15`)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  if (/[\s/:%\0-\x1f\x7f]/.test(name) || name === '.' || name === '..')
    throw invalid(`${what} ${JSON.stringify(name)} must not be "." or ".." or contain white space, "/", ":" or "%"`)
  return name
}

/** Names of networks and sandboxes, as Docker has them; a sandbox's name is also a file name in /run/netns. */
export function checkObjectName(name: string, what: string): string {
  if (!isObjectName(name))
    throw invalid(
      `${what} name "${name}" must be 1 to 63 letters, digits, "_", "." or "-", starting with a letter or digit`,
    )
  return name
}

export const isObjectName = (name: string): boolean => /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/.test(name)

/** hostname(7): labels of letters, digits and "-" with dots between; the kernel holds 64 bytes (HOST_NAME_MAX). */
export function checkHostname(name: string, what = 'host name'): string {
  const label = '[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?'
  if (name.length > 64 || !new RegExp(`^${label}(\\.${label})*$`).test(name))
    throw invalid(`${what} "${name}" must be labels of letters, digits and "-" with dots between, 64 bytes at most`)
  return name
}

/** A word of a `search` line in resolv.conf(5). */
export function checkSearchDomain(domain: string): string {
  if (domain.length > 253 || !/^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.|$))+$/.test(domain))
    throw invalid(`search domain "${domain}" must be labels of letters, digits, "_" and "-" with dots between`)
  return domain
}

/** Returns the address in lower case with colons. */
export function parseMac(text: string): string {
  if (!/^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$/.test(text))
    throw invalid(`MAC address ${text} must be six pairs of hex digits, such as 02:42:0a:1e:00:02`)
  const mac = text.toLowerCase().replaceAll('-', ':')
  if (Number.parseInt(mac.slice(0, 2), 16) & 1) throw invalid(`MAC address ${text} is a multicast address`)
  if (mac === '00:00:00:00:00:00') throw invalid(`MAC address ${text} is all zeros`)
  return mac
}

/** Locally administered, unicast. Random, so that an address given again soon does not meet an old neighbour entry that fits. */
export const randomMac = (): string => localMac(randomBytes(6))

/** Like a random one, but always the same for the same parts: whoever knows them knows the address. */
export const derivedMac = (...parts: string[]): string =>
  localMac(createHash('sha256').update(parts.join('\n')).digest().subarray(0, 6))

/** Of the gateway of a global network, on every host of it. */
export const gatewayMacOf = (networkId: string): string => derivedMac(networkId)

/** By which the other hosts reach a host's own addresses on a global network. */
export const hostMacOf = (networkId: string, host: string): string => derivedMac(networkId, host)

function localMac(bytes: Uint8Array): string {
  const first = ((bytes[0] ?? 0) & 0xfc) | 0x02
  return [first, ...bytes.subarray(1)].map(byte => byte.toString(16).padStart(2, '0')).join(':')
}

/** 64 hex digits, as Docker's ids are. */
export const randomId = (): string => randomBytes(32).toString('hex')

/** The first 12 digits of an id, as Docker shows it. */
export const shortId = (id: string): string => id.slice(0, 12)
