import type { Host } from './host.js'

const passing =
  /^(ifindex|link_index|link_netnsid|.*_timer|root_id|bridge_id|designated_.*|port_(id|no)|id|no|.*_life_time|operstate|qdisc|metainfo|handle|packets|bytes|stats64|[gt][sr]o_.*)$/

/**
 * All of ours on a host that another program could change, as `ip`, `nft` and `sysctl` have it, less what is another number for a
 * link that was made again: one shell, because it is asked for again and again.
 */
export function driftState(host: Host, sandboxes: readonly string[], sysctls: readonly string[]): string {
  const inside = (name: string): string[] => ['-d addr', '-4 route', '-6 route'].map(what => `ip -n ${name} -j ${what}`)
  const script = [
    ...['-d addr', '-4 route', '-6 route'].map(what => `ip -j ${what}`),
    ...['inet', 'bridge'].map(family => `nft -j list table ${family} tsnet`),
    ...sandboxes.flatMap(inside),
  ].map(command => `${command} 2>&1 | tr -d '\\n'; echo`)
  script.push(`sysctl -e ${sysctls.join(' ')} 2>&1`)
  const lines = host.tryRun('sh', '-c', script.join('\n')).stdout.split('\n')
  return JSON.stringify(lines.map(plain), undefined, 1)
}

function plain(line: string): unknown {
  if (!/^[[{]/.test(line)) return line
  try {
    return JSON.parse(line, plainValue)
  } catch {
    return line
  }
}

function plainValue(this: Record<string, unknown>, key: string, value: unknown): unknown {
  if (key === 'flags') return Array.isArray(value) && value.includes('UP')
  // the host's end of a cable has an address that nobody uses
  if (key === 'address' && String(this.ifname).startsWith('tsn')) return undefined
  if (passing.test(key)) return undefined
  if (!Array.isArray(value)) return value
  // lists are in the order in which their members came to be, and link-local addresses come when the kernel finds time
  return value
    .map(item => JSON.stringify(item))
    .filter(text => !/"(local|dst)":"(fe80|ff)/.test(text))
    .sort()
}
