import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { constants } from 'node:os'
import type { EndpointView, SandboxSpec, SandboxView } from '../cnm/specs.js'
import { invalid, messageOf, notImplemented } from '../errors.js'
import { CommandFailed } from '../sandbox/command-failed.js'
import { type ConnectFlags, connectSpecOf } from './connect.js'
import { commandOf, needRootToEnter, warn } from './exec.js'
import { type NameFlags, namesSpecOf } from './sandbox.js'
import type { Session } from './session.js'

export interface RunFlags extends ConnectFlags, NameFlags {
  name?: string
  /** a network's name, or `none` */
  network: string
  rm?: true
}

/**
 * Create a sandbox, attach it, run a command in it. Returns the command's exit code, 128 + n if signal n ended it.
 * A sandbox whose command never started is deleted again, with and without --rm.
 */
export async function run({ client }: Session, flags: RunFlags, words: string[]): Promise<number> {
  const command = commandOf(words)
  checkNetwork(flags)
  needRootToEnter()
  const signals = catchSignals()
  const spec: SandboxSpec = {
    name: flags.name ?? `run-${randomBytes(3).toString('hex')}`,
    ephemeral: flags.rm ?? false,
    ...namesSpecOf(flags),
  }
  const sandbox = await client.post<SandboxView>(['sandboxes'], spec)
  let started = false
  try {
    if (flags.network !== 'none')
      await client.post<EndpointView>(['networks', flags.network, 'connect'], {
        sandbox: sandbox.id,
        ...connectSpecOf(flags),
      })
    signals.throwIfCaught()
    const child = await start(sandbox, command)
    started = true
    return await signals.passTo(child)
  } finally {
    if (flags.rm || !started)
      await client.delete('sandboxes', sandbox.id).catch(error => {
        warn(`sandbox ${sandbox.name} is left behind: ${messageOf(error)}`)
      })
  }
}

function checkNetwork({ network, ...flags }: RunFlags): void {
  if (network === 'host' || network.startsWith('container:'))
    throw notImplemented(`--network ${network} is not implemented yet: use a network's name or none`)
  if (network !== 'none') return
  const { ip, ip6, mac, ifname, alias, publish, route, opt } = flags
  const asked = Object.entries({ ip, ip6, mac, ifname, alias, publish, route, opt }).find(
    ([, value]) => value !== undefined,
  )
  if (asked !== undefined) throw invalid(`--${asked[0]} needs a network to attach to: add --network NETWORK`)
}

/** Enter the sandbox for good, so that the child, forked from this thread, is born in it. */
async function start(sandbox: SandboxView, [name = '', ...args]: string[]): Promise<ChildProcess> {
  const { enterSandbox } = await import('../sandbox/enter.js')
  const launch = await import('../sandbox/launch.js')
  enterSandbox(sandbox, warn)
  const file = launch.findExecutable(name)
  launch.restoreOpenFilesLimit()
  return await new Promise((resolve, reject) => {
    // libuv gives the child default signal actions itself
    const child = spawn(file, args, { stdio: 'inherit', argv0: name })
    child.once('spawn', () => resolve(child))
    child.once('error', error => {
      reject(new CommandFailed(launch.notExecutableCode, `${file}: ${messageOf(error)}`))
    })
  })
}

const passedOn = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH'] as const
type PassedOn = (typeof passedOn)[number]

/** Those that a terminal sends to every process in its foreground: the child has them already. */
const fromTerminal: readonly PassedOn[] = ['SIGINT', 'SIGQUIT', 'SIGWINCH']

interface Signals {
  /** @throws {CommandFailed} a signal that ends a process came before the command was there to get it */
  throwIfCaught(): void
  /** Hand what comes to the child, until it ends; returns the exit code. */
  passTo(child: ChildProcess): Promise<number>
}

/** From here on no signal ends this process: it has a sandbox to delete. */
function catchSignals(): Signals {
  const caught: PassedOn[] = []
  let receive = (signal: PassedOn): void => {
    caught.push(signal)
  }
  for (const signal of passedOn) process.on(signal, () => receive(signal))
  return {
    throwIfCaught() {
      const signal = caught.find(name => name !== 'SIGWINCH')
      if (signal !== undefined)
        throw new CommandFailed(exitCodeOf(null, signal), `${signal} came before the command was started`)
    },
    passTo(child) {
      receive = signal => {
        if (!(fromTerminal.includes(signal) && inForeground())) child.kill(signal)
      }
      for (const signal of caught) receive(signal)
      return new Promise(resolve => {
        child.once('exit', (code, signal) => resolve(exitCodeOf(code, signal)))
      })
    },
  }
}

/** As shells have it: the command's own code, or 128 + the number of the signal that ended it. */
const exitCodeOf = (code: number | null, signal: NodeJS.Signals | null): number =>
  code ?? 128 + (signal === null ? 0 : constants.signals[signal])

/** Whether a terminal has this process in its foreground: fields 5 (process group) and 8 (the terminal's group) of proc_pid_stat(5). */
function inForeground(): boolean {
  const stat = readFileSync('/proc/self/stat', 'utf8')
  // the command's name, in parentheses, may hold spaces
  const [, , , group, , , terminalGroup] = stat.slice(stat.lastIndexOf(')') + 1).split(' ')
  return group === terminalGroup
}
