import { appendFileSync } from 'node:fs'
import { expect } from 'vitest'
import { random } from './random.js'

export interface Target {
  atMost?: number
  atLeast?: number
}

/** Keep a result for the table of scripts/bench, and fail where it misses its target. */
export function report(suite: string, what: string, value: number, unit: string, target: Target = {}): void {
  const { atMost, atLeast } = target
  const met = value <= (atMost ?? value) && value >= (atLeast ?? value)
  const words = [
    ...(atMost === undefined ? [] : [`at most ${atMost}`]),
    ...(atLeast === undefined ? [] : [`at least ${atLeast}`]),
  ]
  const rounded = Number(value.toPrecision(4))
  const result = { suite, what, value: rounded, unit, ...(words.length > 0 ? { target: words.join(', '), met } : {}) }
  const file = process.env.TSNET_BENCH_RESULTS
  if (file) appendFileSync(file, `${JSON.stringify(result)}\n`)
  expect.soft(met, `${what}: ${rounded} ${unit}, should be ${words.join(', ')}`).toBe(true)
}

/** Of numbers: the one below which this part of them lies, by the nearest rank. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)]!
}

export const median = (values: readonly number[]): number => percentile(values, 50)

/** Half of what the middle 95 % of medians span that are taken of such values, drawn anew (the bootstrap). */
export function spreadOfMedian(values: readonly number[]): number {
  const below = random(1)
  const draw = (): number => median(values.map(() => values[below(values.length)]!))
  const medians = Array.from({ length: 1000 }, draw)
  return (percentile(medians, 97.5) - percentile(medians, 2.5)) / 2
}
