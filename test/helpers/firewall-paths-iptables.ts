import { execFileSync } from 'node:child_process'
import { beforeAll, describe, expect, it } from 'vitest'
import { createIptablesFirewall, type Variant } from '../../src/firewall/iptables.js'
import { firewallPaths, type PathSuite } from './firewall-path-suite.js'

/** The same paths and answers as with nftables, by rules of one kernel side of iptables: `legacy` or `nft`. */
export function iptablesPaths(variant: Variant): void {
  const programs = [`iptables-${variant}`, `ip6tables-${variant}`]
  const firewall = createIptablesFirewall(variant)

  const besideDocker = ({ bridgeNetfilter, describePaths }: PathSuite): void => {
    describe('with a FORWARD policy of drop and chains of dockerd before ours, once they are found', () => {
      beforeAll(async () => {
        bridgeNetfilter(true)
        for (const program of programs)
          for (const line of [
            '-P FORWARD DROP',
            '-N DOCKER-USER',
            '-N DOCKER',
            '-A DOCKER -j DROP',
            '-I FORWARD -j DOCKER',
            '-I FORWARD -j DOCKER-USER',
          ])
            execFileSync(program, line.split(' '))
        const { elements, faults } = await firewall.check()
        expect(faults).toEqual(['IPv4 FORWARD passes other chains first', 'IPv6 FORWARD passes other chains first'])
        expect(await firewall.ensure(elements)).toEqual({ created: true })
        expect((await firewall.check()).elements.length).toBe(elements.length)
      })
      describePaths()

      it('leaves others their rules and policies', () => {
        for (const program of programs) {
          const got = execFileSync(program, ['-S', 'FORWARD'], { encoding: 'utf8' }).trim().split('\n')
          expect(got.map(rule => rule.split(' ').at(-1))).toEqual(['DROP', 'DOCKER-USER', 'TSNET-FORWARD', 'DOCKER'])
        }
      })
    })
  }

  firewallPaths(async () => {
    await firewall.ensure()
    return firewall
  }, besideDocker)
}
