import { mkdirSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { invalid, messageOf } from './errors.js'

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

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory()
  } catch {
    return false
  }
}
