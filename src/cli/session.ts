import type { Command } from 'commander'
import { exitCodeOf, invalid, messageOf } from '../errors.js'
import { CommandFailed } from '../sandbox/command-failed.js'
import { Client } from './client.js'
import { chooseTarget, type TargetOptions } from './target.js'

/** What every command gets from the options that all commands have. */
export interface Session {
  client: Client
  /** print the API's objects instead of tables and names */
  json: boolean
  /** a table was asked for by name: commands that print objects unless told otherwise print one */
  table: boolean
  /** print ids or names only */
  quiet: boolean
}

export interface GlobalOptions extends TargetOptions {
  format: 'table' | 'json'
  quiet: boolean
}

/** A global option counts wherever it stands: `tsnet -q network ls`, `tsnet network -q ls`, `tsnet network ls -q`; the last one wins. */
export function globalOptions(command: Command): Partial<GlobalOptions> {
  const outer = command.parent === null ? {} : globalOptions(command.parent)
  return { ...outer, ...command.opts<Partial<GlobalOptions>>() }
}

export function openSession(command: Command): Session {
  const { format, quiet, ...target } = globalOptions(command)
  return {
    client: new Client(chooseTarget(target, process.env)),
    json: format === 'json',
    table: format === 'table',
    quiet: quiet ?? false,
  }
}

/** For what is done here and not by the daemon. @throws {NetError} InvalidParameter */
export function needSameHost({ client: { target } }: Session, command: string): void {
  if ('tcp' in target)
    throw invalid(`${command} works on the host that it is called on: it cannot be used with ${target.name}`)
}

/** Say on stderr what went wrong, on one line. Returns the exit code that it means. */
export function complain(error: unknown): number {
  write(process.stderr, `tsnet: ${messageOf(error)}\n`)
  return error instanceof CommandFailed ? error.exitCode : exitCodeOf(error)
}

/** Do `work` for each name, going on past failures: each has its line, and the first one's exit code is the command's. */
export async function forEachName(names: readonly string[], work: (name: string) => Promise<void>): Promise<void> {
  for (const name of names) {
    try {
      await work(name)
    } catch (error) {
      const exitCode = complain(error)
      process.exitCode ??= exitCode
    }
  }
}

export const print = (text: string): void => write(process.stdout, text)
export const printLines = (lines: readonly string[]): void => print(lines.map(line => `${line}\n`).join(''))
export const printJson = (value: unknown): void => print(`${JSON.stringify(value, null, 2)}\n`)

const guarded = new WeakSet<NodeJS.WriteStream>()

/** A reader that has gone (`| head -1`) is no error, and what the command was asked to do is still done. */
export function write(stream: NodeJS.WriteStream, text: string): void {
  if (!guarded.has(stream)) {
    guarded.add(stream)
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error
    })
  }
  stream.write(text)
}
