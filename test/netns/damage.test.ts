import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { addresses, Host } from '../helpers/host.js'
import { until } from '../helpers/machine.js'
import { ask, pings, startServe } from '../helpers/vantage.js'

// Other programs take away what is ours, while the daemon runs: it is back because the daemon was told, and the events say why.

let host: Host
const table = (): string => JSON.stringify(host.tsnetRules(), (key, value) => (key === 'handle' ? undefined : value))

beforeAll(async () => {
  host = await Host.startWithTsnet()
  host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24', '--ipv6')
  host.tsnet('sandbox', 'create', 'box')
  host.tsnet('connect', 'lab', 'box', '-p', '8080:80', '-p', '9000-9009:9000-9009')
  await startServe(host, 'box', ['80/tcp'], host.sandbox('box'))
})
afterAll(() => host?.stop())

let since: string
beforeEach(() => {
  since = new Date().toISOString()
})

const readEvents = (): Record<string, string>[] =>
  host
    .tsnet('events', '--format', 'json', '--since', since, '--until', '0s')
    .split('\n')
    .filter(Boolean)
    .map(line => JSON.parse(line))
const eventsSince = (): string[] => readEvents().map(({ type, action, words }) => `${type} ${action} ${words}`)
/** Wait until the repair is in the events. Says how long after that moment it was done: what we see for ourselves comes late on a busy machine. */
async function tookMs(from: number): Promise<number> {
  const repair = await until('the repair', () => readEvents().findLast(({ type }) => type === 'reconcile'))
  return Date.parse(repair.time ?? '') - from
}

describe('the firewall', () => {
  test.each([
    [
      'flush ruleset',
      /deleted the table inet tsnet/,
      /^reconcile change load the firewall table: it is missing, spoof guard: /,
    ],
    ['delete table inet tsnet', /deleted the table inet tsnet/, /load the firewall table: it is missing/],
    ['flush table inet tsnet', /deleted rules, /, /load the firewall table: .*chain ours has 0 rules/],
    ['delete element inet tsnet bridges { "BRIDGE" }', /deleted elements of table/, /add 1 elements to the firewall/],
    [
      'add element inet tsnet bridges { "eth7" }',
      /added elements of table/,
      /add 0 elements to the firewall, remove 1/,
    ],
  ])('is whole again by itself after `nft %s`', async (command, damage, repair) => {
    const bridge = [...host.links().keys()].find(name => name.startsWith('br-')) ?? ''
    const before = table()
    host.run('nft', command.replace('BRIDGE', bridge))
    const at = Date.now()
    await until('the table to be as it was', () => table() === before)
    console.log(`${command}: whole again after ${await tookMs(at)} ms`)
    expect(eventsSince()).toEqual([
      expect.stringMatching(new RegExp(`^host damage nft \\(process \\d+\\) ${damage.source}`)),
      expect.stringMatching(repair),
    ])
    expect(ask(host.outside, 'tcp', addresses.host4, 8080)?.name).toBe('box')
    expect(host.tsnet('reconcile')).toBe('')
  })

  test('new connections by a published port are answered again and again while everything is flushed', async () => {
    const flushes = host.start('sh', '-c', 'for i in $(seq 10); do sleep 0.3; nft flush ruleset; done')
    const answers: (string | undefined)[] = []
    let ended = false
    void flushes.then(() => {
      ended = true
    })
    while (!ended) {
      answers.push(ask(host.outside, 'tcp', addresses.host4, 8080)?.name)
      await new Promise(resolve => setTimeout(resolve, 10))
    }
    console.log(
      `${answers.filter(name => name !== 'box').length} of ${answers.length} connections during 10 flushes failed`,
    )
    expect(answers.filter(name => name !== 'box').length).toBeLessThanOrEqual(10)
    await until('an answer', () => ask(host.outside, 'tcp', addresses.host4, 8080)?.name === 'box')
  })

  test('of 4,000 published ports is back too', async () => {
    host.tsnet('sandbox', 'create', 'many')
    host.tsnet('connect', 'lab', 'many', '-p', '20000-23999:30000-33999')
    const elements = (): number => table().length
    const before = elements()
    host.run('nft', 'flush', 'ruleset')
    const at = Date.now()
    await until('the table to be as it was', () => elements() === before)
    console.log(`4,000 ports: whole again after ${await tookMs(at)} ms`)
    host.tsnet('sandbox', 'rm', 'many')
  })

  test('is looked at once, not without end, where another program fights for it', async () => {
    const script = 'for i in $(seq 50); do nft delete table inet tsnet; done; true'
    host.tryRun('sh', '-c', script)
    await until('the table', () => ask(host.outside, 'tcp', addresses.host4, 8080)?.name === 'box')
    expect(eventsSince().filter(line => line.startsWith('host damage')).length).toBeLessThanOrEqual(50)
    expect(host.tsnet('reconcile')).toBe('')
  })
})

describe('a bridge', () => {
  test('that another program deletes comes back with its addresses and ports', async () => {
    const bridge = [...host.links().keys()].find(name => name.startsWith('br-')) ?? ''
    host.run('ip', 'link', 'delete', bridge)
    await until('the sandbox to reach its gateway', () => pings(host.sandbox('box'), '10.30.0.1', 1))
    expect(eventsSince()[0]).toContain(`host damage link ${bridge} was deleted`)
    expect(ask(host.outside, 'tcp', addresses.host4, 8080)?.name).toBe('box')
    expect(host.tsnet('reconcile')).toBe('')
  })

  test('that we delete ourselves is no damage', () => {
    host.tsnet('network', 'create', 'short')
    host.tsnet('network', 'rm', 'short')
    expect(eventsSince().filter(line => line.startsWith('host'))).toEqual([])
  })
})
