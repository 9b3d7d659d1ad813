import { type Argument, Command, CommanderError, Option } from 'commander'
import type { PortSpec, Route } from '../cnm/types.js'
import { parsePortSpec } from '../ports/spec.js'
import { packageVersion } from '../version.js'
import { collect, collectHosts, collectPairs, parsePid, parseRoute } from './arguments.js'
import type { ConnectFlags } from './connect.js'
import { defineDiagnosis } from './diagnosis-commands.js'
import { examples } from './help.js'
import { defineHosts } from './host-commands.js'
import type { NetworkCreateFlags } from './network.js'
import { definePublish } from './publish-commands.js'
import type { RunFlags } from './run.js'
import type { SandboxCreateFlags } from './sandbox.js'
import { openSession, write } from './session.js'
import { defineDaemon, defineSystem } from './system-commands.js'
import { defaultSocket } from './target.js'

// Every command with its flags and examples. What a command does is loaded only when it is called: `network ls` needs
// none of the code of the daemon, and starts nearly as fast as node itself.

export function createProgram(): Command {
  const program = new Command('tsnet')
    .description("Networks of containers and network namespaces: Docker's Container Network Model on Linux.")
    .option('--version', 'print the version')
    .showHelpAfterError(false)
    .enablePositionalOptions()
    .configureHelp({
      subcommandTerm: command => [command.name(), ...command.registeredArguments.map(termOf)].join(' '),
    })
    .exitOverride()
    .configureOutput({
      writeOut: text => write(process.stdout, text),
      writeErr: text => write(process.stderr, text),
      // main() prints errors, on one line
      outputError: () => {},
    })
    .addHelpText(
      'after',
      examples(
        'tsnet network create lab --subnet 10.30.0.0/24',
        'tsnet run --rm --network lab -- ip addr',
        'docker network create -d tsnet -o network=lab lab',
      ) +
        '\n\nExit codes: 0 done, 1 internal error, 2 wrong usage or value, 3 forbidden, 4 not found, 5 conflict,' +
        '\n6 not implemented, 7 daemon or store unavailable; exec and run end with the code of their command.',
    )
  // not commander's version(), which wants the text before anybody asks for it
  program.on('option:version', () => {
    write(process.stdout, `${packageVersion()}\n`)
    throw new CommanderError(0, 'commander.version', '')
  })
  defineNetwork(program)
  defineSandbox(program)
  defineConnect(program)
  definePublish(program)
  defineCommands(program)
  defineHosts(program)
  defineDiagnosis(program)
  defineSystem(program)
  defineDaemon(program)
  addGlobalOptions(program)
  return program
}

function defineNetwork(program: Command): void {
  const network = program.command('network').description('Create, show and delete networks.')

  network
    .command('create <name>')
    .description('Create a network and print its id.')
    .option('--driver <driver>', 'kind of network (default: bridge)')
    .option(
      '--subnet <cidr>',
      'addresses of the network, once for IPv4 and once for IPv6 (default: a free one)',
      collect,
    )
    .option('--ip-range <cidr>', 'part of the subnet from which addresses are chosen', collect)
    .option('--gateway <ip>', 'address of the gateway (default: the first of the subnet)', collect)
    .option('--aux-address <name=ip>', 'an address to keep out of use', collectPairs('--aux-address'))
    .option('--ipv6', 'give the network an IPv6 subnet too')
    .option('--internal', 'let nothing in or out of the network')
    .option('-o, --opt <key=value>', 'an option of the driver', collectPairs('-o'))
    .option('--label <key=value>', 'a label of your own', collectPairs('--label'))
    .addHelpText(
      'after',
      examples(
        'tsnet network create lab',
        'tsnet network create web --subnet 10.20.0.0/24 --gateway 10.20.0.254 --label team=web',
        'tsnet network create dual --ipv6 -o mtu=1400 -o icc=false',
      ),
    )
    .action(async (name: string, flags: NetworkCreateFlags, command: Command) =>
      (await import('./network.js')).createNetwork(openSession(command), name, flags),
    )

  network
    .command('ls')
    .description('List the networks.')
    .addHelpText('after', examples('tsnet network ls', 'tsnet network ls --format json', 'tsnet network ls -q'))
    .action(async (_flags: object, command: Command) =>
      (await import('./network.js')).listNetworks(openSession(command)),
    )

  network
    .command('inspect <name...>')
    .description('Print networks with their endpoints on all hosts, as a JSON array, or the endpoints as a table.')
    .addHelpText(
      'after',
      examples(
        'tsnet network inspect lab',
        'tsnet network inspect lab | jq .[0].subnets',
        'tsnet network inspect blue --format table',
      ),
    )
    .action(async (names: string[], _flags: object, command: Command) =>
      (await import('./network.js')).inspectNetworks(openSession(command), names),
    )

  network
    .command('rm <name...>')
    .description('Delete networks that have no endpoints, and print their names.')
    .addHelpText('after', examples('tsnet network rm lab', 'tsnet network rm web db'))
    .action(async (names: string[], _flags: object, command: Command) =>
      (await import('./network.js')).removeNetworks(openSession(command), names),
    )

  network
    .command('prune')
    .description("Delete every network that has no endpoints, Docker's excepted, and print their names.")
    .addHelpText('after', examples('tsnet network prune'))
    .action(async (_flags: object, command: Command) =>
      (await import('./network.js')).pruneNetworks(openSession(command)),
    )
}

