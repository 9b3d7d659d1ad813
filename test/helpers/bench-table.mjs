// node bench-table.mjs FILE: the results of a suite of scripts/bench, one JSON object on each line, as a table.
import { readFileSync } from 'node:fs'

const results = readFileSync(process.argv[2], 'utf8')
  .trim()
  .split('\n')
  .map(line => JSON.parse(line))
const rows = results.map(({ suite, what, value, unit, target, met }) => [
  suite,
  what,
  `${value} ${unit}`.trim(),
  target === undefined ? '' : `${target}${met ? '' : '  MISSED'}`,
])
rows.unshift(['suite', 'what', 'measured', 'target'])
const widths = rows[0].map((_, column) => Math.max(...rows.map(row => row[column].length)))
for (const row of rows)
  console.log(
    row
      .map((cell, column) => cell.padEnd(widths[column]))
      .join('  ')
      .trimEnd(),
  )
