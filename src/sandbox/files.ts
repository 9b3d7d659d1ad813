import { readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Sandbox } from '../cnm/types.js'
import { ensureDirectory } from '../directories.js'
import { formatResolvConf, parseResolvConf } from '../net/resolv-conf.js'

const sandboxFiles = ['hosts', 'resolv.conf'] as const
type SandboxFile = (typeof sandboxFiles)[number]

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

  /** undefined where it is absent or not readable */
  read(file: SandboxFile): string | undefined {
    return readIfThere(join(this.#directory, file))
  }

  /** Written in place, never renamed: commands that run already have this very file mounted over the one in /etc. */
  write(file: SandboxFile, text: string): void {
    ensureDirectory(this.#directory, 0o755)
    writeFileSync(join(this.#directory, file), text, { mode: 0o644 })
  }

  /** Absent is fine. Only our two files: what the user put beside them stays, and the directory with it. */
  delete(): void {
    for (const file of sandboxFiles) rmSync(join(this.#directory, file), { force: true })
    try {
      rmdirSync(this.#directory)
    } catch {
      // absent, or the user keeps something there
    }
  }
}

/** The usual lines, the sandbox's own addresses under its host name and its name, and what the user added. */
export function hostsText({ name, hostname = name, extraHosts = [] }: Sandbox, addresses: readonly string[]): string {
  const own = hostname === name ? name : `${hostname} ${name}`
  const lines = [
    '127.0.0.1\tlocalhost',
    '::1\tlocalhost ip6-localhost ip6-loopback',
    'ff02::1\tip6-allnodes',
    'ff02::2\tip6-allrouters',
    ...addresses.map(cidr => `${cidr.replace(/\/\d+$/, '')}\t${own}`),
    ...extraHosts.map(extra => `${extra.address}\t${extra.name}`),
  ]
  return `${lines.join('\n')}\n`
}

/** Stands first in files that we may write again: without it, the file has become the user's. */
const resolvHeader = '# Kept by tsnet for as long as this line stands.\n'

export const isOurResolvConf = (text: string | undefined): boolean =>
  text === undefined || text.startsWith(resolvHeader)

/**
 * The sandbox's resolver, which asks the host's servers itself, with the host's search list and options. ndots:0, as Docker
 * has it: `web.lab` is asked for as it is before anything is appended.
 */
export function resolvConfText({ dns }: Sandbox, hostText = readIfThere('/etc/resolv.conf') ?? ''): string {
  const host = parseResolvConf(hostText)
  const options = host.options.some(option => option.startsWith('ndots:')) ? host.options : [...host.options, 'ndots:0']
  const search = dns === undefined || dns.search.length === 0 ? host.search : dns.search
  return resolvHeader + formatResolvConf({ servers: ['127.0.0.11'], search, options })
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}
