import type { Family, ForwardedBridge } from '../cnm/types.js'
import { fieldsOf, listOf, tableName } from './elements.js'
import type { ForwardChain, ForwardRule } from './foreign.js'
import type { Runner } from './nft.js'
import { type Chain, type Packets, verdictOf } from './verdict.js'

/** Bit of the packet mark by which chain `ours` of ruleset.nft says that it accepted. */
export const markBit = 0x00800000
const acceptOurs = `meta mark & ${markBit} == ${markBit} counter accept comment "tsnet"`

/** The FORWARD chains of iptables-nft, where it has made any. */
export const nftForwardChains = (runner: Runner): ForwardChain[] =>
  (['ip', 'ip6'] as const).map(family => {
    const name = `${family} filter FORWARD`
    const deletes = (stale: readonly ForwardRule[]): string =>
      stale.map(({ id }) => `delete rule ${name} handle ${id}\n`).join('')
    return {
      name,
      rules: () => forwardRules(runner, family),
      async put(stale, after) {
        const place = after ? `add rule ${name} position ${after.id}` : `insert rule ${name}`
        await runner.run(`${deletes(stale)}${place} ${acceptOurs}\n`)
      },
      async delete(stale) {
        await runner.run(deletes(stale))
      },
    }
  })

async function forwardRules(runner: Runner, family: 'ip' | 'ip6'): Promise<ForwardRule[] | undefined> {
  const chains = rowsOf(await runner.run(`list chains ${family}`)).map(row => fieldsOf(row.chain))
  if (!chains.some(chain => chain.table === 'filter' && chain.name === 'FORWARD')) return undefined
  return rowsOf(await runner.run(`list chain ${family} filter FORWARD`)).flatMap(row => {
    const { handle, comment, expr } = fieldsOf(row.rule)
    if (typeof handle !== 'number') return []
    const jump = listOf(expr).map(e => fieldsOf(fieldsOf(e).jump).target)
    const jumpsTo = jump.find(target => typeof target === 'string')
    return [{ id: String(handle), ours: comment === 'tsnet', jumpsTo: jumpsTo as string | undefined }]
  })
}

const rowsOf = (json: string): Record<string, unknown>[] =>
  listOf(fieldsOf(JSON.parse(json || '{}')).nftables).map(fieldsOf)

/** Where packets of ours pass other programs' chains: on their way through the host, into it, or out of it. */
export type Hook = 'forward' | 'input' | 'output'

/** A base chain of another program, and what it jumps to. */
export interface ForeignChain {
  hook: Hook
  family: 'ip' | 'ip6' | 'inet'
  /** a chain that runs before ours sees no mark of ours */
  priority: number
  /** `table inet filter, chain forward` */
  name: string
  chain: Chain
  chains: ReadonlyMap<string, Chain>
}

export async function foreignChains(runner: Runner, hooks: readonly Hook[]): Promise<ForeignChain[]> {
  const found: ForeignChain[] = []
  const all = rowsOf(await runner.run('list chains')).map(row => fieldsOf(row.chain))
  for (const { family, table, name, hook, policy, prio } of all) {
    const at = hooks.find(known => known === hook)
    if (at === undefined || (family !== 'ip' && family !== 'ip6' && family !== 'inet')) continue
    if (family === 'inet' && table === tableName) continue
    const chains = new Map<string, Chain>()
    const read = async (chain: string): Promise<Chain> => {
      const known = chains.get(chain)
      if (known) return known
      const rules: unknown[][] = []
      const made: Chain = chain === name && typeof policy === 'string' ? { policy, rules } : { rules }
      chains.set(chain, made)
      const rows = rowsOf(await runner.run(`list chain ${family} ${table} ${chain}`))
      rules.push(...rows.filter(row => row.rule).map(row => listOf(fieldsOf(row.rule).expr)))
      for (const target of targetsIn(rules)) await read(target)
      return made
    }
    const words = `table ${family} ${table}, chain ${name}`
    found.push({ hook: at, family, priority: Number(prio), name: words, chain: await read(String(name)), chains })
  }
  return found
}

/** Chains that rules jump to, in verdict maps too. */
const targetsIn = (rules: readonly unknown[]): string[] =>
  [...JSON.stringify(rules).matchAll(/"(?:jump|goto)":\{"target":"([^"]+)"\}/g)].map(([, target = '']) => target)

/**
 * Whose chains surely drop what our rules accept from and to a bridge, in words. New connections only: what is
 * established is let through nearly everywhere. Pure.
 */
export function obstaclesOf(
  foreign: readonly ForeignChain[],
  { name: bridge, published, direct, internal }: ForwardedBridge,
  ourPriority: number,
): string[] {
  if (internal) return []
  const passed = foreign.filter(({ hook }) => hook === 'forward')
  const directions: [where: string, known: Partial<Packets>, of: readonly Family[]][] = [
    ['out of the network', { iifname: bridge, status: 'confirmed' }, [4, 6]],
    ['to published ports', { oifname: bridge, status: 'dnat' }, published],
    ['to endpoints at their own addresses', { oifname: bridge, status: 'confirmed' }, direct],
  ]
  return passed.flatMap(({ family, priority, name, chain, chains }) =>
    directions.flatMap(([where, known, of]) => {
      const families = of.filter(one => family === 'inet' || (family === 'ip') === (one === 4))
      const rules = families.flatMap(one => {
        const verdict = verdictOf(
          chain,
          { mark: priority > ourPriority ? markBit : 0, state: 'new', status: '', ...known, nfproto: `ipv${one}` },
          chains,
        )
        return verdict.what === 'drop' ? [verdict.rule] : []
      })
      return families.length > 0 && rules.length === families.length ? [`${name}: ${rules[0]} (${where})`] : []
    }),
  )
}
