import { accessSync, constants, statSync } from 'node:fs'
import { constants as osConstants } from 'node:os'
import { messageOf } from '../errors.js'
import { defaultSignal, execve, hasCode, ioctl } from '../netlink/libc.js'
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

/** asm-generic/ioctls.h: do not close a descriptor on execve(2). */
const fionclex = 0x5450

/** Node ignores two signals, which stays so over execve(2), and has its stdio closed by it (PlatformInit and Start in src/node.cc). */
function undoNodeSettings(): void {
  defaultSignal(osConstants.signals.SIGPIPE)
  defaultSignal(osConstants.signals.SIGXFSZ)
  for (const fd of [0, 1, 2]) ioctl(fd, fionclex)
}
