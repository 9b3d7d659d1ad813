import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { addresses, Host } from '../helpers/host.js'
import { until } from '../helpers/machine.js'
import { ask, endServe, pings, startServe } from '../helpers/vantage.js'

// Crash-only: the store says what should be, and start-up is the same code as repair.

let host: Host
let settled: string

beforeAll(async () => {
  host = await Host.startWithTsnet('--repair', 'off')
  host.tsnet(
    'network',
    'create',
    'lab',
    '--subnet',
    '10.30.0.0/24',
    '--ipv6',
    '--subnet',
    'fd00:30::/64',
    '-o',
    'bridge=lab0',
  )
  host.tsnet('network', 'create', 'shut', '--subnet', '10.31.0.0/24', '--internal')
  for (const sandbox of ['a', 'b']) host.tsnet('sandbox', 'create', sandbox)
  host.tsnet('connect', 'lab', 'a', '-p', '8080:80', '-p', '127.0.0.1:8081:80')
  host.tsnet('connect', 'lab', 'b')
  host.tsnet('connect', 'shut', 'b')
})
afterAll(() => host?.stop())
beforeEach(async () => {
  await until('the kernel to be done with looking for duplicate addresses', () => tentative() === '')
  settled = meaning()
})
const tentative = () =>
  ['', '-n a', '-n b']
    .map(where => host.run('ip', ...where.split(' ').filter(Boolean), '-6', '-o', 'addr', 'show', 'tentative'))
    .join('')

const reaches = (address: string, seconds?: number): boolean => pings(host.sandbox('b'), address, seconds)

/** What the objects are, without what a kernel numbers anew: names, addresses, MACs, MTUs inside; endpoints and ports. */
function meaning(): string {
  const inside = ['a', 'b'].map(sandbox =>
    host
      .json('ip', '-j', '-n', sandbox, 'addr')
      .map(({ ifname, mtu, address, addr_info }) => [
        ifname,
        mtu,
        address,
        (addr_info as Record<string, unknown>[]).map(({ local, prefixlen }) => `${local}/${prefixlen}`),
      ])
      .sort(),
  )
  const routes = ['a', 'b'].map(sandbox => host.run('ip', '-n', sandbox, 'route'))
  const elements = host.tsnetRules().flatMap(({ set, map }) => ((set ?? map) ? [{ ...(set ?? map), handle: 0 }] : []))
  return JSON.stringify({ inside, routes, elements, endpoints: host.tsnetJson('ps') }, null, 1)
}

