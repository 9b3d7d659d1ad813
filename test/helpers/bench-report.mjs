// Results of scripts/bench, one JSON object on each line, made readable.
//   node bench-report.mjs table FILE...         as a table
//   node bench-report.mjs publish TOP FILE...   writes docs/bench/ and the table in docs/performance.md below TOP
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, release } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { barsSvg, curvesSvg } from './bench-plot.mjs'

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

/** Each curve as multiples of its first point, so that they fit into one drawing. */
export const curvesOf = results =>
  results
    .filter(({ points }) => points !== undefined)
    .map(({ group, what, points }) => ({
      title: group ?? what,
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

function publish(top, results) {
  const dir = join(top, 'docs/bench')
  mkdirSync(dir, { recursive: true })
  const date = new Date().toISOString().slice(0, 10)
  const lines = [{ machine: machine(), date }, ...results].map(line => `${JSON.stringify(line)}\n`)
  writeFileSync(join(dir, 'results.jsonl'), lines.join(''))
  const groups = groupsOf(results)
  if (groups.length > 0) writeFileSync(join(dir, 'peers.svg'), barsSvg('tsnet beside its peers: medians', groups))
  const curves = curvesOf(results)
  if (curves.length > 0)
    writeFileSync(join(dir, 'slopes.svg'), curvesSvg('What one more costs', 'times the first', curves))
  const page = join(top, 'docs/performance.md')
  const table = `${date}, ${machine()}:\n\n${markdownTable(results)}`
  writeFileSync(page, withTable(readFileSync(page, 'utf8'), table))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , verb, ...rest] = process.argv
  const read = files => files.flatMap(file => parseResults(readFileSync(file, 'utf8')))
  if (verb === 'table') console.log(textTable(read(rest)))
  else if (verb === 'publish') publish(rest[0], read(rest.slice(1)))
  else throw new Error(`unknown verb ${verb}`)
}
