import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { KeyedLock } from '../locks.js'
import type { ElementsChange } from '../netlink/nft-elements.js'
import { elementBytes } from './element-bytes.js'
import {
  type Element,
  formatElement,
  formatKey,
  keyOf,
  type SetName,
  sameElement,
  setNames,
  type TableFamily,
  tableName,
  tableOf,
} from './elements.js'
import { type Nftables, NftError } from './nft.js'
import { parseTable, rulesOf, type TableState } from './table.js'

/** A nftables table of ours, `table inet tsnet`, as data: the rules never change, only the elements of its sets and maps do. */
export interface Firewall {
  /**
   * See that the static table is there, whole and of our version; a missing, damaged or older one is replaced in one transaction
   * that also puts back `keep` (absent: every element of the old table that still means something).
   */
  ensure(keep?: readonly Element[]): Promise<{ created: boolean }>
  /** Every element that the kernel has, and what is wrong with the table that holds them: nothing for a right one. */
  check(): Promise<{ elements: Element[]; faults: string[] }>
  /**
   * First the deletes, by key, then the adds: one transaction, or where thousands only come or only go, as few as let others have
   * their turns in between; of those that come, none is left if one cannot. Adding what is there and deleting what is not are fine;
   * adding a key that is there with another value replaces the value. Costs the same however much is there already.
   */
  apply(change: FirewallChange): Promise<void>
  /** Our table is gone afterwards; absent is fine. Equivalent to `nft delete table inet tsnet`. */
  delete(): Promise<void>
}

export interface FirewallChange {
  add: readonly Element[]
  delete: readonly Element[]
}

/** A table that never changes but for its elements. */
interface StaticTable {
  family: TableFamily
  ruleset: string
  sets: readonly SetName[]
  /** An empty set whose name says which text made the table: a table of another version lacks it. */
  marker: string
}

function staticTable(family: TableFamily, file: string): StaticTable {
  const ruleset = readFileSync(new URL(file, import.meta.url), 'utf8')
  const marker = `ruleset_${createHash('sha256').update(ruleset).digest('hex').slice(0, 12)}`
  return { family, ruleset, sets: setNames.filter(name => tableOf(name) === family), marker }
}

const rules = staticTable('inet', './ruleset.nft')
const spoofGuard = staticTable('bridge', './spoof-guard.nft')

/** The rules themselves: `table inet tsnet`. */
export const createFirewall = (runner: Nftables): Firewall => createTable(runner, rules)
/** Who may send what on our bridges: `table bridge tsnet`. */
export const createSpoofGuard = (runner: Nftables): Firewall => createTable(runner, spoofGuard)

/** The real one. Transactions take turns. */
function createTable(runner: Nftables, table: StaticTable): Firewall {
  const { family, ruleset, marker } = table
  const name = `${family} ${tableName}`
  /** `add` first, because deleting what is not there is an error (nft has `destroy` from 1.0.7 on). */
  const deleteTable = `add table ${name}\ndelete table ${name}\n`
  const lock = new KeyedLock()
  const oneAtATime = <T>(work: () => Promise<T>): Promise<T> => lock.with(tableName, work)

  /** undefined: there is no such table. */
  async function read(): Promise<TableState | undefined> {
    // Not by a list of all tables: nft 1.0.6 prints rubbish for one that has an owner, as firewalld's has.
    try {
      return parseTable(await runner.run(`list table ${name}`), table.sets)
    } catch (error) {
      if (error instanceof NftError && error.message.includes('No such file or directory')) return undefined
      throw error
    }
  }

  async function ensure(keep?: readonly Element[]): Promise<{ created: boolean }> {
    const have = await read()
    if (have && faultsOf(table, have).length === 0) return { created: false }
    const elements = keep ?? have?.elements ?? []
    await runner.run(
      `${deleteTable}${ruleset}\nadd set ${name} ${marker} { type mark; }\n${elementCommands(name, elements)}`,
    )
    const now = await read()
    const faults = now ? faultsOf(table, now) : ['no table']
    if (faults.length > 0) throw new NftError(`the table loaded differs from what was asked for: ${faults.join('; ')}`)
    return { created: true }
  }

  async function apply(change: FirewallChange): Promise<void> {
    if (change.add.length + change.delete.length === 0) return
    try {
      runner.change(changesOf(family, change))
    } catch (error) {
      // Something is there already, or is not: only then is it worth looking, which costs what the table holds.
      const have = await read()
      if (!have) throw error
      const { stale, missing } = difference(change, have.elements)
      if (stale.length === change.delete.length && missing.length === change.add.length) throw error
      runner.change(changesOf(family, { add: missing, delete: stale }))
    }
  }

  /** Thousands of elements, as a range of ports onto another has, would keep everybody else waiting for a tenth of a second. */
  async function applyInTurns(change: FirewallChange): Promise<void> {
    const parts = partsOf(change)
    const done: FirewallChange[] = []
    try {
      for (const part of parts) {
        if (done.length > 0) await setImmediate()
        await apply(part)
        done.push(part)
      }
    } catch (error) {
      for (const { add } of done) await apply({ add: [], delete: add }).catch(() => undefined)
      throw error
    }
  }

  return {
    ensure: keep => oneAtATime(() => ensure(keep)),
    check: () =>
      oneAtATime(async () => {
        const have = await read()
        return { elements: have?.elements ?? [], faults: have ? faultsOf(table, have) : ['it is missing'] }
      }),
    apply: change => oneAtATime(() => applyInTurns(change)),
    delete: () => oneAtATime(async () => void (await runner.run(deleteTable))),
  }
}

