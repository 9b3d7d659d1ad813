import { messageOf, unavailable } from '../errors.js'
import { tableName } from './elements.js'
import { createFirewall, createSpoofGuard, type Firewall } from './firewall.js'
import { deleteForeignAccept } from './foreign.js'
import { withSpoofGuard } from './guarded.js'
import { createIptablesFirewall, type Variant } from './iptables.js'
import { tableNames } from './iptables-rules.js'
import type { Nftables } from './nft.js'
import { findProgram, runProgram } from './program.js'
import { openRunner } from './runner.js'

export type FirewallChoice = 'auto' | 'nftables' | 'iptables'
export type BackendName = 'nftables' | `iptables-${Variant}`

/** What rules are written with, and what follows from that. */
export interface Backend {
  name: BackendName
  firewall: Firewall
  /** why the firewall has no spoof guard, as the end of a sentence; absent where it has one */
  unguarded?: string
  /** nftables for what is beside our rules: other programs' firewalls. Absent where there is none. */
  runner?: Nftables
  /** nftables tables that have our rules: `inet tsnet` */
  tables: ReadonlySet<string>
  /** others have rules in these tables too */
  shared: boolean
  /** at which our rules decide about forwarding, by nftables' priorities */
  priority: number
  /** whoever changes the rules need not tell the kernel's listeners */
  untold: boolean
  close(): void
}

/** Nftables where it works, unless iptables is asked for; iptables by that kernel side which the `iptables` program uses. @throws {NetError} Unavailable */
export async function openBackend(choice: FirewallChoice): Promise<Backend> {
  if (choice === 'iptables') return await guarded(iptables(await variantHere(), await anyRunner()))
  try {
    return await guarded(nftables(await openRunner()))
  } catch (error) {
    if (choice === 'nftables') throw error
    try {
      return await guarded(iptables(await variantHere(), undefined))
    } catch (second) {
      throw unavailable(`${messageOf(error)}; nor is there iptables: ${messageOf(second)}`, { cause: error })
    }
  }
}

const anyRunner = (): Promise<Nftables | undefined> => openRunner().catch(() => undefined)

/** With the spoof guard, which nftables writes whoever writes the rules: iptables sees no frames. */
async function guarded(backend: Backend): Promise<Backend> {
  const { runner, firewall, tables } = backend
  if (runner === undefined) return { ...backend, unguarded: 'nftables does not work here' }
  try {
    await probeBridges(runner)
  } catch (error) {
    return { ...backend, unguarded: `nftables has no tables for bridges here: ${messageOf(error)}` }
  }
  return {
    ...backend,
    firewall: withSpoofGuard(firewall, createSpoofGuard(runner)),
    tables: new Set([...tables, `bridge ${tableName}`]),
  }
}

/** Whether this kernel has tables for bridges: ours says so, or a chain that goes in the transaction in which it comes. */
async function probeBridges(runner: Nftables): Promise<void> {
  const there = await runner.run(`list table bridge ${tableName}`).catch(() => undefined)
  if (there !== undefined) return
  const probe = `bridge ${tableName}_probe`
  const hook = 'type filter hook prerouting priority 0;'
  await runner.run(`add table ${probe}\nadd chain ${probe} probe { ${hook} }\ndelete table ${probe}\n`)
}

/**
 * See that the rules are there. Where another backend wrote them until now, this one first takes over all that they hold:
 * there is no moment without, and nothing of the other's is left. The spoof guard is the same for all of them.
 */
export async function loadRules(backend: Backend, former: BackendName = backend.name): Promise<void> {
  if (former === backend.name) {
    await backend.firewall.ensure()
    return
  }
  const runner = await anyRunner()
  try {
    const old = firewallOf(former, runner)
    await backend.firewall.ensure((await old.check()).elements)
    await old.delete()
    await deleteForeignAccept({ name: former, ...(runner === undefined ? {} : { runner }) })
  } finally {
    runner?.close()
  }
}

function firewallOf(name: BackendName, runner: Nftables | undefined): Firewall {
  if (name !== 'nftables') return createIptablesFirewall(name === 'iptables-legacy' ? 'legacy' : 'nft')
  if (runner === undefined)
    throw unavailable('the rules were written with nftables until now, which does not work any more')
  return createFirewall(runner)
}

function nftables(runner: Nftables): Backend {
  const firewall = createFirewall(runner)
  const tables = new Set([`inet ${tableName}`])
  const close = () => runner.close()
  return { name: 'nftables', firewall, runner, tables, shared: false, priority: -10, untold: false, close }
}

function iptables(variant: Variant, runner: Nftables | undefined): Backend {
  const all = ['ip', 'ip6'].flatMap(family => tableNames.map(table => `${family} ${table}`))
  return {
    name: `iptables-${variant}`,
    firewall: createIptablesFirewall(variant),
    ...(runner === undefined ? {} : { runner }),
    tables: new Set(variant === 'nft' ? all : []),
    shared: true,
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
