import { type Check, type ExplainSpec, type Explanation, fail, ok, warn } from '../cnm/diagnosis.js'
import { messageOf } from '../errors.js'
import type { Link } from '../netlink/objects.js'
import { type BetweenDeps, betweenHops } from './between-hosts.js'
import { choosePair, type End, type Meaning, meaningOf, parseWanted, type Wanted } from './ends.js'
import { type Hop, isWrong, lasting } from './hops.js'
import { backHops, type Leaving, linkHops, neighbourHops, routeHops } from './inside.js'
import { isLan } from './lan.js'
import { type Policy, policyOf } from './policy.js'
import { type Probed, patienceMs, probe, shortMs, wholePacket } from './probing.js'
import { type Links, legacyHops, passedHops, type RulesDeps, readHops, stopHop } from './rules.js'
import { bridgeLink, duplicateHops, portHops, type SegmentDeps } from './segment.js'

export type ExplainDeps = SegmentDeps & BetweenDeps & RulesDeps

/**
 * Walk the way of a packet from one end to the other, hop by hop, and then send one. What is found first on the way and is wrong is
 * the cause; a probe that gets through says that it was none after all, but for what goes wrong only sometimes.
 */
export async function explain(deps: ExplainDeps, spec: ExplainSpec): Promise<Explanation> {
  const wanted = parseWanted(spec.to)
  const head = { from: spec.from, to: spec.to }
  const [from, to] = [spec.from, wanted.ref].map(word => meaningOf(word, deps.state, deps.kernel)) as [Meaning, Meaning]
  const strange = [...unknownHops(deps, spec.from, from), ...unknownHops(deps, wanted.ref, to)]
  if (strange.length > 0) return { ...head, works: false, hops: strange, ...causeOf(strange) }
  const pair = choosePair(from.ends, to.ends)
  if (pair === undefined) {
    const hops = [
      fail(
        'address',
        `${spec.from} and ${spec.to} have no addresses of one family, IPv4 or IPv6`,
        'tsnet network create ... --ipv6    # and attach both to that',
      ),
    ]
    return { ...head, works: false, hops, ...causeOf(hops) }
  }
  const walked = await walk(deps, pair.from, pair.to, wanted)
  return { ...head, ...(await tried(deps, walked, wanted)) }
}

function unknownHops({ state }: ExplainDeps, word: string, { ends, nothing }: Meaning): Hop[] {
  if (ends.length > 0) return []
  if (nothing !== undefined) return [fail('name', nothing, `tsnet connect NETWORK ${word}`)]
  const down = state.cluster?.downBecause()
  const words = `nothing on this host, or on its networks on other hosts, is called ${word}`
  if (down === undefined) return [fail('name', words, 'tsnet ps')]
  return [fail('etcd', `${words}, and what is on other hosts now is not known: ${down}`, 'tsnet doctor')]
}

interface Walked {
  from: End
  to: End
  policy: Policy
  hops: Hop[]
  bridge: Link | undefined
  links: Links
  /** of the link by which packets leave */
  mtu: number | undefined
}

/** Everything that can be seen without sending anything of consequence. */
async function walk(deps: ExplainDeps, from: End, to: End, wanted: Wanted): Promise<Walked> {
  const comesBy = from.kind === 'outside' ? uplink(deps, from.address) : undefined
  const policy = policyOf(deps.state, from, to, wanted, comesBy)
  const { final } = policy
  const bridge = bridgeLink(deps, final.kind === 'peer' ? from : final)
  const near = from.on !== undefined && to.on?.network.id === from.on.network.id
  const hops: Hop[] = [ok('name', nameWords(from, to)), ...policy.hops, ...linkHops(from), ...portHops(deps, from)]
  const leaving = await quietly(async () => leave(from, to, near))
  hops.push(...leaving.hops)
  const duplicates = near ? [from, to] : [final]
  hops.push(...(await duplicateHops(deps, duplicates)))
  hops.push(
    ...(await quietly(async () => ({ hops: neighbourHops(from, leaving, to.address, nextMac(deps, from, to, near)) })))
      .hops,
  )
  if (to.kind === 'peer' && bridge !== undefined && near) hops.push(...(await betweenHops(deps, to, bridge)))
  if (final.kind === 'endpoint' && final.on?.endpoint.id !== from.on?.endpoint.id) {
    hops.push(...portHops(deps, final), ...linkHops(final))
    hops.push(...(await quietly(async () => ({ hops: backHops(final, from.address) }))).hops)
  }
  const links: Links = { ...linksOf(deps, from, final, leaving.link), translated: final !== to }
  return { from, to, policy, hops, bridge, links, mtu: leaving.link?.mtu }
}

