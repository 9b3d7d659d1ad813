import { describe, expect, test } from 'vitest'
import { parseLegacy } from '../../src/firewall/legacy-verdict.js'
import { type Packets, verdictOf } from '../../src/firewall/verdict.js'

const packets: Packets = {
  ...{ iifname: 'br-lab', oifname: 'eth0', mark: 0x800000, state: 'new', status: '', nfproto: 'ipv4' },
  ...{ saddr: '10.30.0.2', daddr: '203.0.113.1', l4proto: 'tcp', sport: 61000, dport: 80 },
}

/** What FORWARD does with the packets, by these lines of `iptables -S`. */
function verdict(lines: string[], changes: Partial<Packets> = {}) {
  const chains = parseLegacy(['-P FORWARD ACCEPT', '-N MINE', ...lines].join('\n'))
  return verdictOf(chains.get('FORWARD')!, { ...packets, ...changes }, chains)
}
const drop = (rule: string) => ({ what: 'drop', rule })

describe("iptables-legacy's rules as they are printed", () => {
  test.each([
    '-A FORWARD -j DROP',
    '-A FORWARD -s 10.30.0.0/24 -d 203.0.113.1/32 -p tcp -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable',
    '-A FORWARD -i br-+ -o eth0 -j DROP',
    '-A FORWARD ! -s 10.31.0.0/24 -j DROP',
    '-A FORWARD -p tcp -m multiport --dports 22,80:90 -j DROP',
    '-A FORWARD -m conntrack --ctstate INVALID,NEW -j DROP',
    '-A FORWARD -m mark --mark 0x800000/0x800000 -m comment --comment "no -j ACCEPT here" -j DROP',
  ])('%s drops what it matches', line => expect(verdict([line])).toEqual(drop(line)))

  test.each([
    '-A FORWARD -s 10.31.0.0/24 -j DROP',
    '-A FORWARD -p udp -m udp --dport 80 -j DROP',
    '-A FORWARD -i eth1 -j DROP',
    '-A FORWARD ! -s 10.30.0.0/16 -j DROP',
    '-A FORWARD -p tcp -m tcp --dport 8000:8010 -j DROP',
    '-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j DROP',
    '-A FORWARD -j LOG --log-prefix "DROP "',
  ])('%s does not', line => expect(verdict([line])).toEqual({ what: 'accept' }))

  test('chains are followed, RETURN comes back, the policy is last, an accept before a drop wins', () => {
    expect(verdict(['-A FORWARD -j MINE', '-A MINE -d 203.0.113.0/24 -j DROP'])).toEqual(
      drop('-A MINE -d 203.0.113.0/24 -j DROP'),
    )
    expect(verdict(['-A FORWARD -j MINE', '-A MINE -j RETURN', '-A MINE -j DROP'])).toEqual({ what: 'accept' })
    expect(verdict(['-P FORWARD DROP'])).toEqual(drop('policy drop'))
    expect(verdict(['-P FORWARD DROP', '-A FORWARD -m mark --mark 0x800000/0x800000 -j ACCEPT'])).toEqual({
      what: 'accept',
    })
  })

  test('what nobody here can judge makes an accept uncertain, and a drop somebody else’s wish', () => {
    expect(verdict(['-P FORWARD DROP', '-A FORWARD -m set --match-set good src -j ACCEPT'])).toEqual({
      what: 'unknown',
    })
    expect(verdict(['-A FORWARD -m set --match-set bad src -j DROP'])).toEqual({ what: 'accept' })
  })
})
