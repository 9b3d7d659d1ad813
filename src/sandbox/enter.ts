import { closeSync, constants, openSync, readdirSync, readFileSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { messageOf } from '../errors.js'
import { hasCode } from '../netlink/libc.js'
import { bindMount, mountFilesystem, unshareMounts } from '../netlink/mounts.js'
import { currentNetns, enterNetnsForGood, openNetns } from '../netlink/netns.js'
import { takeHostname } from '../netlink/uts.js'

/** A sandbox as far as entering it goes. */
export interface Entrance {
  /** under which /etc/netns has files for it; absent: none */
  name?: string
  /** path of the namespace */
  netns: string
  /** absent: the host's */
  hostname?: string
  /** paths of files elsewhere, by their names in /etc */
  files?: Record<string, string>
}

/**
 * Move this process into a sandbox without return: `ip netns exec NAME`. A private mount namespace has a /sys that
 * shows the sandbox's links, and the files of /etc/netns/NAME over those of /etc (ip-netns(8)).
 * Unlike `ip`, what is mounted inside /sys (cgroups, bpf) stays, so that a container engine can run in there.
 * @param warn is told what could not be mounted: not a reason to stop, as with `ip`
 */
export function enterSandbox(sandbox: Entrance, warn: (message: string) => void): void {
  const netns = openNetns(sandbox.netns)
  const here = currentNetns()
  const isHere = netns.identity() === here.identity()
  here.close()
  enterNetnsForGood(netns)
  netns.close()
  unshareMounts()
  if (sandbox.hostname !== undefined) takeHostname(sandbox.hostname)
  // a second sysfs of one namespace is refused: EBUSY
  if (!isHere) remountSys(warn)
  bindEtc(sandbox, warn)
}

/** sysfs shows the links of the namespace in which it was mounted. */
function remountSys(warn: (message: string) => void): void {
  const inside = mountsBelow('/sys').map(path => ({ path, fd: openDirectory(path) }))
  try {
    mountFilesystem('sysfs', '/sys')
    // The new /sys hides what was mounted in the old one, but a descriptor still leads there.
    for (const { path, fd } of inside) if (fd !== undefined) attempt(() => bindMount(`/proc/self/fd/${fd}`, path), warn)
  } catch (error) {
    warn(`/sys shows the host's links: ${messageOf(error)}`)
  } finally {
    for (const { fd } of inside) if (fd !== undefined) closeSync(fd)
  }
}

/** Parents before children, as proc_pid_mountinfo(5) lists them: field 5 is the mount point, with spaces as `\040`. */
const mountsBelow = (path: string): string[] =>
  readFileSync('/proc/thread-self/mountinfo', 'utf8')
    .split('\n')
    .map(line => line.split(' ')[4] ?? '')
    .filter(point => point.startsWith(`${path}/`) && !point.includes('\\'))

/** undefined for an automount point that nobody has used, which opening would mount. */
function openDirectory(path: string): number | undefined {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_DIRECTORY)
  } catch {
    return undefined
  }
}

function bindEtc(sandbox: Entrance, warn: (message: string) => void): void {
  for (const [name, path] of Object.entries(filesOf(sandbox)))
    attempt(
      () => bindMount(path, `/etc/${name}`),
      message => warn(`${path} over /etc/${name}: ${message}`),
    )
}

function filesOf({ name, netns, files = {} }: Entrance): Record<string, string> {
  if (name === undefined) return files
  // an adopted namespace that has a name for `ip netns` keeps its files
  const known = ['/run/netns', '/var/run/netns'].includes(dirname(netns)) ? basename(netns) : name
  const directory = `/etc/netns/${known}`
  return { ...Object.fromEntries(entriesOf(directory).map(file => [file, `${directory}/${file}`])), ...files }
}

function entriesOf(directory: string): string[] {
  try {
    return readdirSync(directory)
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return []
    throw error
  }
}

function attempt(work: () => void, failed: (message: string) => void): void {
  try {
    work()
  } catch (error) {
    failed(messageOf(error))
  }
}
