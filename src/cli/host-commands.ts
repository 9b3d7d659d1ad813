import type { Command } from 'commander'
import { examples } from './help.js'
import { openSession } from './session.js'

// Commands about many hosts: the hosts themselves, networks that span them, and the same network in each host's Docker.

export function defineHosts(program: Command): void {
  const host = program.command('host').description('Show and remove the hosts that share a store with this one.')

  host
    .command('ls')
    .description('List the hosts.')
    .addHelpText('after', examples('tsnet host ls', 'tsnet host ls --format json', 'tsnet host ls -q'))
    .action(async (_flags: object, command: Command) => (await import('./host.js')).listHosts(openSession(command)))

  host
    .command('inspect <name...>')
    .description('Print hosts, as a JSON array.')
    .addHelpText('after', examples('tsnet host inspect one', 'tsnet host inspect one | jq .[0].networks'))
    .action(async (names: string[], _flags: object, command: Command) =>
      (await import('./host.js')).inspectHosts(openSession(command), names),
    )

  host
    .command('rm <name...>')
    .description('Forget hosts that are down, with their endpoints and addresses, and print their names.')
    .option('--force', 'also one that is up')
    .addHelpText('after', examples('tsnet host rm two', 'tsnet host rm --force two three'))
    .action(async (names: string[], flags: { force?: true }, command: Command) =>
      (await import('./host.js')).removeHosts(openSession(command), names, flags),
    )

  program
    .command('overlay')
    .description('Look after networks that span hosts.')
    .command('verify <network>')
    .description(
      'Have every host on a network compare what it should have with what its kernel has, and reach the others; ' +
        'print what is wrong, with exit code 1 if anything is.',
    )
    .addHelpText('after', examples('tsnet overlay verify blue', 'tsnet overlay verify blue --format json | jq .ok'))
    .action(async (network: string, _flags: object, command: Command) =>
      (await import('./overlay.js')).verifyOverlay(openSession(command), network),
    )

  program
    .command('docker')
    .description("Networks in this host's Docker.")
    .command('attach <network>')
    .description(
      'Have dockerd make a network that is bound to one of tsnet, whose containers then are on that, and print its id. ' +
        'One that is there already is fine.',
    )
    .option('--name <name>', "what Docker calls it (default: the network's name)")
    .option('--docker-socket <path>', "dockerd's API socket (default: the daemon's --docker-socket)")
    .addHelpText('after', examples('tsnet docker attach blue', 'tsnet docker attach blue --name frontend'))
    .action(async (network: string, flags: { name?: string; dockerSocket?: string }, command: Command) =>
      (await import('./docker.js')).attach(openSession(command), network, flags),
    )
}
