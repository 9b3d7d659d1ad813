import { isIP } from 'node:net'
import { z } from 'zod'
import { invalid } from '../errors.js'

/**
 * What dockerd sends, from 20.10 to 29: moby daemon/libnetwork/drivers/remote/api, daemon/libnetwork/ipams/remote/api.
 * Go writes an unset list or map as null, as empty or not at all, depending on the release; here it is always there.
 * Unknown fields are dropped: newer releases add some.
 */

const maxWord = 255
const maxValue = 4096
const maxOptions = 256
const maxPools = 64
/** every port of tcp, udp and sctp */
const maxPorts = 3 * 65_536

/** Of what came from outside as much as fits in a sentence. */
function shown(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (typeof value === 'string')
    return value.length > 60 ? `${JSON.stringify(value.slice(0, 60))}...` : JSON.stringify(value)
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'a list' : 'an object'
  return String(value)
}
const rule = (what: string) => ({ error: (issue: { input?: unknown }) => `must be ${what}, not ${shown(issue.input)}` })

/** null and absent mean a new `fallback()`. */
const orElse = <S extends z.ZodType>(schema: S, fallback: () => z.output<S>) =>
  schema.nullish().transform(value => value ?? fallback())
/** null and absent mean absent. */
const optional = <S extends z.ZodType>(schema: S) => schema.nullish().transform(value => value ?? undefined)
/** As `optional`; Go has no absent string, so the empty one means absent too. */
const optionalText = <S extends z.ZodType>(schema: S) =>
  z.preprocess(value => (value === '' ? undefined : value), optional(schema))

const word = z.string(rule('text')).max(maxWord, rule(`text of at most ${maxWord} characters`))
const value = z.string(rule('text')).max(maxValue, rule(`text of at most ${maxValue} characters`))
const id = z.string(rule('an id')).regex(/^[0-9a-f]{64}$/, rule('64 hex digits'))
const flag = orElse(z.union([z.boolean(), z.stringbool()], rule('true or false')), () => false)

// A zone (`fe80::1%eth0`) names a link of the host: no address that dockerd hands out has one.
const isPlainAddress = (text: string): boolean => isIP(text) !== 0 && !text.includes('%')
function isCidr(text: string): boolean {
  const [, address = '', length = ''] = /^([^/]+)\/(\d{1,3})$/.exec(text) ?? []
  return isPlainAddress(address) && Number(length) <= (isIP(address) === 4 ? 32 : 128)
}
const address = z.string(rule('an IP address')).refine(isPlainAddress, rule('an IP address'))
const cidr = z
  .string(rule('an address with its prefix length'))
  .refine(isCidr, rule('an address with its prefix length'))

/** The MAC as dockerd writes it in `Interface`, and, being a Go []byte, as base64 in the options. Lower case, with colons. */
const mac = z
  .string(rule('a MAC address'))
  .regex(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i, rule('a MAC address'))
  .toLowerCase()
const base64Mac = z
  .string(rule('a MAC address in base64'))
  .regex(/^[A-Za-z0-9+/]{8}$/, rule('a MAC address in base64'))
  .transform(text => [...Buffer.from(text, 'base64')].map(byte => byte.toString(16).padStart(2, '0')).join(':'))

const map = <S extends z.ZodType>(of: S, max: number) =>
  orElse(
    z
      .record(word, of, rule('an object'))
      .refine(have => Object.keys(have).length <= max, { error: `must have at most ${max} entries` }),
    () => ({}) as Record<string, z.output<S>>,
  )
const list = <S extends z.ZodType>(of: S, max: number) =>
  orElse(z.array(of, rule('a list')).max(max, { error: `must have at most ${max} entries` }), () => [])
const object = <S extends z.ZodRawShape>(shape: S) => z.object(shape, rule('an object'))

const uint16 = z.int(rule('a port number')).min(0, rule('a port number')).max(65_535, rule('a port number'))
const userOptions = map(z.union([value, z.number(), z.boolean()], rule('text')).transform(String), maxOptions)

const portMapping = object({
  Proto: z.int(rule('a protocol number')),
  Port: uint16,
  HostIP: optionalText(address),
  HostPort: orElse(uint16, () => 0),
  HostPortEnd: orElse(uint16, () => 0),
})
export type PortMapping = z.output<typeof portMapping>

const ipamData = object({
  AddressSpace: orElse(word, () => ''),
  Pool: optionalText(cidr),
  Gateway: optionalText(cidr),
  AuxAddresses: map(cidr, maxOptions),
})
export type IpamData = z.output<typeof ipamData>

