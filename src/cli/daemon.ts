import { readFileSync, statSync } from 'node:fs'
import { forbidden, invalid, messageOf, within } from '../errors.js'
import { suggestion } from '../nearest.js'
import { type DaemonOptions, daemonOptionTable, defaultConfigFile, parseDaemonOptions } from './daemon-options.js'

/** What a process may call itself over its arguments, which everybody can read (proc_pid_cmdline(5)). */
const title = 'tsnet daemon'

/**
 * Run the daemon until SIGTERM or SIGINT; SIGHUP has it read the configuration file again.
 * @param flags what was given on the command line, by flag name
 * @param configFile absent: the default file, if there is one
 */
export async function runDaemon(flags: Record<string, string>, configFile: string | undefined): Promise<void> {
  if (hasPassword(flags)) process.title = title
  const environment = process.env.TSNET_SOCKET ? { socket: process.env.TSNET_SOCKET } : {}
  const read = async (): Promise<DaemonOptions> =>
    parseDaemonOptions(flags, environment, await readConfigFile(configFile))
  const options = await read()
  if (process.geteuid?.() !== 0)
    throw forbidden('the daemon must run as root: it makes namespaces, links and firewall rules')
  const { startDaemon } = await import('../daemon.js')
  const stopped = new Promise<void>(resolve => {
    process.once('SIGTERM', resolve)
    process.once('SIGINT', resolve)
  })
  // one that comes while we start has what we start with; two at once are one after the other
  let last = Promise.resolve()
  const started = startDaemon(options)
  process.on('SIGHUP', () => {
    last = last.then(async () => (await started).reload(read)).catch(() => undefined)
  })
  const daemon = await started
  await stopped
  await daemon.stop()
  // What is left open (a kernel event socket, a database handle) must not keep a stopped daemon alive.
  process.exit(0)
}

/** More than any configuration is: what a wrong path names may have no end. */
const maxConfigBytes = 1 << 16

/**
 * @param path absent: the default file, if there is one
 * @throws {NetError} InvalidParameter or Forbidden, naming the file and what is wrong
 */
export async function readConfigFile(path: string | undefined): Promise<Record<string, string>> {
  try {
    const file = path ?? defaultConfigFile
    const stat = statSync(file)
    if (!stat.isFile() || stat.size > maxConfigBytes) throw invalid(`it is no file of at most ${maxConfigBytes} bytes`)
    const text = readFileSync(file, 'utf8')
    if (isDeep(text)) throw invalid('it must be lines of "key: value"')
    const { parse } = await import('yaml')
    // no warnings on stderr about tags that nobody knows
    const config = checkConfig(parse(text, { logLevel: 'error' }))
    if (hasPassword(config)) checkSecret(file)
    return config
  } catch (error) {
    if (path === undefined && (error as NodeJS.ErrnoException).code === 'ENOENT') return {}
    throw within(`configuration file ${path ?? defaultConfigFile}`, refusalOf(error))
  }
}

/**
 * Whether collections in collections are begun without end: the parser calls itself for each, and where its stack is used
 * up the whole process may die (V8 gives up on a regular expression then), which nothing catches.
 */
const isDeep = (text: string): boolean => (text.match(/[[{]/g)?.length ?? 0) > 100 || /^[\s?:-]{100}/m.test(text)

/** One of a store: before an `@`. */
const hasPassword = ({ store = '' }: Readonly<Record<string, string>>): boolean => store.includes('@')

/** Refused rather than warned of: a daemon runs for months, and nobody reads its first line. */
function checkSecret(file: string): void {
  const { mode } = statSync(file)
  if ((mode & 0o007) !== 0) throw forbidden(`it has a password and everybody can read it: chmod o= ${file}`)
}

/** A file that cannot be read or is no YAML is the user's affair. */
function refusalOf(error: unknown): unknown {
  if (!(error instanceof Error)) return error
  // the rest of yaml's message draws the place; a ReferenceError is about its aliases
  if (error.name === 'YAMLParseError' || error instanceof ReferenceError)
    return invalid(error.message.split(/:?\n/)[0] ?? '', { cause: error })
  return 'syscall' in error ? invalid(messageOf(error), { cause: error }) : error
}

/** @throws {NetError} InvalidParameter: not `key: text` lines, or a key that is no flag of the daemon */
export function checkConfig(config: unknown): Record<string, string> {
  // an empty file, or one of comments only
  if (config === null || config === undefined) return {}
  if (typeof config !== 'object' || Array.isArray(config)) throw invalid('it must be lines of "key: value"')
  const known = Object.values(daemonOptionTable).map(row => row.flag)
  for (const [key, value] of Object.entries(config)) {
    if (!known.includes(key)) throw invalid(`unknown key ${key.slice(0, 60)}${suggestion(key, known)}`)
    if (typeof value !== 'string') throw invalid(`the value of ${key} must be text, not ${shown(value)}`)
  }
  return config as Record<string, string>
}

const shown = (value: unknown): string =>
  Array.isArray(value) ? 'a list' : typeof value === 'object' && value !== null ? 'an object' : String(value)
