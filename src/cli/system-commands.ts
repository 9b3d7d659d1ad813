import type { Command } from 'commander'
import { parseTime } from './arguments.js'
import { addDaemonOptions, defaultConfigFile, textsByFlag } from './daemon-options.js'
import type { EventsFlags } from './events.js'
import { examples } from './help.js'
import { openSession } from './session.js'

// Commands about the whole rather than about one network or sandbox, as src/cli/program.ts has the others.

export function defineSystem(program: Command): void {
  program
    .command('inspect <name...>')
    .description('Print networks, sandboxes and endpoints, by name or id, as a JSON array of objects with their kind.')
    .addHelpText('after', examples('tsnet inspect lab', 'tsnet inspect box | jq .[].kind'))
    .action(async (names: string[], _flags: object, command: Command) =>
      (await import('./inspect.js')).inspect(openSession(command), names),
    )

  program
    .command('events')
    .description('Print what changes, a line a change, until interrupted.')
    .option('--since <time>', 'begin with what has changed since a time, or how long ago: 10m', parseTime('--since'))
    .option('--until <time>', 'end at a time', parseTime('--until'))
    .addHelpText(
      'after',
      examples('tsnet events', 'tsnet events --since 10m --until 0s', 'tsnet events --format json | jq .action'),
    )
    .action(async (flags: EventsFlags, command: Command) =>
      (await import('./events.js')).events(openSession(command), flags),
    )

  program
    .command('reconcile')
    .description('Make the kernel and the firewall what the store says they should be, and print each change.')
    .option('--dry-run', 'print the changes only')
    .addHelpText('after', examples('tsnet reconcile --dry-run', 'tsnet reconcile'))
    .action(async (flags: { dryRun?: true }, command: Command) =>
      (await import('./system.js')).reconcile(openSession(command), flags),
    )

  program
    .command('version')
    .description('Print the versions of this command and of the daemon.')
    .addHelpText('after', examples('tsnet version', 'tsnet version --format json'))
    .action(async (_flags: object, command: Command) => (await import('./system.js')).showVersion(openSession(command)))
}

export function defineDaemon(program: Command): void {
  const daemon = program
    .command('daemon')
    .description('Run the daemon, until SIGTERM or SIGINT. What is attached stays attached when it ends.')
    .addHelpText(
      'after',
      `\nEvery flag can be a line of the configuration file, such as "log-level: debug"; flags come first.\n${examples(
        'tsnet daemon',
        'tsnet daemon --state-dir /srv/tsnet --log-level debug',
      )}`,
    )
  addDaemonOptions(daemon)
    .option('--config <file>', `configuration file, YAML (default: ${defaultConfigFile}, if there is one)`)
    .action(async ({ config }: { config?: string }, command: Command) =>
      (await import('./daemon.js')).runDaemon(textsByFlag(command), config),
    )
}
