import { afterAll, beforeAll, expect, test } from 'vitest'
import { upstreamProgram } from '../helpers/dns-upstream.js'
import { Host } from '../helpers/host.js'
import { until } from '../helpers/machine.js'

// What a daemon makes of the redirections of port 53 that the one before it has left in sandboxes.

let host: Host

const names = ['same', 'taken', 'halfTaken', 'emptied', 'other', 'byNft']

beforeAll(async () => {
  host = await Host.startWithTsnet()
  host.tsnet('network', 'create', 'lab', '--subnet', '10.31.0.0/24')
  for (const name of names) {
    host.tsnet('sandbox', 'create', name)
    host.tsnet('connect', 'lab', name)
  }
})
afterAll(() => host?.stop())

const inside = (name: string, ...argv: string[]): string => host.run('ip', 'netns', 'exec', name, ...argv)
/** With the numbers that the kernel gives to what is added again. */
const rules = (name: string): string => inside(name, 'nft', '-a', 'list', 'ruleset')
const portsOf = (name: string): number[] =>
  [...rules(name).matchAll(/dnat to 127.0.0.11:(\d+)/g)].map(([, n]) => Number(n))
const listeners = (name: string): number[] => {
  const lines = inside(name, 'ss', '-Hlntu', 'src', '127.0.0.11').trim().split('\n')
  return ['udp', 'tcp'].map(type =>
    Number(lines.find(line => line.startsWith(type))?.match(/127\.0\.0\.11:(\d+)/)?.[1]),
  )
}
const resolves = (name: string, how: '+notcp' | '+tcp'): void => {
  const asked = ['dig', '+tries=1', '+timeout=5', '+short', how, '@127.0.0.11', 'same']
  expect(inside(name, ...asked), `${name} ${how}`).toMatch(/^10\.31\.0\.\d+\n$/)
}

/** A program of the sandbox's own gets the ports that it happens to get. */
async function take(name: string, port: number, type: 'udp' | 'tcp' | 'both'): Promise<void> {
  const argv =
    type === 'both' ? [process.execPath, upstreamProgram, 'theirs', String(port), '0.0.0.0'] : listen(type, port)
  await host.serve(`theirs-${name}`, 'ip', 'netns', 'exec', name, ...argv)
  await until(`port ${port} to be taken`, () => inside(name, 'ss', '-Hlntu', 'sport', '=', String(port)) !== '')
}
const listen = (type: 'udp' | 'tcp', port: number): string[] => ['socat', `${type}4-listen:${port}`, 'exec:cat']

test('after a restart the redirection that is right is not touched, and any other is made anew', async () => {
  const before = new Map(names.map(name => [name, rules(name)]))
  const portsBefore = new Map(names.map(name => [name, portsOf(name)]))
  for (const name of names) expect(listeners(name)).toEqual(portsBefore.get(name))
  await host.killTsnet()

  const [udp] = portsBefore.get('taken')!
  await take('taken', udp!, 'both')
  const [, tcp] = portsBefore.get('halfTaken')!
  await take('halfTaken', tcp!, 'tcp')
  inside('emptied', 'nft', 'flush', 'ruleset')
  inside('other', 'nft', 'insert', 'rule', 'ip', 'tsnet_dns', 'output', 'ip', 'daddr', '127.0.0.11', 'drop')
  const [byNftUdp, byNftTcp] = portsBefore.get('byNft')!
  const rule = (protocol: string, port = 0): string =>
    `ip daddr 127.0.0.11 ${protocol} dport 53 dnat to 127.0.0.11:${port}`
  const chain = ['type nat hook output priority -100; policy accept;', rule('udp', byNftUdp), rule('tcp', byNftTcp)]
  inside('byNft', 'nft', `flush ruleset\ntable ip tsnet_dns {\nchain output {\n${chain.join('\n')}\n}\n}`)
  before.set('byNft', rules('byNft'))

  await host.startTsnet()
  for (const name of names) {
    resolves(name, '+notcp')
    resolves(name, '+tcp')
    expect(listeners(name), name).toEqual(portsOf(name))
  }
  for (const name of ['same', 'byNft']) expect(rules(name), name).toBe(before.get(name))
  for (const name of ['taken', 'halfTaken']) {
    expect(portsOf(name)).toHaveLength(2)
    expect(portsOf(name), name).not.toEqual(portsBefore.get(name))
  }
  // one table of two rules, however it was before
  const plain = (name: string): string => rules(name).replace(/handle \d+|127\.0\.0\.11:\d+/g, '')
  for (const name of names) expect(plain(name), name).toBe(plain('same'))
  expect(host.tsnet('reconcile', '--dry-run')).toBe('')
})
