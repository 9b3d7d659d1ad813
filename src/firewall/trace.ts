import { randomBytes } from 'node:crypto'
import type { Protocol } from '../cnm/types.js'
import { Kernel } from '../netlink/kernel.js'
import type { Netns } from '../netlink/netns.js'
import { type PacketEnds, type TraceEvent, watchTraces } from '../netlink/nft-trace.js'
import { type Context, openNftInside } from './libnftables.js'

/** Where packets are followed. */
export interface Place {
  /** for people: `host`, or the name of a sandbox */
  name: string
  netns: Netns
}

/** By what the packets of one probe are known in every namespace: their addresses may change on the way, and marks do not cross. */
export type ProbeSign = { protocol: 'icmp'; identifier: number } | { protocol: Protocol; sourcePort: number }

/** A rule that the packet met, or the end of a chain that it came to. */
export interface TracedStep extends Omit<TraceEvent, 'iif' | 'oif' | 'packet'> {
  /** name of the place */
  where: string
  /** the packet has passed all rules of this hook, which `chain` names: an empty chain of ours after all others says so */
  passed: boolean
  /** as nft writes it; absent for the end of a chain */
  rule?: string
  /** names of links */
  iif?: string
  oif?: string
  packet: PacketEnds
  /** it is an answer to the probe */
  answer: boolean
}

const protocolNumbers: Record<Protocol, number> = { tcp: 6, udp: 17, sctp: 132 }

/** nft's conditions: packets of the probe, and the answers to it. */
const conditionsOf = (sign: ProbeSign): string[] =>
  sign.protocol === 'icmp'
    ? [
        `icmp type { echo-request, echo-reply } icmp id ${sign.identifier}`,
        `icmpv6 type { echo-request, echo-reply } icmpv6 id ${sign.identifier}`,
      ]
    : ['sport', 'dport'].map(side => `meta l4proto ${protocolNumbers[sign.protocol]} th ${side} ${sign.sourcePort}`)

/** Before everybody's chains, and after them, of the hooks at which tables of a family can be. */
const first = -500
const last = 500

/**
 * Chains that mark the probe's packets for tracing where they come in, and after all others at every hook an empty one, whose end
 * being told means that the packet came so far. `flags owner`: the kernel removes the table when whoever made it is gone.
 */
function tableText(family: 'inet' | 'bridge', name: string, sign: ProbeSign): string {
  const rules = conditionsOf(sign)
    .map(condition => `    ${condition} meta nftrace set 1\n`)
    .join('')
  const entries = ['prerouting', 'output'].map(
    hook => `  chain from_${hook} {\n    type filter hook ${hook} priority ${first}; policy accept;\n${rules}  }\n`,
  )
  const ends = ['prerouting', 'input', 'forward', 'output', 'postrouting'].map(
    hook => `  chain ${hook} {\n    type filter hook ${hook} priority ${last}; policy accept;\n  }\n`,
  )
  return `table ${family} ${name} {\n  flags owner;\n${entries.join('')}${ends.join('')}}\n`
}

/**
 * Follow the packets of a probe through the rules of these places while `work` sends it. No steps where nothing of it could be
 * heard: libnftables is not here, or the kernel is too old. Whatever happens, the tables are gone afterwards.
 * @param work is told when a rule has stopped the probe: nothing more is worth waiting for
 * @param places in the order in which the probe passes them, as the steps then are: there, and the answer back
 */
