import { expect, test } from 'vitest'
import { median, medianOf } from '../helpers/bench.js'
import { barsSvg, curvesSvg } from '../helpers/bench-plot.mjs'
import {
  begin,
  comparison,
  curvesOf,
  end,
  groupsOf,
  markdownTable,
  textTable,
  withMachine,
  withTable,
} from '../helpers/bench-report.mjs'
import { random } from '../helpers/random.js'

const results = [
  { suite: 'attach', what: 'attach: tsnet', value: 2.5, unit: 'ms', margin: 0.1, group: 'attach', who: 'tsnet' },
  { suite: 'attach', what: 'attach: <peer>', value: 25, unit: 'ms', group: 'attach', who: '<peer>' },
  { suite: 'attach', what: 'ratio', value: 3, unit: 'x', target: 'at most 2', met: false },
  { suite: 'attach', what: 'another peer', value: null, unit: 'it is not installed' },
  { suite: 'ports', what: 'port: the last', group: 'port', value: 1.5, unit: 'x', target: 'at most 1.5', met: true, points: [[0, 2], [100, 3]] }, // biome-ignore format: one line
]

/** Every tag is closed, in order, and no text is taken for a tag. */
function expectWellFormed(svg: string): void {
  const open: string[] = []
  for (const [, closing, name, self] of svg.matchAll(/<(\/?)([a-z]+)[^<>]*?(\/?)>/g)) {
    if (closing) expect(open.pop()).toBe(name)
    else if (!self) open.push(name!)
  }
  expect(open).toEqual([])
}

test('the table says what was measured, its margin, and whether the target was met or missed', () => {
  expect(textTable(results).split('\n')).toEqual([
    'suite   what            measured             target',
    'attach  attach: tsnet   2.5 ± 0.1 ms',
    'attach  attach: <peer>  25 ms',
    'attach  ratio           3 x                  at most 2: MISSED',
    'attach  another peer    it is not installed',
    'ports   port: the last  1.5 x                at most 1.5: met',
  ])
  expect(markdownTable(results)).toContain('| attach | ratio | 3 x | at most 2: MISSED |')
})

test('the table replaces what stood between its marks, and nothing else', () => {
  const page = `before\n${begin}\nold\n${end}\nafter\n`
  expect(withTable(page, 'new')).toBe(`before\n${begin}\nnew\n${end}\nafter\n`)
  expect(() => withTable('no marks', 'new')).toThrow('lacks')
})

test('bars are as long as what they stand for, with their names', () => {
  const [group] = groupsOf(results)
  expect(group).toEqual({
    title: 'attach',
    unit: 'ms',
    bars: [
      { who: 'tsnet', value: 2.5, margin: 0.1 },
      { who: '<peer>', value: 25 },
    ],
  })
  const svg = barsSvg('peers', [group!])
  expectWellFormed(svg)
  expect(svg).toContain('&lt;peer>')
  const [, ours, theirs] = [...svg.matchAll(/<rect [^>]*?width="([\d.]+)"/g)].map(([, width]) => Number(width))
  expect(theirs! / ours!).toBeCloseTo(10, 0)
})

test('a curve is drawn as multiples of its first point', () => {
  expect(curvesOf(results)).toEqual([{ title: 'port', note: 'the last: 1.5 x', points: [[0, 1], [100, 1.5]] }]) // biome-ignore format: one line
  expectWellFormed(curvesSvg('slopes', 'times the first', curvesOf(results)))
})

test('the margin of a median is met by the next run in 95 of 100 cases', () => {
  expect(median([3, 1, 2])).toBe(2)
  expect(medianOf([5, 5, 5, 5]).margin).toBe(0)
  expect(medianOf([5])).toEqual({ value: 5 })
  const below = random(7)
  // times have a tail to one side
  const run = () => Array.from({ length: 15 }, () => 40 + below(1000) / 100 + (below(10) === 0 ? below(30) : 0))
  const runs = Array.from({ length: 200 }, () => [run(), run()] as const)
  const met = runs.filter(([one, other]) => Math.abs(median(one) - median(other)) <= medianOf(one).margin!)
  expect(met.length).toBeGreaterThan(184)
  expect(met.length).toBeLessThan(200)
})

test('a machine that is slower for a while belongs to the margin', () => {
  const below = random(8)
  const run = () => {
    let slower = below(2)
    return Array.from({ length: 100 }, () => {
      if (below(10) === 0) slower = 1 - slower
      return 40 + 10 * slower + below(1000) / 100
    })
  }
  const runs = Array.from({ length: 50 }, () => [run(), run()] as const)
  const met = runs.filter(([one, other]) => Math.abs(median(one) - median(other)) <= medianOf(one).margin!)
  expect(met.length).toBeGreaterThan(42)
})

const row = (what: string, value: number, unit: string, margin?: number) => ({
  ...{ suite: 's', what, value, unit },
  ...(margin === undefined ? {} : { margin }),
})

test('two runs are compared: what kept its margin, and what did not', () => {
  const before = [row('one', 10, 'ms', 1), row('two', 10, 'x', 1), row('three', 10, 'ms'), row('gone', 1, 'ms', 1)]
  const after = [row('one', 10.9, 'ms', 1), row('two', 12, 'x', 1), row('three', 20, 'ms'), row('new', 1, 'ms', 1)]
  expect(comparison(before, after).split('\n')).toEqual([
    '1 of 2 values that state a margin are within it of the run before; of 1 without one half moved by at most 100 %:',
    '  s: two: 12 ± 1 x, then 10 ± 1 x',
  ])
})

test('what the speed of the machine differed by in a run belongs to the margins of times, rates and slopes, not of ratios of turns', () => {
  const machine = ['before', 'after'].map((when, i) => row(`node -e 0, ${when}`, 80 + 40 * i, 'ms'))
  const slope = { ...row('slope', 2, 'x', 0), points: [[0, 1]] }
  const values = [row('time', 100, 'ms', 5), row('rate', 10, 'Gbit/s', 0), row('ratio', 2, 'x', 0.1), slope]
  const margins = withMachine([...machine, ...values]).map(({ margin }) => margin)
  // a sixth of the later one's 120 ms, with the 5 % that the time's own margin is
  expect(margins).toEqual([undefined, undefined, 17, 1.7, 0.1, 0.33])
  expect(withMachine([row('once', 1, 'ms'), ...machine])[0]).toEqual(row('once', 1, 'ms'))
})
