import type { Command } from 'commander'
import { examples } from './help.js'
import { openSession } from './session.js'

// Commands for when something does not work.

export function defineDiagnosis(program: Command): void {
  program
    .command('doctor')
    .description(
      'Look at everything that networks need, of this host and around it, and print what is wrong with what to do about it; ' +
        'exit code 1 if anything is. Works without a daemon too, as far as that goes.',
    )
    .addHelpText('after', examples('tsnet doctor', 'tsnet doctor -q', 'tsnet doctor --format json | jq .ok'))
    .action(async (_flags: object, command: Command) => (await import('./doctor.js')).doctor(openSession(command)))
}
