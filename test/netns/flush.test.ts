import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { addresses, Host } from '../helpers/host.js'
import { type Machine, until } from '../helpers/machine.js'
import type { Vantage } from '../helpers/vantage.js'

// Somebody flushes every rule of the host while it is used: whoever is under way stays so, whoever comes then gets in a moment later.

let host: Host
let box: Vantage & { argv: string[] }
const lines = 400

beforeAll(async () => {
  host = await Host.startWithTsnet()
  host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24', '--ipv6')
  host.tsnet('sandbox', 'create', 'box')
  host.tsnet('connect', 'lab', 'box', '-p', '8081:81', '-p', '8082:82')
  // so that what leaves without having its address replaced finds its way back, to be refused
  host.outside.run('ip', 'route', 'add', '10.30.0.0/24', 'via', addresses.host4)
  box = host.sandbox('box')
  await serveStreams(host, 'box', box.argv)
  await serveStreams(host.outside, 'outside', [])
})
afterAll(() => host?.stop())

/** At port 81 whoever connects is sent lines for some seconds; port 82 says how many it was sent. */
async function serveStreams(machine: Machine, name: string, argv: string[]): Promise<void> {
  const down = `SYSTEM:for i in $(seq ${lines}); do echo line; sleep 0.01; done`
  await machine.serve(`down-${name}`, ...argv, 'socat', 'TCP-LISTEN:81,fork,reuseaddr', down)
  await machine.serve(`up-${name}`, ...argv, 'socat', 'TCP-LISTEN:82,fork,reuseaddr', 'SYSTEM:wc -l')
  const isUp = (port: number) => `ss -Htln 'sport = :${port}' | grep -q :`
  await until('the streams', () => machine.tryRun(...argv, 'sh', '-c', `${isUp(81)} && ${isUp(82)}`).status === 0)
}

const download = (address: string, port: number): string[] => ['sh', '-c', `socat -u TCP:${address}:${port} - | wc -l`]
const upload = (address: string, port: number): string[] => [
  'sh',
  '-c',
  `for i in $(seq ${lines}); do echo line; sleep 0.01; done | socat -t20 - TCP:${address}:${port}`,
]

/** How many resets a namespace has sent: `OutRsts` of its own TCP. */
function resets(from: Vantage): number {
  const [names, values] = from
    .tryRun('grep', '^Tcp:', '/proc/net/snmp')
    .stdout.split('\n')
    .map(line => line.split(' '))
  return Number(values?.[names?.indexOf('OutRsts') ?? -1])
}
const allResets = (): number[] => [host, host.outside, box].map(resets)

/** Flush everything again and again, with pauses, for as long as the work takes; returns how often. */
async function whileFlushed(work: () => Promise<void>): Promise<number> {
  host.run('rm', '-f', '/run/flushed')
  const flushes = host.start('sh', '-c', 'until [ -e /run/flushed ]; do nft flush ruleset; echo flush; sleep 0.3; done')
  try {
    await work()
  } finally {
    host.run('touch', '/run/flushed')
  }
  return (await flushes).stdout.split('\n').length - 1
}

describe('while every rule of the host is flushed again and again', () => {
  test('transfers lose nothing, and nobody is reset', async () => {
    const before = allResets()
    const { host4 } = addresses
    const flushes = await whileFlushed(async () => {
      const results = await Promise.all([
        host.outside.start(...download(host4, 8081)),
        host.outside.start(...upload(host4, 8082)),
        host.start(...download(host4, 8081)),
        host.start(...upload('127.0.0.1', 8082)),
        host.start(...box.argv, ...download(addresses.outside4, 81)),
        host.start(...box.argv, ...upload(addresses.outside4, 82)),
      ])
      for (const { status, stdout, stderr } of results)
        expect({ status, stderr, lines: Number(stdout) }).toEqual({ status: 0, stderr: '', lines })
    })
    console.log(`${flushes} flushes`)
    expect(flushes).toBeGreaterThan(3)
    expect(allResets()).toEqual(before)
  })

  test('whoever comes gets in, by way in and by way out', async () => {
    const before = allResets()
    const tookMs: number[] = []
    const begun = performance.now()
    const flushes = await whileFlushed(async () => {
      for (let i = 0; i < 40 || performance.now() - begun < 3000; i++) {
        const since = performance.now()
        // an empty upload is told its length
        const way =
          i % 2 === 0
            ? { from: host.outside, to: addresses.host4, port: 8082 }
            : { from: box, to: addresses.outside4, port: 82 }
        const got = way.from.tryRun('sh', '-c', `socat -t20 - TCP:${way.to}:${way.port} </dev/null`)
        expect({ stderr: got.stderr, stdout: got.stdout }).toEqual({ stderr: '', stdout: '0\n' })
        tookMs.push(Math.round(performance.now() - since))
      }
    })
    console.log(
      `${flushes} flushes; the slowest of ${tookMs.length} connections: ${tookMs
        .sort((a, b) => b - a)
        .slice(0, 5)
        .join(', ')} ms`,
    )
    expect(flushes).toBeGreaterThan(3)
    expect(allResets()).toEqual(before)
  })
})
