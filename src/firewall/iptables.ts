import type { Family } from '../cnm/types.js'
import { KeyedLock } from '../locks.js'
import { type Element, keyOf, overlaps, sameElement } from './elements.js'
import type { Firewall, FirewallChange } from './firewall.js'
import {
  elementComment,
  elementRules,
  fixedComment,
  fixedRules,
  hooks,
  ownChains,
  parseComment,
  type Rule,
  type TableName,
  tableNames,
} from './iptables-rules.js'
import { parseSave, type SavedRule } from './iptables-save.js'
import { NftError } from './nft.js'
import { ProgramError, runProgram } from './program.js'

/** Which iptables: the suffix of its programs, `-nft` or `-legacy`. */
export type Variant = 'nft' | 'legacy'

const programOf = (variant: Variant, family: Family): string => `${family === 4 ? 'iptables' : 'ip6tables'}-${variant}`
const families = [4, 6] as const

/** The same firewall without nftables: one `iptables-restore --noflush` for each family that a change concerns. Transactions take turns. */
export function createIptablesFirewall(variant: Variant): Firewall {
  const lock = new KeyedLock()
  const oneAtATime = <T>(work: () => Promise<T>): Promise<T> => lock.with(variant, work)
  /** what the kernel holds, as far as we know, by key; undefined: not read yet */
  let known: Map<string, Element> | undefined

  async function read(): Promise<{ elements: Element[]; faults: string[]; saved: Map<Family, SavedRule[]> }> {
    const saved = new Map<Family, SavedRule[]>()
    for (const family of families)
      saved.set(family, parseSave(await runProgram(`${programOf(variant, family)}-save`, [])))
    const { elements, faults } = judge(saved)
    known = new Map(elements.map(element => [keyOf(element), element]))
    return { elements, faults, saved }
  }

  async function restore(lines: ReadonlyMap<Family, ReadonlyMap<TableName, readonly string[]>>): Promise<void> {
    for (const [family, tables] of lines) {
      const text = [...tables].map(([table, rules]) => `*${table}\n${rules.join('\n')}\nCOMMIT\n`).join('')
      try {
        await runProgram(`${programOf(variant, family)}-restore`, ['--noflush', '-w'], text)
      } catch (error) {
        known = undefined
        throw error instanceof ProgramError ? new NftError(error.details) : error
      }
    }
  }

  async function ensure(keep?: readonly Element[]): Promise<{ created: boolean }> {
    const { elements, faults, saved } = await read()
    if (faults.length === 0) return { created: false }
    const wanted = [...new Map((keep ?? elements).map(element => [keyOf(element), element])).values()]
    await restore(wholeText(wanted, saved))
    const now = await read()
    if (now.faults.length > 0)
      throw new NftError(`the rules loaded differ from what was asked for: ${now.faults.join('; ')}`)
    return { created: true }
  }

  async function apply({ add, delete: remove }: FirewallChange): Promise<void> {
    if (add.length + remove.length === 0) return
    // read anew where another program may have changed it: then what we thought was there fails
    for (const again of [known === undefined, true]) {
      if (again) {
        const { faults } = await read()
        if (faults.length > 0) throw new NftError(`No such file or directory: the rules are not whole: ${faults[0]}`)
      }
      const there = known ?? new Map<string, Element>()
      const next = after(there, add, remove)
      try {
        await restore(changeText(there, next))
        known = next
        return
      } catch (error) {
        if (again) throw error
      }
    }
  }

  return {
    ensure: keep => oneAtATime(() => ensure(keep)),
    check: () =>
      oneAtATime(async () => {
        const { elements, faults } = await read()
        return { elements, faults }
      }),
    apply: change => oneAtATime(() => apply(change)),
    delete: () =>
      oneAtATime(async () => {
        const { saved } = await read()
        await restore(deleteText(saved))
        known = undefined
      }),
  }
}

/** What a change makes of what is there. Throws where two ranges of one kind would share a port, as nftables does. */
function after(there: ReadonlyMap<string, Element>, add: readonly Element[], remove: readonly Element[]) {
  const next = new Map(there)
  for (const element of remove) next.delete(keyOf(element))
  for (const element of add) {
    const key = keyOf(element)
    if ('ports' in element)
      for (const other of next.values())
        if (overlaps(other, element) && keyOf(other) !== key)
          throw new NftError(`File exists: ${elementComment(element)} overlaps ${elementComment(other)}`)
    next.set(key, element)
  }
  return next
}

type Lines = Map<Family, Map<TableName, string[]>>

function put(lines: Lines, { family, table }: Pick<Rule, 'family' | 'table'>, line: string): void {
  const tables = lines.get(family) ?? new Map<TableName, string[]>()
  lines.set(family, tables)
  const list = tables.get(table)
  if (list === undefined) tables.set(table, [line])
  else list.push(line)
}

const quoted = (comment: string): string => `"${comment.replace(/[\\"]/g, '\\$&')}"`
const withComment = ({ spec }: Rule, comment: string): string => {
  const jump = spec.lastIndexOf('-j ')
  return `${spec.slice(0, jump)}-m comment --comment ${quoted(comment)} ${spec.slice(jump)}`
}
const addition = (rule: Rule, comment: string): string =>
  `${rule.first ? '-I' : '-A'} ${rule.chain} ${rule.first ? '1 ' : ''}${withComment(rule, comment)}`

