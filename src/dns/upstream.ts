import { readFileSync, statSync } from 'node:fs'
import { parseResolvConf } from '../net/resolv-conf.js'

/** How often the file is looked at, at most. */
const lookMs = 1_000

/**
 * The servers of a resolv.conf(5), which may change any time. Those on the host's loopback are as good as others, since we
 * ask from the host: with systemd-resolved, 127.0.0.53 is the one that knows about VPNs and links.
 * @param isOurs addresses where we listen ourselves: asking there would go round in circles
 */
export function hostServers(isOurs: (address: string) => boolean, path = '/etc/resolv.conf'): () => readonly string[] {
  let servers: string[] = []
  let seen = ''
  let lookedAt = -lookMs
  return () => {
    const now = performance.now()
    if (now - lookedAt >= lookMs) {
      lookedAt = now
      const version = versionOf(path)
      if (version !== seen) servers = parseResolvConf(readText(path)).servers
      seen = version
    }
    return servers.filter(server => !isOurs(server))
  }
}

/** Written in place or replaced: either shows. */
function versionOf(path: string): string {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false })
  return stat === undefined ? '' : `${stat.dev}:${stat.ino}:${stat.size}:${stat.mtimeNs}`
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
