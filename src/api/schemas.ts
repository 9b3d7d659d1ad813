import { isIP } from 'node:net'
import { z } from 'zod'
import { invalid, messageOf, type NetError } from '../errors.js'
import { checkHostname, checkLinkName, checkObjectName, checkSearchDomain, parseMac } from '../names.js'
import { suggestion } from '../nearest.js'
import { arePairs } from '../ports/spec.js'

/** What a request body may hold, with the rules that need no state. What depends on other objects is the controller's. */

/** Text put through one of our own parsers, whose message is already the sentence for the user. */
const text = (parse: (text: string) => string) =>
  z.string().transform((value, context) => {
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

const dictionary = z.record(z.string(), z.string())
const any = [4, 6] as const

export const networkSpec = z.strictObject({
  name: text(name => checkObjectName(name, 'network')),
  driver: z.string().exactOptional(),
  subnets: z.array(cidr('subnet')).exactOptional(),
  ipRanges: z.array(cidr('ip range')).exactOptional(),
  gateways: z.array(address('gateway', any)).exactOptional(),
  auxAddresses: z.record(z.string(), address('auxiliary address', any)).exactOptional(),
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
  }).exactOptional(),
  pid: z.int().positive().exactOptional(),
  share: z.string().min(1).exactOptional(),
  ephemeral: z.boolean().exactOptional(),
  dns: z
    .strictObject({
      servers: z.array(address('DNS server', any)).default([]),
      search: z.array(text(checkSearchDomain)).default([]),
    })
    .exactOptional(),
  hostname: text(name => checkHostname(name)).exactOptional(),
  extraHosts: z
    .array(
      z.strictObject({
        name: text(name => checkHostname(name, 'name of an extra host')),
        address: address('address of an extra host', any),
      }),
    )
    .exactOptional(),
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
    from: z.array(cidrOrAddress('source')).exactOptional(),
  })
  .refine(
    ({ hostPort, containerPort }) => arePairs(hostPort, containerPort),
    'as many host ports as container ports are needed, or one container port for a range of host ports',
  )

export const connectSpec = z.strictObject({
  sandbox: z.string().min(1),
  ip: address('address', [4]).exactOptional(),
  ip6: address('address', [6]).exactOptional(),
  mac: text(parseMac).exactOptional(),
  ifname: text(name => checkLinkName(name)).exactOptional(),
  aliases: z.array(text(name => checkObjectName(name, 'alias'))).exactOptional(),
  ports: z.array(portSpec).exactOptional(),
  routes: z
    .array(z.strictObject({ destination: cidr('route'), via: address('next hop', any).exactOptional() }))
    .exactOptional(),
  options: dictionary.exactOptional(),
})

export const publishSpec = z.strictObject({
  port: portSpec,
  network: z.string().min(1).exactOptional(),
  replace: z.boolean().exactOptional(),
})
export const unpublishSpec = publishSpec.omit({ replace: true })

export const disconnectSpec = z.strictObject({
  sandbox: z.string().min(1),
  force: z.boolean().default(false),
  wait: z.boolean().default(false),
})
export const removeHostSpec = z.strictObject({ force: z.boolean().default(false) })
export const reconcileSpec = z.strictObject({ dryRun: z.boolean().default(false) })
const time = (what: string) =>
  z.string().transform((value, context) => {
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

const invalidBody = (sentences: string[]): NetError => invalid([...new Set(sentences)].join('; '))

function sentenceOf(issue: z.core.$ZodIssue, known: readonly string[]): string {
  const field = issue.path.length === 0 ? 'the body' : `field "${issue.path.map(String).join('.')}"`
  switch (issue.code) {
    case 'custom':
      return issue.message
    case 'unrecognized_keys': {
      // only the outermost object's fields are known here
      const near = issue.path.length === 0 ? suggestion(issue.keys[0] ?? '', known) : ''
      return `unknown field "${[...issue.path, issue.keys[0]].map(String).join('.')}"${near}`
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
      return `${field} must be ${issue.inclusive ? 'at most' : 'less than'} ${issue.maximum}`
    default:
      return `${field}: ${issue.message}`
  }
}

const words: Record<string, string> = {
  int: 'a whole number',
  array: 'a list',
  object: 'an object',
  record: 'an object',
  boolean: 'true or false',
}
const article = (type: string): string => words[type] ?? `a ${type}`
