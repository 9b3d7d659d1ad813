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

  program
    .command('explain <from> <to>')
    .description(
      'Say why one cannot reach the other, or by which way it does: walk the way hop by hop, send one probe and follow it ' +
        'through every rule. Each is a sandbox, an endpoint, a container, "host" or an address. Exit code 1 if it does not get through.',
    )
    .option('--trace', 'print every rule and hook that the probe met, too')
    .addHelpText(
      'after',
      examples(
        'tsnet explain box shop',
        'tsnet explain box shop:80',
        'tsnet explain 192.0.2.7 host:8080',
        'tsnet explain box 1.1.1.1:53/udp',
      ),
    )
    .action(async (from: string, to: string, flags: { trace?: true }, command: Command) =>
      (await import('./explain.js')).explain(openSession(command), from, to, flags),
    )
}
