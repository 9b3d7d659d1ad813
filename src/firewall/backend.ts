import { messageOf, unavailable } from '../errors.js'
import { tableName } from './elements.js'
import { createFirewall, type Firewall } from './firewall.js'
import { deleteForeignAccept } from './foreign.js'
import { createIptablesFirewall, type Variant } from './iptables.js'
import { tableNames } from './iptables-rules.js'
import type { Runner } from './nft.js'
import { findProgram, runProgram } from './program.js'
import { openRunner } from './runner.js'

export type FirewallChoice = 'auto' | 'nftables' | 'iptables'
export type BackendName = 'nftables' | `iptables-${Variant}`

/** What rules are written with, and what follows from that. */
export interface Backend {
  name: BackendName
  firewall: Firewall
  /** nftables for what is beside our rules: other programs' firewalls. Absent where there is none. */
  runner?: Runner
  /** nftables tables that have our rules: `inet tsnet` */
  tables: ReadonlySet<string>
  /** at which our rules decide about forwarding, by nftables' priorities */
  priority: number
  /** whoever changes the rules need not tell the kernel's listeners */
  untold: boolean
  close(): void
}

/** Nftables where it works, unless iptables is asked for; iptables by that kernel side which the `iptables` program uses. @throws {NetError} Unavailable */
export async function openBackend(choice: FirewallChoice): Promise<Backend> {
  if (choice === 'iptables') return iptables(await variantHere(), await openRunner().catch(() => undefined))
  try {
    return nftables(await openRunner())
  } catch (error) {
    if (choice === 'nftables') throw error
    try {
      return iptables(await variantHere(), undefined)
    } catch (second) {
      throw unavailable(`${messageOf(error)}; nor is there iptables: ${messageOf(second)}`, { cause: error })
    }
  }
}

/**
 * See that the rules are there. Where another backend wrote them until now, this one first takes over all that they hold:
 * there is no moment without, and nothing of the other's is left.
 */
export async function loadRules(backend: Backend, former: BackendName = backend.name): Promise<void> {
  if (former === backend.name) {
    await backend.firewall.ensure()
    return
  }
  const runner = await openRunner().catch(() => undefined)
  try {
    const old = firewallOf(former, runner)
    await backend.firewall.ensure((await old.check()).elements)
    await old.delete()
    await deleteForeignAccept({ name: former, ...(runner === undefined ? {} : { runner }) })
  } finally {
    runner?.close()
  }
}

function firewallOf(name: BackendName, runner: Runner | undefined): Firewall {
  if (name !== 'nftables') return createIptablesFirewall(name === 'iptables-legacy' ? 'legacy' : 'nft')
  if (runner === undefined)
    throw unavailable('the rules were written with nftables until now, which does not work any more')
  return createFirewall(runner)
}

function nftables(runner: Runner): Backend {
  const firewall = createFirewall(runner)
  const tables = new Set([`inet ${tableName}`])
  return { name: 'nftables', firewall, runner, tables, priority: -10, untold: false, close: () => runner.close() }
}

function iptables(variant: Variant, runner: Runner | undefined): Backend {
  const all = ['ip', 'ip6'].flatMap(family => tableNames.map(table => `${family} ${table}`))
  return {
    name: `iptables-${variant}`,
    firewall: createIptablesFirewall(variant),
    ...(runner === undefined ? {} : { runner }),
    tables: new Set(variant === 'nft' ? all : []),
    priority: 0,
    untold: variant === 'legacy',
    close: () => runner?.close(),
  }
}

/** `iptables v1.8.9 (nf_tables)` or `(legacy)`, man 8 xtables-nft. */
async function variantHere(): Promise<Variant> {
  if (findProgram('iptables') === undefined)
    throw unavailable('the firewall needs the iptables program: install the package iptables')
  const version = await runProgram('iptables', ['-V'])
  return version.includes('nf_tables') ? 'nft' : 'legacy'
}
