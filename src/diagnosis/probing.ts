import { randomInt } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ProbeReport, TraceStep } from '../cnm/diagnosis.js'
import { messageOf } from '../errors.js'
import { type Place, type ProbeSign, type TracedStep, traced } from '../firewall/trace.js'
import { connectProbe, type ProbeResult } from '../netlink/connect-probe.js'
import type { Netns } from '../netlink/netns.js'
import { ping } from '../netlink/ping.js'
import { formatHostPort } from '../ports/address.js'
import type { End, Wanted } from './ends.js'
import { netnsOf } from './inside.js'

/** How long an answer may take; a TCP connection is tried a second time after one second. */
export const patienceMs = 1_300
/** The same where none is to be expected. */
export const shortMs = 400
/** What is told of an answer to a sender whose packet a rule has refused. */
const afterStopMs = 50
const smallBytes = 84

/** Ports that the kernel does not give out by itself (net.ipv4.ip_local_port_range). */
const firstPort = 61_001
const lastPort = 65_000

export interface Probed {
  report: ProbeReport
  /** the first rule that let it, or its answer, go no further */
  stop?: TracedStep
  /** everything that was heard of it; absent where the kernel told nothing */
  steps?: TracedStep[]
  /** the namespaces that it was followed in */
  places: string[]
  /** it got through all rules of the namespace where it ends */
  arrived: boolean
}

/** One packet, or one connection, followed through the rules of every namespace on the way. */
export async function probe(
  { from, to, final }: { from: End; to: End; final: End },
  { port, protocol }: Wanted,
  timeoutMs: number,
): Promise<Probed> {
  const { places, close } = openPlaces(from, final)
  const origin = places[0]
  if (origin === undefined) throw new Error('a probe begins somewhere')
  try {
    const number = protocol === 'icmp' ? randomInt(1, 0x10000) : randomInt(firstPort, lastPort)
    const sign: ProbeSign = protocol === 'icmp' ? { protocol, identifier: number } : { protocol, sourcePort: number }
    const send = (): Promise<ProbeResult> =>
      protocol === 'tcp' || protocol === 'udp'
        ? connectProbe(origin.netns, {
            protocol,
            to: { address: to.address, port: port ?? 0 },
            sourcePort: number,
            timeoutMs,
          })
        : pingFrom(origin.netns, to.address, smallBytes, number, timeoutMs)
    const until = (stopped: Promise<void>): Promise<ProbeResult> => Promise.race([send(), stopped.then(silence)])
    const { result, steps } = await traced(places, sign, until)
    return reportOf(
      words(from, to, { port, protocol }),
      result,
      steps,
      places.map(({ name }) => name),
    )
  } finally {
    close()
  }
}

/** Whoever waits for an answer to what was stopped waits no more. */
async function silence(): Promise<ProbeResult> {
  await sleep(afterStopMs)
  return { result: 'silent' }
}

function words(
  from: End,
  to: End,
  { port, protocol }: Pick<Wanted, 'protocol'> & { port: number | undefined },
): string {
  const target = port === undefined ? to.address : formatHostPort(to.address, port)
  const what = { icmp: 'ping', tcp: 'TCP connection', udp: 'UDP datagram', sctp: 'SCTP' }[protocol]
  return `${what} from ${from.name} to ${target}`
}

/** Each namespace once, in the order in which the probe passes them. */
function openPlaces(from: End, final: End): { places: Place[]; close(): void } {
  const ends: End[] = [
    from,
    { kind: 'host', name: 'the host', address: '' },
    ...(final.kind === 'endpoint' ? [final] : []),
  ]
  const places: Place[] = []
  const seen = new Set<string>()
  for (const end of ends) {
    const netns = netnsOf(end)
    const identity = netns.identity()
    if (seen.has(identity)) netns.close()
    else places.push({ name: end.name, netns })
    seen.add(identity)
  }
  return {
    places,
    close() {
      for (const { netns } of places) netns.close()
    },
  }
}

async function pingFrom(
  netns: Netns,
  address: string,
  bytes: number,
  identifier: number,
  timeoutMs: number,
): Promise<ProbeResult> {
  try {
    const result = await ping(address, bytes, timeoutMs, { netns, identifier })
    return result === 'too big' ? { result: 'unsent', because: 'it is larger than the MTU' } : { result }
  } catch (error) {
    return { result: 'unsent', because: messageOf(error) }
  }
}

/** Whether a packet of the whole MTU gets there too, where a small one does: `undefined` when that says nothing. */
export async function wholePacket(from: End, address: string, mtu: number): Promise<boolean | undefined> {
  const netns = netnsOf(from)
  const answered = async (bytes: number) =>
    (await pingFrom(netns, address, bytes, randomInt(1, 0x10000), shortMs)).result === 'answered'
  try {
    if (!(await answered(smallBytes))) return undefined
    return await answered(mtu)
  } finally {
    netns.close()
  }
}

function reportOf(text: string, result: ProbeResult, steps: TracedStep[] | undefined, places: string[]): Probed {
  const report: ProbeReport = {
    words: result.result === 'unsent' ? `${text}: ${result.because}` : text,
    result: result.result,
  }
  if (steps === undefined) return { report, places, arrived: false }
  const last = places.at(-1)
  const stop = steps.find(({ passed, verdict }) => !passed && verdict === 'drop')
  const arrived = steps.some(
    // a bridge has an input of its own
    ({ where, passed, table, chain, answer }) =>
      where === last && passed && table.startsWith('inet ') && chain === 'input' && !answer,
  )
  return { report: { ...report, trace: traceOf(steps) }, ...(stop && { stop }), steps, places, arrived }
}

/** A connection that is tried again meets everything again: once is enough. */
function traceOf(steps: readonly TracedStep[]): TraceStep[] {
  const seen = new Set<string>()
  return steps.flatMap(step => {
    const { passed, packet, type, table, chain, ...rest } = step
    const shown: TraceStep = {
      ...rest,
      // not a chain of anybody's: the hook, and that it was passed
      ...(passed ? { table: table.split(' ')[0] ?? '', chain: `${chain} passed` } : { table, chain }),
      packet: packetWords(step),
    }
    const key = JSON.stringify({ ...shown, rule: '' })
    if (seen.has(key)) return []
    seen.add(key)
    return [shown]
  })
}

const portless: readonly number[] = [1, 58]

export function packetWords({
  packet: { source, target, protocol, sourcePort, targetPort },
}: Pick<TracedStep, 'packet'>): string {
  if (portless.includes(protocol)) return `${source} -> ${target}`
  return `${formatHostPort(source, sourcePort)} -> ${formatHostPort(target, targetPort)}`
}
