import { readFileSync } from 'node:fs'
import { setrlimit } from './libc.js'

/** RLIMIT_NOFILE of asm-generic/resource.h */
const rlimitNofile = 7

/**
 * Every published port and every sandbox has sockets, which count as open files: let this process have as many as the kernel
 * gives to any (fs.nr_open), `ulimit -n`. Where we may not, it stays as it was.
 */
export function allowManyFiles(): void {
  try {
    const most = Number(readFileSync('/proc/sys/fs/nr_open', 'utf8'))
    setrlimit(rlimitNofile, [most, most])
  } catch {
    // then the limit says itself what is too much
  }
}

/** How many descriptors this process may have now (man 5 proc). */
export function openFilesLimit(): number {
  const [, soft] = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? []
  return soft === undefined ? Number.POSITIVE_INFINITY : Number(soft)
}
