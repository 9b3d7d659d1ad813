import { type Element, fieldsOf, listOf, nftTypeOf, parseElement, type SetName } from './elements.js'

/** What the kernel has under our table's name. */
export interface TableState {
  elements: Element[]
  setNames: string[]
  /** how many rules each chain has */
  ruleCounts: Map<string, number>
  /** sets and maps that are missing or of another type than elements.ts says, and elements that mean nothing to us */
  faults: string[]
}

/** Read `nft -j list table inet tsnet` (man 5 libnftables-json), which should have these sets. */
export function parseTable(json: string, setNames: readonly SetName[]): TableState {
  const rows = listOf(fieldsOf(JSON.parse(json || '{}')).nftables).map(fieldsOf)
  const state: TableState = { elements: [], setNames: [], ruleCounts: new Map(), faults: [] }
  const listed = new Map<string, Record<string, unknown>>()
  for (const row of rows) {
    const set = row.set ?? row.map
    if (set !== undefined) listed.set(String(fieldsOf(set).name), fieldsOf(set))
    if (row.rule !== undefined) {
      const chain = String(fieldsOf(row.rule).chain)
      state.ruleCounts.set(chain, (state.ruleCounts.get(chain) ?? 0) + 1)
    }
  }
  state.setNames = [...listed.keys()]
  for (const name of setNames) {
    const set = listed.get(name)
    const want = nftTypeOf(name)
    if (!set || !isOfType(set.type, want.key) || typeText(set.map) !== want.value) {
      state.faults.push(set ? `${name} is of another type` : `${name} is missing`)
      continue
    }
    for (const json of listOf(set.elem)) {
      const element = parseElement(name, json)
      if (element) state.elements.push(element)
      else state.faults.push(`${name} holds ${JSON.stringify(json)}`)
    }
  }
  return state
}

/** Newer nft gives what was declared with `typeof` in that form, which says less than the element itself. */
const isOfType = (type: unknown, want: string): boolean =>
  typeText(type) === want || (want.includes('integer') && fieldsOf(type).typeof !== undefined)

/** nft gives the type of a key as a word or a list of words, that of a value as one text. */
const typeText = (type: unknown): string | undefined =>
  type === undefined ? undefined : Array.isArray(type) ? type.join(' . ') : String(type)

/** The number of rules that a ruleset gives each chain: there, a rule is a line. */
export function rulesOf(ruleset: string): Map<string, number> {
  const counts = new Map<string, number>()
  for (const [, chain = '', body = ''] of ruleset.matchAll(/^ {2}chain (\w+) \{\n(.*?)^ {2}\}/gms)) {
    const rules = body.split('\n').filter(line => line.trim() !== '' && !/^\s*(#|comment |type )/.test(line))
    counts.set(chain, rules.length)
  }
  return counts
}
