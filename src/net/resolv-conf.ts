import { isIP } from 'node:net'

/** What resolv.conf(5) says, as far as it concerns us. */
export interface ResolvConf {
  /** addresses, in order; link-local ones with their zone: `fe80::1%eth0` */
  servers: string[]
  search: string[]
  options: string[]
}

/** Lines that mean nothing are passed over, as resolvers do; of several `search` or `domain` lines the last counts. */
export function parseResolvConf(text: string): ResolvConf {
  const conf: ResolvConf = { servers: [], search: [], options: [] }
  for (const line of text.split('\n')) {
    const [keyword, ...values] = line
      .replace(/[#;].*/, '')
      .trim()
      .split(/\s+/)
    if (keyword === 'nameserver' && values[0] !== undefined && isIP(values[0]) !== 0) conf.servers.push(values[0])
    else if (keyword === 'search' || keyword === 'domain') conf.search = values
    else if (keyword === 'options') conf.options.push(...values)
  }
  return conf
}

export function formatResolvConf({ servers, search, options }: ResolvConf): string {
  const lines = servers.map(server => `nameserver ${server}`)
  if (search.length > 0) lines.push(`search ${search.join(' ')}`)
  if (options.length > 0) lines.push(`options ${options.join(' ')}`)
  return `${lines.join('\n')}\n`
}