function defineSandbox(program: Command): void {
  const sandbox = program.command('sandbox').description('Create, show and delete sandboxes: network namespaces.')

  addNameOptions(sandbox.command('create <name>'))
    .description('Make a network namespace at /run/netns/NAME, or adopt one, and print its name.')
    .option('--netns <path>', 'adopt the namespace at this path')
    .addOption(
      new Option('--pid <pid>', 'adopt the namespace of this process').argParser(parsePid).conflicts(['netns']),
    )
    .addHelpText(
      'after',
      examples(
        'tsnet sandbox create box',
        'tsnet sandbox create old --netns /run/netns/old',
        'tsnet sandbox create vm --pid 4242',
        'tsnet sandbox create web --hostname web.example --add-host db:10.99.0.7 --dns 10.99.0.53',
      ),
    )
    .action(async (name: string, flags: SandboxCreateFlags, command: Command) =>
      (await import('./sandbox.js')).createSandbox(openSession(command), name, flags),
    )

  sandbox
    .command('ls')
    .description('List the sandboxes.')
    .addHelpText('after', examples('tsnet sandbox ls', 'tsnet sandbox ls --format json', 'tsnet sandbox ls -q'))
    .action(async (_flags: object, command: Command) =>
      (await import('./sandbox.js')).listSandboxes(openSession(command)),
    )

  sandbox
    .command('inspect <name...>')
    .description('Print sandboxes with their endpoints, as a JSON array.')
    .addHelpText('after', examples('tsnet sandbox inspect box', 'tsnet sandbox inspect box | jq .[0].endpoints'))
    .action(async (names: string[], _flags: object, command: Command) =>
      (await import('./sandbox.js')).inspectSandboxes(openSession(command), names),
    )

  sandbox
    .command('rm <name...>')
    .description('Disconnect and delete sandboxes, and print their names. An adopted namespace stays.')
    .addHelpText('after', examples('tsnet sandbox rm box', 'tsnet sandbox rm box other'))
    .action(async (names: string[], _flags: object, command: Command) =>
      (await import('./sandbox.js')).removeSandboxes(openSession(command), names),
    )
}

const collectPorts = (text: string, before: PortSpec[] | undefined): PortSpec[] => [
  ...(before ?? []),
  parsePortSpec(text),
]
const collectRoutes = (text: string, before: Route[] | undefined): Route[] => [...(before ?? []), parseRoute(text)]

/** The flags of an attachment, for `connect` and `run`. */
const addConnectOptions = (command: Command): Command =>
  command
    .option('--ip <address>', 'IPv4 address (default: a free one)')
    .option('--ip6 <address>', 'IPv6 address (default: a free one)')
    .option('--mac <address>', 'MAC address (default: random)')
    .option('--ifname <name>', 'name of the interface inside (default: the first free of eth0, eth1, ...)')
    .option('--alias <name>', 'another name by which the sandbox is found', collect)
    .option('-p, --publish <spec>', 'publish ports: [ip:][hostPort[-end]:]port[-end][/tcp|udp|sctp]', collectPorts)
    .option('--route <cidr[,via]>', 'a route inside the sandbox', collectRoutes)
    .option('-o, --opt <key=value>', 'an option of the attachment', collectPairs('-o'))

/** The flags about names, for `sandbox create` and `run`. */
const addNameOptions = (command: Command): Command =>
  command
    .option('--dns <ip>', "a server for names of elsewhere, asked from the sandbox (default: the host's)", collect)
    .option('--dns-search <domain>', "what is appended to short names (default: the host's)", collect)
    .option('--hostname <name>', "the host name that commands in it see (default: the host's)")
    .option('--add-host <name:ip>', 'another line of its /etc/hosts', collectHosts)

