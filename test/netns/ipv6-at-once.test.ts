import { afterAll, beforeAll, expect, test } from 'vitest'
import { Host } from '../helpers/host.js'

// Duplicate address detection would keep an address from answering for a second or more. Ours are chosen so that there are no duplicates.

let host: Host
beforeAll(async () => {
  host = await Host.startWithTsnet()
  host.tsnet('network', 'create', 'lab', '--ipv6')
  host.tsnet('sandbox', 'create', 'one')
  host.tsnet('connect', 'lab', 'one')
})
afterAll(() => host?.stop())

const addressOf = (box: string): string => {
  const { endpoints } = host.tsnetJson<{ endpoints: { addresses: string[] }[] }[]>('sandbox', 'inspect', box)[0]!
  return endpoints[0]!.addresses.find(address => address.includes(':'))!.split('/')[0]!
}

test.each(['two', 'three', 'four'])(
  '%s answers by IPv6, and asks, with the first packet after it is connected',
  box => {
    host.tsnet('sandbox', 'create', box)
    host.tsnet('connect', 'lab', box)
    // one echo request each, no second try
    const ping = (from: string, to: string) => host.sandbox(from).tryRun('busybox', 'ping', '-c', '1', '-W', '1', to)
    const [out, back] = [ping(box, addressOf('one')), ping('one', addressOf(box))]
    expect([out.status, back.status]).toEqual([0, 0])
    console.log([out, back].map(({ stdout }) => /time=[\d.]+ ms/.exec(stdout)?.[0]).join(', '))
    const flags = host.run('ip', '-n', box, '-6', 'addr', 'show', 'dev', 'eth0', 'scope', 'global')
    expect(flags).toContain('nodad')
    expect(flags).not.toContain('tentative')
  },
)

test('a network with --ipv6 and no subnet of it has one of this host alone (RFC 4193)', () => {
  expect(addressOf('one')).toMatch(/^fd/)
})
