import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Host } from '../helpers/host.js'
import { until } from '../helpers/machine.js'
import { eachLeavesAsFound, expectRefused, removeEverything, tsnetArgv } from '../helpers/tidy-host.js'

// What there is and what changes, whatever its kind.

let host: Host

beforeAll(async () => {
  host = await Host.startWithTsnet()
})
afterAll(() => host?.stop())

eachLeavesAsFound(
  () => host,
  () => removeEverything(host),
)

const refused = (...args: [status: number, message: string, ...string[]]): void => expectRefused(host, ...args)

describe('tsnet inspect', () => {
  test('prints whatever a name means, each object once, with its kind', () => {
    host.tsnet('network', 'create', 'same', '--subnet', '10.30.0.0/24')
    host.tsnet('sandbox', 'create', 'same')
    host.tsnet('connect', 'same', 'same')
    const [network, sandbox, endpoint] = host.tsnetJson('inspect', 'same', 'same')
    expect([network?.kind, sandbox?.kind, endpoint?.kind]).toEqual(['network', 'sandbox', 'endpoint'])
    expect(endpoint).toMatchObject({ network: 'same', sandbox: 'same', addresses: ['10.30.0.2/24'] })
    expect(host.tsnetJson('inspect', String(endpoint?.id).slice(0, 12))).toEqual([endpoint])
    expect(host.tsnet('-q', 'inspect', 'host')).toBe(host.tsnetJson('inspect', 'host')[0]?.id)
    refused(4, 'there is no network, sandbox or endpoint nobody', 'inspect', 'nobody')
  })
})

describe('tsnet events', () => {
  test('prints a line a change, as it comes and from the past, and ends when it should', async () => {
    const since = new Date().toISOString()
    await host.serve('events', ...tsnetArgv('events', '--format', 'json', '--since', since))
    host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24')
    await until('the events to be followed', () => host.logOf('events').includes('create'))
    host.tsnet('sandbox', 'create', 'box')
    host.tsnet('connect', 'lab', 'box', '-p', '8080:80/tcp')
    host.run('ip', '-n', 'box', 'route', 'del', 'default')
    host.tsnet('reconcile')
    host.tsnet('sandbox', 'rm', 'box')
    host.tsnet('network', 'rm', 'lab')
    const want = [
      'network create lab',
      'sandbox create box',
      'endpoint create box',
      'endpoint connect box',
      'endpoint publish box',
      'reconcile change in sandbox box: route 0.0.0.0/0 via 10.30.0.1 by eth0',
      'endpoint revoke box',
      'endpoint disconnect box',
      'endpoint remove box',
      'sandbox remove box',
      'network remove lab',
    ]
    const wordsOf = (text: string): string[] =>
      text
        .trim()
        .split('\n')
        .filter(line => line.startsWith('{'))
        .map(line => JSON.parse(line))
        .map(({ type, action, name, words }) => `${type} ${action} ${name ?? words}`)
    const seen = (): string[] => wordsOf(host.logOf('events').replace(/[^\n]*$/, ''))
    await until('the last event', () => seen().includes('network remove lab'))
    expect(seen()).toEqual(want)
    await host.end('events', 'KILL')
    const soon = new Date(Date.now() + 1_500).toISOString()
    const { status, stdout } = await host.startCli('events', '--format', 'json', '--until', soon)
    expect([status, stdout, Date.now() >= Date.parse(soon)]).toEqual([0, '', true])
    expect(wordsOf(host.tsnet('events', '--format', 'json', '--since', since, '--until', '0s'))).toEqual(want)
    const lines = host.tsnet('events', '--since', '1m', '--until', '0s').split('\n')
    expect(lines.find(line => line.includes('publish'))).toMatch(
      /^\S+Z endpoint publish box \(network=lab, sandbox=box, addresses=10\.30\.0\.2\/24, ports=.*8080.*, createdBy=tsnet\)$/,
    )
    refused(2, '--since yesterday must be a time', 'events', '--since', 'yesterday')
  })

  test('a reader that reads nothing holds nobody up, and one that goes is forgotten', () => {
    // with an end: what is written before the reader has gone is not missed by anybody
    const script = `{ ${tsnetArgv('events', '--since', '1h', '--until', '0s').join(' ')}; echo $?; } | head -n 1`
    expect(host.run('timeout', '20', 'sh', '-c', script)).toMatch(/events begin the daemon has started/)
  })
})
