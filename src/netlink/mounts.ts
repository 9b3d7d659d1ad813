import { close, fsconfig, fsmount, fsopen, mount, umount2, unshare } from './libc.js'

// sys/mount.h, sched.h
const msBind = 0x1000
const msRec = 0x4000
const msSlave = 0x80000
const msShared = 0x100000
const mntDetach = 2
const cloneNewns = 0x20000
// linux/mount.h: FSOPEN_CLOEXEC and FSMOUNT_CLOEXEC, FSCONFIG_CMD_CREATE, MOUNT_ATTR_NOSUID | NODEV | NOEXEC
const closeOnExec = 1
const create = 6
const plain = 0xe

/** `mount --bind FROM TO` */
export function bindMount(from: string, to: string): void {
  mount(from, to, null, msBind, null)
}

/** `mount --rbind PATH PATH`: a directory becomes a mount of its own. */
export function bindMountOnItself(path: string): void {
  mount(path, path, null, msBind | msRec, null)
}

/** `mount --make-rshared PATH`: mounts made below appear in every mount namespace. EINVAL when PATH is no mount. */
export function shareMount(path: string): void {
  mount(null, path, null, msShared | msRec, null)
}

/** `mount -t TYPE TYPE PATH`, for /sys, which shows the links of the namespace it was mounted in */
export function mountFilesystem(type: string, path: string): void {
  mount(type, path, type, 0, null)
}

/** `umount --lazy PATH` */
export function unmount(path: string): void {
  umount2(path, mntDetach)
}

/**
 * `unshare --mount --propagation slave`: the calling thread has its own mounts from now on, and later mounts of the host
 * still appear in it. For a process that is about to execute another program.
 */
export function unshareMounts(): void {
  unshare(cloneNewns)
  mount(null, '/', null, msSlave | msRec, null)
}

/** A /proc that has no place among the mounts, as a descriptor: it is gone when that is closed. Linux 5.8. */
export function openOwnProc(): number {
  const context = fsopen('proc', closeOnExec)
  try {
    fsconfig(context, create)
    return fsmount(context, closeOnExec, plain)
  } finally {
    close(context)
  }
}
