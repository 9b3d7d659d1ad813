import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, expect, test } from 'vitest'
import { readConfigFile } from '../../src/cli/daemon.js'
import { daemonOptionTable, parseDaemonOptions } from '../../src/cli/daemon-options.js'
import { kindOf, messageOf } from '../../src/errors.js'
import { anyValue, cases, damaged, patientMs, runs, spentMs, Tally } from '../helpers/hostile.js'

// Whatever stands in the configuration file: options, or one sentence that names the file.

const dir = mkdtempSync(join(tmpdir(), 'tst-config-'))
const file = join(dir, 'tsnet.yaml')
afterAll(() => rmSync(dir, { recursive: true }))

const right: Record<string, string> = {
  socket: '/run/x.sock',
  'plugin-name': 'net-2',
  store: 'etcd://u:p@192.0.2.1:2379/net?ca=/ca.pem',
  'host-name': 'node-1',
  advertise: 'eth0',
  listen: 'tcp://[::1]:2443',
  'tls-ca': '/ca.pem',
  'tls-cert': '/cert.pem',
  'tls-key': '/key.pem',
  'log-level': 'debug',
}
const line = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...Object.entries(right)).map(([key, value]) => `${key}: ${value}`) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.constantFrom(...Object.values(daemonOptionTable).map(row => row.flag)), anyValue)
      .map(([key, value]) => `${key}: ${JSON.stringify(value)}`),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      'socket: &a [*a, *a]',
      'socket: *nothing',
      '<<: {socket: /x}',
      'store: !!binary aGVsbG8=',
      '? [a, b]\n: c',
      '--- x\n--- y',
      '%YAML 9.9',
      'a: &a [x,x,x]\nb: &b [*a,*a,*a]\nc: &c [*b,*b,*b]\nd: &d [*c,*c,*c]\ne: [*d,*d,*d]',
      '__proto__: {socket: /x}',
      '['.repeat(3_000),
      `${'- '.repeat(3_000)}x`,
      `${'? '.repeat(3_000)}x`,
      Array.from({ length: 300 }, (_, i) => `${' '.repeat(i)}a:`).join('\n'),
      `${' '.repeat(5_000)}- x`,
      '\t: x',
      'socket: |\n  /a\n  /b',
      '!!set {socket}',
    ),
  },
)
const text = fc.array(line, { maxLength: 6 }).map(lines => Buffer.from(`${lines.join('\n')}\n`))
const tally = new Tally('configuration file')

test('a configuration file of anything is taken or refused in one sentence', { timeout: patientMs }, async () => {
  await fc.assert(
    fc.asyncProperty(fc.oneof({ weight: 2, arbitrary: text }, { weight: 1, arbitrary: damaged(text) }), async bytes => {
      // a file with a password must not be everybody's
      writeFileSync(file, bytes, { mode: 0o600 })
      const start = spentMs()
      let refusal: unknown
      try {
        parseDaemonOptions(await readConfigFile(file))
      } catch (error) {
        refusal = error
      }
      tally.add(refusal !== undefined, spentMs() - start)
      if (refusal === undefined) return
      expect(kindOf(refusal), messageOf(refusal)).toBe('InvalidParameter')
      expect(messageOf(refusal)).not.toContain('\n')
      expect(messageOf(refusal).length).toBeLessThan(6_000)
    }),
    runs,
  )
  expect(tally.answered).toBeGreaterThan(cases / 20)
  expect(tally.refused).toBeGreaterThan(cases / 4)
})

test.each([['/dev/zero'], ['/proc/self'], [`${dir}/none`]])('%s is no configuration file', async path => {
  await expect(readConfigFile(path)).rejects.toThrow(
    expect.objectContaining({
      kind: 'InvalidParameter',
      message: expect.stringMatching(new RegExp(`^configuration file ${path}: `)),
    }),
  )
})
