import { legacyFilter } from './foreign-legacy.js'
import { type Chain, type Packets, type Verdict, verdictOf } from './verdict.js'

// iptables-legacy's rules cannot be traced. They are read as nft would list the same, and what they do with packets is worked out.

type Hook = 'FORWARD' | 'INPUT' | 'OUTPUT'

/** What iptables-legacy's table filter does with packets; undefined where there is none. */
export async function legacyVerdict(hook: Hook, packets: Packets): Promise<Verdict | undefined> {
  const text = await legacyFilter(packets.nfproto === 'ipv6' ? 'ip6' : 'ip')
  if (text === undefined) return undefined
  const chains = parseLegacy(text)
  const chain = chains.get(hook)
  return chain && verdictOf(chain, packets, chains)
}

/** The lines of `iptables -S`. */
export function parseLegacy(text: string): Map<string, Chain> {
  const chains = new Map<string, { policy?: string; rules: unknown[][] }>()
  for (const line of text.split('\n')) {
    const [verb, name = '', ...words] = split(line)
    if (verb === '-P') chains.set(name, { policy: String(words[0]).toLowerCase(), rules: [] })
    if (verb === '-N') chains.set(name, { rules: [] })
    if (verb === '-A') chains.get(name)?.rules.push([{ iptables: line }, ...expressionsOf(words)])
  }
  return chains
}

/** Words; what stands in quotes is one. */
const split = (line: string): string[] =>
  [...line.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(([, quoted, word]) => quoted ?? word ?? '')

const match = (op: string, left: object, right: unknown): object => ({ match: { op, left, right } })
/** A condition that nobody here can judge. */
const unknown = (name: string): object => ({ xt: { type: 'match', name } })
const payload = (field: string): object => ({ payload: { protocol: 'th', field } })
const listOf = (text: string): object => ({ set: text.split(',').map(word => portsOf(word) ?? word.toLowerCase()) })

/** `80` or `8000:8010` */
function portsOf(text: string): unknown {
  const [, first, last] = /^(\d+)(?::(\d+))?$/.exec(text) ?? []
  if (first === undefined) return undefined
  return last === undefined ? Number(first) : { range: [Number(first), Number(last)] }
}

function prefixOf(text: string): unknown {
  const [addr, len] = text.split('/')
  return len === undefined || !/^\d+$/.test(len) ? addr : { prefix: { addr, len: Number(len) } }
}

/** What takes one word, by iptables' name for it; undefined: the word means something that is not read here. */
const conditions: Readonly<Record<string, (op: string, value: string) => object | undefined>> = {
  '-s': (op, value) => match(op, payload('saddr'), prefixOf(value)),
  '-d': (op, value) => match(op, payload('daddr'), prefixOf(value)),
  '-p': (op, value) => match(op, { meta: { key: 'l4proto' } }, value),
  '-i': (op, value) => match(op, { meta: { key: 'iifname' } }, value.replace(/\+$/, '*')),
  '-o': (op, value) => match(op, { meta: { key: 'oifname' } }, value.replace(/\+$/, '*')),
  '--sport': (op, value) => match(op, payload('sport'), portsOf(value)),
  '--dport': (op, value) => match(op, payload('dport'), portsOf(value)),
  '--sports': (op, value) => match(op, payload('sport'), listOf(value)),
  '--dports': (op, value) => match(op, payload('dport'), listOf(value)),
  '--ctstate': (op, value) => match(op, { ct: { key: 'state' } }, listOf(value)),
  '--state': (op, value) => match(op, { ct: { key: 'state' } }, listOf(value)),
  '--mark': (op, value) => {
    const [mark = '0', mask = '0xffffffff'] = value.split('/')
    return match(op, { '&': [{ meta: { key: 'mark' } }, Number(mask)] }, Number(mark))
  },
}
/** Modules whose conditions stand above, and one that is none. */
const readModules = ['tcp', 'udp', 'sctp', 'multiport', 'conntrack', 'state', 'mark', 'comment']

const targets: Readonly<Record<string, object>> = {
  ACCEPT: { accept: null },
  DROP: { drop: null },
  REJECT: { reject: null },
  RETURN: { return: null },
  // these decide nothing
  ...Object.fromEntries(['LOG', 'NFLOG', 'MARK', 'CONNMARK', 'TRACE', 'CT'].map(name => [name, { counter: null }])),
}

function expressionsOf(words: readonly string[]): object[] {
  const found: object[] = []
  let op = '=='
  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? ''
    const value = words[i + 1] ?? ''
    if (word === '!') {
      op = '!='
      continue
    }
    // the rest says how, not whether
    if (word === '-j') return [...found, targets[value] ?? { jump: { target: value } }]
    if (word === '-g') return [...found, { goto: { target: value } }]
    if (word === '-m') {
      if (!readModules.includes(value)) found.push(unknown(value))
    } else if (word !== '--comment') found.push(conditions[word]?.(op, value) ?? unknown(word))
    op = '=='
    if (!words[i + 1]?.startsWith('-')) i++
  }
  return found
}
