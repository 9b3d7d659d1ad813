import { invalid } from '../errors.js'
import { parseMac } from '../names.js'
import { canonicalAddress, formatCidr, parseCidr } from '../net/cidr.js'
import { type OptionsOf, option, parseBoolean, parseOptions, parsePairs, parseWhole } from '../options.js'
import type { EndpointOptions, StaticNeighbour } from './types.js'

/** Options of an attachment, whatever the network's driver: `tsnet connect -o`, `docker run --network name=...,driver-opt=`. */
export const endpointOptions = {
  gw_priority: option({
    default: 0,
    parse: parsePriority,
    help: "of a sandbox's default routes that of the highest number wins; of equal ones, the order is Docker's",
  }),
  metric: option({
    default: 0,
    parse: parseWhole(0, 2 ** 31 - 1),
    help: 'metric of the routes of this attachment; 0 leaves it to the kernel',
  }),
  sysctls: option<Record<string, string>>({
    alias: 'com.docker.network.endpoint.sysctls',
    default: {},
    parse: parseSysctls,
    help: 'settings of the interface, for example net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.neigh.IFNAME.ucast_solicit=5; IFNAME stands for its name',
  }),
  neighbours: option<StaticNeighbour[]>({
    default: [],
    parse: parseNeighbours,
    help: 'neighbours that need not be asked for their MAC address: ADDRESS=MAC, several of them with commas in between',
  }),
  anti_spoof: option({
    default: true,
    parse: parseBoolean,
    help: "false: it may send with anybody's addresses, although the network has a spoof guard",
  }),
  extra_addresses: option<string[]>({
    default: [],
    parse: parseExtraAddresses,
    help: 'what it may send from besides its own addresses where the network has a spoof guard: MAC addresses, IP addresses and subnets with commas in between; a router needs the subnets behind it',
  }),
}

/** What dockerd does itself for its containers, and how its users say so. */
const byDockerd: Record<string, string> = {
  gw_priority: 'docker run --network name=NAME,gw-priority=N',
  metric: 'dockerd gives the routes of its containers no metric',
}

/** Absent when nothing is asked. @throws {NetError} InvalidParameter */
export function parseEndpointOptions(
  raw: Readonly<Record<string, string>> = {},
): OptionsOf<typeof endpointOptions> | undefined {
  if (Object.keys(raw).length === 0) return undefined
  return parseOptions('an attachment', endpointOptions, raw) satisfies EndpointOptions
}

/** The same for a container's endpoint. */
export function parseDockerEndpointOptions(raw: Readonly<Record<string, string>>): EndpointOptions | undefined {
  const options = parseEndpointOptions(raw)
  for (const [name, instead] of Object.entries(byDockerd))
    if (name in raw) throw invalid(`option ${name} has no effect on a container: ${instead}`)
  return options
}

/** As a field of an endpoint, where there are any. */
export function givenOptions(raw: Readonly<Record<string, string>> = {}): { options?: EndpointOptions } {
  const options = parseDockerEndpointOptions(raw)
  return options === undefined ? {} : { options }
}

function parsePriority(text: string): number {
  const value = Number(text)
  if (!/^-?\d+$/.test(text) || Math.abs(value) > 2 ** 31 - 1)
    throw new Error('must be a whole number, at most ten digits long')
  return value
}

/** What a kernel keeps for each interface of a namespace (Documentation/networking/ip-sysctl.rst), and what of that is ours. */
const perInterface = /^net\.(ipv4|ipv6|mpls)\.(conf|neigh)\.IFNAME\.[a-z0-9_]+$/
const ours = new Map([
  [
    'net.ipv6.conf.IFNAME.disable_ipv6',
    'follows from the addresses: IPv6 is on where the interface has one of its own',
  ],
])

function parseSysctls(text: string): Record<string, string> {
  const pairs = parsePairs(text)
  for (const [name, value] of pairs) {
    if (!perInterface.test(name))
      throw new Error(
        `may set what belongs to the interface alone, net.ipv4.conf.IFNAME.* or neigh.IFNAME.*, also of ipv6 and mpls, with the word IFNAME in it: not ${name}`,
      )
    if (ours.has(name)) throw new Error(`cannot set ${name}, which ${ours.get(name)}`)
    if (!/^-?[0-9]+$/.test(value)) throw new Error(`must give ${name} a number, not "${value}"`)
  }
  return Object.fromEntries(pairs)
}

function parseNeighbours(text: string): StaticNeighbour[] {
  return parsePairs(text).map(([address, mac]) => ({
    address: canonicalAddress(address, 'neighbour'),
    mac: parseMac(mac),
  }))
}

/** Single addresses as subnets of one. */
function parseExtraAddresses(text: string): string[] {
  return text
    .split(',')
    .map(word => word.trim())
    .filter(word => word !== '')
    .map(word => {
      if (/^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i.test(word)) return parseMac(word)
      const cidr = word.includes('/') ? word : `${word}/${word.includes(':') ? 128 : 32}`
      return formatCidr(parseCidr(cidr, 'extra address'))
    })
}
