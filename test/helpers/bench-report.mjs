// Results of scripts/bench, one JSON object on each line, made readable.
//   node bench-report.mjs table FILE...         as a table, and how far they are from those of the run before, each in FILE.before
//   node bench-report.mjs json FILE...          as they are in the table, an object on each line
//   node bench-report.mjs publish TOP FILE...   writes docs/bench/ and the table in docs/performance.md below TOP
//   node bench-report.mjs speed SUITE WHEN      what tells how fast the machine is, as a result
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, release } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { barsSvg, curvesSvg, short } from './bench-plot.mjs'

const measured = ({ value, unit, margin }) =>
  value === null ? unit : [value, margin ? `± ${margin}` : '', unit].filter(part => part !== '').join(' ')
const judged = ({ target, met }) => (target === undefined ? '' : `${target}: ${met ? 'met' : 'MISSED'}`)

export const parseResults = text =>
  text
    .split('\n')
    .filter(line => line !== '')
    .map(line => JSON.parse(line))

export function textTable(results) {
  const rows = results.map(result => [result.suite, result.what, measured(result), judged(result)])
  rows.unshift(['suite', 'what', 'measured', 'target'])
  const widths = rows[0].map((_, column) => Math.max(...rows.map(row => row[column].length)))
  const line = row => row.map((cell, column) => cell.padEnd(widths[column])).join('  ')
  return rows.map(row => line(row).trimEnd()).join('\n')
}

export const markdownTable = results =>
  [
    '| suite | what | measured | target |',
    '|---|---|---|---|',
    ...results.map(r => `| ${r.suite} | ${r.what} | ${measured(r)} | ${judged(r)} |`),
  ].join('\n')

/** Bars of those results that name a group and somebody who did it, in the order in which they came. */
export function groupsOf(results) {
  const groups = new Map()
  for (const { group, who, value, unit, margin } of results) {
    if (group === undefined || who === undefined || value === null) continue
    const known = groups.get(group) ?? { title: group, unit, bars: [] }
    known.bars.push({ who, value, ...(margin === undefined ? {} : { margin }) })
    groups.set(group, known)
  }
  return [...groups.values()]
}

const speedRow = 'node -e 0, '
const middle = values => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]

/** A program that is none of anybody who is compared, and does a little of everything. */
export function speed(suite, when) {
  const times = Array.from({ length: 11 }, () => {
    const begin = performance.now()
    spawnSync(process.execPath, ['-e', '0'])
    return performance.now() - begin
  })
  return { suite, what: `${speedRow}${when}`, value: Number(middle(times).toPrecision(4)), unit: 'ms' }
}

/**
 * How far the machine's speed was from its middle at most while results were measured, as a part of it. It is measured no better
 * than by a tenth.
 */
function unsteadiness(results) {
  const times = results.filter(({ what }) => what.startsWith(speedRow)).map(({ value }) => value)
  return times.length === 0 ? 0 : Math.max(0.1, (Math.max(...times) - Math.min(...times)) / 2 / middle(times))
}

/** Times and rates, and of ratios those whose two sides were not measured by turns. */
const followsSpeed = ({ unit, points }) => /^(ms|µs each)$|second$|^Gbit/.test(unit) || points !== undefined

/** Repeated measurements in a minute tell nothing of how fast the machine is in another one: that is added to their margins. */
export function withMachine(results) {
  const part = unsteadiness(results)
  return results.map(result => {
    if (result.margin === undefined || !followsSpeed(result)) return result
    return { ...result, margin: Number(Math.hypot(result.margin, result.value * part).toPrecision(2)) }
  })
}