/** Some milliseconds' worth. */
const elementsAtOnce = 300

/** What replaces something is one transaction; where there is nothing to be replaced, nobody sees that it comes or goes in parts. */
function partsOf(change: FirewallChange): FirewallChange[] {
  const { add, delete: gone } = change
  if (add.length + gone.length <= elementsAtOnce || (add.length > 0 && gone.length > 0)) return [change]
  const starts = Array.from(
    { length: Math.ceil((add.length + gone.length) / elementsAtOnce) },
    (_, i) => i * elementsAtOnce,
  )
  return starts.map(at => ({ add: add.slice(at, at + elementsAtOnce), delete: gone.slice(at, at + elementsAtOnce) }))
}

/** What is wrong with a table that calls itself ours; nothing for a right one. */
function faultsOf({ marker, ruleset }: StaticTable, have: TableState): string[] {
  const faults = [...have.faults]
  if (!have.setNames.includes(marker)) faults.push('made by another version of the rules')
  for (const [chain, count] of rulesOf(ruleset)) {
    const got = have.ruleCounts.get(chain) ?? 0
    if (got !== count) faults.push(`chain ${chain} has ${got} rules, not ${count}`)
  }
  return faults
}

/** Elements by their set, each once, with nft's text for it. */
function bySet(elements: readonly Element[], format: (element: Element) => string): Map<SetName, Map<string, Element>> {
  const sets = new Map<SetName, Map<string, Element>>()
  for (const element of elements) {
    const those = sets.get(element.set) ?? new Map()
    sets.set(element.set, those.set(format(element), element))
  }
  return sets
}

const command = (verb: 'add' | 'delete', table: string, set: SetName, texts: Iterable<string>): string =>
  `${verb} element ${table} ${set} { ${[...texts].join(', ')} }`

/** `add element inet tsnet publish4_any { 6 . 8080 : 10.30.0.2 . 80, ... }`, a line for each set concerned. */
const elementCommands = (table: string, elements: readonly Element[]): string =>
  [...bySet(elements, formatElement)].map(([set, those]) => `${command('add', table, set, those.keys())}\n`).join('')

/** A change as the kernel takes it: the deletes, by key, then the adds. */
function changesOf(family: TableFamily, change: FirewallChange): ElementsChange[] {
  const changes = (verb: 'add' | 'delete', format: (element: Element) => string) =>
    [...bySet(change[verb], format)].map(([set, those]) => ({
      op: command(verb, `${family} ${tableName}`, set, those.keys()),
      ...{ verb, family, table: tableName, set },
      elements: [...those.values()].flatMap(elementBytes),
    }))
  return [...changes('delete', formatKey), ...changes('add', formatElement)]
}

/** What of a change is still to be done; a key that is there with another value is deleted before it is added. */
function difference(change: FirewallChange, have: readonly Element[]): { stale: Element[]; missing: Element[] } {
  const there = new Map(have.map(e => [keyOf(e), e]))
  const stale = new Map<string, Element>()
  const remove = (element: Element) => {
    const key = keyOf(element)
    if (there.delete(key)) stale.set(key, element)
  }
  for (const element of change.delete) remove(element)
  const missing = change.add.filter(element => {
    const old = there.get(keyOf(element))
    if (old && sameElement(old, element)) return false
    remove(element)
    return true
  })
  return { stale: [...stale.values()], missing }
}
