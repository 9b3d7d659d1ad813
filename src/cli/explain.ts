import type { Explanation, TraceStep } from '../cnm/diagnosis.js'
import { formatChecks } from './doctor.js'
import { print, printJson, type Session } from './session.js'

/** A line a hop, then the cause in one sentence and what to do. Exit code 1 where it does not get through. */
export async function explain(
  { client, json, quiet }: Session,
  from: string,
  to: string,
  flags: { trace?: true },
): Promise<void> {
  const explanation = await client.post<Explanation>(['explain'], { from, to })
  if (json) printJson(explanation)
  else print(formatExplanation(explanation, { quiet, trace: flags.trace ?? false }))
  if (!explanation.works) process.exitCode = 1
}

/** `quiet`: the outcome only. */
export function formatExplanation(explanation: Explanation, how: { quiet: boolean; trace: boolean }): string {
  const { from, to, works, hops, probe, cause } = explanation
  // what to do is said once, at the end
  const lines = how.quiet ? '' : formatChecks(hops.map(({ state, what, words }) => ({ state, what, words })))
  const trace = how.trace ? (probe?.trace ?? []).map(lineOf).join('') : ''
  if (works) return `${lines}${trace}✓ ${from} reaches ${to}\n`
  const fix = cause?.fix === undefined ? '' : `  what to do: ${cause.fix}\n`
  return `${lines}${trace}✗ ${from} does not reach ${to}: ${cause?.words}\n${fix}`
}

const lineOf = ({ where, table, chain, rule, verdict, packet, iif, oif, answer }: TraceStep): string => {
  const links = [iif === undefined ? '' : ` in ${iif}`, oif === undefined ? '' : ` out ${oif}`].join('')
  return `  ${where}: ${answer ? 'answer ' : ''}${packet}${links}: ${table} ${chain}${rule === undefined ? '' : `: ${rule}`}: ${verdict}\n`
}
