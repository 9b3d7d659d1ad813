import { readFileSync } from 'node:fs'
import { invalid, messageOf } from '../errors.js'

export interface EtcdOptions {
  /** `host:port` or `[address]:port`, in any order */
  endpoints: readonly string[]
  /** All keys are below it, with a slash in between. */
  prefix: string
  /** Paths of PEM files. Without `ca` those that Node.js trusts. */
  tls?: { ca?: string; cert?: string; key?: string }
  user?: string
  password?: string
  /** Within it every call is answered or fails. */
  timeoutMs?: number
}

const defaultPort = 2379
const defaultPrefix = 'tsnet'
const form = 'etcd://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][/PREFIX][?ca=FILE&cert=FILE&key=FILE]'
const parameters = ['ca', 'cert', 'key'] as const

/**
 * `etcd://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][/PREFIX][?ca=FILE&cert=FILE&key=FILE]`: the members of one etcd.
 *
 * Ports are 2379 unless given, IPv6 addresses stand in brackets, the prefix is `tsnet` unless given, user and password may
 * be percent-encoded. With `ca`, `cert` and `key`, or as `etcds://`, it is TLS. The files are not read here.
 * @throws {NetError} InvalidParameter; the sentence never has the password
 */
export function parseEtcdUrl(text: string): EtcdOptions {
  // An @ that is not the last of a login may belong to a password with a slash in it: no part of that may be said.
  const match = /^(etcds?):\/\/(?:([^/?#]*)@)?([^/?#@]*)(?:\/([^?#@]*))?(?:\?([^#@]*))?$/.exec(text)
  if (!match) throw invalid(`an etcd store is ${form}, not ${withoutLogin(text)}`)
  const [, scheme, login, hosts = '', path = '', query = ''] = match
  const tls = parseQuery(query)
  return {
    endpoints: unique(hosts.split(',').map(parseEndpoint)),
    prefix: parsePrefix(path),
    ...(login !== undefined && parseLogin(login)),
    ...((scheme === 'etcds' || Object.keys(tls).length > 0) && { tls }),
  }
}

/** For people: where the store is, without who asks and how. */
export const formatEtcd = ({ endpoints, prefix, tls }: EtcdOptions): string =>
  `${tls ? 'etcds' : 'etcd'}://${endpoints.join(',')}/${prefix}`

/** The certificates, read anew for every connection: they are replaced while we run. */
export function readTls(tls: NonNullable<EtcdOptions['tls']>): { ca?: Buffer; cert?: Buffer; key?: Buffer } {
  const read = (what: 'ca' | 'cert' | 'key') => {
    const path = tls[what]
    if (path === undefined) return {}
    try {
      return { [what]: readFileSync(path) }
    } catch (error) {
      throw invalid(`etcd's ${what} ${path} cannot be read: ${messageOf(error)}`, { cause: error })
    }
  }
  return { ...read('ca'), ...read('cert'), ...read('key') }
}

const withoutLogin = (text: string): string => text.replace(/\/\/.*@/, '//***@')

function parseEndpoint(text: string): string {
  const match = /^(\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[A-Za-z0-9._-]+)(?::(\d+))?$/.exec(text)
  const port = Number(match?.[2] ?? defaultPort)
  if (!match || port < 1 || port > 65535)
    throw invalid(`"${text}" is no HOST or HOST:PORT of etcd (an IPv6 address stands in brackets)`)
  return `${match[1]}:${port}`
}

function unique(endpoints: string[]): string[] {
  for (const [i, endpoint] of endpoints.entries())
    if (endpoints.indexOf(endpoint) < i) throw invalid(`${endpoint} is named twice in the address of etcd`)
  return endpoints
}

function parsePrefix(path: string): string {
  const prefix = path === '' ? defaultPrefix : path.replace(/\/$/, '')
  if (!/^[A-Za-z0-9._-]+(\/[A-Za-z0-9._-]+)*$/.test(prefix))
    throw invalid(
      `etcd's prefix "${path}" is not made of letters, digits, ".", "_" and "-", with single slashes between`,
    )
  return prefix
}

function parseLogin(text: string): { user: string; password: string } {
  const match = /^([^:]+):(.+)$/.exec(text)
  try {
    if (match) return { user: decodeURIComponent(match[1]!), password: decodeURIComponent(match[2]!) }
  } catch {
    // not percent-encoded: the same sentence
  }
  throw invalid('before the @ of an etcd store stand USER:PASSWORD, other characters than letters and digits as %XX')
}

function parseQuery(query: string): NonNullable<EtcdOptions['tls']> {
  const tls: NonNullable<EtcdOptions['tls']> = {}
  for (const [name, value] of new URLSearchParams(query)) {
    const known = parameters.find(parameter => parameter === name)
    if (!known) throw invalid(`an etcd store has no "${name}": it is one of ${parameters.join(', ')}`)
    if (!value.startsWith('/')) throw invalid(`etcd's ${name} "${value}" must be an absolute path`)
    if (tls[known] !== undefined) throw invalid(`etcd's ${name} is given twice`)
    tls[known] = value
  }
  if ((tls.cert === undefined) !== (tls.key === undefined))
    throw invalid("etcd's cert and key are given both or neither")
  return tls
}
