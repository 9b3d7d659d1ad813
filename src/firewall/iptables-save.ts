import type { TableName } from './iptables-rules.js'

/** One rule as `iptables-save` prints it. */
export interface SavedRule {
  table: TableName
  chain: string
  /** all that follows `-A CHAIN`, as it is: what deletes the rule */
  spec: string
  comment: string | undefined
}

/** Read what `iptables-save` prints; counters and chains' declarations are left out. Pure. */
export function parseSave(text: string): SavedRule[] {
  const rules: SavedRule[] = []
  let table = ''
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) table = line.slice(1)
    const [, chain, spec] = /^-A (\S+) (.*)$/.exec(line) ?? []
    if (chain === undefined || spec === undefined) continue
    rules.push({ table: table as TableName, chain, spec, comment: commentIn(spec) })
  }
  return rules
}

/** A comment of one plain word stands without quotes; in quotes, quotes and backslashes have a backslash before them. */
function commentIn(spec: string): string | undefined {
  const [, inQuotes, word] = /--comment (?:"((?:[^"\\]|\\.)*)"|(\S+))/.exec(spec) ?? []
  return inQuotes?.replace(/\\(.)/g, '$1') ?? word
}
