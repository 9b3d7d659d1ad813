import { readFileSync } from 'node:fs'
import { forbidden, invalid, messageOf, within } from '../errors.js'
import { suggestion } from '../nearest.js'
import { daemonOptionTable, defaultConfigFile, parseDaemonOptions } from './daemon-options.js'

/**
 * Run the daemon until SIGTERM or SIGINT.
 * @param flags what was given on the command line, by flag name
 * @param configFile absent: the default file, if there is one
 */
export async function runDaemon(flags: Record<string, string>, configFile: string | undefined): Promise<void> {
  const environment = process.env.TSNET_SOCKET ? { socket: process.env.TSNET_SOCKET } : {}
  const options = parseDaemonOptions(flags, environment, await readConfigFile(configFile))
  if (process.geteuid?.() !== 0)
    throw forbidden('the daemon must run as root: it makes namespaces, links and firewall rules')
  const { startDaemon } = await import('../daemon.js')
  const stopped = new Promise<void>(resolve => {
    process.once('SIGTERM', resolve)
    process.once('SIGINT', resolve)
  })
  const daemon = await startDaemon(options)
  await stopped
  await daemon.stop()
  // What is left open (a kernel event socket, a database handle) must not keep a stopped daemon alive.
  process.exit(0)
}

async function readConfigFile(path: string | undefined): Promise<Record<string, string>> {
  try {
    const text = readFileSync(path ?? defaultConfigFile, 'utf8')
    const { parse } = await import('yaml')
    return checkConfig(parse(text))
  } catch (error) {
    if (path === undefined && (error as NodeJS.ErrnoException).code === 'ENOENT') return {}
    throw within(`configuration file ${path ?? defaultConfigFile}`, refusalOf(error))
  }
}

/** A file that cannot be read or is no YAML is the user's affair. */
function refusalOf(error: unknown): unknown {
  if (!(error instanceof Error)) return error
  // the rest of yaml's message draws the place
  if (error.name === 'YAMLParseError') return invalid(error.message.split(/:?\n/)[0] ?? '', { cause: error })
  return 'syscall' in error ? invalid(messageOf(error), { cause: error }) : error
}

/** @throws {NetError} InvalidParameter: not `key: text` lines, or a key that is no flag of the daemon */
export function checkConfig(config: unknown): Record<string, string> {
  // an empty file, or one of comments only
  if (config === null || config === undefined) return {}
  if (typeof config !== 'object' || Array.isArray(config)) throw invalid('it must be lines of "key: value"')
  const known = Object.values(daemonOptionTable).map(row => row.flag)
  for (const [key, value] of Object.entries(config)) {
    if (!known.includes(key)) throw invalid(`unknown key ${key}${suggestion(key, known)}`)
    if (typeof value !== 'string') throw invalid(`the value of ${key} must be text, not ${JSON.stringify(value)}`)
  }
  return config as Record<string, string>
}
