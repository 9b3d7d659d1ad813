import { expect, test } from 'vitest'
import { marginOfMedian, median } from '../helpers/bench.js'
import { barsSvg, curvesSvg } from '../helpers/bench-plot.mjs'
import { begin, curvesOf, end, groupsOf, markdownTable, textTable, withTable } from '../helpers/bench-report.mjs'
import { random } from '../helpers/random.js'

const results = [
  { suite: 'attach', what: 'attach: tsnet', value: 2.5, unit: 'ms', margin: 0.1, group: 'attach', who: 'tsnet' },
  { suite: 'attach', what: 'attach: <peer>', value: 25, unit: 'ms', group: 'attach', who: '<peer>' },
  { suite: 'attach', what: 'ratio', value: 3, unit: 'x', target: 'at most 2', met: false },
  { suite: 'attach', what: 'another peer', value: null, unit: 'it is not installed' },
  { suite: 'ports', what: 'slope', value: 1.1, unit: 'x', target: 'at most 1.5', met: true, points: [[0, 2], [100, 3]] }, // biome-ignore format: one line
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
    'ports   slope           1.1 x                at most 1.5: met',
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
  expect(curvesOf(results)).toEqual([{ title: 'slope', points: [[0, 1], [100, 1.5]] }]) // biome-ignore format: one line
  expectWellFormed(curvesSvg('slopes', 'times the first', curvesOf(results)))
})

test('the margin of a median is met by the next run in 95 of 100 cases', () => {
  expect(median([3, 1, 2])).toBe(2)
  expect(marginOfMedian([5, 5, 5, 5])).toBe(0)
  const below = random(7)
  // times have a tail to one side
  const run = () => Array.from({ length: 15 }, () => 40 + below(1000) / 100 + (below(10) === 0 ? below(30) : 0))
  const runs = Array.from({ length: 200 }, () => [run(), run()] as const)
  const met = runs.filter(([one, other]) => Math.abs(median(one) - median(other)) <= marginOfMedian(one))
  expect(met.length).toBeGreaterThan(184)
  expect(met.length).toBeLessThan(200)
})