/** Runs `work` while `ip monitor` and `nft monitor` look on; returns each change that they saw. */
async function changesDuring(work: () => Promise<void> | void): Promise<string[]> {
  const ip = await host.serve('ip-monitor', 'ip', 'monitor', 'link', 'address', 'route')
  const nft = await host.serve('nft-monitor', 'nft', 'monitor')
  await until('the monitors to listen', () => {
    host.tryRun('ip', 'link', 'add', 'probe0', 'type', 'veth', 'peer', 'name', 'probe1')
    host.tryRun('nft', 'add', 'table', 'inet', 'probe')
    host.tryRun('nft', 'delete', 'table', 'inet', 'probe')
    host.tryRun('ip', 'link', 'delete', 'probe0')
    return seen(ip.log).includes('probe0') && seen(nft.log).includes('delete table inet probe')
  })
  const skip = [ip, nft].map(({ log }) => seen(log).length)
  await work()
  await host.end('ip-monitor')
  await host.end('nft-monitor')
  return [ip, nft].flatMap(({ log }, i) =>
    seen(log)
      .slice(skip[i])
      // a table that a daemon owns goes and comes with it, in a transaction of its own
      .replace(/^(?:[^#\n].*tsnet_keeper.*\n)+# new generation .*\n/gm, '')
      .split('\n')
      .filter(line => line && !/probe/.test(line)),
  )
}
const seen = (log: string): string => readFileSync(log, 'utf8')

/** What a reboot takes away: links, namespaces, rules, and everything in /run. */
function reboot(): void {
  host.run('ip', '-all', 'netns', 'delete')
  for (const [name, link] of host.links()) {
    const kind = (link.linkinfo as { info_kind?: string } | undefined)?.info_kind
    if (kind && name !== 'uplink0') host.tryRun('ip', 'link', 'delete', name)
  }
  host.run('nft', 'flush', 'ruleset')
  host.run('rm', '-rf', '/run/tsnet', '/run/docker')
}

describe('a daemon that is started again', () => {
  test.each(['KILL', 'TERM'] as const)('after SIG%s changes nothing where everything is right', async signal => {
    const changes = await changesDuring(async () => {
      await (signal === 'KILL' ? host.killTsnet() : host.stopTsnet())
      await host.startTsnet('--repair', 'off')
    })
    expect(changes).toEqual([])
    expect(meaning()).toBe(settled)
  })

  test('after a reboot brings everything back as it was', async () => {
    await host.killTsnet()
    reboot()
    expect(host.links().has('lab0')).toBe(false)
    await host.startTsnet('--repair', 'off')
    expect(meaning()).toBe(settled)
    expect(reaches('10.30.0.2')).toBe(true)
    expect(reaches('fd00:30::2')).toBe(true)
    await startServe(host, 'a', ['80/tcp'], host.sandbox('a'))
    expect(ask(host.outside, 'tcp', addresses.host4, 8080)).toEqual({ name: 'a', peer: addresses.outside4 })
    expect(ask(host, 'tcp', '127.0.0.1', 8081)?.name).toBe('a')
    await endServe(host, 'a')
    expect(host.tsnet('reconcile', '--dry-run')).toBe('')
  })

  test('removes what a crash left over: our links that belong to nothing', async () => {
    await host.killTsnet()
    host.run('ip', 'link', 'add', 'tsnleft0', 'type', 'veth', 'peer', 'name', 'tsnleft1')
    host.run('ip', 'link', 'set', 'tsnleft0', 'alias', 'tsnet:lab:gone')
    host.run('ip', 'link', 'add', 'theirs0', 'type', 'bridge')
    await host.startTsnet('--repair', 'off')
    expect(host.links().has('tsnleft0')).toBe(false)
    expect(host.links().has('theirs0')).toBe(true)
    host.run('ip', 'link', 'delete', 'theirs0')
    await until('the firewall to forget their bridge', () => meaning() === settled)
  })
})

describe('tsnet reconcile', () => {
  test('says nothing, and does nothing, on a host where everything is right', async () => {
    const changes = await changesDuring(() => {
      expect(host.tsnet('reconcile', '--dry-run')).toBe('')
      expect(host.tsnet('reconcile')).toBe('')
    })
    expect(changes).toEqual([])
  })

  // what the daemon repairs without being told is in damage.test.ts
  test.each<[string, string[]]>([
    ["the bridge's address is gone", ['ip', 'addr', 'del', '10.30.0.1/24', 'dev', 'lab0']],
    ['the bridge is down', ['ip', 'link', 'set', 'lab0', 'down']],
    ["a sandbox's link is gone", ['ip', '-n', 'b', 'link', 'delete', 'eth0']],
    ["a sandbox's link is down", ['ip', '-n', 'b', 'link', 'set', 'eth0', 'down']],
    ["a sandbox's address is gone", ['ip', '-n', 'b', 'addr', 'flush', 'dev', 'eth0', 'scope', 'global']],
    ["a sandbox's route is gone", ['ip', '-n', 'b', 'route', 'del', 'default']],
  ])('repairs it when %s, and says so before and while it does', async (_what, damage) => {
    host.run(...damage)
    expect(meaning() === settled && reaches('10.30.0.1', 1)).toBe(false)
    const announced = host.tsnet('reconcile', '--dry-run')
    expect(announced).not.toBe('')
    expect(host.tsnet('reconcile', '--dry-run')).toBe(announced)
    // what one stage makes is what the next one looks at, so doing it may say more than announcing it
    expect(host.tsnet('reconcile').split('\n')).toEqual(expect.arrayContaining(announced.split('\n')))
    expect(host.tsnet('reconcile', '--dry-run')).toBe('')
    expect(meaning()).toBe(settled)
    await until('b to reach its gateway', () => reaches('10.30.0.1', 1))
    expect(reaches('10.30.0.2')).toBe(true)
  })
})
