import { sethostname, unshare } from './libc.js'

// sched.h
const cloneNewuts = 0x04000000

/**
 * `unshare --uts hostname NAME`: the calling thread, and what is forked from it, has a host name of its own from now on.
 * For a process that is about to execute another program.
 */
export function takeHostname(name: string): void {
  unshare(cloneNewuts)
  sethostname(name, Buffer.byteLength(name))
}
