import type { Host } from './host.js'

// What the macvlan suites ask of a host whose LAN, on link uplink0, it shares with the machine outside.

/** A macvlan network on the LAN, in IPv4 and besides that in IPv6. */
export const lan = ['--driver', 'macvlan', '-o', 'parent=uplink0', '--subnet', '198.51.100.0/24']
export const lan6 = ['--ipv6', '--subnet', '2001:db8:100::/64']
/** Clear of the addresses that the LAN's machines have. */
export const range = ['--ip-range', '198.51.100.64/26']

/** What is said when a command is refused; fails if it was not. */
export function refusalOf(host: Host, ...args: string[]): string {
  const got = host.tryTsnet(...args)
  if (got.status === 0) throw new Error(`tsnet ${args.join(' ')} was expected to fail, and printed ${got.stdout}`)
  return got.stderr.trim()
}

/** A sandbox on a network; returns its addresses without the prefix lengths. */
export function attachTo(host: Host, network: string, sandbox: string, ...flags: string[]): string[] {
  if (!host.tsnet('-q', 'sandbox', 'ls').split('\n').includes(sandbox)) host.tsnet('sandbox', 'create', sandbox)
  const printed = host.tsnet('connect', network, sandbox, ...flags)
  return printed.split(/\s+/).map(address => address.split('/')[0]!)
}

/** The destinations of the routes that tsnet made for the host itself. */
export const hostRoutes = (host: Host): string[] =>
  ['-4', '-6']
    .flatMap(family => host.json('ip', '-j', family, 'route', 'show', 'proto', '0x74'))
    .map(({ dst }) => String(dst))

/** The addresses that the host has on a network of host_access, by subnet. */
export const hostAddresses = (host: Host, network: string): (string | undefined)[] =>
  host
    .tsnetJson<{ subnets: { hostAddress?: string }[] }[]>('network', 'inspect', network)[0]!
    .subnets.map(({ hostAddress }) => hostAddress)
