import { execFileSync } from 'node:child_process'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createFirewall } from '../../src/firewall/firewall.js'
import { deleteForeignAccept, ensureForeignAccept } from '../../src/firewall/foreign.js'
import type { Nftables } from '../../src/firewall/nft.js'
import { openRunner } from '../../src/firewall/runner.js'
import { noLog } from '../../src/log.js'
import { firewallPaths, type PathSuite } from '../helpers/firewall-path-suite.js'
import { out4 } from '../helpers/firewall-paths.js'
import { run } from '../helpers/netns.js'

let runner: Nftables
afterAll(() => runner?.close())

firewallPaths(async () => {
  runner = await openRunner('libnftables')
  return createFirewall(runner)
}, besideIptables)

function besideIptables(suite: PathSuite): void {
  const { bridgeNetfilter, describePaths } = suite
  describe('beside an iptables-nft whose FORWARD policy is drop, as dockerd leaves it', () => {
    beforeAll(async () => {
      bridgeNetfilter(true)
      for (const iptables of ['iptables', 'ip6tables']) {
        execFileSync(iptables, ['-P', 'FORWARD', 'DROP'])
        execFileSync(iptables, ['-N', 'DOCKER-USER'])
        execFileSync(iptables, ['-A', 'FORWARD', '-j', 'DOCKER-USER'])
        execFileSync(iptables, ['-A', 'DOCKER-USER', '-j', 'RETURN'])
      }
      expect(await suite.world().agents.outside.ask({ protocol: 'tcp', host: '192.0.2.1', port: 8080 })).toBe('nothing')
      expect((await ensureForeignAccept({ name: 'nftables', runner }, noLog)).added).toEqual([
        'ip filter FORWARD',
        'ip6 filter FORWARD',
      ])
    })
    describePaths()

    it('adds nothing the second time', async () => {
      expect((await ensureForeignAccept({ name: 'nftables', runner }, noLog)).added).toEqual([])
    })

    it('adds a rule that iptables itself can read, after the jump to DOCKER-USER', () => {
      const got = execFileSync('iptables', ['-S', 'FORWARD'], { encoding: 'utf8' }).trim().split('\n')
      expect(got).toEqual([
        '-P FORWARD DROP',
        '-A FORWARD -j DOCKER-USER',
        '-A FORWARD -m mark --mark 0x800000/0x800000 -m comment --comment tsnet -j ACCEPT',
      ])
    })

    it('comes back to its place after dockerd has put chains above it', async () => {
      execFileSync('iptables', ['-N', 'DOCKER-ISOLATION'])
      execFileSync('iptables', ['-D', 'FORWARD', '-j', 'DOCKER-USER'])
      execFileSync('iptables', ['-I', 'FORWARD', '-j', 'DOCKER-ISOLATION'])
      execFileSync('iptables', ['-I', 'FORWARD', '-j', 'DOCKER-USER'])
      expect((await ensureForeignAccept({ name: 'nftables', runner }, noLog)).added).toEqual(['ip filter FORWARD'])
      const got = execFileSync('iptables', ['-S', 'FORWARD'], { encoding: 'utf8' }).trim().split('\n')
      expect(got.map(rule => rule.split(' ').at(-1))).toEqual(['DROP', 'DOCKER-USER', 'ACCEPT', 'DOCKER-ISOLATION'])
    })

    it('does not accept what our rules never accepted', async () => {
      // Neither side is a bridge of ours: two of the host's other links.
      run(
        suite.world().host,
        'ip',
        'link',
        'add',
        'other',
        'type',
        'veth',
        'peer',
        'name',
        'eth1',
        'netns',
        suite.world().netnsOf.b1,
      )
      run(suite.world().host, 'ip', 'addr', 'add', '198.51.100.1/24', 'dev', 'other')
      run(suite.world().host, 'ip', 'link', 'set', 'other', 'up')
      run(suite.world().netnsOf.b1, 'ip', 'addr', 'add', '198.51.100.2/24', 'dev', 'eth1')
      run(suite.world().netnsOf.b1, 'ip', 'link', 'set', 'eth1', 'up')
      run(suite.world().netnsOf.b1, 'ip', 'route', 'add', '192.0.2.0/24', 'via', '198.51.100.1')
      run(suite.world().netnsOf.outside, 'ip', 'route', 'add', '198.51.100.0/24', 'via', '192.0.2.1')
      const question = { protocol: 'tcp', host: '198.51.100.2', port: 80 } as const
      expect(await suite.world().agents.outside.ask(question)).toBe('nothing')
      execFileSync('iptables', ['-P', 'FORWARD', 'ACCEPT'])
      expect(await suite.world().agents.outside.ask(question)).toBe(`b1 ${out4}`)
    })

    it('leaves nothing behind', async () => {
      await deleteForeignAccept({ name: 'nftables', runner })
      await deleteForeignAccept({ name: 'nftables', runner })
      expect(execFileSync('iptables', ['-S'], { encoding: 'utf8' })).not.toContain('tsnet')
      expect(execFileSync('ip6tables', ['-S'], { encoding: 'utf8' })).not.toContain('tsnet')
    })
  })
}
