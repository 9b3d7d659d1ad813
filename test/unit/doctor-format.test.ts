import { describe, expect, test } from 'vitest'
import { formatReport } from '../../src/cli/doctor.js'
import { fail, ok, warn } from '../../src/cnm/diagnosis.js'
import { letThrough } from '../../src/diagnosis/network-checks.js'

const report = {
  ok: false,
  checks: [
    ok('kernel', 'Linux 6.1 makes veth links'),
    fail('sysctl', 'net.ipv4.ip_forward is 0', 'sysctl -w net.ipv4.ip_forward=1'),
    warn('disk', '/var has 90 MB free'),
  ],
}

describe('what doctor prints', () => {
  test('is a line a check, what to do below what is wrong, and how many of each at the end', () => {
    const wrong = `✗ sysctl  net.ipv4.ip_forward is 0\n          fix: sysctl -w net.ipv4.ip_forward=1\n`
    const other = '! disk    /var has 90 MB free\n'
    expect(formatReport(report)).toBe(
      `✓ kernel  Linux 6.1 makes veth links\n${wrong}${other}1 ok, 1 to look at, 1 wrong\n`,
    )
    expect(formatReport(report, true)).toBe(wrong + other)
  })
})

test.each([
  [
    'table inet filter, chain forward: policy drop (out of the network)',
    "nft insert rule inet filter forward 'meta mark & 0x800000 == 0x800000 accept'",
  ],
  [
    'table inet filter, chain input: policy drop (to the resolver at 10.0.0.1: iifname "br-a" udp dport 53)',
    'nft insert rule inet filter input \'iifname "br-a" udp dport 53 accept\'',
  ],
  [
    'table ip6 filter, chain INPUT: drop (to ports published at [::1]: iifname "lo" ip6 daddr ::1)',
    'nft insert rule ip6 filter INPUT \'iifname "lo" ip6 daddr ::1 accept\'',
  ],
  [
    'iptables-legacy, chain INPUT: policy drop (to VXLAN from other hosts: iifname "eth0" udp dport 4789)',
    'iptables-legacy -I INPUT -i eth0 -p udp --dport 4789 -j ACCEPT',
  ],
  [
    'ip6tables-legacy, chain INPUT: policy drop (to ports published at [::1]: iifname "lo" ip6 daddr ::1)',
    'ip6tables-legacy -I INPUT -i lo -d ::1 -j ACCEPT',
  ],
  ['ip filter FORWARD (legacy): nobody knows', 'iptables -I FORWARD -m mark --mark 0x800000/0x800000 -j ACCEPT'],
  [
    'table inet firewalld, chain filter_FORWARD: reject (out of the network)',
    'firewall-cmd --permanent --zone=trusted --add-interface=br-a && firewall-cmd --reload',
  ],
  [
    'table inet firewalld, chain filter_INPUT: reject (to VXLAN from other hosts: iifname "eth0" udp dport 4789)',
    'firewall-cmd --permanent --add-port=4789/udp && firewall-cmd --reload',
  ],
])('the fix for a foreign rule is a command for the very chain: %s', (obstacle, command) => {
  expect(letThrough(obstacle, 'br-a')).toBe(command)
})