export async function traced<T>(
  places: readonly Place[],
  sign: ProbeSign,
  work: (stopped: Promise<void>) => Promise<T>,
): Promise<{ result: T; steps?: TracedStep[] }> {
  const name = `tsnet_explain_${randomBytes(4).toString('hex')}`
  const listeners: Listener[] = []
  let stop = (): void => undefined
  const stopped = new Promise<void>(resolve => {
    stop = resolve
  })
  try {
    for (const place of places) {
      const listener = listen(place, name, sign, stop)
      if (listener === undefined) return { result: await work(stopped) }
      listeners.push(listener)
    }
    const result = await work(stopped)
    for (const { watch } of listeners) watch.close()
    const steps = listeners.map(listener => stepsOf(listener, name, sign))
    const there = steps.flat().filter(({ answer }) => !answer)
    const back = steps
      .reverse()
      .flat()
      .filter(({ answer }) => answer)
    return { result, steps: [...there, ...back] }
  } finally {
    for (const { context, watch } of listeners) {
      watch.close()
      context.close()
    }
  }
}

interface Listener {
  place: Place
  context: Context
  watch: { close(): void }
  heard: TraceEvent[]
  /** rules by `table chain handle` */
  rules: Map<string, string>
  /** names by index */
  links: Map<number, string>
}

function listen(place: Place, name: string, sign: ProbeSign, stop: () => void): Listener | undefined {
  let context: Context | undefined
  try {
    context = openNftInside(place.netns)
    context.run(tableText('inet', name, sign))
    try {
      context.run(tableText('bridge', name, sign))
    } catch {
      // a kernel without rules for bridges
    }
  } catch {
    context?.close()
    return undefined
  }
  const links = Kernel.inside(place.netns, kernel => kernel.links().map(link => [link.index, link.name] as const))
  const heard: TraceEvent[] = []
  const watch = watchTraces(place.netns, event => {
    heard.push(event)
    if (event.verdict === 'drop') stop()
  })
  return { place, context, watch, heard, rules: new Map(), links: new Map(links) }
}

/** The kernel tells of a packet once a base chain, before its first rule: what follows is about the same. */
function stepsOf(listener: Listener, own: string, sign: ProbeSign): TracedStep[] {
  const { links, place } = listener
  const nameOf = (index: number): string => links.get(index) ?? String(index)
  const steps: TracedStep[] = []
  let about: Pick<TracedStep, 'packet' | 'answer' | 'iif' | 'oif'> | undefined
  for (const { iif, oif, packet, ...event } of listener.heard) {
    if (packet !== undefined)
      about = {
        ...(iif !== undefined && { iif: nameOf(iif) }),
        ...(oif !== undefined && { oif: nameOf(oif) }),
        packet,
        answer: isAnswer(packet, sign),
      }
    const isOwn = event.table.endsWith(` ${own}`)
    const passed = isOwn && event.type === 'policy' && !event.chain.startsWith('from_')
    // without a handle it is the news of the packet itself
    if (about === undefined || (isOwn ? !passed : event.type === 'rule' && event.handle === undefined)) continue
    const rule = event.handle === undefined ? {} : { rule: ruleOf(listener, event) }
    steps.push({ ...event, ...about, ...rule, where: place.name, passed })
  }
  return steps
}

/** ICMP's type is where others have the first half of the source port: echo replies of RFC 792 and RFC 4443. */
const isAnswer = ({ sourcePort, targetPort }: PacketEnds, sign: ProbeSign): boolean =>
  sign.protocol === 'icmp' ? [0, 129].includes(sourcePort >> 8) : targetPort === sign.sourcePort

/** As `nft -a list chain` shows it; the rule may have gone meanwhile. */
function ruleOf({ context, rules }: Listener, { table, chain, handle }: TraceEvent): string {
  const key = `${table} ${chain}`
  if (!rules.has(key)) {
    rules.set(key, '')
    for (const line of listed(context, key).split('\n')) {
      const [, text, number] = /^\s*(.*?) # handle (\d+)$/.exec(line) ?? []
      if (text !== undefined) rules.set(`${key} ${number}`, text)
    }
  }
  return rules.get(`${key} ${handle}`) ?? `rule ${handle}`
}

function listed(context: Context, chain: string): string {
  try {
    return context.run(`list chain ${chain}`)
  } catch {
    return ''
  }
}