const leave = (from: End, to: End, near: boolean): Leaving =>
  from.kind === 'outside' ? { hops: [] } : routeHops(from, to.address, near)

/** A namespace that is gone has been told of already. */
async function quietly(work: () => Promise<Leaving>): Promise<Leaving> {
  try {
    return await work()
  } catch (error) {
    return { hops: [warn('route', `it could not be looked at: ${messageOf(error)}`)] }
  }
}

function nameWords(from: End, to: End): string {
  const at = ({ name, address, on, host }: End): string => {
    const where = `${on === undefined ? '' : ` on network ${on.network.name}`}${host === undefined ? '' : `, host ${host}`}`
    return name === address ? address : `${name} is ${address}${where}`
  }
  return `${at(from)}; ${at(to)}`
}

/** Where the first step of a way leads, on a segment of ours. */
function nextMac(deps: ExplainDeps, from: End, to: End, near: boolean): string | undefined {
  if (near || (from.kind === 'host' && to.kind === 'endpoint')) return to.on?.endpoint.mac
  return from.on === undefined ? undefined : bridgeLink(deps, from)?.mac
}

/** By which links the packet comes to the host and leaves it. */
function linksOf(deps: ExplainDeps, from: End, final: End, leaving: Link | undefined): Omit<Links, 'translated'> {
  const inwards = from.kind === 'outside' ? uplink(deps, from.address) : bridgeLink(deps, from)?.name
  const outwards = final.kind === 'outside' ? uplink(deps, final.address) : bridgeLink(deps, final)?.name
  const oifname = from.kind === 'host' ? leaving?.name : outwards
  return { ...(inwards !== undefined && { iifname: inwards }), ...(oifname !== undefined && { oifname }) }
}

function uplink({ kernel }: ExplainDeps, address: string): string | undefined {
  const index = kernel.routeTo(address)?.index
  return index === undefined ? undefined : kernel.link(index)?.name
}

type Outcome = Omit<Explanation, 'from' | 'to'>

/** Send the probe, where one can be sent, and say what it all means. */
async function tried(deps: ExplainDeps, walked: Walked, wanted: Wanted): Promise<Outcome> {
  const { from, to, policy, links } = walked
  const { final } = policy
  const inner: Wanted = { ...wanted, ...(policy.port !== undefined && { port: policy.port }) }
  const unsent = unsentBecause(from, wanted)
  if (unsent !== undefined) {
    // what comes to a machine of the LAN does not pass the host's rules
    const read = isLan(final.on?.network)
      ? []
      : [...(await readHops(deps, from, final, inner, links)), ...(await legacyHops(from, final, inner, links))]
    const hops = [...walked.hops, ...read]
    if (hops.some(isWrong)) return { works: false, hops, ...causeOf(hops) }
    return { works: true, hops: [...hops, ok('probe', `none is sent: ${unsent}; this is what can be read here`)] }
  }
  const sent = await attempt(walked, wanted)
  if ('what' in sent) {
    const hops = [...walked.hops, sent]
    return { works: false, hops, ...causeOf(hops) }
  }
  if (isThrough(sent, wanted)) return await through(walked, sent, wanted)
  const ends = [from, final]
  const legacy = sent.stop === undefined ? await legacyHops(from, final, inner, links) : []
  const hops: Hop[] = [
    ...walked.hops,
    probeHop(sent),
    ...(sent.stop === undefined ? legacy : [stopHop(sent.stop, ends)]),
  ]
  hops.push(...(hops.some(isWrong) ? [] : [lostHop(sent, to, final, inner)]))
  return { works: false, hops, probe: sent.report, ...causeOf(hops) }
}

/** Many kernels have no SCTP, and a packet made by hand is no association. */
function unsentBecause({ kind, name }: End, { protocol }: Wanted): string | undefined {
  if (kind === 'outside' || kind === 'peer') return `${name} is not on this host`
  return protocol === 'sctp' ? 'there are none for SCTP' : undefined
}

