import { fail, ok, warn } from '../cnm/diagnosis.js'
import type { BackendName } from '../firewall/backend.js'
import { foreignChains, type Hook, markBit } from '../firewall/foreign-nft.js'
import { legacyVerdict } from '../firewall/legacy-verdict.js'
import type { Runner } from '../firewall/nft.js'
import type { TracedStep } from '../firewall/trace.js'
import { type Packets, type Verdict, verdictOf } from '../firewall/verdict.js'
import { type End, familyOfEnd, insideOf, type Wanted } from './ends.js'
import type { Hop } from './hops.js'
import type { Probed } from './probing.js'

// The firewall of a way: what the probe met, and where none could be followed, what rules would do with it.

export interface RulesDeps {
  backend: { name: BackendName; runner?: Runner; priority: number }
}

const ourTable = /^\w+ tsnet(_|$)/

/** The rule that stopped the probe, or its answer. */
export function stopHop(stop: TracedStep, ends: readonly End[]): Hop {
  const { where, table, chain, rule, answer, handle } = stop
  const what = answer ? 'answer' : 'firewall'
  const place = `in ${where}, table ${table}, chain ${chain}`
  const said = rule === undefined ? `the chain's policy drops it` : `this rule drops it: ${rule}`
  const ours = ourTable.test(table) || chain.startsWith('TSNET-')
  const words = `${answer ? 'the answer comes back so far: ' : ''}${place}: ${said}${ours ? " (tsnet's own)" : ''}`
  if (ours) return fail(what, words, 'tsnet doctor')
  const inside = insideOf(ends.find(({ name }) => name === where) ?? { kind: 'host', name: '', address: '' })
  const fix =
    handle === undefined
      ? `${inside}nft add rule ${table} ${chain} ... accept    # what is to get through; its policy is drop`
      : `${inside}nft delete rule ${table} ${chain} handle ${handle}    # or accept what is to get through before it`
  return fail(what, words, fix)
}

/** What a probe that nothing stopped tells, in a line for each namespace: what it met there. */
export function passedHops({ steps = [], places }: Probed): Hop[] {
  return places.flatMap(place => {
    const there = steps.filter(({ where, answer }) => where === place && !answer)
    if (there.length === 0) return []
    const rules = there.filter(({ passed, rule, verdict }) => !passed && rule !== undefined && verdict === 'accept')
    const tables = [...new Set(there.filter(({ passed }) => !passed).map(({ table }) => table))]
    const changed = [...new Set(there.map(({ packet }) => packet.target))]
    const translated = changed.length > 1 ? `, becomes one to ${changed.at(-1)}` : ''
    const met =
      tables.length === 0
        ? 'meets no rules'
        : `passes ${tables.join(', ')}${rules[0] === undefined ? '' : ` (accepted by ${rules[0].table} ${rules[0].chain})`}`
    return [ok('firewall', `the probe ${met} in ${place}${translated}`)]
  })
}

/** Iptables-legacy's rules, which the kernel does not let anybody follow. */
export async function legacyHops(from: End, final: End, wanted: Wanted, links: Links): Promise<Hop[]> {
  const hook = hookOf(from, final)
  const verdict = await legacyVerdict(hook, packetsOf(from, final, wanted, links, markBit))
  if (verdict === undefined) return []
  const name = `iptables-legacy, chain ${hook}`
  if (verdict.what === 'drop')
    return [fail('firewall', `on the host, ${name}: this rule drops it: ${verdict.rule}`, legacyFix(verdict, hook))]
  if (verdict.what === 'unknown')
    return [warn('firewall', `what ${name} does with it cannot be told for sure`, `iptables-legacy -S`)]
  return [ok('firewall', `${name} lets it pass, as its rules read`)]
}

const legacyFix = (verdict: Verdict, hook: string): string =>
  verdict.what === 'drop' && verdict.rule.startsWith('-A ')
    ? `iptables-legacy -D ${verdict.rule.slice(3)}    # or accept what is to get through before it`
    : `iptables-legacy -I ${hook} -m mark --mark 0x800000/0x800000 -j ACCEPT`

const hookOf = (from: End, final: End): 'FORWARD' | 'INPUT' | 'OUTPUT' =>
  from.kind === 'host' ? 'OUTPUT' : final.kind === 'host' ? 'INPUT' : 'FORWARD'

/** By which links the packets come to the host and leave it; absent where that is not known. */
export interface Links {
  iifname?: string
  oifname?: string
  /** a published port's: the target was replaced */
  translated: boolean
}

function packetsOf(
  from: End,
  final: End,
  { protocol, port }: Wanted,
  { iifname, oifname, translated }: Links,
  mark: number,
): Packets {
  const six = familyOfEnd(final) === 6
  return {
    ...(iifname === undefined ? {} : { iifname }),
    ...(oifname === undefined ? {} : { oifname }),
    ...(port === undefined ? {} : { dport: port }),
    ...{ mark, state: 'new', status: translated ? 'dnat' : 'confirmed', nfproto: six ? 'ipv6' : 'ipv4' },
    ...{ saddr: from.address, daddr: final.address, l4proto: protocol === 'icmp' && six ? 'icmpv6' : protocol },
  }
}

/** Other programs' nftables rules, read: for packets from outside, of which none can be sent from here. */
export async function readHops(
  { backend }: RulesDeps,
  from: End,
  final: End,
  wanted: Wanted,
  links: Links,
): Promise<Hop[]> {
  const { runner, priority } = backend
  if (runner === undefined) return []
  const hook = hookOf(from, final)
  const chains = await foreignChains(runner, [hook.toLowerCase() as Hook])
  const stops = chains.flatMap(({ family, name, chain, chains: all, priority: at }) => {
    const packets = packetsOf(from, final, wanted, links, hook === 'FORWARD' && at > priority ? markBit : 0)
    if (family !== 'inet' && (family === 'ip6') !== (packets.nfproto === 'ipv6')) return []
    const verdict = verdictOf(chain, packets, all)
    return verdict.what === 'drop'
      ? [
          fail(
            'firewall',
            `on the host, ${name}: it drops it: ${verdict.rule}`,
            `nft -a list chain ${chainOf(name)}    # and accept there what is to get through`,
          ),
        ]
      : []
  })
  return stops.length > 0 ? stops : [ok('firewall', "no other program's rule on the host drops it, as the rules read")]
}

/** `table inet filter, chain forward` -> `inet filter forward` */
const chainOf = (name: string): string => name.replace(/^table (.*), chain /, '$1 ')
