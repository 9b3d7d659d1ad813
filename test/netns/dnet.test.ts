import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { addresses, Host } from '../helpers/host.js'
import { eachLeavesAsFound, removeByCommands } from '../helpers/tidy-host.js'
import { pings } from '../helpers/vantage.js'

// What libnetwork's dnet tool was tried with (test/integration/dnet/simple.bats and bridge.bats, until 2021), by our command
// line: networks and attachments by name and id, restarts, and who reaches whom over many bridges.

let host: Host

beforeAll(async () => {
  host = await Host.startWithTsnet()
})
afterAll(() => host?.stop())

eachLeavesAsFound(
  () => host,
  () => removeByCommands(host),
)

const trio = ['c1', 'c2', 'c3']
const listed = (...args: string[]): string[][] =>
  host
    .tsnet(...args)
    .split('\n')
    .slice(1)
    .map(line => line.split(/ {2,}/))
const addressOf = (network: string, sandbox: string): string => {
  const all = host.tsnetJson<{ network: string; sandbox: string; addresses: string[] }[]>('ps')
  return all
    .find(endpoint => endpoint.network === network && endpoint.sandbox === sandbox)!
    .addresses[0]!.split('/')[0]!
}

/** Seconds to wait for an answer: for one that is not expected, a second. */
const patience = (wanted: boolean): number => (wanted ? 5 : 1)

/** Every sandbox reaches every other one by its name, itself included, and the outside. */
function expectAllReach(outside: boolean): void {
  for (const from of trio) {
    for (const to of trio) expect([from, to, pings(host.sandbox(from), to)]).toEqual([from, to, true])
    expect([from, pings(host.sandbox(from), addresses.beyond4, patience(outside))]).toEqual([from, outside])
  }
}

function attachTrio(network: string): void {
  for (const name of trio) {
    host.tsnet('sandbox', 'create', name)
    host.tsnet('connect', network, name)
  }
}

describe('simple', () => {
  test('networks are made, listed and removed by name', () => {
    for (const name of ['mh1', 'mh2', 'mh3']) host.tsnet('network', 'create', name)
    expect(listed('network', 'ls').map(([, name, driver]) => `${name} ${driver}`)).toEqual(
      expect.arrayContaining(['mh1 bridge', 'mh2 bridge', 'mh3 bridge']),
    )
    for (const name of ['mh1', 'mh2', 'mh3']) {
      host.tsnet('network', 'rm', name)
      expect(host.tsnet('network', 'ls')).not.toContain(name)
    }
  })

  test('a network is removed by its id, and by the start of it', () => {
    const id = host.tsnet('network', 'create', 'mh1')
    expect(host.tsnet('network', 'rm', id)).toBe(id)
    const start = host.tsnet('network', 'create', 'mh2').slice(0, 12)
    host.tsnet('network', 'rm', start)
    expect(host.tsnet('network', 'ls')).not.toMatch(/mh[12]/)
  })

  test('a sandbox is attached and detached, and ps shows where it is', () => {
    host.tsnet('network', 'create', 'multihost')
    host.tsnet('sandbox', 'create', 'svc1')
    host.tsnet('connect', 'multihost', 'svc1')
    expect(listed('ps').map(([network, sandbox]) => [network, sandbox])).toEqual([['multihost', 'svc1']])
    expect(host.tryTsnet('network', 'rm', 'multihost')).toMatchObject({ status: 5 })
    host.tsnet('disconnect', 'multihost', 'svc1')
    expect(listed('ps')).toEqual([])
    host.tsnet('network', 'rm', 'multihost')
  })
})

describe('bridge', () => {
  test('three sandboxes reach each other and the outside', () => {
    host.tsnet('network', 'create', 'br')
    attachTrio('br')
    expectAllReach(true)
  })

  test('they still do after the daemon was stopped and started', async () => {
    host.tsnet('network', 'create', 'br')
    attachTrio('br')
    await host.stopTsnet()
    await host.startTsnet()
    expectAllReach(true)
    host.tsnet('sandbox', 'rm', ...trio)
    attachTrio('br')
    expectAllReach(true)
  })

  test('they still do after the daemon was killed with everything in place', async () => {
    host.tsnet('network', 'create', 'br')
    attachTrio('br')
    await host.killTsnet()
    for (const from of trio) expect(pings(host.sandbox(from), addresses.beyond4)).toBe(true)
    await host.startTsnet()
    expectAllReach(true)
    host.tsnet('disconnect', 'br', 'c2')
    host.tsnet('connect', 'br', 'c2')
    expectAllReach(true)
  })

  test('on an internal network they reach each other and not the outside', () => {
    host.tsnet('network', 'create', 'shut', '--internal')
    attachTrio('shut')
    expectAllReach(false)
  })

  test('over many bridges they reach those that they share a network with and nobody else, as they join and leave', () => {
    const members: Record<string, string[]> = { br1: ['c1', 'c2'], br2: ['c2', 'c3'], br3: ['c3', 'c4'] }
    for (const name of Object.keys(members)) host.tsnet('network', 'create', name)
    for (const name of ['c1', 'c2', 'c3', 'c4']) host.tsnet('sandbox', 'create', name)
    for (const [network, names] of Object.entries(members))
      for (const name of names) host.tsnet('connect', network, name)
    const expectMatrix = (): void => {
      for (const [network, names] of Object.entries(members))
        for (const to of names) {
          const address = addressOf(network, to)
          for (const from of ['c1', 'c2', 'c3', 'c4']) {
            const want = names.includes(from)
            const got = pings(host.sandbox(from), address, patience(want))
            expect([network, from, to, got]).toEqual([network, from, to, want])
          }
        }
    }
    expectMatrix()
    host.tsnet('disconnect', 'br2', 'c3')
    host.tsnet('connect', 'br1', 'c4')
    members.br2 = ['c2']
    members.br1 = ['c1', 'c2', 'c4']
    expectMatrix()
  })
})

describe('names', () => {
  test("a sandbox knows its own name on every network, and nobody else's hosts file changes", () => {
    host.tsnet('network', 'create', 'br')
    attachTrio('br')
    for (const name of trio) {
      const own = host.tsnet('exec', name, '--', 'getent', 'ahostsv4', name)
      expect(own.split(/\s+/)[0]).toBe(addressOf('br', name))
    }
    expect(host.run('cat', '/etc/hosts')).not.toMatch(/\bc[123]\b/)
  })
})
