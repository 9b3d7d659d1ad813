import { appendFileSync } from 'node:fs'
import { expect } from 'vitest'
import { random } from './random.js'

export interface Target {
  atMost?: number
  atLeast?: number
  /** noise is no cost: what reaches the target with its margin has met it */
  withinMargin?: true
}

/** What was measured, and how far the same measured anew lies from it at most, in 95 of 100 cases. */
export interface Measured {
  value: number
  margin?: number
}

/** A line of the results that scripts/bench makes its table and plots of; the margin is in the same unit as the value. */
export interface Result extends Measured {
  suite: string
  what: string
  unit: string
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
  measured: number | Measured,
  unit: string,
  target: Target = {},
  more: Partial<Result> = {},
): void {
  const { value, margin } = typeof measured === 'number' ? { value: measured } : measured
  const { atMost, atLeast, withinMargin } = target
  const noise = withinMargin ? (margin ?? 0) : 0
  const met = value - noise <= (atMost ?? value) && value + noise >= (atLeast ?? value)
  const words = [
    ...(atMost === undefined ? [] : [`at most ${atMost}`]),
    ...(atLeast === undefined ? [] : [`at least ${atLeast}`]),
  ].join(', ')
  const rounded = Number(value.toPrecision(4))
  const stated = margin === undefined ? {} : { margin: Number(margin.toPrecision(2)) }
  const judged = words === '' ? {} : { target: withinMargin ? `${words} within the margin` : words, met }
  const result: Result = { suite, what, value: rounded, unit, ...stated, ...judged, ...more }
  keep(result)
  expect.soft(met, `${what}: ${rounded} ${unit}, should be ${words}`).toBe(true)
}

/** A row of words: a peer that is not here, or which one it is. */
export const reportMissing = (suite: string, what: string, why: string): void =>
  keep({ suite, what, value: null, unit: why })

function keep(result: Result | (Omit<Result, 'value'> & { value: null })): void {
  const file = process.env.TSNET_BENCH_RESULTS
  if (file) appendFileSync(file, `${JSON.stringify(result)}\n`)
}

/** The medians of several who did the same in turns, as bars of one group. */
export function reportPeers(
  suite: string,
  group: string,
  unit: string,
  times: Readonly<Record<string, readonly number[]>>,
): void {
  for (const [who, values] of Object.entries(times))
    report(suite, `${group}: ${who}`, medianOf(values), unit, {}, { group, who })
}

/** What each of many cost, one after the other: the last tenth against the first. */
export function reportSlope(suite: string, what: string, values: readonly number[], target: Target = {}): void {
  const tenth = Math.max(1, Math.floor(values.length / 10))
  const tenths = Array.from({ length: Math.floor(values.length / tenth) }, (_, i) => i * tenth)
  const points = tenths.map((from): [number, readonly number[]] => [from, values.slice(from, from + tenth)])
  reportCurve(suite, what, `the last ${tenth} against the first ${tenth}`, points, target)
}

/** What the same cost several times beside each of several sizes: the last size against the first. */
export function reportCurve(
  suite: string,
  group: string,
  against: string,
  sizes: readonly (readonly [size: number, values: readonly number[]])[],
  target: Target = {},
): void {
  const points = sizes.map(([size, values]): [number, number] => [size, Number(median(values).toPrecision(4))])
  const [first, last] = [sizes[0]![1], sizes.at(-1)![1]]
  const growth = measured((one, other) => median(other) / median(one), first, last)
  report(suite, `${group}: ${against}`, growth, 'x', target, { group, points })
}

/** Milliseconds that `work` takes. */
export async function timed(work: () => unknown): Promise<number> {
  const begin = performance.now()
  await work()
  return performance.now() - begin
}

/** Of numbers: the one below which this part of them lies, by the nearest rank. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = Float64Array.from(values).sort()
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)]!
}

export const median = (values: readonly number[]): number => percentile(values, 50)

type Series = readonly number[]

export const medianOf = (values: Series): Measured => measured(median, values)

/** The median of the quotients of turns: what both met in one turn, a busy machine say, weighs on neither. */
export const ratioOf = (ours: Series, theirs: Series): Measured => medianOf(ours.map((value, i) => value / theirs[i]!))

/** Of few values nothing is known but themselves. */
const fewest = 4

/** What is estimated from series of numbers, each in the order in which they were measured. */
export function measured(estimate: (...series: Series[]) => number, ...series: Series[]): Measured {
  const value = estimate(...series)
  if (series.some(({ length }) => length < fewest)) return { value }
  const below = random(1)
  const draw = (): number => estimate(...series.map(values => drawn(values, below)))
  // how far apart two runs are; few values tell their own spread badly: not 95 but 99 % of what is drawn has to be nearer for that
  const apart = Array.from({ length: 500 }, () => Math.abs(draw() - draw()))
  return { value, margin: percentile(apart, 99) }
}

/** As many values as these (the bootstrap), in up to eight pieces: a machine that is slower for a while is so for neighbours. */
function drawn(values: Series, below: (end: number) => number): number[] {
  const { length } = values
  const piece = Math.max(1, Math.floor(length / 8))
  let at = 0
  return values.map((_, i) => {
    at = i % piece === 0 ? below(length) : at + 1
    return values[at % length]!
  })
}
