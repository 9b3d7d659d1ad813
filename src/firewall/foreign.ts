import { readFileSync } from 'node:fs'
import type { Log } from '../log.js'
import { fieldsOf, listOf } from './elements.js'
import type { Runner } from './nft.js'

/**
 * Other people's firewalls. An accept of ours does not outvote their drop (dockerd sets the policy of iptables' FORWARD to drop), so
 * one rule in their FORWARD chain accepts what carries our mark, which only chain `ours` of ruleset.nft gives. It stands after the jump to
 * DOCKER-USER, where there is one: what an administrator forbids there stays forbidden. Never touched: policies and others' rules.
 * Be aware: iptables-legacy's tables are not nftables and are only reported.
 */
const acceptOurs = 'meta mark & 0x00800000 == 0x00800000 counter accept comment "tsnet"'
const families = ['ip', 'ip6'] as const

/** iptables's FORWARD chains accept what our own rules accepted; lists one chain per family when that is so already. */
export async function ensureForeignAccept(runner: Runner, log: Log): Promise<{ added: string[] }> {
  const added: string[] = []
  for (const family of families) {
    const rules = await forwardRules(runner, family)
    if (!rules) continue
    const userJump = rules.findIndex(rule => rule.jumpsTo === 'DOCKER-USER')
    const ours = rules.findIndex(rule => rule.ours)
    // dockerd puts its own jumps on top whenever it starts; after DOCKER-USER's and ours, nothing of theirs drops what is ours.
    if (ours !== -1 && (ours === userJump + 1 || (userJump === -1 && ours === 0))) continue
    const stale = rules
      .filter(rule => rule.ours)
      .map(rule => `delete rule ${family} filter FORWARD handle ${rule.handle}\n`)
    const after = rules[userJump]
    const place = after
      ? `add rule ${family} filter FORWARD position ${after.handle}`
      : `insert rule ${family} filter FORWARD`
    await runner.run(`${stale.join('')}${place} ${acceptOurs}\n`)
    added.push(`${family} filter FORWARD`)
    log.info({ chain: `${family} filter FORWARD` }, 'iptables accepts what tsnet accepted')
  }
  if (legacyTables().length > 0)
    log.warn({ tables: legacyTables() }, 'iptables-legacy is in use: its FORWARD chain may drop container traffic')
  return { added }
}

/** Take our rule out of their chains; absent is fine. */
export async function deleteForeignAccept(runner: Runner): Promise<void> {
  for (const family of families) {
    const ours = ((await forwardRules(runner, family)) ?? []).filter(rule => rule.ours)
    await runner.run(ours.map(rule => `delete rule ${family} filter FORWARD handle ${rule.handle}\n`).join(''))
  }
}

interface ForeignRule {
  handle: number
  ours: boolean
  jumpsTo: string | undefined
}

/** The rules of iptables-nft's FORWARD chain, in order; undefined when iptables has not made one. */
async function forwardRules(runner: Runner, family: 'ip' | 'ip6'): Promise<ForeignRule[] | undefined> {
  const chains = rowsOf(await runner.run(`list chains ${family}`)).map(row => fieldsOf(row.chain))
  if (!chains.some(chain => chain.table === 'filter' && chain.name === 'FORWARD')) return undefined
  return rowsOf(await runner.run(`list chain ${family} filter FORWARD`)).flatMap(row => {
    const { handle, comment, expr } = fieldsOf(row.rule)
    if (typeof handle !== 'number') return []
    const jump = listOf(expr).map(e => fieldsOf(fieldsOf(e).jump).target)
    const jumpsTo = jump.find(target => typeof target === 'string')
    return [{ handle, ours: comment === 'tsnet', jumpsTo: jumpsTo as string | undefined }]
  })
}

const rowsOf = (json: string): Record<string, unknown>[] =>
  listOf(fieldsOf(JSON.parse(json || '{}')).nftables).map(fieldsOf)

/** Tables that iptables-legacy has loaded into the kernel; its module makes the file. */
function legacyTables(): string[] {
  const namesIn = (path: string) => {
    try {
      return readFileSync(path, 'utf8').split('\n').filter(Boolean)
    } catch {
      return []
    }
  }
  return [...new Set(['/proc/net/ip_tables_names', '/proc/net/ip6_tables_names'].flatMap(namesIn))]
}
