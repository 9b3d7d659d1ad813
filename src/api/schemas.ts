import { isIP } from 'node:net'
import { z } from 'zod'
import { invalid, messageOf, type NetError } from '../errors.js'
import { checkHostname, checkLinkName, checkObjectName, checkSearchDomain, parseMac } from '../names.js'
import { suggestion } from '../nearest.js'
import { arePairs } from '../ports/spec.js'

/** What a request body may hold, with the rules that need no state. What depends on other objects is the controller's. */

/** Of names, addresses and keys: none that is right comes near it, and what is wrong is repeated in the answer. */
const maxWord = 255
/** Of paths and of the values of options; sysctl lists are the longest. */
const maxValue = 4_096
/** How many there may be of anything; what has more is a mistake, or malice. */
const maxEntries = 256
/** More than all ports have room for would be the same ones again. */
const maxPorts = 10_000

const word = z.string().max(maxWord)
const list = <S extends z.ZodType>(of: S, max = maxEntries) => z.array(of).max(max)
const record = <S extends z.ZodType>(of: S) =>
  z
    .record(z.string(), of)
    .refine(have => Object.keys(have).length <= maxEntries && Object.keys(have).every(key => key.length <= maxWord), {
      error: `an object of options must have at most ${maxEntries} entries, with keys of at most ${maxWord} characters`,
    })

/** Text put through one of our own parsers, whose message is already the sentence for the user. */
const text = (parse: (text: string) => string, max = maxWord) =>
  z
    .string()
    .max(max)
    .transform((value, context) => {
      try {
        return parse(value)
      } catch (error) {
        context.addIssue({ code: 'custom', message: messageOf(error), input: value })
        return z.NEVER
      }
    })

const address = (what: string, families: readonly number[]) =>
  text(value => {
    if (!families.includes(isIP(value)))
      throw invalid(`${what} "${value}" is not an ${families.map(family => `IPv${family}`).join(' or ')} address`)
    return value
  })

const cidr = (what: string) => text(value => parseHostSubnet(what, value))

function parseHostSubnet(what: string, value: string): string {
  const [ip = '', length = '', ...rest] = value.split('/')
  const bits = isIP(ip) === 6 ? 128 : 32
  if (isIP(ip) === 0 || !/^\d{1,3}$/.test(length) || Number(length) > bits || rest.length > 0)
    throw invalid(`${what} "${value}" is not an address with a prefix length, such as 10.30.0.0/24 or fd00:30::/64`)
  return value
}

const cidrOrAddress = (what: string) => text(value => (isIP(value) === 0 ? parseHostSubnet(what, value) : value))

const dictionary = record(z.string().max(maxValue))
const any = [4, 6] as const

export const networkSpec = z.strictObject({
  name: text(name => checkObjectName(name, 'network')),
  driver: word.exactOptional(),
  subnets: list(cidr('subnet')).exactOptional(),
  ipRanges: list(cidr('ip range')).exactOptional(),
  gateways: list(address('gateway', any)).exactOptional(),
  auxAddresses: record(address('auxiliary address', any)).exactOptional(),
  ipv6: z.boolean().exactOptional(),
  internal: z.boolean().exactOptional(),
  options: dictionary.exactOptional(),
  labels: dictionary.exactOptional(),
})

export const sandboxSpec = z.strictObject({
  name: text(name => checkObjectName(name, 'sandbox')),
  netns: text(path => {
    if (!path.startsWith('/')) throw invalid(`namespace path "${path}" must be absolute`)
    return path
  }, maxValue).exactOptional(),
  pid: z.int().positive().exactOptional(),
  share: word.min(1).exactOptional(),
  ephemeral: z.boolean().exactOptional(),
  dns: z
    .strictObject({
      servers: list(address('DNS server', any)).default([]),
      search: list(text(checkSearchDomain)).default([]),
    })
    .exactOptional(),
  hostname: text(name => checkHostname(name)).exactOptional(),
  extraHosts: list(
    z.strictObject({
      name: text(name => checkHostname(name, 'name of an extra host')),
      address: address('address of an extra host', any),
    }),
  ).exactOptional(),
})

const port = z.int().min(1).max(65535)

const portRange = z
  .strictObject({ first: port, last: port })
  .refine(({ first, last }) => first <= last, 'a port range must not end before it starts')

const portSpec = z
  .strictObject({
    protocol: z.enum(['tcp', 'udp', 'sctp']),
    hostIp: address('host address', any).exactOptional(),
    hostPort: portRange.exactOptional(),
    containerPort: portRange,
    from: list(cidrOrAddress('source')).exactOptional(),
  })
  .refine(
    ({ hostPort, containerPort }) => arePairs(hostPort, containerPort),
    'as many host ports as container ports are needed, or one container port for a range of host ports',
  )

