import { pino } from 'pino'

export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const
export type LogLevel = (typeof logLevels)[number]

/** The part of a logger that we use: fields first, then the sentence. */
export interface Log {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
  child(fields: object): Log
}

/** The log of the daemon, of which more or less can be said while it runs. */
export interface AdjustableLog extends Log {
  level: string
}

/** JSON lines on stderr, written synchronously: a daemon that is killed has said what it did (and no worker thread enters namespaces). */
export const createLog = (level: LogLevel): AdjustableLog =>
  pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, pino.destination({ dest: 2, sync: true }))

/** For tests and tools that have nobody to tell. */
export const noLog: Log = { debug() {}, info() {}, warn() {}, error() {}, child: () => noLog }
