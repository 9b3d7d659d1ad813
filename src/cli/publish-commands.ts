import type { Command } from 'commander'
import { collect } from './arguments.js'
import { examples } from './help.js'
import type { PublishFlags } from './publish.js'
import { openSession } from './session.js'

export function definePublish(program: Command): void {
  const publish = program
    .command('publish')
    .description("Publish and unpublish ports of what runs already, Docker's containers included.")

  publish
    .command('add <sandbox> <spec>')
    .usage('[options] SANDBOX SPEC')
    .summary('Publish ports.')
    .description(
      'Publish ports of a sandbox or container that runs, and print where: [ip:][hostPort[-end]:]port[-end][/tcp|udp|sctp]. ' +
        "It lasts until it is removed, the sandbox is disconnected or Docker's container is removed: a restart of the daemon or of the container does not end it.",
    )
    .option('--from <cidr>', 'only clients of this subnet or address may use it, and the host itself', collect)
    .option('--network <network>', 'at its attachment to this network (default: that of its default route)')
    .option('--replace', 'take the host port from whoever has it, without a moment in which nobody has')
    .addHelpText(
      'after',
      examples(
        'tsnet publish add box 8080:80',
        'tsnet publish add box 127.0.0.1:5353:53/udp --network lab',
        'tsnet publish add box 2222:22 --from 10.0.0.0/8 --from fd00::/8',
        'tsnet publish add green 8080:80 --replace',
      ),
    )
    .action(async (sandbox: string, spec: string, flags: PublishFlags, command: Command) =>
      (await import('./publish.js')).addPort(openSession(command), sandbox, spec, flags),
    )

  publish
    .command('rm <sandbox> <spec>')
    .usage('[options] SANDBOX SPEC')
    .summary('Unpublish ports.')
    .description(
      'Unpublish what was published with this very SPEC, and end the connections that came by it. ' +
        'What docker run -p published comes back when the container starts again.',
    )
    .option('--network <network>', 'at its attachment to this network (default: that of its default route)')
    .addHelpText('after', examples('tsnet publish rm box 8080:80'))
    .action(async (sandbox: string, spec: string, flags: PublishFlags, command: Command) =>
      (await import('./publish.js')).removePort(openSession(command), sandbox, spec, flags),
    )

  publish
    .command('ls [sandbox]')
    .description('List the published ports.')
    .option('--network <network>', 'of this network only')
    .addHelpText('after', examples('tsnet publish ls', 'tsnet publish ls box --format json'))
    .action(async (sandbox: string | undefined, flags: PublishFlags, command: Command) =>
      (await import('./publish.js')).listPorts(openSession(command), sandbox, flags),
    )
}