export const connectSpec = z.strictObject({
  sandbox: word.min(1),
  ip: address('address', [4]).exactOptional(),
  ip6: address('address', [6]).exactOptional(),
  mac: text(parseMac).exactOptional(),
  ifname: text(name => checkLinkName(name)).exactOptional(),
  aliases: list(text(name => checkObjectName(name, 'alias'))).exactOptional(),
  ports: list(portSpec, maxPorts).exactOptional(),
  routes: list(
    z.strictObject({ destination: cidr('route'), via: address('next hop', any).exactOptional() }),
  ).exactOptional(),
  options: dictionary.exactOptional(),
})

export const publishSpec = z.strictObject({
  port: portSpec,
  network: word.min(1).exactOptional(),
  replace: z.boolean().exactOptional(),
})
export const unpublishSpec = publishSpec.omit({ replace: true })

export const disconnectSpec = z.strictObject({
  sandbox: word.min(1),
  force: z.boolean().default(false),
  wait: z.boolean().default(false),
})
export const removeHostSpec = z.strictObject({ force: z.boolean().default(false) })
export const reconcileSpec = z.strictObject({ dryRun: z.boolean().default(false) })
const time = (what: string) =>
  word.transform((value, context) => {
    const date = new Date(value)
    if (!Number.isNaN(date.getTime())) return date
    context.addIssue({
      code: 'custom',
      message: `${what} "${value}" is not a time, such as 2026-01-31T12:00:00Z`,
      input: value,
    })
    return z.NEVER
  })
export const eventsQuery = z.strictObject({
  since: time('since').exactOptional(),
  until: time('until').exactOptional(),
})
export const explainSpec = z.strictObject({ from: z.string().min(1).max(300), to: z.string().min(1).max(300) })
export const nothing = z.strictObject({})

/** @throws {NetError} InvalidParameter, a sentence for each problem */
export function parseBody<T>(schema: z.ZodType<T>, body: unknown): T {
  const result = schema.safeParse(body)
  if (result.success) return result.data
  const known = schema instanceof z.ZodObject ? Object.keys(schema.shape) : []
  throw invalidBody(result.error.issues.map(issue => sentenceOf(issue, known)))
}

/** As many as help: a body of nothing but mistakes is not worth a sentence for each. */
const maxSentences = 8
function invalidBody(sentences: string[]): NetError {
  const different = [...new Set(sentences)]
  const more = different.length - maxSentences
  return invalid([...different.slice(0, maxSentences), ...(more > 0 ? [`and ${more} more`] : [])].join('; '))
}

/** A path in the body, of which keys may be anything. */
const placeOf = (path: readonly PropertyKey[]): string =>
  path.map(key => (String(key).length > 60 ? `${String(key).slice(0, 60)}...` : String(key))).join('.')

function sentenceOf(issue: z.core.$ZodIssue, known: readonly string[]): string {
  const field = issue.path.length === 0 ? 'the body' : `field "${placeOf(issue.path)}"`
  switch (issue.code) {
    case 'custom':
      return issue.message
    case 'unrecognized_keys': {
      // only the outermost object's fields are known here
      const near = issue.path.length === 0 ? suggestion(issue.keys[0] ?? '', known) : ''
      return `unknown field "${placeOf([...issue.path, issue.keys[0] ?? ''])}"${near}`
    }
    case 'invalid_type':
      return issue.message.endsWith('received undefined')
        ? `${field} is missing`
        : `${field} must be ${article(issue.expected)}`
    case 'invalid_value':
      return `${field} must be ${issue.values.map(String).join(', ')}`
    case 'too_small':
      return `${field} must be ${issue.inclusive ? 'at least' : 'more than'} ${issue.minimum}${issue.origin === 'string' ? ' letter long' : ''}`
    case 'too_big':
      return `${field} must ${issue.origin === 'array' ? 'have' : 'be'} ${issue.inclusive ? 'at most' : 'less than'} ${issue.maximum}${unitOf(issue.origin)}`
    default:
      return `${field}: ${issue.message}`
  }
}

const unitOf = (origin: string): string =>
  origin === 'string' ? ' characters long' : origin === 'array' ? ' entries' : ''

const words: Record<string, string> = {
  int: 'a whole number',
  array: 'a list',
  object: 'an object',
  record: 'an object',
  boolean: 'true or false',
}
const article = (type: string): string => words[type] ?? `a ${type}`
