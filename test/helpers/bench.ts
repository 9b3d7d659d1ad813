import { appendFileSync } from 'node:fs'
import { expect } from 'vitest'
import { random } from './random.js'

export interface Target {
  atMost?: number
  atLeast?: number
}

/** A line of the results that scripts/bench makes its table and plots of. */
export interface Result {
  suite: string
  what: string
  value: number
  unit: string
  /** how far a median measured anew lies from this one at most, in 95 of 100 cases; in the same unit */
  margin?: number
  /** in words */
  target?: string
  met?: boolean
  /** bars of one group are drawn side by side */
  group?: string
  who?: string
  /** of a curve: how many there were already, and what it cost then */
  points?: [number, number][]
}

/** Keep a result for the table of scripts/bench, and fail where it misses its target. */
export function report(
  suite: string,
  what: string,
  value: number,
  unit: string,
  target: Target = {},
  more: Partial<Result> = {},
): void {
  const { atMost, atLeast } = target
  const met = value <= (atMost ?? value) && value >= (atLeast ?? value)
  const words = [
    ...(atMost === undefined ? [] : [`at most ${atMost}`]),
    ...(atLeast === undefined ? [] : [`at least ${atLeast}`]),
  ]
  const rounded = Number(value.toPrecision(4))
  const judged = words.length > 0 ? { target: words.join(', '), met } : {}
  const result: Result = { suite, what, value: rounded, unit, ...judged, ...more }
  const file = process.env.TSNET_BENCH_RESULTS
  if (file) appendFileSync(file, `${JSON.stringify(result)}\n`)
  expect.soft(met, `${what}: ${rounded} ${unit}, should be ${words.join(', ')}`).toBe(true)
}

/** A row of words: a peer that is not here, or which one it is. */
export function reportMissing(suite: string, what: string, why: string): void {
  const file = process.env.TSNET_BENCH_RESULTS
  const result: Omit<Result, 'value'> & { value: null } = { suite, what, value: null, unit: why }
  if (file) appendFileSync(file, `${JSON.stringify(result)}\n`)
}

/** The medians of several who did the same in turns, as bars of one group. */
export function reportPeers(
  suite: string,
  group: string,
  unit: string,
  times: Readonly<Record<string, readonly number[]>>,
): void {
  for (const [who, values] of Object.entries(times)) {
    const margin = roundedMargin(values)
    report(suite, `${group}: ${who}`, median(values), unit, {}, { group, who, margin })
  }
}

/** The median of the quotients of turns: what both met in one turn, a busy machine say, weighs on neither. */
export function reportRatio(
  suite: string,
  what: string,
  ours: readonly number[],
  theirs: readonly number[],
  target: Target = {},
): void {
  const ratios = ours.map((value, i) => value / theirs[i]!)
  report(suite, what, median(ratios), 'x', target, { margin: roundedMargin(ratios) })
}

/** What each of many cost, one after the other: the last tenth against the first. */
export function reportSlope(suite: string, what: string, values: readonly number[], target: Target = {}): void {
  const tenth = Math.max(1, Math.floor(values.length / 10))
  const points = Array.from({ length: Math.floor(values.length / tenth) }, (_, i): [number, number] => [
    i * tenth,
    Number(median(values.slice(i * tenth, (i + 1) * tenth)).toPrecision(4)),
  ])
  const first = values.slice(0, tenth)
  const last = values.slice(-tenth)
  report(suite, `${what}: the last ${tenth} against the first ${tenth}`, median(last) / median(first), 'x', target, {
    group: what,
    points,
  })
}

const roundedMargin = (values: readonly number[]): number => Number(marginOfMedian(values).toPrecision(2))

/** Milliseconds that `work` takes. */
export async function timed(work: () => unknown): Promise<number> {
  const begin = performance.now()
  await work()
  return performance.now() - begin
}

/** Of numbers: the one below which this part of them lies, by the nearest rank. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)]!
}

export const median = (values: readonly number[]): number => percentile(values, 50)

/** How far such a median lies from the true one in 95 of 100 cases: half of what the middle 95 % of medians span (the bootstrap). */
export function spreadOfMedian(values: readonly number[]): number {
  const medians = Array.from({ length: 1000 }, mediansDrawnFrom(values))
  return (percentile(medians, 97.5) - percentile(medians, 2.5)) / 2
}

/**
 * How far apart the medians of two runs are at most in 95 of 100 cases. Few values tell their own spread badly: of the pairs of
 * medians that are drawn from them not 95 but 97.5 % have to be nearer for that.
 */
export function marginOfMedian(values: readonly number[]): number {
  const draw = mediansDrawnFrom(values)
  return percentile(
    Array.from({ length: 1000 }, () => Math.abs(draw() - draw())),
    97.5,
  )
}

/** Medians of as many values as these, drawn from them anew. */
function mediansDrawnFrom(values: readonly number[]): () => number {
  const below = random(1)
  return () => median(values.map(() => values[below(values.length)]!))
}
