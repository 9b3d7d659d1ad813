import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { repo } from '../helpers/machine.js'
import { needRoot } from '../helpers/netns.js'

it('scripts/bench measures tsnet beside its peers and prints a JSON object for each result', () => {
  needRoot()
  const kept = mkdtempSync(join(tmpdir(), 'tst-bench-'))
  const small = { TSNET_BENCH_TURNS: '5', TSNET_BENCH_MANY: '20', TSNET_BENCH_KEPT: kept }
  const outer = Object.entries(process.env).filter(([name]) => !name.startsWith('VITEST'))
  const got = spawnSync('scripts/bench', ['--only', 'attach', '--json'], {
    cwd: repo,
    encoding: 'utf8',
    env: { ...Object.fromEntries(outer), ...small },
  })
  rmSync(kept, { recursive: true })
  // 1: a target was missed, which decides nothing here
  expect([0, 1], got.stderr).toContain(got.status)
  const results = got.stdout
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as { what: string; value: number; who?: string })
  const bars = results.filter(({ what }) => what.startsWith('attach with a published port'))
  expect(bars.map(({ who }) => who)).toEqual(['tsnet', 'kernel messages alone', 'CNI bridge + portmap', 'netavark'])
  for (const { what, value } of results) expect(value, what).toBeGreaterThan(0)
}, 180_000)

it('scripts/bench refuses a suite that it does not know', () => {
  const got = spawnSync('scripts/bench', ['--only', 'nothing'], { cwd: repo, encoding: 'utf8' })
  expect(got.status).not.toBe(0)
  expect(got.stderr).toContain('--only takes one of attach')
})