async function attempt({ from, to, policy, hops }: Walked, wanted: Wanted): Promise<Probed | Hop> {
  const isBroken = hops.some(hop => isWrong(hop) && !hop.lasting)
  try {
    return await probe({ from, to, final: policy.final }, wanted, isBroken ? shortMs : patienceMs)
  } catch (error) {
    return fail('probe', `none could be sent: ${messageOf(error)}`)
  }
}

/** UDP need not be answered: that it arrives is all that there is to know. */
const isThrough = ({ report, arrived, stop }: Probed, { protocol }: Wanted): boolean =>
  report.result === 'answered' || (protocol === 'udp' && report.result === 'silent' && arrived && stop === undefined)

/** A probe got through. What looked wrong was not, unless it is wrong for others than this one. */
async function through(
  { from, to, policy, hops: before, mtu }: Walked,
  sent: Probed,
  wanted: Wanted,
): Promise<Outcome> {
  const hops: Hop[] = before.map(hop => (isWrong(hop) && !hop.lasting ? { ...hop, state: 'warn' } : hop))
  hops.push(...passedHops(sent))
  // to itself it goes by its loopback, whose MTU is nobody else's
  const toItself = to.kind !== 'peer' && to.netns === from.netns
  const near = to.kind !== 'outside' && policy.final === to && !toItself
  if (near && mtu !== undefined && !hops.some(isWrong) && (await wholePacket(from, to.address, mtu)) === false)
    hops.push(
      lasting(
        fail(
          'mtu',
          `a packet of ${mtu} bytes, which the link of ${from.name} lets through, does not arrive; small ones do`,
          `ip -d link show    # and find the link with the smaller MTU`,
        ),
      ),
    )
  const words =
    wanted.protocol === 'udp' && sent.report.result === 'silent' ? 'arrives; UDP need not be answered' : undefined
  const all = [...hops, probeHop(sent, words)]
  return all.some(isWrong)
    ? { works: false, hops: all, probe: sent.report, ...causeOf(all) }
    : { works: true, hops: all, probe: sent.report }
}

function probeHop({ report }: Probed, words: string = resultWords[report.result]): Check {
  const state = report.result === 'answered' || words !== resultWords[report.result] ? 'ok' : 'warn'
  return { state, what: 'probe', words: `${report.words}: ${words}` }
}

const resultWords = {
  answered: 'it is answered',
  refused: 'it is refused',
  silent: 'no answer',
  unsent: 'it cannot be sent',
} as const

/** Nothing on the way is wrong, and still it goes no further: how far it came. */
function lostHop({ report, steps, arrived, places }: Probed, to: End, final: End, { port, protocol }: Wanted): Hop {
  if (report.result === 'refused')
    return fail(
      'program',
      `the way is free, but nothing in ${final.name} listens on port ${port}/${protocol}`,
      `ss -lnp    # in ${final.name}: the program has to listen at ${final.address} or at every address`,
    )
  const last = steps?.filter(({ answer }) => !answer).at(-1)
  const back = steps?.filter(({ answer }) => answer).at(-1)
  if (back !== undefined)
    return fail(
      'answer',
      `the answer was last seen in ${back.where}, ${back.oif === undefined ? `coming by ${back.iif}` : `leaving by ${back.oif}`}`,
      'tsnet doctor',
    )
  if (arrived)
    return fail(
      'program',
      `the probe arrives in ${places.at(-1)}, which does not answer`,
      `ss -lnp    # in ${final.name}`,
    )
  if (last === undefined)
    return fail(
      'probe',
      `${report.words}: nothing came back, and nothing on the way was seen to be wrong`,
      'tsnet doctor',
    )
  const at = `${last.where}, ${last.oif === undefined ? `coming by ${last.iif}` : `leaving by ${last.oif}`}`
  if (to.kind === 'outside')
    return fail(
      'outside',
      `the probe left this host and was not answered; it was last seen in ${at}`,
      `ping ${to.address}`,
    )
  return fail('probe', `the probe was last seen in ${at}, and nothing says why it went no further`, 'tsnet doctor')
}

/** What is wrong first on the way. */
function causeOf(hops: readonly Hop[]): Pick<Explanation, 'cause'> {
  const first = hops.find(isWrong)
  if (first === undefined) return {}
  return { cause: { words: first.words, ...(first.fix !== undefined && { fix: first.fix }) } }
}
