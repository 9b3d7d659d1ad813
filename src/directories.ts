import { mkdirSync, realpathSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { forbidden, invalid, messageOf } from './errors.js'

/**
 * Make a directory and its parents: `mkdir -p -m MODE`. One that exists keeps its mode. Not mkdirSync's `recursive`,
 * which never returns where the kernel answers ENOENT below a directory that exists, as it does in /proc (Node 20).
 * @throws {NetError} InvalidParameter, naming the path and why it cannot be
 */
export function ensureDirectory(path: string, mode: number): void {
  if (isDirectory(path)) return
  if (dirname(path) !== path) ensureDirectory(dirname(path), mode)
  try {
    mkdirSync(path, { mode })
  } catch (error) {
    // somebody else may have made it meanwhile
    if (isDirectory(path)) return
    throw invalid(`directory ${path} cannot be made: ${messageOf(error)}`, { cause: error })
  }
}

/**
 * Refuse a directory in which somebody else could put a file of his in the place of ours, there or by way of a directory
 * above: links are followed first, so that it is about where the file really comes to be.
 * @throws {NetError} Forbidden
 */
export function checkTrusted(directory: string): void {
  for (let path = realpathSync(directory); ; path = dirname(path)) {
    const { mode, uid } = statSync(path)
    if (uid !== 0 && uid !== process.geteuid?.())
      throw forbidden(`directory ${path} belongs to user ${uid}, who could replace what is in it`)
    // in one like /tmp nobody can replace what is another's
    if ((mode & 0o002) !== 0 && (mode & 0o1000) === 0)
      throw forbidden(`directory ${path} can be written by everybody: chmod o-w ${path}`)
    if (dirname(path) === path) return
  }
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory()
  } catch {
    return false
  }
}