function defineConnect(program: Command): void {
  addConnectOptions(program.command('connect <network> <sandbox>'))
    .description('Attach a sandbox to a network and print its addresses.')
    .addHelpText(
      'after',
      examples(
        'tsnet connect lab box',
        'tsnet connect lab box --ip 10.30.0.10 --mac 02:42:0a:1e:00:0a --ifname lan0',
        'tsnet connect lab box -p 8080:80 -p 127.0.0.1:5353:53/udp --route 10.99.0.0/16,10.30.0.7',
      ),
    )
    .action(async (network: string, sandbox: string, flags: ConnectFlags, command: Command) =>
      (await import('./connect.js')).connect(openSession(command), network, sandbox, flags),
    )

  program
    .command('disconnect <network> <sandbox>')
    .description('Detach a sandbox from a network.')
    .option('--force', 'also one of another host, which must be down: its name, or HOST/NAME')
    .addHelpText('after', examples('tsnet disconnect lab box', 'tsnet disconnect --force blue host2/web'))
    .action(async (network: string, sandbox: string, flags: { force?: true }, command: Command) =>
      (await import('./connect.js')).disconnect(openSession(command), network, sandbox, flags),
    )

  program
    .command('ps')
    .description("List the endpoints: what is attached to which network, Docker's containers too.")
    .addHelpText('after', examples('tsnet ps', 'tsnet ps --format json'))
    .action(async (_flags: object, command: Command) =>
      (await import('./connect.js')).listEndpoints(openSession(command)),
    )
}

function defineCommands(program: Command): void {
  program
    .command('exec <sandbox> <command...>')
    .usage('[options] SANDBOX -- COMMAND...')
    .summary('Run a command in a sandbox.')
    .description(
      'Run a command in a sandbox, in place of tsnet: signals, exit code and terminal are its own. ' +
        'Files in /etc/netns/NAME lie over those of /etc, as with "ip netns exec". ' +
        'Exit codes as in a shell: 127 when there is no such command, 126 when it cannot be executed.',
    )
    .passThroughOptions()
    .addHelpText('after', examples('tsnet exec box -- ip addr', 'tsnet exec box -- sh -c "ping -c 1 10.30.0.1"'))
    .action(async (sandbox: string, words: string[], _flags: object, command: Command) =>
      (await import('./exec.js')).exec(openSession(command), sandbox, words),
    )

  addNameOptions(addConnectOptions(program.command('run <command...>')))
    .usage('[options] -- COMMAND...')
    .summary('Create a sandbox and run a command in it.')
    .description(
      'Create a sandbox, attach it to a network, and run a command in it with your terminal and signals. ' +
        'Ends with the exit code of the command, 128 + N when signal N ended it. ' +
        'The network is one of "tsnet network ls"; none: loopback only, the default; host: no namespace of its own; ' +
        'container:NAME: that of another sandbox, or of a Docker container. The last three take no options of an attachment. ' +
        'A sandbox whose command could not be started is deleted again.',
    )
    .option('--name <name>', 'name of the sandbox (default: run- and six random digits)')
    .option('--network <network>', 'a network, none, host, or container:NAME', 'none')
    .option('--netns <path>', 'run in the namespace at this path instead of in a new one')
    .addOption(
      new Option('--pid <pid>', 'run in the namespace of this process').argParser(parsePid).conflicts(['netns']),
    )
    .option('--rm', 'delete the sandbox when the command has ended')
    .passThroughOptions()
    .addHelpText(
      'after',
      examples(
        'tsnet run --rm --network lab -- ip -j addr',
        'tsnet run --name web --network lab -p 8080:80 -- busybox httpd -f',
        'tsnet run --rm -- sh',
        'tsnet run --rm --network container:web -- ss -tln',
      ),
    )
    .action(async (words: string[], flags: RunFlags, command: Command) => {
      process.exitCode = await (await import('./run.js')).run(openSession(command), flags, words)
    })
}

/** On every command, so that they may stand anywhere before the words of `exec` and `run`. */
function addGlobalOptions(command: Command): void {
  const group = 'Global options:'
  const options = [
    new Option('--socket <path>', `the daemon's socket (default: TSNET_SOCKET, or ${defaultSocket})`),
    new Option('--host <address>', 'the daemon of another host, tcp://HOST:PORT (default: TSNET_HOST)'),
    new Option('--tls-ca <file>', "who signed that daemon's certificate (default: TSNET_TLS_CA)"),
    new Option('--tls-cert <file>', 'certificate to show it (default: TSNET_TLS_CERT)'),
    new Option('--tls-key <file>', 'key of the certificate (default: TSNET_TLS_KEY)'),
    new Option('--format <format>', 'table, or json: the objects of the API').choices(['table', 'json']),
    new Option('-q, --quiet', 'print ids or names only'),
  ]
  for (const option of options) {
    const taken = command.options.some(own => own.long === option.long)
    if (!taken) command.addOption(option.helpGroup(group))
  }
  command.addHelpOption(new Option('-h, --help', 'print this help').helpGroup(group))
  for (const child of command.commands) addGlobalOptions(child)
}

const termOf = (argument: Argument): string => `<${argument.name()}${argument.variadic ? '...' : ''}>`
