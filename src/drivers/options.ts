import type { OptionHelp } from '../cnm/driver.js'
import { invalid, messageOf, NetError } from '../errors.js'
import { suggestion } from '../nearest.js'

/** One `-o key=value` of a driver: its row is all there is to an option. */
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
 * Read raw options by a driver's table: both names of a row are known, what is absent has its default.
 * @throws {NetError} InvalidParameter naming the key, the value and the rule; for an unknown key, the nearest known one
 */
export function parseOptions<T extends OptionTable>(
  driver: string,
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
    if (name === undefined)
      throw invalid(`unknown option ${key} for driver ${driver}${suggestion(key, [...nameOf.keys()])}`)
    try {
      parsed[name] = table[name]?.parse(text)
    } catch (error) {
      // a rule of names.ts is a sentence of its own
      throw invalid(`option ${key}${error instanceof NetError ? ':' : `=${text}`} ${messageOf(error)}`)
    }
  }
  return parsed as OptionsOf<T>
}

export const helpOf = (table: OptionTable): OptionHelp[] =>
  Object.entries(table).map(([name, row]) => ({
    name,
    ...(row.alias === undefined ? {} : { alias: row.alias }),
    default: String(row.default),
    help: row.help,
  }))
