import { invalid, messageOf, NetError } from './errors.js'
import { suggestion } from './nearest.js'

/** One `-o key=value`, of a driver's network or of an endpoint: its row is all there is to an option. */
export interface Option<T> {
  /** Docker's name for it */
  alias?: string
  default: T
  /** Throws an Error whose message is the rule: `must be a whole number from 68 to 65535`. */
  parse(text: string): T
  help: string
}

export type OptionTable = Readonly<Record<string, Option<unknown>>>
export type OptionsOf<T extends OptionTable> = { [K in keyof T]: T[K] extends Option<infer V> ? V : never }

/** Infers the value's type from the default. */
export const option = <T>(row: Option<T>): Option<T> => row

export function parseBoolean(text: string): boolean {
  // strconv.ParseBool's words, since dockerd hands over what its user typed
  if (/^(1|t|true)$/i.test(text)) return true
  if (/^(0|f|false)$/i.test(text)) return false
  throw new Error('must be true or false')
}

/** Text such as `10.30.0.7=02:42:0a:1e:00:07,fd00::7=...`: pairs between commas. */
export const parsePairs = (text: string): [string, string][] =>
  text
    .split(',')
    .filter(pair => pair !== '')
    .map(pair => {
      const at = pair.indexOf('=')
      if (at < 1) throw new Error('must be NAME=VALUE, several of them with commas in between')
      return [pair.slice(0, at).trim(), pair.slice(at + 1).trim()]
    })

export const parseWhole =
  (least: number, most: number) =>
  (text: string): number => {
    const value = Number(text)
    if (!/^\d+$/.test(text) || value < least || value > most)
      throw new Error(`must be a whole number from ${least} to ${most}`)
    return value
  }

/** Of every driver whose links stand in a sandbox. */
export const ifprefixOption = option({
  alias: 'com.docker.network.container_iface_prefix',
  default: 'eth',
  parse: parsePrefix,
  help: 'what interface names inside start with',
})

function parsePrefix(text: string): string {
  // three digits are left for the number behind it
  if (!/^[A-Za-z][A-Za-z0-9_.-]{0,11}$/.test(text))
    throw new Error('must be 1 to 12 letters and digits, starting with a letter')
  return text
}

/**
 * Read raw options by a table: both names of a row are known, what is absent has its default.
 * `whose` ends the message about an unknown key: `driver bridge`.
 * @throws {NetError} InvalidParameter naming the key, the value and the rule; for an unknown key, the nearest known one
 */
export function parseOptions<T extends OptionTable>(
  whose: string,
  table: T,
  raw: Readonly<Record<string, string>>,
): OptionsOf<T> {
  const nameOf = new Map<string, string>()
  for (const [name, row] of Object.entries(table)) {
    nameOf.set(name, name)
    if (row.alias !== undefined) nameOf.set(row.alias, name)
  }
  const parsed: Record<string, unknown> = {}
  for (const [name, row] of Object.entries(table)) parsed[name] = row.default
  for (const [key, text] of Object.entries(raw)) {
    const name = nameOf.get(key)
    if (name === undefined) throw invalid(`unknown option ${key} for ${whose}${suggestion(key, [...nameOf.keys()])}`)
    try {
      parsed[name] = table[name]?.parse(text)
    } catch (error) {
      // a rule of names.ts is a sentence of its own
      throw invalid(`option ${key}${error instanceof NetError ? ':' : `=${text}`} ${messageOf(error)}`)
    }
  }
  return parsed as OptionsOf<T>
}

/** A row for help texts and documents. */
export interface OptionHelp {
  name: string
  /** Docker's name for it */
  alias?: string
  default: string
  help: string
}

export const helpOf = (table: OptionTable): OptionHelp[] =>
  Object.entries(table).map(([name, row]) => ({
    name,
    ...(row.alias === undefined ? {} : { alias: row.alias }),
    default: typeof row.default === 'object' ? '' : String(row.default),
    help: row.help,
  }))