export function comparison(before, after) {
  const key = ({ suite, what }) => `${suite}: ${what}`
  const known = new Map(before.filter(({ value }) => value !== null).map(result => [key(result), result]))
  const rows = after
    .filter(result => result.value !== null && !result.what.startsWith(speedRow) && known.has(key(result)))
    .map(result => ({ ...result, was: known.get(key(result)) }))
  const stating = rows.filter(({ margin, was }) => margin !== undefined && was.margin !== undefined)
  // each margin is what one run says of the difference of two
  const outside = stating.filter(({ value, margin, was }) => {
    return Math.abs(value - was.value) > Math.hypot(margin, was.margin) / Math.SQRT2
  })
  const moved = rows
    .filter(({ margin, value }) => margin === undefined && value !== 0)
    .map(({ value, was }) => Math.abs(value / was.value - 1))
  const words = [
    `${stating.length - outside.length} of ${stating.length} values that state a margin are within it of the run before`,
    ...(moved.length > 0
      ? [`of ${moved.length} without one half moved by at most ${short(100 * middle(moved))} %`]
      : []),
  ]
  const lines = outside.map(row => `  ${key(row)}: ${measured(row)}, then ${measured(row.was)}`)
  return [`${words.join('; ')}${lines.length > 0 ? ':' : '.'}`, ...lines].join('\n')
}

/** Each curve as multiples of its first point, with what its last one is then. */
export const curvesOf = results =>
  results
    .filter(({ points }) => points !== undefined)
    .map(({ group, what, points, ...result }) => ({
      title: group,
      note: `${what.slice(group.length + 2)}: ${measured(result)}`,
      points: points.map(([count, value]) => [count, value / points[0][1]]),
    }))

export const [begin, end] = ['<!-- written by scripts/bench -->', '<!-- end of what scripts/bench writes -->']

/** A document with everything between the two marks replaced. */
export function withTable(document, table) {
  const [head, rest] = document.split(begin)
  const tail = rest?.split(end)[1]
  if (tail === undefined) throw new Error(`the document lacks "${begin}" or "${end}"`)
  return `${head}${begin}\n${table}\n${end}${tail}`
}

const machine = () =>
  `${cpus().length} cores of ${cpus()[0].model.trim()}, Linux ${release()}, Node.js ${process.versions.node}`

const read = files => withMachine(files.flatMap(file => parseResults(readFileSync(file, 'utf8'))))

const jsonLines = results => results.map(result => `${JSON.stringify(result)}\n`).join('')

/** Nothing where there was no run before. */
function besideBefore(files) {
  const kept = files.filter(file => existsSync(`${file}.before`))
  return kept.length === 0 ? [] : [comparison(read(kept.map(file => `${file}.before`)), read(kept))]
}

function publish(top, files) {
  const results = read(files)
  const dir = join(top, 'docs/bench')
  mkdirSync(dir, { recursive: true })
  const date = new Date().toISOString().slice(0, 10)
  writeFileSync(join(dir, 'results.jsonl'), jsonLines([{ machine: machine(), date }, ...results]))
  const groups = groupsOf(results)
  if (groups.length > 0) writeFileSync(join(dir, 'peers.svg'), barsSvg('tsnet beside its peers: medians', groups))
  const curves = curvesOf(results)
  if (curves.length > 0)
    writeFileSync(join(dir, 'slopes.svg'), curvesSvg('What one more costs', 'times the first', curves))
  const page = join(top, 'docs/performance.md')
  const beside = besideBefore(files).map(text => `\n\n\`\`\`text\n${text}\n\`\`\``)
  const table = `${date}, ${machine()}:\n\n${markdownTable(results)}${beside.join('')}`
  writeFileSync(page, withTable(readFileSync(page, 'utf8'), table))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , verb, ...rest] = process.argv
  if (verb === 'table') console.log([textTable(read(rest)), ...besideBefore(rest)].join('\n\n'))
  else if (verb === 'json') process.stdout.write(jsonLines(read(rest)))
  else if (verb === 'speed') console.log(JSON.stringify(speed(...rest)))
  else if (verb === 'publish') publish(rest[0], rest.slice(1))
  else throw new Error(`unknown verb ${verb}`)
}
