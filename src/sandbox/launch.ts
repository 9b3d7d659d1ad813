import { accessSync, constants, readFileSync, statSync } from 'node:fs'
import { constants as osConstants } from 'node:os'
import { messageOf } from '../errors.js'
import { defaultSignal, execve, fcntl, hasCode, setrlimit } from '../netlink/libc.js'
import { CommandFailed } from './command-failed.js'

// Starting a user's command as a shell would: the same search, the same exit codes, none of Node's own settings left.

export const notFoundCode = 127
export const notExecutableCode = 126

/** What execvp(3) tries when there is no PATH. */
const standardPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/**
 * The file that a command's first word means: itself when it has a slash, else the first executable of that name in PATH.
 * @throws {CommandFailed} 127 there is none, 126 it may not be executed
 */
export function findExecutable(command: string, path: string = process.env.PATH ?? standardPath): string {
  const candidates = command.includes('/')
    ? [command]
    : path.split(':').map(directory => `${directory || '.'}/${command}`)
  const found = command === '' ? [] : candidates.filter(isThere)
  const executable = found.find(isExecutable)
  if (executable !== undefined) return executable
  if (found[0] === undefined) throw new CommandFailed(notFoundCode, `${command}: command not found`)
  throw new CommandFailed(notExecutableCode, `${found[0]}: not an executable file`)
}

const isThere = (file: string): boolean => statSync(file, { throwIfNoEntry: false }) !== undefined

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return statSync(file).isFile()
  } catch {
    return false
  }
}

/**
 * Become the command: same process, stdio and terminal. Returns only by throwing.
 * @throws {CommandFailed} 127 or 126, as shells say
 */
export function replaceProcess(words: readonly string[]): never {
  const [command = ''] = words
  const file = findExecutable(command)
  const environment = Object.entries(process.env).map(([name, value]) => `${name}=${value}`)
  undoNodeSettings()
  try {
    execve(file, [...words, null], [...environment, null])
  } catch (error) {
    // a script without `#!`, which execvp(3) gives to the shell
    if (hasCode(error, 'ENOEXEC')) execve('/bin/sh', ['/bin/sh', file, ...words.slice(1), null], [...environment, null])
    throw new CommandFailed(notExecutableCode, `${file}: ${messageOf(error)}`)
  }
  throw new Error('execve returned')
}

// fcntl(2), asm-generic/fcntl.h, asm-generic/resource.h
const fGetfl = 3
const fSetfl = 4
const fSetfd = 2
const rlimitNofile = 7

/** What Node sets for itself and execve(2) would hand on (PlatformInit and Start in src/node.cc). */
function undoNodeSettings(): void {
  defaultSignal(osConstants.signals.SIGPIPE)
  defaultSignal(osConstants.signals.SIGXFSZ)
  for (const fd of [0, 1, 2]) {
    // Node closes its stdio on execve, and a stream that was opened made a pipe non-blocking.
    fcntl(fd, fSetfd, 0)
    fcntl(fd, fSetfl, fcntl(fd, fGetfl, 0) & ~constants.O_NONBLOCK)
  }
  restoreOpenFilesLimit()
}

/**
 * Node raises the soft limit of open files to the hard one, which makes programs slow that close every possible descriptor,
 * and breaks those that use select(2). Nobody tells what it was, but whoever started us most likely has it still.
 */
export function restoreOpenFilesLimit(): void {
  const own = limitsOf(process.pid)
  const parent = limitsOf(process.ppid)
  if (own !== undefined && parent?.hard === own.hard && parent.soft < own.soft)
    setrlimit(rlimitNofile, [parent.soft, own.hard])
}

/** `Max open files  1024  1048576  files` of proc_pid_limits(5) */
function limitsOf(pid: number): { soft: number; hard: number } | undefined {
  try {
    const [, soft, hard] = /^Max open files\s+(\d+)\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/limits`, 'utf8')) ?? []
    return soft === undefined ? undefined : { soft: Number(soft), hard: Number(hard) }
  } catch {
    return undefined
  }
}