function changeText(there: ReadonlyMap<string, Element>, next: ReadonlyMap<string, Element>): Lines {
  const lines: Lines = new Map()
  for (const [key, element] of there) {
    const now = next.get(key)
    if (now !== undefined && sameElement(now, element)) continue
    const comment = elementComment(element)
    for (const rule of elementRules(element)) put(lines, rule, `-D ${rule.chain} ${withComment(rule, comment)}`)
  }
  for (const [key, element] of next) {
    const before = there.get(key)
    if (before !== undefined && sameElement(before, element)) continue
    const comment = elementComment(element)
    for (const rule of elementRules(element)) put(lines, rule, addition(rule, comment))
  }
  return lines
}

const isHook = ({ chain, spec }: SavedRule): boolean => !chain.startsWith('TSNET-') && / -j TSNET-/.test(` ${spec}`)

/** Everything anew: a chain that is declared is emptied, in the same transaction. */
function wholeText(elements: readonly Element[], saved: ReadonlyMap<Family, readonly SavedRule[]>): Lines {
  const lines: Lines = new Map()
  for (const family of families)
    for (const table of tableNames)
      for (const chain of ownChains[table]) put(lines, { family, table }, `:${chain} - [0:0]`)
  for (const rule of fixedRules) put(lines, rule, addition(rule, fixedComment))
  for (const element of elements) {
    const comment = elementComment(element)
    for (const rule of elementRules(element)) put(lines, rule, addition(rule, comment))
  }
  dropHooks(lines, saved)
  for (const rule of hooks) {
    const others = (saved.get(rule.family) ?? []).filter(
      other => other.table === rule.table && other.chain === rule.chain && !isHook(other),
    )
    const user = rule.chain === 'FORWARD' ? others.findIndex(({ spec }) => spec === '-j DOCKER-USER') : -1
    put(lines, rule, `-I ${rule.chain} ${user + 2} ${withComment(rule, fixedComment)}`)
  }
  return lines
}

function dropHooks(lines: Lines, saved: ReadonlyMap<Family, readonly SavedRule[]>): void {
  for (const [family, rules] of saved)
    for (const rule of rules)
      if (isHook(rule)) put(lines, { family, table: rule.table }, `-D ${rule.chain} ${rule.spec}`)
}

function deleteText(saved: ReadonlyMap<Family, readonly SavedRule[]>): Lines {
  const lines: Lines = new Map()
  for (const [family, rules] of saved) {
    for (const table of tableNames) {
      // tables that nobody has used yet are left so
      if (!rules.some(rule => rule.table === table && (isHook(rule) || rule.chain.startsWith('TSNET-')))) continue
      for (const chain of ownChains[table]) put(lines, { family, table }, `:${chain} - [0:0]`)
    }
  }
  dropHooks(lines, saved)
  for (const [family, tables] of lines)
    for (const table of tables.keys())
      for (const chain of ownChains[table]) put(lines, { family, table }, `-X ${chain}`)
  return lines
}

/** What the kernel's rules are worth: the elements in them, and whatever is missing, too many, or not ours. */
function judge(saved: ReadonlyMap<Family, readonly SavedRule[]>): { elements: Element[]; faults: string[] } {
  const elements = new Map<string, Element>()
  const counts = new Map<string, number>()
  const count = (key: string, by: number) => counts.set(key, (counts.get(key) ?? 0) + by)
  const place = (family: Family, table: string, chain: string, comment: string) =>
    `IPv${family} ${table} ${chain} ${comment}`
  let any = false
  for (const [family, rules] of saved)
    for (const rule of rules) {
      if (!rule.chain.startsWith('TSNET-') && !isHook(rule)) continue
      any = true
      const comment = rule.comment ?? ''
      count(place(family, rule.table, rule.chain, comment), 1)
      const element = comment === fixedComment ? undefined : parseComment(comment)
      if (element) elements.set(keyOf(element), element)
    }
  if (!any) return { elements: [], faults: ['they are missing'] }
  for (const rule of [...fixedRules, ...hooks]) count(place(rule.family, rule.table, rule.chain, fixedComment), -1)
  for (const element of elements.values())
    for (const rule of elementRules(element))
      count(place(rule.family, rule.table, rule.chain, elementComment(element)), -1)
  const faults = [...counts]
    .filter(([, n]) => n !== 0)
    .map(([key, n]) => `${Math.abs(n)} ${n < 0 ? 'missing' : 'too many'} of ${key}`)
  return { elements: [...elements.values()], faults: [...faults, ...misplaced(saved)] }
}

/** Another program has put itself before us; dockerd does whenever it starts. */
function misplaced(saved: ReadonlyMap<Family, readonly SavedRule[]>): string[] {
  return [...saved].flatMap(([family, rules]) => {
    const forward = rules.filter(({ table, chain }) => table === 'filter' && chain === 'FORWARD')
    const ours = forward.findIndex(isHook)
    const user = forward.findIndex(({ spec }) => spec === '-j DOCKER-USER')
    return ours === -1 || ours === user + 1 ? [] : [`IPv${family} FORWARD passes other chains first`]
  })
}
