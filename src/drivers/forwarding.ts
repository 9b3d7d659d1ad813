import { readdirSync } from 'node:fs'
import type { Step } from '../cnm/driver.js'
import type { Family } from '../cnm/types.js'
import { readSysctl, writeSysctl } from '../netlink/sysctl.js'

/** What says that it does. */
export const forwardingSettings = (families: ReadonlySet<Family>): Record<string, string> => ({
  ...(families.has(4) && { 'net.ipv4.ip_forward': '1' }),
  ...(families.has(6) && { 'net.ipv6.conf.all.forwarding': '1' }),
})

/**
 * The host has to forward packets between its links. Switching IPv6 forwarding on makes the kernel ignore router
 * advertisements on links that accept them (accept_ra 1), and a host that has its default route from one would lose it:
 * those links are told to go on accepting (accept_ra 2, Documentation/networking/ip-sysctl.rst). Never switched off
 * again: others may have come to rely on it.
 */
export function forwardingSteps(families: ReadonlySet<Family>): Step[] {
  const steps: Step[] = []
  const set = (key: string, value: string): void => {
    if (readSysctl(undefined, key) !== value)
      steps.push({ words: `set ${key} to ${value}`, apply: () => void writeSysctl(undefined, key, value) })
  }
  if (families.has(4)) set('net.ipv4.ip_forward', '1')
  if (families.has(6) && readSysctl(undefined, 'net.ipv6.conf.all.forwarding') !== '1') {
    for (const link of readdirSync('/proc/sys/net/ipv6/conf'))
      if (readSysctl(undefined, `net.ipv6.conf.${link}.accept_ra`) === '1') set(`net.ipv6.conf.${link}.accept_ra`, '2')
    set('net.ipv6.conf.all.forwarding', '1')
  }
  return steps
}
