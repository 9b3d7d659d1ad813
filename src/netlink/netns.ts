import { closeSync, constants, fstatSync, lstatSync, openSync, rmSync, statfsSync } from 'node:fs'
import { access } from 'node:fs/promises'
import { dirname } from 'node:path'
import { ensureDirectory } from '../directories.js'
import { conflict, forbidden, invalid, messageOf, type NetError, notFound } from '../errors.js'
import { close, flock, hasCode, ioctl, lockExclusive, setns, unshare } from './libc.js'
import { bindMount, bindMountOnItself, shareMount, unmount } from './mounts.js'

// Network namespaces. `setns` moves one OS thread, so all that happens inside a namespace is synchronous work of the main thread.

// linux/sched.h, linux/nsfs.h, linux/magic.h, sys/file.h
const cloneNewnet = 0x40000000
const nsGetNstype = 0xb703
const nsfsMagic = 0x6e736673

/** The namespace of the calling thread; /proc/self would be the main thread's. */
const here = '/proc/thread-self/ns/net'

// libuv starts all its pool threads at the first use, each in the namespace of the thread that starts them. They start
// now: nobody can have entered a namespace before this module, the only one that can, has finished loading.
await access('/proc')

/** An open network namespace: it lives as long as this, whatever happens to its path or processes. */
export class Netns {
  #open = true
  constructor(
    readonly fd: number,
    /** how the user knows it: a path, `pid 1234`, or `this process` */
    readonly label: string,
  ) {}

  /** `4:4026531840`, device and inode: equal for two handles of one namespace, as `lsns` has it. */
  identity(): string {
    const { dev, ino } = fstatSync(this.fd)
    return `${dev}:${ino}`
  }

  /** Give back the descriptor. Closing twice is fine. */
  close(): void {
    if (this.#open) close(this.fd)
    this.#open = false
  }
}

/** The namespace that this process works in. */
export const currentNetns = (): Netns => new Netns(openSync(here, constants.O_RDONLY), 'this process')

/**
 * Open a namespace by its path, such as /run/netns/NAME or /proc/PID/ns/net.
 * Throws NotFound (nothing there), Forbidden, InvalidParameter (there is something else).
 */
export function openNetns(path: string): Netns {
  if (!path.startsWith('/') || path.includes('\0')) throw invalid(`network namespace "${path}" is not an absolute path`)
  let fd: number
  try {
    // Not to wait for the other end of a FIFO.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    throw openingFailed(path, error)
  }
  if (isNetns(fd)) return new Netns(fd, path)
  closeSync(fd)
  throw invalid(`${path} is not a network namespace`)
}

/** Open the namespace of a process. Throws NotFound, Forbidden, InvalidParameter. */
export function openNetnsOfPid(pid: number): Netns {
  if (!Number.isSafeInteger(pid) || pid < 1) throw invalid(`process id ${pid} is not a positive whole number`)
  try {
    return new Netns(openSync(`/proc/${pid}/ns/net`, constants.O_RDONLY), `pid ${pid}`)
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ESRCH')) throw notFound(`no process has the id ${pid}`, { cause: error })
    throw openingFailed(`of process ${pid}`, error)
  }
}

function openingFailed(what: string, error: unknown): NetError {
  if (hasCode(error, 'ENOENT', 'ENOTDIR', 'ENXIO')) return notFound(`no network namespace at ${what}`, { cause: error })
  if (hasCode(error, 'EACCES', 'EPERM')) {
    // ptrace(2), access mode checking: a service with few capabilities may not look at everybody
    const remedy = /\/proc\/\d+\/|process/.test(what)
      ? 'it needs root, and CAP_SYS_PTRACE where the process may do more than this one; "ip netns attach NAME PID" gives it a path that can be opened'
      : 'it needs root'
    return forbidden(`opening the network namespace ${what} is not permitted: ${remedy}`, { cause: error })
  }
  return invalid(`network namespace ${what} cannot be opened: ${messageOf(error)}`, { cause: error })
}

function isNetns(fd: number): boolean {
  if (statfsSync(`/proc/self/fd/${fd}`).type !== nsfsMagic) return false
  return ioctl(fd, nsGetNstype) === cloneNewnet
}

/**
 * Make a namespace and give it a path: `ip netns add NAME`, whose path is /run/netns/NAME. When any step fails, nothing is left.
 * Throws Conflict when the path exists.
 */
export function createNetns(path: string): Netns {
  const directory = dirname(path)
  ensureDirectory(directory, 0o755)
  ensureShared(directory)
  // Whoever died between making this file and mounting on it, or unmounting and removing it, left it empty.
  if (isLeftover(path)) rmSync(path)
  try {
    closeSync(openSync(path, constants.O_RDONLY | constants.O_CREAT | constants.O_EXCL, 0o000))
  } catch (error) {
    if (hasCode(error, 'EEXIST')) throw conflict(`network namespace ${path} exists already`, { cause: error })
    throw openingFailed(path, error)
  }
  try {
    elsewhere(
      () => void unshare(cloneNewnet),
      () => bindMount(here, path),
    )
    return openNetns(path)
  } catch (error) {
    deleteNetns(path)
    throw hasCode(error, 'EPERM') ? forbidden('making a network namespace needs root', { cause: error }) : error
  }
}

/** An empty file without any permission, as `ip netns add` and we make it to mount on, and nothing mounted on it. */
function isLeftover(path: string): boolean {
  const stat = lstatSync(path, { throwIfNoEntry: false })
  if (!stat?.isFile() || stat.size > 0 || (stat.mode & 0o777) !== 0) return false
  return statfsSync(path).type !== nsfsMagic
}

/** Remove a namespace's path: `ip netns delete NAME`. Absent is fine; a file that is no namespace is refused (InvalidParameter). */
export function deleteNetns(path: string): void {
  const stat = lstatSync(path, { throwIfNoEntry: false })
  if (!stat) return
  // `ln -s /proc/PID/ns/net /run/netns/NAME` gives another's namespace a name: only the name is ours to remove.
  const mounted = !stat.isSymbolicLink() && statfsSync(path).type === nsfsMagic
  // A crash between making the file and mounting on it leaves an empty file, which is ours to remove.
  if (!mounted && !stat.isSymbolicLink() && (!stat.isFile() || stat.size > 0))
    throw invalid(`${path} is not a network namespace`)
  try {
    if (mounted) unmount(path)
  } catch (error) {
    if (!hasCode(error, 'EINVAL', 'ENOENT')) throw error
  }
  rmSync(path, { force: true })
}

/** As `ip netns add` does once: mounts made in the directory reach every mount namespace, so others see the namespace and can remove it. */
function ensureShared(directory: string): void {
  try {
    shareMount(directory)
    return
  } catch (error) {
    if (!hasCode(error, 'EINVAL')) throw error
  }
  // Two processes here at once would mount the directory on itself twice; `ip` takes the same lock.
  const fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    flock(fd, lockExclusive)
    try {
      shareMount(directory)
    } catch {
      bindMountOnItself(directory)
      shareMount(directory)
    }
  } finally {
    closeSync(fd)
  }
}

