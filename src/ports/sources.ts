import { contains, formatCidr, parseHostCidr } from '../net/cidr.js'

/**
 * Clients of a port as a set of the firewall can hold them: subnets in their usual spelling, a lone address with the
 * whole prefix length, none inside another, in the order of their text. An empty list is everybody: undefined.
 * @throws {NetError} InvalidParameter: no address and no subnet
 */
export function parseSources(texts: readonly string[]): string[] | undefined {
  const all = new Map(texts.map(text => parseHostCidr(text, 'source')).map(cidr => [formatCidr(cidr), cidr]))
  const outermost = [...all].filter(([, cidr]) => ![...all.values()].some(o => o !== cidr && contains(o, cidr)))
  return outermost.length === 0 ? undefined : outermost.map(([text]) => text).sort()
}
