import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { constants } from 'node:os'
import { resolve } from 'node:path'
import type { EndpointView, SandboxSpec, SandboxView } from '../cnm/specs.js'
import { invalid, messageOf } from '../errors.js'
import { CommandFailed } from '../sandbox/command-failed.js'
import { type ConnectFlags, connectSpecOf } from './connect.js'
import { commandOf, entranceOf, needRootToEnter, warn } from './exec.js'
import { type NameFlags, namesSpecOf } from './sandbox.js'
import { needSameHost, type Session } from './session.js'

export interface RunFlags extends ConnectFlags, NameFlags {
  name?: string
  /** a network's name, `none`, `host` or `container:NAME` */
  network: string
  netns?: string
  pid?: number
  rm?: true
}

/**
 * Create a sandbox, attach it, run a command in it. Returns the command's exit code, 128 + n if signal n ended it.
 * A sandbox whose command never started is deleted again, with and without --rm.
 */
export async function run(session: Session, flags: RunFlags, words: string[]): Promise<number> {
  const { client } = session
  const command = commandOf(words)
  needSameHost(session, 'run')
  checkNetwork(flags)
  needRootToEnter()
  const signals = catchSignals()
  const spec: SandboxSpec = {
    name: flags.name ?? `run-${randomBytes(3).toString('hex')}`,
    ephemeral: flags.rm ?? false,
    ...namesSpecOf(flags),
    ...(isShared(flags.network) && { share: flags.network }),
    ...(flags.netns !== undefined && { netns: resolve(flags.netns) }),
    ...(flags.pid !== undefined && { pid: flags.pid }),
  }
  const sandbox = await client.post<SandboxView>(['sandboxes'], spec)
  let started = false
  try {
    if (!isUnattached(flags.network))
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

const isShared = (network: string): boolean => network === 'host' || network.startsWith('container:')
const isUnattached = (network: string): boolean => network === 'none' || isShared(network)

/** Refuse what has no meaning without an attachment, before anything is made. */
function checkNetwork({ network, netns, pid, ...flags }: RunFlags): void {
  if (!isUnattached(network)) return
  const { ip, ip6, mac, ifname, alias, publish, route, opt } = flags
  const options = { ip, ip6, mac, ifname, alias, publish, route, opt }
  const asked = Object.entries(options).find(([, value]) => value !== undefined)?.[0]
  if (asked !== undefined) throw invalid(`--${asked} ${reasonFor(network, asked)}`)
  const other = netns === undefined ? (pid === undefined ? undefined : '--pid') : '--netns'
  if (isShared(network) && other !== undefined)
    throw invalid(`${other} and --network ${network} each name a namespace: give one of them`)
}

function reasonFor(network: string, flag: string): string {
  if (network === 'none') return 'needs a network to attach to: add --network NETWORK'
  if (network !== 'host') return `is for ${network.slice('container:'.length)}: its namespace is used as it is`
  return flag === 'publish'
    ? 'has no meaning with --network host: the ports of the command are the ports of the host'
    : 'has no meaning with --network host: the links, addresses and names are those of the host'
}

/** Enter the sandbox for good, so that the child, forked from this thread, is born in it. */
async function start(sandbox: SandboxView, [name = '', ...args]: string[]): Promise<ChildProcess> {
  const { enterSandbox } = await import('../sandbox/enter.js')
  const launch = await import('../sandbox/launch.js')
  enterSandbox(entranceOf(sandbox), warn)
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
