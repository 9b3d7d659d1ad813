import { readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ensureDirectory } from '../directories.js'

/**
 * `/etc/netns/NAME/hosts` and `resolv.conf`: what `ip netns exec NAME` (ip-netns(8)), `tsnet exec` and `tsnet run` show
 * as the files in /etc.
 */
export class SandboxFiles {
  readonly #directory: string

  constructor(
    readonly name: string,
    root: string,
  ) {
    this.#directory = join(root, name)
  }

  create(): void {
    ensureDirectory(this.#directory, 0o755)
    writeFileSync(join(this.#directory, 'resolv.conf'), resolvConf(), { mode: 0o644 })
  }

  /** Absent is fine. Only our two files: what the user put beside them stays, and the directory with it. */
  delete(): void {
    for (const file of ['hosts', 'resolv.conf']) rmSync(join(this.#directory, file), { force: true })
    try {
      rmdirSync(this.#directory)
    } catch {
      // absent, or the user keeps something there
    }
  }

  hosts(): string | undefined {
    try {
      return readFileSync(join(this.#directory, 'hosts'), 'utf8')
    } catch {
      return undefined
    }
  }

  /** Written in place, never renamed: commands that run already have this very file mounted over /etc/hosts. */
  writeHosts(text: string): void {
    ensureDirectory(this.#directory, 0o755)
    writeFileSync(join(this.#directory, 'hosts'), text, { mode: 0o644 })
  }
}

/** The usual lines and the sandbox's own addresses. */
export function hostsText(name: string, addresses: readonly string[]): string {
  const lines = [
    '127.0.0.1\tlocalhost',
    '::1\tlocalhost ip6-localhost ip6-loopback',
    'ff02::1\tip6-allnodes',
    'ff02::2\tip6-allrouters',
    ...addresses.map(cidr => `${cidr.replace(/\/\d+$/, '')}\t${name}`),
  ]
  return `${lines.join('\n')}\n`
}

/**
 * The host's resolv.conf without servers on its loopback, which a sandbox cannot reach; where systemd-resolved's stub
 * is the only one, the servers behind it.
 */
export function resolvConf(read: (path: string) => string | undefined = readIfThere): string {
  const host = read('/etc/resolv.conf') ?? ''
  const text = reachable(host)
  if (text.includes('nameserver') || !host.includes('127.0.0.53')) return text
  return reachable(read('/run/systemd/resolve/resolv.conf') ?? '')
}

const reachable = (text: string): string =>
  text
    .split('\n')
    .filter(line => !/^\s*nameserver\s+(127\.|::1\b)/.test(line))
    .join('\n')

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
