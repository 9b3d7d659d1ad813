import { describe, expect, test } from 'vitest'
import { formatReport } from '../../src/cli/doctor.js'
import { fail, ok, warn } from '../../src/cnm/diagnosis.js'
import { acceptMarked } from '../../src/diagnosis/network-checks.js'

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

test('the fix for a foreign rule is a command for the very chain', () => {
  expect(acceptMarked('table inet filter, chain forward: policy drop (out of the network)')).toBe(
    "nft insert rule inet filter forward 'meta mark & 0x800000 == 0x800000 accept'",
  )
  expect(acceptMarked('ip filter FORWARD (legacy): nobody knows')).toMatch(/^iptables -I FORWARD /)
})
