import type { HostDoor } from '../cnm/types.js'
import { legacyFilter } from './foreign-legacy.js'
import type { ForeignChain } from './foreign-nft.js'
import { parseLegacy } from './legacy-verdict.js'
import { type Packets, verdictOf } from './verdict.js'

// What comes to the host itself passes other programs' input chains. Rules of ours there would be a say in what a host lets in,
// which is not ours: whoever drops it is named.

/** What nft says of the packets that come to a door: also what a rule asks that lets them in. */
export const conditionsOf = ({ link, protocol, port, family, address }: HostDoor): string =>
  port === undefined
    ? `iifname "${link}" ${family === 4 ? 'ip' : 'ip6'} daddr ${address}`
    : `iifname "${link}" ${protocol} dport ${port}`

/** Whose input chains surely drop new packets to a door, in words. Pure. */
export function doorObstacles(foreign: readonly ForeignChain[], doors: readonly HostDoor[]): string[] {
  return doors.flatMap(door =>
    foreign.flatMap(({ hook, family, name, chain, chains }) => {
      if (hook !== 'input' || (family !== 'inet' && (family === 'ip') !== (door.family === 4))) return []
      const verdict = verdictOf(chain, packetsTo(door), chains)
      return verdict.what === 'drop' ? [`${name}: ${verdict.rule} (to ${door.what}: ${conditionsOf(door)})`] : []
    }),
  )
}

const packetsTo = ({ family, protocol, port, link, address }: HostDoor): Packets => ({
  iifname: link,
  ...{ mark: 0, state: 'new', status: 'confirmed', nfproto: `ipv${family}`, l4proto: protocol },
  ...(port !== undefined && { dport: port }),
  ...(address !== undefined && { daddr: address }),
  ...(link === 'lo' && address !== undefined && { saddr: address }),
})

/** iptables-legacy's, which nftables does not list, as if it did. */
export async function legacyInput(): Promise<ForeignChain[]> {
  const found = (['ip', 'ip6'] as const).map(async (family): Promise<ForeignChain[]> => {
    const chains = parseLegacy((await legacyFilter(family)) ?? '')
    const chain = chains.get('INPUT')
    if (chain === undefined) return []
    const program = family === 'ip' ? 'iptables-legacy' : 'ip6tables-legacy'
    return [{ hook: 'input', family, priority: 0, name: `${program}, chain INPUT`, chain, chains }]
  })
  return (await Promise.all(found)).flat()
}