const portmapKey = 'com.docker.network.portmap'
const macKey = 'com.docker.network.endpoint.macaddress'
/** `docker run --network name=...,driver-opt=KEY=VALUE` stands beside what dockerd says itself, under names that begin so. */
const dockersOwn = /^com\.docker\.(?!network\.endpoint\.sysctls$)/
function userOptionsOf(options: object): Record<string, string> | undefined {
  const found = Object.entries(options).filter(
    (entry): entry is [string, string] => typeof entry[1] === 'string' && !dockersOwn.test(entry[0]),
  )
  return found.length === 0 ? undefined : Object.fromEntries(found)
}
const noOptions = z.object({}).transform(() => ({}))

const networkOptions = orElse(
  object({
    'com.docker.network.generic': userOptions,
    'com.docker.network.enable_ipv6': flag,
    'com.docker.network.internal': flag,
  }).transform(options => ({
    user: options['com.docker.network.generic'],
    ipv6: options['com.docker.network.enable_ipv6'],
    internal: options['com.docker.network.internal'],
  })),
  () => ({ user: {}, ipv6: false, internal: false }),
)

const network = object({ NetworkID: id })
const endpoint = object({ NetworkID: id, EndpointID: id })
// Swarm's ids are not hexadecimal, and only Swarm sends these.
const swarmNetwork = object({ NetworkID: word })

export const gwAllocCheck = object({ Options: networkOptions })
export const allocateNetwork = swarmNetwork
export const freeNetwork = swarmNetwork
export const createNetwork = network.extend({
  Options: networkOptions,
  IPv4Data: list(ipamData, maxPools),
  IPv6Data: list(ipamData, maxPools),
})
export type CreateNetwork = z.output<typeof createNetwork>
export const deleteNetwork = network
export const createEndpoint = endpoint.extend({
  Interface: orElse(
    object({ Address: optionalText(cidr), AddressIPv6: optionalText(cidr), MacAddress: optionalText(mac) }),
    () => ({ Address: undefined, AddressIPv6: undefined, MacAddress: undefined }),
  ),
  Options: orElse(
    z
      .looseObject({ [macKey]: optionalText(z.union([mac, base64Mac], rule('a MAC address'))) }, rule('an object'))
      .refine(have => Object.keys(have).length <= maxOptions, { error: `must have at most ${maxOptions} entries` })
      .transform(options => ({ mac: options[macKey], user: userOptionsOf(options) })),
    () => ({ mac: undefined, user: undefined }),
  ),
})
export type CreateEndpoint = z.output<typeof createEndpoint>
export const deleteEndpoint = endpoint
export const endpointOperInfo = endpoint
export const join = endpoint.extend({
  SandboxKey: z
    .string(rule('an absolute path'))
    .max(maxValue, rule('an absolute path'))
    .regex(/^\/[^\0]+$/, rule('an absolute path')),
})
export const leave = endpoint
export const programExternalConnectivity = endpoint.extend({
  Options: orElse(
    object({ [portmapKey]: list(portMapping, maxPorts) }).transform(options => ({ ports: options[portmapKey] })),
    () => ({ ports: [] }),
  ),
})
export const revokeExternalConnectivity = endpoint
export const discover = noOptions

export const requestPool = object({
  AddressSpace: orElse(word, () => ''),
  Pool: optionalText(cidr),
  SubPool: optionalText(cidr),
  Options: userOptions,
  V6: flag,
})
export type RequestPool = z.output<typeof requestPool>
const pool = object({ PoolID: word.min(1, rule('the id of a pool')) })
export const releasePool = pool
export const requestAddress = pool.extend({
  Address: optionalText(address),
  Options: orElse(
    object({
      RequestAddressType: optionalText(word),
      'com.docker.network.endpoint.name': optionalText(word),
    }).transform(options => ({
      gateway: options.RequestAddressType === 'com.docker.network.gateway',
      endpointName: options['com.docker.network.endpoint.name'],
    })),
    () => ({ gateway: false, endpointName: undefined }),
  ),
})
export type RequestAddress = z.output<typeof requestAddress>
export const releaseAddress = pool.extend({ Address: address })

/**
 * The request in a body, or InvalidParameter with the first field that breaks its rule.
 * The empty body is dockerd's own: when a connection breaks it sends the call again, from a buffer that the first try
 * has emptied (moby pkg/plugins/client.go, callWithRetry).
 */
export function parseRequest<S extends z.ZodType>(schema: S, body: Buffer): z.output<S> {
  if (body.toString().trim() === '')
    throw invalid('the connection broke before the answer was out, and the repeated request has no body: try again')
  const got = schema.safeParse(parseJson(body), { reportInput: true })
  if (got.success) return got.data
  const [first] = got.error.issues
  throw invalid(`${pathOf(first?.path ?? [])} ${first?.message}`)
}

function parseJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString())
  } catch (error) {
    throw invalid('the body is not JSON', { cause: error })
  }
}

const pathOf = (path: readonly PropertyKey[]): string =>
  path.length === 0 ? 'the body' : path.map(String).join('.').slice(0, maxWord)
