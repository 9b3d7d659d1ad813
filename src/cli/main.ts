import { CommanderError } from 'commander'
import { exitCodeOf, invalid } from '../errors.js'
import { createProgram } from './program.js'
import { complain } from './session.js'

/** Run one command line (without `node` and the script). Sets the process's exit code; the process ends by itself. */
export async function main(argv: string[]): Promise<void> {
  try {
    await createProgram().parseAsync(argv, { from: 'user' })
  } catch (error) {
    process.exitCode = exitCodeOfFailure(error)
  }
}

function exitCodeOfFailure(error: unknown): number {
  if (!(error instanceof CommanderError)) return complain(error)
  // help or version, printed on request
  if (error.exitCode === 0) return 0
  // help, printed for want of a command
  if (error.code === 'commander.help') return exitCodeOf(invalid(''))
  return complain(invalid(usageMessageOf(error)))
}

/** Commander puts its suggestion on a line of its own: `unknown command 'lst'\n(Did you mean ls?)`. */
const usageMessageOf = (error: CommanderError): string =>
  error.message.replace(/^error: /, '').replace(/\s*\(Did you mean (.*)\)$/, ' (did you mean $1)')