/**
 * Do synchronous work inside a namespace: open a socket, write a sysctl. `work` cannot return a promise: what it awaited
 * would go on outside. Calls that use other threads (fs.promises, koffi async) act in the process's own namespace even here.
 */
export function inNetns<T>(ns: Netns, work: () => T & (T extends PromiseLike<unknown> ? never : unknown)): T {
  return elsewhere(() => enter(ns), work)
}

/** The same in a new namespace, which is gone afterwards: to try what this kernel can do. */
export function inThrowawayNetns<T>(work: (netns: Netns) => T & (T extends PromiseLike<unknown> ? never : unknown)): T {
  return elsewhere(
    () => void unshare(cloneNewnet),
    () => {
      const netns = currentNetns()
      try {
        return work(netns)
      } finally {
        netns.close()
      }
    },
  )
}

function enter(ns: Netns): void {
  try {
    setns(ns.fd, cloneNewnet)
  } catch (error) {
    throw hasCode(error, 'EPERM')
      ? forbidden(`entering the network namespace ${ns.label} is not permitted: it needs root`, { cause: error })
      : error
  }
}

/** Where this thread is unless it is elsewhere; opened once, since opening a file of /proc is most of what a visit costs. */
let ownHome: number | undefined
let isElsewhere = false

/** `leave` moves the thread to another namespace or throws; however `work` then ends, the thread comes back. */
function elsewhere<T>(leave: () => void, work: () => T): T {
  if (isElsewhere) return visit(openSync(here, constants.O_RDONLY), leave, work)
  ownHome ??= openSync(here, constants.O_RDONLY)
  isElsewhere = true
  try {
    return visit(ownHome, leave, work)
  } finally {
    isElsewhere = false
  }
}

function visit<T>(home: number, leave: () => void, work: () => T): T {
  try {
    leave()
    try {
      return work()
    } finally {
      comeBack(home)
    }
  } finally {
    if (home !== ownHome) closeSync(home)
  }
}

function comeBack(home: number): void {
  try {
    setns(home, cloneNewnet)
  } catch (error) {
    // Everything done from now on would happen to the wrong machine.
    process.stderr.write(`tsnet: no way back to the own network namespace: ${messageOf(error)}\n`)
    process.abort()
  }
}

/** Move this process (its main thread) into a namespace without return: for a process about to execute another program. */
export function enterNetnsForGood(ns: Netns): void {
  enter(ns)
  if (ownHome !== undefined) closeSync(ownHome)
  ownHome = undefined
}
