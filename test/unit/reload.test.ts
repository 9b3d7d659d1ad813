import { expect, test, vi } from 'vitest'
import { type DaemonOptions, parseDaemonOptions } from '../../src/cli/daemon-options.js'
import { changeOptions } from '../../src/daemon-reload.js'
import { invalid } from '../../src/errors.js'
import type { AdjustableLog } from '../../src/log.js'

const tls = { 'tls-ca': '/ca', 'tls-cert': '/cert', 'tls-key': '/key' }
const listening = { listen: 'tcp://127.0.0.1:2443', ...tls }

function world(renewTls = vi.fn()) {
  const said: string[] = []
  const say = (level: string) => (fields: object, message: string) =>
    void said.push(`${level} ${JSON.stringify(fields)} ${message}`)
  const log: AdjustableLog = {
    ...{ level: 'info', debug: say('debug'), info: say('info'), warn: say('warn'), error: say('error') },
    child: () => log,
  }
  const change = (current: DaemonOptions, read: () => DaemonOptions) =>
    changeOptions(current, async () => read(), { log, renewTls })
  return { said, log, renewTls, change }
}

test('the log level changes at once', async () => {
  const { log, change } = world()
  const got = await change(parseDaemonOptions(), () => parseDaemonOptions({ 'log-level': 'debug' }))
  expect([log.level, got.logLevel]).toEqual(['debug', 'debug'])
})

test('certificates are read again, also where the names of the files are the same', async () => {
  const { renewTls, change } = world()
  const options = parseDaemonOptions(listening)
  await change(options, () => parseDaemonOptions(listening))
  const other = await change(options, () => parseDaemonOptions({ ...listening, 'tls-cert': '/new' }))
  expect(renewTls.mock.calls).toEqual([
    [{ ca: '/ca', cert: '/cert', key: '/key' }],
    [{ ca: '/ca', cert: '/new', key: '/key' }],
  ])
  expect(other.tlsCert).toBe('/new')
})

test('what cannot change is named, without its value, and stays', async () => {
  const { said, renewTls, change } = world()
  const current = parseDaemonOptions()
  const got = await change(current, () => parseDaemonOptions({ store: 'etcd://u:secret@h', ...listening }))
  expect(got).toEqual(current)
  expect(said.filter(line => line.startsWith('warn'))).toEqual([
    'warn {"option":"listen"} this option cannot change while the daemon runs: restart it',
    'warn {"option":"store"} this option cannot change while the daemon runs: restart it',
  ])
  expect(said.join()).not.toContain('secret')
  expect(renewTls).not.toHaveBeenCalled()
})

test.each([
  ['a file with a mistake', undefined],
  ['certificates that are none', () => parseDaemonOptions({ ...listening, 'log-level': 'debug' })],
])('%s changes nothing, and the log says why', async (_what, read) => {
  const wrong = (): never => {
    throw invalid('it is wrong')
  }
  const { said, log, change } = world(vi.fn(wrong))
  const current = parseDaemonOptions(listening)
  expect(await change(current, read ?? wrong)).toBe(current)
  expect(log.level).toBe('info')
  expect(said).toEqual(['error {"error":"it is wrong"} the configuration is wrong: everything stays as it was'])
})
